"""Server-sent events that keep open views up to date."""
