"""The Slack provider kind: chat messages with buttons."""
