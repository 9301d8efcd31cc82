"""Support hours: named sets of weekly windows."""

from __future__ import annotations

from tocsin.api.framework.resources import ApiResource, register
from tocsin.resources.registry import SUPPORT_HOURS

routes = register(ApiResource(SUPPORT_HOURS)).routes
