"""Client tables: which group and escalation policy are responsible for which client; as rows or CSV."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Schema
from pydantic import Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.config import config_version
from tocsin.inbound.admin import client_tables as commands
from tocsin.resources import registry

CLIENT_TABLES = ApiResource(registry.CLIENT_TABLES)
routes = CLIENT_TABLES.routes


class CsvBody(Schema):
    model_config = {"extra": "forbid"}

    csv: str = Field(description="client, group, policy: one client a row.", max_length=2_000_000)


@routes.post(
    "/{id}/import",
    Permission.MANAGE_ROUTING,
    answers=CLIENT_TABLES.schema.whole,
    summary="Make its clients those of a CSV; nothing changes on an error",
    tagged=True,
)
def import_csv(request: HttpRequest, response: HttpResponse, id: str, body: CsvBody) -> dict[str, Any]:
    principal, clients = caller(request), commands.from_csv(body.csv)
    with config_version.exclusive():
        table = CLIENT_TABLES.find_for_change(request, id)
        spec = {**commands.client_table_spec(table), "clients": clients}
        saved = commands.save_client_table(spec, existing=table, actor=audit_actor_of(principal), now=principal.now)
        return CLIENT_TABLES.show_tagged(saved, principal, response)


register(CLIENT_TABLES)
