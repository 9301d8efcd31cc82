"""Opsgenie: read by its REST API (https://docs.opsgenie.com/docs/api-overview) or from the folder that its
configuration backup tool writes, and translated."""
