"""The sandbox: messages on channels without a provider, which were never sent.

A message contains links that act as its recipient, so only administrators see messages to other users.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.states import Priority
from tocsin.api.framework.auth import Principal, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.notify.models import SandboxMessage
from tocsin.people.changes.specs import Channel
from tocsin.resources import registry
from tocsin.resources.lookup import find

routes = AuthorizedRouter("sandbox-messages")


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


@routes.get(
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
    return page(rows, query, _show, newest_first=True)


@routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=SandboxMessageSchema, summary="One of them")
def get_message(request: HttpRequest, id: int) -> dict[str, Any]:
    return _show([find(_visible(caller(request)), str(id), label="sandbox message")])[0]


def _visible(principal: Principal) -> QuerySet[SandboxMessage]:
    rows = SandboxMessage.objects.select_related("user")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _show(rows: Sequence[SandboxMessage]) -> list[dict[str, Any]]:
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
