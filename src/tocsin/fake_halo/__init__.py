"""A small Halo of our own, for `tocsin demo` and for tests: a real server with state, webhooks, an echo of every write,
and Halo's faults. It keeps everything in memory, and knows nothing of the rest of Tocsin."""
