"""Heartbeats: schedules of monitored senders, and the detection of missed pings."""
