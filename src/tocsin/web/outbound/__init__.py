"""Outbound integrations and their calls."""
