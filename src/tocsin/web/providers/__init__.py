"""Notification providers and e-mail replies."""
