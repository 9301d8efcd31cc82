"""Holiday calendars: the holidays of a country or region, and custom days."""

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
from tocsin.oncall.models import HolidayCalendar
from tocsin.people.models import Group

routes = AuthorizedRouter("holiday-calendars")

EXAMPLE = {
    "name": "Zurich",
    "country": "CH",
    "region": "ZH",
    "days": [{"date": "12-24", "name": "Christmas Eve"}],
}


class HolidayCalendarFilters(PaginationQuery):
    name: str | None = None
    group: str | None = None
    country: str | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Holiday calendars")
def list_holiday_calendars(request: HttpRequest, query: Query[HolidayCalendarFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.country is not None:
        rows = rows.filter(country__iexact=query.country)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, label="group", field="group"))
    return page(rows, query, lambda page_rows: [_show(calendar) for calendar in page_rows])


def _rows() -> QuerySet[HolidayCalendar]:
    return HolidayCalendar.objects.select_related("group")


def _show(calendar: HolidayCalendar, _principal: Principal | None = None) -> dict[str, Any]:
    return {"id": calendar.pk, **commands.holiday_calendar_spec(calendar)}


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: HolidayCalendar | None) -> HolidayCalendar:
    return commands.save_holiday_calendar(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(calendar: HolidayCalendar, actor: AuditActor, principal: Principal) -> None:
    commands.delete_holiday_calendar(calendar, actor=actor, now=principal.now)


HOLIDAY_CALENDARS = ApiResource(
    routes=routes,
    label="holiday calendar",
    change_permission=Permission.MANAGE_TEAMS,
    rows=_rows,
    to_spec=commands.holiday_calendar_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda calendar: calendar.group_id,
    example=EXAMPLE,
)
register(HOLIDAY_CALENDARS)
