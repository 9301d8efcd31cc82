"""Figures about what was: how quickly alerts were answered, and who was called at night. Read only."""
