"""Workflows: automatic or manual actions on alerts, started by triggers."""
