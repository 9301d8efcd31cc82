"""What holds alerts and pages back: maintenance windows, with a preview of the alerts affected, delayed alerts, and the
pause of all paging.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Body
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
    require,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.reasons import show_reason
from tocsin.inbound import maintenance as maintenance_times
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.models import MaintenanceWindow
from tocsin.resources import registry
from tocsin.resources.resource import ResourceSpec
from tocsin.simulate import backtest

#: Number of upcoming occurrences shown.
_NEXT = 5


class MaintenanceWindowFilters(PaginationQuery):
    in_force: bool | None = Field(default=None, description="Whether it is in force now.")


class OccurrenceSchema(BaseModel):
    """One occurrence of the window."""

    starts: datetime
    ends: datetime


class MaintenanceWindowFields(BaseModel):
    """What is shown of a window besides its settings."""

    in_force: bool = Field(description="Whether it is in force now.")
    next: list[OccurrenceSchema] = Field(description="Its next occurrences; the first may have begun.")


class AffectedAlertSchema(BaseModel):
    message_id: UUID
    received_at: datetime
    integration: str
    subject: str


class MaintenancePreviewResponse(BaseModel):
    """An unsaved window: its occurrences, and the alerts of the last day that it matches."""

    sentence: ReasonSchema
    next: list[OccurrenceSchema]
    opened: int = Field(description="Alerts that opened in the last 24 hours, of its integrations.")
    caught: int = Field(description="Of those, how many the window is about, whatever their hour.")
    partial: ReasonSchema | None = Field(description="Why messages were left out; null: none was.")
    alerts: list[AffectedAlertSchema]


def _narrow(
    rows: QuerySet[MaintenanceWindow], query: MaintenanceWindowFilters, principal: Principal
) -> QuerySet[MaintenanceWindow]:
    if query.in_force is not None:
        active_ids = [item.window.pk for item in maintenance_windows.active_windows(principal.now, rows)]
        rows = rows.filter(pk__in=active_ids) if query.in_force else rows.exclude(pk__in=active_ids)
    return rows


def _next_occurrences(row: MaintenanceWindow, now: datetime) -> list[dict[str, datetime]]:
    occurrences = maintenance_windows.next_times(row, now, _NEXT)
    return [{"starts": start, "ends": end} for start, end in occurrences]


def _show(rows: Sequence[MaintenanceWindow], principal: Principal) -> Iterator[dict[str, Any]]:
    for row, spec in zip(rows, registry.MAINTENANCE_WINDOWS.specs(rows), strict=True):
        upcoming = _next_occurrences(row, principal.now)
        in_force = bool(upcoming) and upcoming[0]["starts"] <= principal.now
        yield {**spec, "in_force": in_force, "next": upcoming}


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: MaintenanceWindow | None) -> MaintenanceWindow:
    previous = maintenance_windows.affected(existing) if existing is not None else None
    saved = maintenance_windows.save_window(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)
    for owner in maintenance_windows.groups_newly_affected(saved, previous):
        require(caller, Permission.MANAGE_ROUTING, owner)
    return saved


WINDOWS = ApiResource(
    registry.MAINTENANCE_WINDOWS,
    query=MaintenanceWindowFilters,
    narrow=_narrow,
    show=_show,
    save=_save,
    read_only=MaintenanceWindowFields,
)
routes = WINDOWS.routes


@routes.post(
    "/preview",
    Permission.VIEW_ALERTS,
    answers=MaintenancePreviewResponse,
    body=WINDOWS.schema.changes,
    summary="When a window would be, and what it would catch",
)
def preview(request: HttpRequest, body: Body[dict[str, Any]]) -> dict[str, Any]:
    """Nothing is stored. The body is a window in the form in which it is saved; its name may be omitted."""
    now = caller(request).now
    row = maintenance_windows.unsaved_window(body)
    suppressed = backtest.suppressed_alerts(maintenance_windows.compile_window(row), now)
    return {
        "sentence": show_reason(maintenance_times.describe_times(row.times)),
        "next": _next_occurrences(row, now),
        "opened": suppressed.opened,
        "caught": suppressed.count,
        "partial": show_reason(suppressed.partial),
        "alerts": [show(AffectedAlertSchema, alert) for alert in suppressed.alerts],
    }


@routes.post(
    "/{id}/end",
    Permission.MANAGE_ROUTING,
    answers=WINDOWS.schema.whole,
    summary="End one that is once and in force: what it holds opens now",
)
def end(request: HttpRequest, id: str) -> dict[str, Any]:
    principal = caller(request)
    row = WINDOWS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    ended = maintenance_windows.end_now(row, actor=audit_actor_of(principal), now=principal.now)
    return WINDOWS.show_one(ended, principal)


register(WINDOWS)
