"""Overrides: a user is on call for a period, on one shift, in one role or in a whole schedule."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import Moment, find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.oncall.changes import overrides as commands
from tocsin.oncall.models import Override, Schedule
from tocsin.people.models import Group, User

routes = AuthorizedRouter("overrides")

EXAMPLE = {
    "name": "Xmas swap",
    "schedule": "Service Desk 24x7",
    "user": "alice",
    "from": "2026-12-24T17:00",
    "to": "2026-12-26T08:00",
    "role": "primary",
}


class OverrideFilters(PaginationQuery):
    schedule: str | None = None
    group: str | None = None
    user: str | None = None
    at: Moment | None = None
    past: bool = False


@routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[dict[str, Any]],
    summary="Overrides that are not over; with `past=true` all",
)
def list_overrides(request: HttpRequest, query: Query[OverrideFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.schedule is not None:
        selected = find_named(Schedule.objects.all(), query.schedule, label="schedule", field="schedule")
        rows = rows.filter(schedule=selected)
    if query.group is not None:
        group = find_named(Group.objects.all(), query.group, label="group", field="group")
        rows = rows.filter(schedule__group=group)
    if query.user is not None:
        rows = rows.filter(
            user=find_named(User.objects.all(), query.user, label="user", field="user", name_column="username")
        )
    if query.at is not None:
        rows = rows.filter(starts_at__lte=query.at, ends_at__gt=query.at)
    elif not query.past:
        rows = rows.filter(ends_at__gt=caller(request).now)
    return page(rows, query, lambda selected: [show(override) for override in selected])


def _rows() -> QuerySet[Override]:
    return Override.objects.select_related("schedule__group", "user", "instead_of", "created_by")


def show(override: Override, _principal: Principal | None = None) -> dict[str, Any]:
    """Return the override as the API shows it."""
    return {
        "id": override.pk,
        **commands.override_spec(override),
        "created_by": override.created_by.username if override.created_by else None,
        "created_at": override.created_at,
        "swap_id": override.swap_id,
    }


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Override | None) -> Override:
    return commands.save_override(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)


def _delete(override: Override, actor: AuditActor, principal: Principal) -> None:
    commands.delete_override(override, actor=actor, now=principal.now)


OVERRIDES = ApiResource(
    routes=routes,
    label="override",
    change_permission=Permission.MANAGE_TEAMS,
    rows=_rows,
    to_spec=commands.override_spec,
    show=show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda override: override.schedule.group_id,
    example=EXAMPLE,
    read_only_keys=frozenset({"id", "created_by", "created_at", "swap_id"}),
)
register(OVERRIDES)
