"""Schedules: the shifts of a group."""

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
from tocsin.core.reason_json import show_reason
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import Schedule
from tocsin.people.models import Group

routes = AuthorizedRouter("schedules")

EXAMPLE = {
    "name": "Service Desk 24x7",
    "group": "Service Desk",
    "time_zone": "Europe/Zurich",
    "shifts": [
        {
            "name": "Weekly",
            "rotate": {
                "every": "1w",
                "at": "09:00",
                "on": "monday",
                "users": ["alice", "bob"],
                "roles": ["primary", "secondary"],
            },
            "start": "2026-01-05",
        }
    ],
}


class ScheduleFilters(PaginationQuery):
    name: str | None = None
    group: str | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Schedules")
def list_schedules(request: HttpRequest, query: Query[ScheduleFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, label="group", field="group"))

    def show(schedules: list[Schedule]) -> list[dict[str, Any]]:
        names, calendars = commands.user_names(schedules), commands.calendar_names()
        return [
            {"id": schedule.pk, **commands.schedule_spec(schedule, names, calendars=calendars)}
            for schedule in schedules
        ]

    return page(rows, query, lambda page_rows: show(list(page_rows)))


@routes.get(
    "/{id}/imports", Permission.VIEW_ALERTS, summary="What was last read of the calendars that its shifts come from"
)
def schedule_imports(request: HttpRequest, id: str) -> dict[str, Any]:
    schedule = SCHEDULES.find(id)
    return {
        "items": [
            {
                "shift": row.shift,
                "read_at": row.read_at,
                "due_at": row.due_at,
                **show_reason(row.error, "error"),
                "unknown": row.unknown,
                "turns": len(row.spans),
            }
            for row in schedule.imports.all()
        ]
    }


def _rows() -> QuerySet[Schedule]:
    return Schedule.objects.select_related("group").prefetch_related(overrides.prefetched())


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Schedule | None) -> Schedule:
    return commands.save_schedule(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(schedule: Schedule, actor: AuditActor, principal: Principal) -> None:
    commands.delete_schedule(schedule, actor=actor, now=principal.now)


SCHEDULES = ApiResource(
    routes=routes,
    label="schedule",
    change_permission=Permission.MANAGE_TEAMS,
    rows=_rows,
    # A change that does not mention overrides keeps them.
    to_spec=commands.spec_without_overrides,
    show=lambda schedule, _who: {"id": schedule.pk, **commands.schedule_spec(schedule)},
    save=_save,
    delete=_delete,
    owner_group_id=lambda schedule: schedule.group_id,
    example=EXAMPLE,
    null_values={"overrides": []},
    # A body with overrides replaces the existing ones, so the ETag covers them.
    to_state=commands.schedule_state,
)
register(SCHEDULES)
