"""Web push devices and notification buttons."""
