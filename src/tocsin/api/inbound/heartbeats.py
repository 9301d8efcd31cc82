"""Heartbeats: the state of each monitored sender. They are configured as integrations of the type `heartbeat`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.inbound.enums import HeartbeatHealth
from tocsin.inbound.heartbeats import monitor, schedule
from tocsin.inbound.models import Heartbeat, Integration
from tocsin.resources.lookup import find

routes = AuthorizedRouter("heartbeats")


class HeartbeatSchema(BaseModel):
    """A monitored sender. `health` is `new` until its first ping."""

    id: int = Field(description="Of the integration.")
    name: str
    health: HeartbeatHealth
    expected: str = Field(description="When it is expected, in words.")
    last_at: datetime | None
    started_at: datetime | None = Field(description="Since when it runs, between its start and its finish.")
    due_at: datetime | None = Field(description="When an alert opens unless it pings before.")


class HeartbeatFilters(PaginationQuery):
    health: list[HeartbeatHealth] = []
    name: str | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[HeartbeatSchema], summary="Monitored senders")
def list_heartbeats(request: HttpRequest, query: Query[HeartbeatFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.health:
        with_health = Heartbeat.objects.filter(health__in=query.health).values("integration_id")
        without_health = Heartbeat.objects.exclude(health__in=query.health).values("integration_id")
        # A sender that never pinged has no row.
        rows = (
            rows.exclude(pk__in=without_health)
            if HeartbeatHealth.NEW in query.health
            else rows.filter(pk__in=with_health)
        )
    return page(rows, query, show)


@routes.get("/{id}", Permission.VIEW_ALERTS, answers=HeartbeatSchema, summary="One monitored sender")
def get_heartbeat(request: HttpRequest, id: str) -> dict[str, Any]:
    return show([find(_rows(), id, label="heartbeat")])[0]


def show(integrations: Sequence[Integration]) -> list[dict[str, Any]]:
    statuses = monitor.heartbeat_statuses(integrations)
    return [
        {
            "id": integration.pk,
            "name": integration.name,
            **asdict(statuses[integration.pk]),
            "expected": str(statuses[integration.pk].expected),
        }
        for integration in integrations
    ]


def _rows() -> QuerySet[Integration]:
    return Integration.objects.filter(kind=schedule.KIND)
