"""Endpoints of inbound integrations, messages, heartbeats and maintenance windows."""
