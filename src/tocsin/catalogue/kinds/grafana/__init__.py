"""Grafana's webhook has the form of Alertmanager's, and more fields in each alert; legacy alerting's is one alert."""

from __future__ import annotations

from tocsin.catalogue.kinds.alertmanager import messages

__all__ = ["messages"]
