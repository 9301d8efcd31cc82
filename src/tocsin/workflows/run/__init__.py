"""Workflow runs: triggers, engine, actions, limits, and storage."""
