"""Decisions about pages: notification rules, planning, bundling, retries, and the check just before sending. Pure."""
