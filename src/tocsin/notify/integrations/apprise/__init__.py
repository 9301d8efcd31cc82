"""The built-in provider kind for chat and push services, through apprise."""
