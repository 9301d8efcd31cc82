"""Maintenance windows: when alerts do not open or open only afterwards; and a preview of the alerts affected."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Body, Query
from pydantic import BaseModel, Field

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.reason_json import show_reason
from tocsin.inbound.maintenance import commands as maintenance_windows
from tocsin.inbound.maintenance import times as maintenance_times
from tocsin.inbound.models import Integration, MaintenanceWindow
from tocsin.people.models import Group
from tocsin.simulate import maintenance_preview

routes = AuthorizedRouter("maintenance-windows")

EXAMPLE = {
    "name": "Patch night",
    "repeat": "monthly",
    "days": ["2nd tue"],
    "from": "22:00",
    "to": "02:00",
    "time_zone": "Europe/Zurich",
    "tags": {"environment": "production"},
    "action": "hold",
}

#: Number of upcoming occurrences shown.
_NEXT = 5


class MaintenanceWindowFilters(PaginationQuery):
    name: str | None = None
    group: str | None = None
    in_force: bool | None = Field(default=None, description="Whether it is in force now.")


class OccurrenceSchema(BaseModel):
    """One occurrence of the window."""

    starts: datetime
    ends: datetime


class AffectedAlertSchema(BaseModel):
    message_id: UUID
    received_at: datetime
    integration: str
    subject: str


class MaintenancePreviewResponse(BaseModel):
    """An unsaved window: its occurrences, and the alerts of the last day that it matches."""

    sentence: str
    sentence_code: str
    sentence_data: dict[str, Any]
    next: list[OccurrenceSchema]
    opened: int = Field(description="Alerts that opened in the last 24 hours, of its integrations.")
    caught: int = Field(description="Of those, how many the window is about, whatever their hour.")
    alerts: list[AffectedAlertSchema]


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Maintenance windows")
def list_windows(request: HttpRequest, query: Query[MaintenanceWindowFilters]) -> dict[str, Any]:
    principal, rows = caller(request), _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, label="group", field="group"))
    if query.in_force is not None:
        active_ids = [item.window.pk for item in maintenance_windows.active_windows(principal.now, rows)]
        rows = rows.filter(pk__in=active_ids) if query.in_force else rows.exclude(pk__in=active_ids)
    names = maintenance_windows.window_names()
    return page(rows, query, lambda page_rows: [_show_at(item, principal.now, names) for item in page_rows])


@routes.post(
    "/preview",
    Permission.VIEW_ALERTS,
    answers=MaintenancePreviewResponse,
    summary="When a window would be, and what it would catch",
)
def preview(request: HttpRequest, body: Body[dict[str, Any]]) -> dict[str, Any]:
    """Nothing is stored. The body is a window in the form in which it is saved; its name may be omitted."""
    now = caller(request).now
    row = maintenance_windows.unsaved_window(body)
    suppressed = maintenance_preview.suppressed_alerts(maintenance_windows.compile_window(row), now)
    return {
        **show_reason(maintenance_times.describe_times(row.times), "sentence"),
        "next": _next_occurrences(row, now),
        "opened": suppressed.opened,
        "caught": suppressed.count,
        "alerts": [
            {
                "message_id": alert.message_id,
                "received_at": alert.received_at,
                "integration": alert.integration,
                "subject": alert.subject,
            }
            for alert in suppressed.alerts
        ],
    }


@routes.post(
    "/{id}/end", Permission.MANAGE_ROUTING, summary="End one that is once and in force: what it holds opens now"
)
def end(request: HttpRequest, id: str) -> dict[str, Any]:
    principal = caller(request)
    row = WINDOWS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    return _show(maintenance_windows.end_now(row, actor=audit_actor_of(principal), now=principal.now), principal)


def _rows() -> QuerySet[MaintenanceWindow]:
    return MaintenanceWindow.objects.select_related("group")


def _next_occurrences(row: MaintenanceWindow, now: datetime) -> list[dict[str, datetime]]:
    occurrences = maintenance_windows.next_times(row, now, _NEXT)
    return [{"starts": start, "ends": end} for start, end in occurrences]


def _show_at(
    row: MaintenanceWindow, now: datetime, names: maintenance_windows.WindowNames | None = None
) -> dict[str, Any]:
    upcoming = _next_occurrences(row, now)
    in_force = bool(upcoming) and upcoming[0]["starts"] <= now
    return {"id": row.pk, **maintenance_windows.window_spec(row, names), "in_force": in_force, "next": upcoming}


def _show(row: MaintenanceWindow, principal: Principal) -> dict[str, Any]:
    return _show_at(row, principal.now)


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: MaintenanceWindow | None) -> MaintenanceWindow:
    saved = maintenance_windows.save_window(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)
    _require_its_integrations(saved, caller)
    return saved


def _require_its_integrations(row: MaintenanceWindow, principal: Principal) -> None:
    """Require permission to change every affected integration, because the window suppresses its alerts.

    Raises Rejected("forbidden").
    """
    owners = Integration.objects.filter(pk__in=row.integrations).values_list("group_id", flat=True)
    for owner in set(owners) if row.integrations else {None}:
        require(principal, Permission.MANAGE_ROUTING, owner)


def _delete(row: MaintenanceWindow, actor: AuditActor, principal: Principal) -> None:
    maintenance_windows.delete_window(row, actor=actor, now=principal.now)


WINDOWS = ApiResource(
    routes=routes,
    label="maintenance window",
    change_permission=Permission.MANAGE_ROUTING,
    rows=_rows,
    to_spec=maintenance_windows.window_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda row: row.group_id,
    example=EXAMPLE,
    read_only_keys=frozenset({"id", "in_force", "next"}),
)
register(WINDOWS)
