"""Inbound integrations: receives messages, decides what each does to an alert, and stores both."""
