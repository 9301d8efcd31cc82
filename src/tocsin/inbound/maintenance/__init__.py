"""Maintenance windows: when they are, what they hold back, and changing them."""
