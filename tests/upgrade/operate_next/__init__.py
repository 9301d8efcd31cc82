"""The migrations of `operate` in the next version."""
