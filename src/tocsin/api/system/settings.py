"""The installation's settings by name. `core.config.settings_store` defines them with defaults and limits."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Body

from tocsin.access.roles import Permission
from tocsin.access.settings_commands import change_settings
from tocsin.api.framework import etags
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.spec_schemas import SpecSchema
from tocsin.core.config import config_version, settings_store
from tocsin.core.models import Setting

routes = AuthorizedRouter("settings")


_SCHEMA = SpecSchema(settings_store.SettingsSpec, has_id=False)


@routes.get("", Permission.ADMINISTER, answers=_SCHEMA.whole, summary="All settings by name", tagged=True)
def get_settings(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    return _all(response)


@routes.patch(
    "",
    Permission.ADMINISTER,
    answers=_SCHEMA.whole,
    body=_SCHEMA.changes,
    summary="Change the named settings; the others stay",
    tagged=True,
    extra={"requestBody": {"content": {"application/json": {"example": {"message_retention_days": 30}}}}},
)
def patch_settings(request: HttpRequest, response: HttpResponse, body: Body[dict[str, Any]]) -> dict[str, Any]:
    principal = caller(request)
    with config_version.exclusive():
        etags.check(request, _stored(), "settings", "")
        change_settings(body, actor=audit_actor_of(principal), now=principal.now)
        return _all(response)


def _all(response: HttpResponse) -> dict[str, Any]:
    values = _stored()
    etags.tag(response, values)
    return values


def _stored() -> dict[str, Any]:
    stored = dict(Setting.objects.values_list("name", "value"))
    return {name: stored.get(name, setting.default) for name, setting in settings_store.SETTINGS.items()}
