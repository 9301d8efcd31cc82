"""Support hours: named sets of weekly windows."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.oncall.changes import commands
from tocsin.oncall.models import SupportHours
from tocsin.people.models import Group

routes = AuthorizedRouter("support-hours")

EXAMPLE = {
    "name": "Office hours",
    "time_zone": "Europe/Zurich",
    "windows": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}],
}


class SupportHoursFilters(PaginationQuery):
    name: str | None = None
    group: str | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Support hours")
def list_support_hours(request: HttpRequest, query: Query[SupportHoursFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, label="group", field="group"))

    def show(hours_list: list[SupportHours]) -> list[dict[str, Any]]:
        calendars = commands.calendar_names()
        return [{"id": hours.pk, **commands.support_hours_spec(hours, calendars)} for hours in hours_list]

    return page(rows, query, lambda page_rows: show(list(page_rows)))


def _rows() -> QuerySet[SupportHours]:
    return SupportHours.objects.select_related("group")


def _show(hours: SupportHours, _principal: Principal | None = None) -> dict[str, Any]:
    return {"id": hours.pk, **commands.support_hours_spec(hours)}


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: SupportHours | None) -> SupportHours:
    return commands.save_support_hours(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(hours: SupportHours, actor: AuditActor, principal: Principal) -> None:
    commands.delete_support_hours(hours, actor=actor, now=principal.now)


SUPPORT_HOURS = ApiResource(
    routes=routes,
    label="set of support hours",
    audit_object_type="support_hours",
    change_permission=Permission.MANAGE_TEAMS,
    rows=_rows,
    to_spec=commands.support_hours_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda hours: hours.group_id,
    example=EXAMPLE,
)
register(SUPPORT_HOURS)
