"""Endpoints compatible with other products' APIs: their paths, payloads and responses, handled as normal messages."""
