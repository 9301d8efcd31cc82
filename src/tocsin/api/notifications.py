"""Deliveries: each attempt to send a notification, with provider and result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.api.errors import ReasonSchema
from tocsin.api.framework import auth
from tocsin.api.framework.auth import AuthorizedRouter, Number, PaginatedList, PaginationQuery, Principal, caller, page
from tocsin.core.reasons import show_fields
from tocsin.notify.inbound.mail_replies import ReplyResult
from tocsin.notify.models import Delivery, MailReply, Notification, SandboxMessage
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.people.changes.users import Channel
from tocsin.resources import registry
from tocsin.resources.resource import find, find_by_uuid

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
    error: ReasonSchema | None
    reason: ReasonSchema | None
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
                "address": auth.address(viewer, row.channel, row.address, row.user_id, row.notification.group_contact),
            }
            for row in rows
        ]

    return show


# ---------- notifications
# Notifications: who was notified about which alert, by which contact method, and why.


notifications_routes = AuthorizedRouter("notifications")


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
    reason: ReasonSchema | None
    created_at: datetime


class NotificationFilters(PaginationQuery):
    alert_id: Number | None = None
    user: str | None = None
    purpose: Purpose | None = None
    channel: Channel | None = None


@notifications_routes.get(
    "", Permission.VIEW_ALERTS, answers=PaginatedList[NotificationSchema], summary="Notifications, newest first"
)
def list_notifications(request: HttpRequest, query: Query[NotificationFilters]) -> dict[str, Any]:
    rows = Notification.objects.select_related("user", "group_contact")
    for name in ("alert_id", "purpose", "channel"):
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{name: value})
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _serializer_for_notifications(request), newest_first=True)


@notifications_routes.get("/{id}", Permission.VIEW_ALERTS, answers=NotificationSchema, summary="One notification")
def get_notification(request: HttpRequest, id: str) -> dict[str, Any]:
    rows = Notification.objects.select_related("user", "group_contact")
    return _serializer_for_notifications(request)([find_by_uuid(rows, id, label="notification")])[0]


def _serializer_for_notifications(request: HttpRequest) -> Callable[[Sequence[Notification]], list[dict[str, Any]]]:
    viewer = caller(request).viewer
    names = ("id", "alert_id", "purpose", "channel", "label", "created_at")

    def show(rows: Sequence[Notification]) -> list[dict[str, Any]]:
        return [
            {
                **show_fields(row, *names, "reason"),
                "user": row.user.username if row.user else None,
                "group_contact": row.group_contact.label if row.group_contact else None,
                "address": auth.address(viewer, row.channel, row.address, row.user_id, row.group_contact),
            }
            for row in rows
        ]

    return show


# ---------- mail replies
# Replies by e-mail, with their outcome. For administrators, because the senders are users' addresses.


mail_replies_routes = AuthorizedRouter("mail-replies")


class MailReplySchema(BaseModel):
    """One reply. Its text is stored on the alert's timeline, not here."""

    id: int
    received_at: datetime
    provider: str
    sender: str
    subject: str
    alert_id: int | None
    user: str | None
    outcome: ReplyResult
    reason: ReasonSchema | None


class MailReplyFilters(PaginationQuery):
    outcome: ReplyResult | None = None
    alert_id: Number | None = None
    sender: str | None = None


@mail_replies_routes.get(
    "", Permission.ADMINISTER, answers=PaginatedList[MailReplySchema], summary="Answers by mail, newest first"
)
def list_mail_replies(request: HttpRequest, query: Query[MailReplyFilters]) -> dict[str, Any]:
    rows = MailReply.objects.select_related("user")
    for name in ("outcome", "alert_id"):
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{name: value})
    if query.sender is not None:
        rows = rows.filter(sender__iexact=query.sender)
    return page(rows, query, _show, newest_first=True)


@mail_replies_routes.get("/{int:id}", Permission.ADMINISTER, answers=MailReplySchema, summary="One of them")
def get_mail_reply(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show([find(MailReply.objects.select_related("user"), str(id), label="answer by mail")])[0]


def _show(rows: Sequence[MailReply]) -> list[dict[str, Any]]:
    names = ("id", "received_at", "sender", "subject", "alert_id", "outcome")
    return [
        {
            **show_fields(row, *names, "reason"),
            "provider": row.provider_name,
            "user": row.user.username if row.user else None,
        }
        for row in rows
    ]


# ---------- sandbox messages
# The sandbox: messages on channels without a provider, which were never sent.
#
# A message contains links that act as its recipient, so only administrators see messages to other users.


sandbox_messages_routes = AuthorizedRouter("sandbox-messages")


class MessageButtonSchema(BaseModel):
    """A labelled link."""

    label: str
    url: str


class CallScriptSchema(BaseModel):
    """What a phone call says."""

    greeting: str
    message: str
    menu: str
    language: str
    keys: str = Field(description="The keys that trigger a command, such as `16789`.")


class RenderedMessageSchema(BaseModel):
    """A message as its channel would have it."""

    subject: str = ""
    text: str = ""
    html: str = ""
    headers: dict[str, str] = {}
    buttons: list[MessageButtonSchema] = []
    link: str = ""
    priority: Priority | None = None
    script: CallScriptSchema | None = None


class SandboxMessageSchema(BaseModel):
    """One message as rendered for its channel."""

    id: int
    at: datetime
    delivery_id: UUID
    alert_id: int | None
    user: str | None
    channel: str
    address: str
    content: RenderedMessageSchema


class SandboxMessageFilters(PaginationQuery):
    alert_id: Number | None = None
    user: str | None = None
    channel: Channel | None = None


@sandbox_messages_routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[SandboxMessageSchema],
    summary="What would have been sent, newest first",
)
def list_messages(request: HttpRequest, query: Query[SandboxMessageFilters]) -> dict[str, Any]:
    """Returns your own messages; administrators get all of them."""
    rows = _visible(caller(request))
    for name in ("alert_id", "channel"):
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{name: value})
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _show_sandbox_messages, newest_first=True)


@sandbox_messages_routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=SandboxMessageSchema, summary="One of them")
def get_message(request: HttpRequest, id: int) -> dict[str, Any]:
    return _show_sandbox_messages([find(_visible(caller(request)), str(id), label="sandbox message")])[0]


def _visible(principal: Principal) -> QuerySet[SandboxMessage]:
    rows = SandboxMessage.objects.select_related("user")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _show_sandbox_messages(rows: Sequence[SandboxMessage]) -> list[dict[str, Any]]:
    return [
        {
            "id": row.pk,
            "at": row.at,
            "delivery_id": row.delivery,
            "alert_id": row.alert_id,
            "user": row.user.username if row.user else None,
            "channel": row.channel,
            "address": row.address,
            "content": row.content,
        }
        for row in rows
    ]
