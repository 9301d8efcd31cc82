"""Replays an inbound message: the current rules process it again, as a new message."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller, require
from tocsin.api.inbound.inbound_messages import MessageDetail, find_message, routes, show_detail
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.inspect.replay import MAX_REPLAYED_MESSAGES, replay, replay_many
from tocsin.inbound.models import InboundMessage

_NO_SUCH_MESSAGES = ReasonType("api.no_such_messages", "At least one of these IDs has no inbound message.")


class ReplayBody(Schema):
    """Whether the replay may page. By default it pages only if the message is at most an hour old."""

    model_config = {"extra": "forbid"}

    page: bool | None = Field(default=None)


class ReplayManyBody(ReplayBody):
    """Several messages by their ids, processed oldest first."""

    ids: list[UUID] = Field(min_length=1, max_length=MAX_REPLAYED_MESSAGES)


class ReplayResponse(BaseModel):
    """The number of replayed messages and their outcomes. Messages that are pending or cannot be processed are
    omitted."""

    replayed: int
    statuses: dict[MessageStatus, int]


_EMPTY = ReplayBody()


@routes.post(
    "/{id}/replay",
    Permission.TEST_INTEGRATIONS,
    status=201,
    answers=MessageDetail,
    summary="Decide it again by the rules of now: a new row whose `replay_of` is this message",
)
def replay_message(request: HttpRequest, id: str, body: ReplayBody = _EMPTY) -> dict[str, Any]:
    principal = caller(request)
    message = find_message(id)
    require(principal, Permission.TEST_INTEGRATIONS, message.integration.group_id)
    replayed = replay(message.pk, body.page, audit_actor_of(principal), principal.now)
    return show_detail(find_message(str(replayed.pk)))


@routes.post(
    "/replay/several",
    Permission.TEST_INTEGRATIONS,
    answers=ReplayResponse,
    summary="Decide several messages again, oldest first",
)
def replay_messages(request: HttpRequest, body: ReplayManyBody) -> dict[str, Any]:
    principal = caller(request)
    messages = InboundMessage.objects.filter(pk__in=body.ids)
    if messages.count() != len(set(body.ids)):
        raise Rejected("not_found", _NO_SUCH_MESSAGES(), "ids")
    for group in set(messages.values_list("integration__group", flat=True)):
        require(principal, Permission.TEST_INTEGRATIONS, group)
    outcomes = replay_many(body.ids, body.page, audit_actor_of(principal), principal.now)
    return {"replayed": outcomes.total(), "statuses": dict(outcomes)}
