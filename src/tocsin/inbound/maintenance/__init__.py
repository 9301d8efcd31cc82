"""Maintenance windows: their recurrence, the alerts they hold back, and changing them."""
