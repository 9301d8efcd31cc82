"""Inbound integrations: catalogue, overview, settings and tests."""
