"""Escalation: policies, the runs that execute them on alerts, and paging decisions."""
