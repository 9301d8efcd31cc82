"""Endpoints of notifications, deliveries, providers and the sandbox."""
