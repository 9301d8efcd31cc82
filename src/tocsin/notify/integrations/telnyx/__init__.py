"""The Telnyx provider kind: text messages."""
