"""Endpoints of alerts, alert commands and the pause."""
