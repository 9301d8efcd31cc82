"""HTTP ingestion: shared request handling, sender verification, heartbeat pings, test tokens and responses."""
