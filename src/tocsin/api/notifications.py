"""Deliveries: each attempt to send a notification, with provider and result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field, model_validator

from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework import auth
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    UtcDatetime,
    audit_actor_of,
    caller,
    narrowed,
    page,
)
from tocsin.core.db import database
from tocsin.core.validation import inputs
from tocsin.notify import pause
from tocsin.notify.inbound.mail_replies import ReplyResult
from tocsin.notify.models import STATE_IN_SQL, Delivery, MailReply, Notification, SandboxMessage
from tocsin.notify.states import DeliveryState, Purpose
from tocsin.people.changes.users import Channel
from tocsin.people.models import User
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
    status: DeliveryState = Field(
        description="How far it came. `sandboxed`: nothing left the machine. `failed`: also a call that reached no one."
    )
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
    status: list[DeliveryState] = []


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[DeliverySchema], summary="Deliveries, newest first")
def list_deliveries(request: HttpRequest, query: Query[DeliveryFilters]) -> dict[str, Any]:
    rows = Delivery.objects.select_related(*_RELATED).alias(shown_state=STATE_IN_SQL)
    equal = ("alert_id", "notification_id", "purpose", "channel", "user")
    rows = narrowed(rows, query, *equal, provider="provider_name__iexact", status="shown_state__in")
    return page(rows, query, _serializer_for(request), newest_first=True)


@routes.get("/{id}", Permission.VIEW_ALERTS, answers=DeliverySchema, summary="One delivery")
def get_delivery(request: HttpRequest, id: str) -> dict[str, Any]:
    rows = Delivery.objects.select_related(*_RELATED)
    return _serializer_for(request)([find_by_uuid(rows, id, label="delivery")])[0]


def _serializer_for(request: HttpRequest) -> Callable[[Sequence[Delivery]], list[dict[str, Any]]]:
    viewer = caller(request).viewer

    def show_row(row: Delivery) -> dict[str, Any]:
        address = auth.address(viewer, row.channel, row.address, row.user_id, row.notification.group_contact)
        provider = row.provider_name or None
        return show(DeliverySchema, row, user=_username(row), provider=provider, address=address, status=row.state)

    return lambda rows: [show_row(row) for row in rows]


def _username(row: Delivery | Notification | MailReply | SandboxMessage) -> str | None:
    return row.user.username if row.user else None


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
    rows = narrowed(rows, query, "alert_id", "user", "purpose", "channel")
    return page(rows, query, _serializer_for_notifications(request), newest_first=True)


@notifications_routes.get("/{id}", Permission.VIEW_ALERTS, answers=NotificationSchema, summary="One notification")
def get_notification(request: HttpRequest, id: str) -> dict[str, Any]:
    rows = Notification.objects.select_related("user", "group_contact")
    return _serializer_for_notifications(request)([find_by_uuid(rows, id, label="notification")])[0]


def _serializer_for_notifications(request: HttpRequest) -> Callable[[Sequence[Notification]], list[dict[str, Any]]]:
    viewer = caller(request).viewer

    def show_row(row: Notification) -> dict[str, Any]:
        address = auth.address(viewer, row.channel, row.address, row.user_id, row.group_contact)
        contact = row.group_contact.label if row.group_contact else None
        return show(NotificationSchema, row, user=_username(row), group_contact=contact, address=address)

    return lambda rows: [show_row(row) for row in rows]


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
    rows = narrowed(MailReply.objects.select_related("user"), query, "outcome", "alert_id", sender="sender__iexact")
    return page(rows, query, _show, newest_first=True)


@mail_replies_routes.get("/{int:id}", Permission.ADMINISTER, answers=MailReplySchema, summary="One of them")
def get_mail_reply(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show([find(MailReply.objects.select_related("user"), str(id), label="answer by mail")])[0]


def _show(rows: Sequence[MailReply]) -> list[dict[str, Any]]:
    return [show(MailReplySchema, row, provider=row.provider_name, user=_username(row)) for row in rows]


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
    listing: str = Field(default="", description="The alerts one by one, which key 2 asks for.")


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
    rows = narrowed(_visible(caller(request)), query, "alert_id", "user", "channel")
    return page(rows, query, _show_sandbox_messages, newest_first=True)


@sandbox_messages_routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=SandboxMessageSchema, summary="One of them")
def get_message(request: HttpRequest, id: int) -> dict[str, Any]:
    return _show_sandbox_messages([find(_visible(caller(request)), str(id), label="sandbox message")])[0]


def _visible(principal: Principal) -> QuerySet[SandboxMessage]:
    rows = SandboxMessage.objects.select_related("user")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _show_sandbox_messages(rows: Sequence[SandboxMessage]) -> list[dict[str, Any]]:
    return [show(SandboxMessageSchema, row, delivery_id=row.delivery, user=_username(row)) for row in rows]


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
    example=EXAMPLE,
)
def put_pause(request: HttpRequest, body: PauseBody) -> dict[str, Any]:
    principal = caller(request)
    until = body.until or principal.now + inputs.parse_duration(body.span, "for")
    pause.start(body.reason, until, audit_actor_of(principal), principal.now)
    return _show_pause(principal.now)


@pause_routes.delete("", Permission.ADMINISTER, answers=PauseSchema, summary="End the pause now. Held pages are sent")
def delete_pause(request: HttpRequest) -> dict[str, Any]:
    principal = caller(request)
    pause.end(audit_actor_of(principal), principal.now)
    return _show_pause(principal.now)


def _show_pause(now: datetime) -> dict[str, Any]:
    with database.transaction() as connection:
        current = pause.current_pause(connection, now)
    if current is None:
        return dict.fromkeys(PauseSchema.model_fields) | {"paused": False}
    user = User.objects.filter(pk=current.user_id).first() if current.user_id else None
    return show(PauseSchema, current, paused=True, user=user.username if user else None)
