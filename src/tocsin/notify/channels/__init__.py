"""The notification channels: how each renders a message and validates its addresses."""
