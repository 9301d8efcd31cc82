"""Opsgenie: read through its REST API (https://docs.opsgenie.com/docs/api-overview) or from its configuration backup,
and converted."""
