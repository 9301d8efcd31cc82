"""Doors for senders that speak another product's language: its paths, bodies and answers. The way in is the same."""
