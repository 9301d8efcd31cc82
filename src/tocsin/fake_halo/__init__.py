"""A fake HaloITSM for `tocsin demo` and for tests: a real HTTP server with state, webhooks, echoes of writes, and
Halo's faults. It keeps everything in memory and does not depend on the rest of Tocsin."""
