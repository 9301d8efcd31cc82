"""Editing schedules, holiday calendars and support hours."""
