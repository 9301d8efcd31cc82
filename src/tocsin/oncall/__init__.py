"""Schedules, overrides, absences, holiday calendars and support hours, and who is on call when."""
