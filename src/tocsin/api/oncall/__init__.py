"""Endpoints of schedules, overrides, swaps and on-call queries."""
