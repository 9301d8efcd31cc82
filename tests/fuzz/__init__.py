"""Fuzzing: mutated inputs for everything that reads what others send."""
