"""Alerts as client observers see them: without anything internal. Other users may look at them too."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.service import find_alert
from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus, Priority
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.reports.public_timeline import PUBLIC_EVENTS, public_timeline

routes = AuthorizedRouter("client-alerts")


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


class ClientAlertFilters(PaginationQuery):
    closed: bool = Field(default=False, description="The history instead of the active alerts.")


@routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[ClientAlertSchema],
    public=True,
    summary="Alerts as client observers see them, newest first",
)
def list_client_alerts(request: HttpRequest, query: Query[ClientAlertFilters]) -> dict[str, Any]:
    rows = Alert.objects.filter(status__in=sorted(INACTIVE if query.closed else ACTIVE))
    return page(rows, query, lambda alerts: [_show(alert) for alert in alerts], newest_first=True)


@routes.get(
    "/{int:id}",
    Permission.VIEW_ALERTS,
    answers=ClientAlertDetail,
    public=True,
    summary="One alert as client observers see it, with its timeline",
)
def show_client_alert(request: HttpRequest, id: Number) -> dict[str, Any]:
    alert = find_alert(id).row
    events = AlertEvent.objects.filter(alert=alert, kind__in=list(PUBLIC_EVENTS)).order_by("at", "pk")
    timeline = public_timeline(events.values_list("at", "kind"))
    return {**_show(alert), "timeline": [{"at": event.at, "kind": event.kind} for event in timeline]}


def _show(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in ClientAlertSchema.model_fields}
