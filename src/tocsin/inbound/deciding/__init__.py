"""Decides what a message does to its alert: creation, noise reduction, grouping, echo suppression. Mostly pure."""
