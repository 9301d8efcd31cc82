"""Alerts: their lifecycle, timeline, storage and search index."""
