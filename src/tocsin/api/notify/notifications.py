"""Notifications: who was notified about which alert, by which contact method, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework import address_masking
from tocsin.api.framework.auth import caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.reason_json import show_fields
from tocsin.notify.models import Notification
from tocsin.notify.states import Purpose
from tocsin.people.changes.specs import Channel
from tocsin.resources import registry
from tocsin.resources.lookup import find_by_uuid

routes = AuthorizedRouter("notifications")


class NotificationSchema(BaseModel):
    """One message to one user or group contact about one alert. Its result is in its deliveries."""

    id: UUID
    alert_id: int | None
    user: str | None
    group_contact: str | None
    purpose: Purpose
    channel: str
    label: str
    address: str = Field(description="Masked for users who may not see it.")
    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData
    created_at: datetime


class NotificationFilters(PaginationQuery):
    alert_id: Number | None = None
    user: str | None = None
    purpose: Purpose | None = None
    channel: Channel | None = None


@routes.get(
    "", Permission.VIEW_ALERTS, answers=PaginatedList[NotificationSchema], summary="Notifications, newest first"
)
def list_notifications(request: HttpRequest, query: Query[NotificationFilters]) -> dict[str, Any]:
    rows = Notification.objects.select_related("user", "group_contact")
    for name in ("alert_id", "purpose", "channel"):
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{name: value})
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _serializer_for(request), newest_first=True)


@routes.get("/{id}", Permission.VIEW_ALERTS, answers=NotificationSchema, summary="One notification")
def get_notification(request: HttpRequest, id: str) -> dict[str, Any]:
    rows = Notification.objects.select_related("user", "group_contact")
    return _serializer_for(request)([find_by_uuid(rows, id, label="notification")])[0]


def _serializer_for(request: HttpRequest) -> Callable[[Sequence[Notification]], list[dict[str, Any]]]:
    viewer = caller(request).viewer
    names = ("id", "alert_id", "purpose", "channel", "label", "created_at")

    def show(rows: Sequence[Notification]) -> list[dict[str, Any]]:
        return [
            {
                **show_fields(row, *names, "reason"),
                "user": row.user.username if row.user else None,
                "group_contact": row.group_contact.label if row.group_contact else None,
                "address": address_masking.address(viewer, row.channel, row.address, row.user_id, row.group_contact),
            }
            for row in rows
        ]

    return show
