"""Phone calls: the routes of numbers that Tocsin answers."""

from __future__ import annotations

from tocsin.api.framework.resources import ApiResource, register
from tocsin.resources.registry import CALL_ROUTES

call_routes_routes = register(ApiResource(CALL_ROUTES)).routes
