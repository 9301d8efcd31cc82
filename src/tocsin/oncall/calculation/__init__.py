"""Calculates who is on call from schedules, overrides and absences. Pure."""
