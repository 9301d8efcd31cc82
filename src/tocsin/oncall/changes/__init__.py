"""Commands that change schedules, overrides, swaps, holiday calendars and support hours."""
