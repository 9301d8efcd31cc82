"""Alerts as client observers see them: without anything internal. Other users may look at them too."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus, Priority
from tocsin.api.alerts.alerts import find_alert
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number
from tocsin.reports.public_timeline import PUBLIC_EVENTS, public_timeline

routes = AuthorizedRouter("client-alerts")

_MAX_ROWS = 200


class ClientAlertSchema(BaseModel):
    """An alert, without anything internal."""

    id: int
    status: AlertStatus
    priority: Priority
    subject: str
    client: str
    opened_at: datetime
    closed_at: datetime | None


class PublicEventSchema(BaseModel):
    """What happened, and when."""

    at: datetime
    kind: str


class ClientAlertDetail(ClientAlertSchema):
    """An alert with its timeline, without names, texts and reasons."""

    timeline: list[PublicEventSchema]


class ClientAlertFilters(Schema):
    model_config = {"extra": "forbid"}

    closed: bool = Field(default=False, description="The history instead of the active alerts.")
    before: Number | None = Field(default=None, description="Only alerts with a lower number, for the next page.")


@routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=list[ClientAlertSchema],
    public=True,
    summary="Alerts as client observers see them, newest first",
)
def list_client_alerts(request: HttpRequest, query: Query[ClientAlertFilters]) -> list[dict[str, Any]]:
    """Returns at most 200 alerts."""
    rows = Alert.objects.filter(status__in=sorted(INACTIVE if query.closed else ACTIVE))
    if query.before is not None:
        rows = rows.filter(pk__lt=query.before)
    return [_show(alert) for alert in rows.order_by("-pk")[:_MAX_ROWS]]


@routes.get(
    "/{int:id}",
    Permission.VIEW_ALERTS,
    answers=ClientAlertDetail,
    public=True,
    summary="One alert as client observers see it, with its timeline",
)
def show_client_alert(request: HttpRequest, id: Number) -> dict[str, Any]:
    alert = find_alert(id)
    events = AlertEvent.objects.filter(alert=alert, kind__in=list(PUBLIC_EVENTS)).order_by("at", "pk")
    timeline = public_timeline(events.values_list("at", "kind"))
    return {**_show(alert), "timeline": [{"at": event.at, "kind": event.kind} for event in timeline]}


def _show(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in ClientAlertSchema.model_fields}
