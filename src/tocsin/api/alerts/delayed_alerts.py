"""Alerts whose opening is delayed: by a delay, a maintenance window, or flapping detection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import caller, changer, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find_named
from tocsin.inbound.admin import delayed_alerts
from tocsin.inbound.deciding.state import DelayReason
from tocsin.inbound.models import DelayedAlert, Integration

routes = AuthorizedRouter("delayed-openings")

#: Maximum number of alerts listed.
_MAX_ROWS = 500


class DelayedAlertSchema(BaseModel):
    """An alert whose opening is delayed. `why` completes the sentence "it opens …"."""

    id: str
    integration: str
    subject: str
    source_id: str
    wait: DelayReason
    why: str
    since: datetime
    due_at: datetime | None = Field(description="None: it opens when others come.")
    messages: int


class DelayedAlertFilters(Schema):
    model_config = {"extra": "forbid"}

    integration: str | None = None
    wait: list[DelayReason] = []


@routes.get(
    "", Permission.SEE, answers=list[DelayedAlertSchema], summary="Alerts that wait to open, the next that is due first"
)
def list_delayed(request: HttpRequest, query: Query[DelayedAlertFilters]) -> list[dict[str, Any]]:
    """Returns at most 500 alerts."""
    rows = DelayedAlert.objects.all()
    if query.integration is not None:
        named = find_named(Integration.objects.all(), query.integration, what="integration", field="integration")
        rows = rows.filter(integration=named)
    if query.wait:
        rows = rows.filter(delay_reason__in=query.wait)
    return [_show(one) for one in delayed_alerts.list_delayed(rows, _MAX_ROWS)]


@routes.post("/{id}/open", Permission.TRY_OUT, status=204, answers=None, summary="Have it open now instead")
def open_now(request: HttpRequest, id: str) -> None:
    who, row = caller(request), delayed_alerts.find(id)
    require(who, Permission.TRY_OUT, row.integration.group_id)
    delayed_alerts.open_now(row, actor=changer(who), now=who.now)


@routes.delete("/{id}", Permission.TRY_OUT, status=204, answers=None, summary="Let it go: no alert opens for what came")
def drop(request: HttpRequest, id: str) -> None:
    who, row = caller(request), delayed_alerts.find(id)
    require(who, Permission.TRY_OUT, row.integration.group_id)
    delayed_alerts.drop(row, actor=changer(who), now=who.now)


def _show(one: delayed_alerts.DelayedAlertInfo) -> dict[str, Any]:
    return {
        "id": one.id,
        "integration": one.integration,
        "subject": one.subject,
        "source_id": one.source_id,
        "wait": one.wait,
        "why": one.why,
        "since": one.since,
        "due_at": one.due_at,
        "messages": one.messages,
    }
