"""Writes notifications into the outbox: pages, all-clears, acknowledgement reminders, notices and tests."""
