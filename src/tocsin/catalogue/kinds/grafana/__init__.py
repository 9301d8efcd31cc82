"""Grafana's webhook has Alertmanager's format with more fields per alert; legacy alerting posts a single alert."""

from __future__ import annotations

from tocsin.catalogue.kinds.alertmanager import messages

__all__ = ["messages"]
