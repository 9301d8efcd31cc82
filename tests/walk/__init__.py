"""A seeded walk through Tocsin: random messages, acts, configuration, time and failing sends over the real store, and
after each step the promises that must hold whatever happened. `python -m tests.walk --help` walks by hand."""
