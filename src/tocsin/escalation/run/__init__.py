"""Runs: the escalation engine, run state, target resolution, and storage."""
