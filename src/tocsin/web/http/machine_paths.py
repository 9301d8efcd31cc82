"""The addresses that programs use: they say who they are in their own way, and are answered in their own shape."""

from __future__ import annotations

PROGRAMS = ("/api/", "/hooks/", "/in/", "/v2/", "/healthz", "/readyz", "/metrics")
