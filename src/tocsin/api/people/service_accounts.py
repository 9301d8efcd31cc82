"""Service accounts, which own API tokens. For administrators."""

from __future__ import annotations

from tocsin.api.framework.resources import ApiResource, register
from tocsin.resources.registry import SERVICE_ACCOUNTS

routes = register(ApiResource(SERVICE_ACCOUNTS, list_summary="Accounts that only own tokens")).routes
