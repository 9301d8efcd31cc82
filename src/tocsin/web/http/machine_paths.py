"""URL prefixes for programs. These paths authenticate without a session and respond in their own formats."""

from __future__ import annotations

MACHINE_PATHS = ("/api/", "/hooks/", "/in/", "/scim/", "/v2/", "/healthz", "/readyz", "/metrics")
