"""The HTTP gateway provider kind: text messages through any HTTP API."""
