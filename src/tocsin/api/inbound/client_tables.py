"""Client tables: which group and escalation policy are responsible for which client; as rows or CSV."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Query, Schema
from pydantic import Field

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework import etags
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.config import config_version
from tocsin.inbound.admin import client_tables as commands
from tocsin.inbound.models import ClientTable
from tocsin.people.models import Group

routes = AuthorizedRouter("client-tables")

EXAMPLE = {
    "name": "Customers",
    "clients": [{"client": "Acme", "group": "Service Desk", "escalation_policy": "Standard"}],
}


class ClientTableFilters(PaginationQuery):
    name: str | None = None
    group: str | None = None


class CsvBody(Schema):
    model_config = {"extra": "forbid"}

    csv: str = Field(description="client, group, policy: one client a row.", max_length=2_000_000)


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Client tables")
def list_client_tables(request: HttpRequest, query: Query[ClientTableFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, label="group", field="group"))
    names = commands.table_names()
    return page(
        rows, query, lambda page_rows: [{"id": row.pk, **commands.client_table_spec(row, names)} for row in page_rows]
    )


@routes.post(
    "/{id}/import",
    Permission.MANAGE_ROUTING,
    summary="Make its clients those of a CSV; nothing changes on an error",
    tagged=True,
)
def import_csv(request: HttpRequest, response: HttpResponse, id: str, body: CsvBody) -> dict[str, Any]:
    principal, clients = caller(request), commands.from_csv(body.csv)
    with config_version.exclusive():
        table = CLIENT_TABLES.find_for_change(request, id)
        spec = {**commands.client_table_spec(table), "clients": clients}
        saved = commands.save_client_table(spec, existing=table, actor=audit_actor_of(principal), now=principal.now)
        etags.tag(response, CLIENT_TABLES.state(saved))
        return _show(saved)


def _rows() -> QuerySet[ClientTable]:
    return ClientTable.objects.select_related("group")


def _show(table: ClientTable, _principal: Principal | None = None) -> dict[str, Any]:
    return {"id": table.pk, **commands.client_table_spec(table)}


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: ClientTable | None) -> ClientTable:
    return commands.save_client_table(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(table: ClientTable, actor: AuditActor, principal: Principal) -> None:
    commands.delete_client_table(table, actor=actor, now=principal.now)


CLIENT_TABLES = ApiResource(
    routes=routes,
    label="client table",
    change_permission=Permission.MANAGE_ROUTING,
    rows=_rows,
    to_spec=commands.client_table_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda table: table.group_id,
    example=EXAMPLE,
)
register(CLIENT_TABLES)
