"""The sandbox of messages that were not sent."""
