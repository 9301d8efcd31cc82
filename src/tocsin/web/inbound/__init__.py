"""The Inbound Log and replaying messages."""
