"""Holiday calendars: the holidays of a country or region, and custom days."""

from __future__ import annotations

from tocsin.api.framework.resources import ApiResource, register
from tocsin.resources.registry import HOLIDAY_CALENDARS

routes = register(ApiResource(HOLIDAY_CALENDARS, filters={"country": (str, "country__iexact")})).routes
