"""A model-based test of the whole store.

A seeded random walk sends messages, runs commands, changes the configuration, advances the clock and lets providers
fail. After each step, invariants are checked. `python -m tests.model --help` shows how to run it by hand.
"""
