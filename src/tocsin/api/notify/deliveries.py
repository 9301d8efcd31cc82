"""Deliveries: each attempt to send a notification, with provider and result."""

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
from tocsin.notify.models import Delivery
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.people.changes.specs import Channel
from tocsin.resources import registry
from tocsin.resources.lookup import find_by_uuid

routes = AuthorizedRouter("deliveries")

_RELATED = ("user", "notification__group_contact")


class DeliverySchema(BaseModel):
    """The delivery of a notification through one provider, including its retries."""

    id: UUID
    notification_id: UUID
    alert_id: int | None
    user: str | None
    purpose: Purpose
    channel: str
    provider: str | None = Field(description="`sandbox` when it was kept there; null when no provider was asked.")
    address: str = Field(description="Masked for users who may not see it.")
    status: DeliveryStatus
    attempts: int
    error: str
    error_code: ReasonCode
    error_data: ReasonData
    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData
    queued_at: datetime
    due_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    receipt: str = Field(description="The provider's last word: delivered, answered, not_reached, failed; or empty.")


class DeliveryFilters(PaginationQuery):
    alert_id: Number | None = None
    notification_id: UUID | None = None
    user: str | None = None
    purpose: Purpose | None = None
    channel: Channel | None = None
    provider: str | None = None
    status: list[DeliveryStatus] = []


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[DeliverySchema], summary="Deliveries, newest first")
def list_deliveries(request: HttpRequest, query: Query[DeliveryFilters]) -> dict[str, Any]:
    rows = Delivery.objects.select_related(*_RELATED)
    for name in ("alert_id", "notification_id", "purpose", "channel"):
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{name: value})
    if query.provider is not None:
        rows = rows.filter(provider_name__iexact=query.provider)
    if query.status:
        rows = rows.filter(status__in=query.status)
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _serializer_for(request), newest_first=True)


@routes.get("/{id}", Permission.VIEW_ALERTS, answers=DeliverySchema, summary="One delivery")
def get_delivery(request: HttpRequest, id: str) -> dict[str, Any]:
    rows = Delivery.objects.select_related(*_RELATED)
    return _serializer_for(request)([find_by_uuid(rows, id, label="delivery")])[0]


def _serializer_for(request: HttpRequest) -> Callable[[Sequence[Delivery]], list[dict[str, Any]]]:
    viewer = caller(request).viewer
    names = (
        "id", "notification_id", "alert_id", "purpose", "channel", "status", "attempts", "queued_at", "due_at",
        "sent_at", "delivered_at", "receipt",
    )  # fmt: skip

    def show(rows: Sequence[Delivery]) -> list[dict[str, Any]]:
        return [
            {
                **show_fields(row, *names, "error", "reason"),
                "user": row.user.username if row.user else None,
                "provider": row.provider_name or None,
                "address": address_masking.address(
                    viewer, row.channel, row.address, row.user_id, row.notification.group_contact
                ),
            }
            for row in rows
        ]

    return show
