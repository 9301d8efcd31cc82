"""`tocsin demo`: a sample team with a history of three weeks, and a small Halo beside it."""
