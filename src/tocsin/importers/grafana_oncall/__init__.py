"""Grafana OnCall: read by its HTTP API (https://grafana.com/docs/oncall/latest/oncall-api-reference/),
and translated."""
