"""Notifications: plans and queues messages, sends them through providers, and handles receipts and replies."""
