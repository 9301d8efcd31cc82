"""Openings that do not open at once: joined to another, delayed, limited. What decides it, its rows, the loop."""
