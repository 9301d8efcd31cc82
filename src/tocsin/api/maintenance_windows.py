"""What holds alerts and pages back: maintenance windows, with a preview of the alerts affected, delayed alerts, and the
pause of all paging.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Body, Query, Schema
from pydantic import BaseModel, Field, model_validator

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    PaginationQuery,
    Principal,
    UtcDatetime,
    audit_actor_of,
    caller,
    require,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.db import database
from tocsin.core.reasons import show_reason
from tocsin.core.validation import field_errors
from tocsin.inbound import maintenance as maintenance_times
from tocsin.inbound import maintenance_commands as maintenance_windows
from tocsin.inbound.admin import delayed_alerts
from tocsin.inbound.deciding.state import DelayReason
from tocsin.inbound.models import DelayedAlert, MaintenanceWindow
from tocsin.notify import pause
from tocsin.people.models import User
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
    previous = existing.integrations if existing is not None else None
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


# ---------- delayed alerts
# Alerts whose opening is delayed: by a delay, a maintenance window, or flapping detection.


delayed_alerts_routes = AuthorizedRouter("delayed-alerts")

#: Maximum number of alerts listed.
_MAX_ROWS = 500


class DelayedAlertSchema(BaseModel):
    """An alert whose opening is delayed. `reason` completes the sentence "it opens …"."""

    id: str
    integration: str
    subject: str
    source_id: str
    delay_reason: DelayReason
    reason: ReasonSchema | None
    since: datetime
    due_at: datetime | None = Field(description="None: it opens when others come.")
    message_count: int


class DelayedAlertFilters(Schema):
    model_config = {"extra": "forbid"}

    integration: str | None = None
    delay_reason: list[DelayReason] = []


@delayed_alerts_routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=list[DelayedAlertSchema],
    summary="Alerts that wait to open, the next that is due first",
)
def list_delayed(request: HttpRequest, query: Query[DelayedAlertFilters]) -> list[dict[str, Any]]:
    """Returns at most 500 alerts."""
    rows = DelayedAlert.objects.all()
    if query.integration is not None:
        integration = registry.INTEGRATIONS.resolve(query.integration, "integration")
        rows = rows.filter(integration=integration)
    if query.delay_reason:
        rows = rows.filter(delay_reason__in=query.delay_reason)
    return [_show_delayed_alerts(info) for info in delayed_alerts.list_delayed(rows, _MAX_ROWS)]


@delayed_alerts_routes.post(
    "/{id}/open", Permission.TEST_INTEGRATIONS, status=204, answers=None, summary="Have it open now instead"
)
def open_now(request: HttpRequest, id: str) -> None:
    principal, row = caller(request), delayed_alerts.find(id)
    require(principal, Permission.TEST_INTEGRATIONS, row.integration.group_id)
    delayed_alerts.open_now(row, actor=audit_actor_of(principal), now=principal.now)


@delayed_alerts_routes.delete(
    "/{id}", Permission.TEST_INTEGRATIONS, status=204, answers=None, summary="Let it go: no alert opens for what came"
)
def drop(request: HttpRequest, id: str) -> None:
    principal, row = caller(request), delayed_alerts.find(id)
    require(principal, Permission.TEST_INTEGRATIONS, row.integration.group_id)
    delayed_alerts.drop(row, actor=audit_actor_of(principal), now=principal.now)


def _show_delayed_alerts(info: delayed_alerts.DelayedAlertInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "integration": info.integration,
        "subject": info.subject,
        "source_id": info.source_id,
        "delay_reason": info.delay_reason,
        "reason": show_reason(info.reason),
        "since": info.since,
        "due_at": info.due_at,
        "message_count": info.message_count,
    }


# ---------- pause
# The pause of all paging. Every user can see it; administrators start and end it.


pause_routes = AuthorizedRouter("pause")


class PauseSchema(BaseModel):
    """Whether all paging is paused. The other fields are null while it is not."""

    paused: bool
    reason: str | None
    started_at: datetime | None
    until: datetime | None
    user: str | None


class PauseBody(Schema):
    """Pause until a moment, or for a duration such as `2h`; seven days at most."""

    model_config = {"extra": "forbid"}

    reason: str = Field(max_length=2000, description="Why; everyone reads it.")
    until: UtcDatetime | None = None
    span: str | None = Field(default=None, alias="for", max_length=20, examples=["2h"])

    @model_validator(mode="after")
    def _require_one_of(self) -> Self:
        if (self.until is None) == (self.span is None):
            raise ValueError("give either until or for")
        return self


EXAMPLE = {"reason": "Moving the data centre", "for": "2h"}


@pause_routes.get("", Permission.VIEW_ALERTS, answers=PauseSchema, summary="Whether all paging is paused")
def get_pause(request: HttpRequest) -> dict[str, Any]:
    return _show_pause(caller(request).now)


@pause_routes.put(
    "",
    Permission.ADMINISTER,
    answers=PauseSchema,
    summary="Pause all paging: alerts open as usual, pages wait until the end",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def put_pause(request: HttpRequest, body: PauseBody) -> dict[str, Any]:
    principal = caller(request)
    until = body.until or principal.now + _span(body)
    pause.start(body.reason, until, audit_actor_of(principal), principal.now)
    return _show_pause(principal.now)


@pause_routes.delete("", Permission.ADMINISTER, answers=PauseSchema, summary="End the pause now. Held pages are sent")
def delete_pause(request: HttpRequest) -> dict[str, Any]:
    principal = caller(request)
    pause.end(audit_actor_of(principal), principal.now)
    return _show_pause(principal.now)


def _span(body: PauseBody) -> timedelta:
    return field_errors.parse(body.span, "for")


def _show_pause(now: datetime) -> dict[str, Any]:
    with database.transaction() as connection:
        current = pause.current_pause(connection, now)
    if current is None:
        return {"paused": False, "reason": None, "started_at": None, "until": None, "user": None}
    user = User.objects.filter(pk=current.user_id).first() if current.user_id else None
    return {
        "paused": True,
        "reason": current.reason,
        "started_at": current.started_at,
        "until": current.until,
        "user": user.username if user else None,
    }
