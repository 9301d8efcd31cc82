"""Alerts whose opening is delayed: by a delay, a maintenance window, or flapping detection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema
from tocsin.api.framework.auth import AuthorizedRouter, audit_actor_of, caller, require
from tocsin.core.reasons import show_reason
from tocsin.inbound.admin import delayed_alerts
from tocsin.inbound.deciding.state import DelayReason
from tocsin.inbound.models import DelayedAlert
from tocsin.resources import registry

routes = AuthorizedRouter("delayed-alerts")

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


@routes.get(
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
    return [_show(row) for row in delayed_alerts.list_delayed(rows, _MAX_ROWS)]


@routes.post("/{id}/open", Permission.TEST_INTEGRATIONS, status=204, answers=None, summary="Have it open now instead")
def open_now(request: HttpRequest, id: str) -> None:
    principal, row = caller(request), delayed_alerts.find(id)
    require(principal, Permission.TEST_INTEGRATIONS, row.integration.group_id)
    delayed_alerts.open_now(row, actor=audit_actor_of(principal), now=principal.now)


@routes.delete(
    "/{id}", Permission.TEST_INTEGRATIONS, status=204, answers=None, summary="Let it go: no alert opens for what came"
)
def drop(request: HttpRequest, id: str) -> None:
    principal, row = caller(request), delayed_alerts.find(id)
    require(principal, Permission.TEST_INTEGRATIONS, row.integration.group_id)
    delayed_alerts.drop(row, actor=audit_actor_of(principal), now=principal.now)


def _show(row: DelayedAlert) -> dict[str, Any]:
    return {
        "id": row.hex_key,
        "integration": row.integration.name,
        "subject": row.shown_subject,
        "source_id": row.source_id,
        "delay_reason": row.delay_reason,
        "reason": show_reason(row.reason),
        "since": row.since,
        "due_at": row.due_at,
        "message_count": row.message_count,
    }
