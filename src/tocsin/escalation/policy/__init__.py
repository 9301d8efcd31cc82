"""Escalation policies: definition, steps, conditions, templates, and the cache of compiled versions."""
