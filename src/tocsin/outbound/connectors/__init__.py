"""Connectors to other systems: their common interface, registry, and implementations."""
