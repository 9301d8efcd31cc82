"""iCalendar feeds of shifts."""
