"""Grafana OnCall: read through its HTTP API (https://grafana.com/docs/oncall/latest/oncall-api-reference/) and
converted."""
