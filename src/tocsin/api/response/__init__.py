"""Endpoints of escalation policies, workflows and outbound integrations."""
