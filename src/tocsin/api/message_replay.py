"""Replaying an inbound message: the rules of now decide it again, as a new row."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import Field

from tocsin.access.roles import Action
from tocsin.api.gate import caller, changer, require
from tocsin.api.inbound_messages import MessageWhole, find_message, routes, show_whole
from tocsin.inbound.replay import replay


class ReplayBody(Schema):
    """Whether the replay may page. By default it only records when the message is older than an hour."""

    model_config = {"extra": "forbid"}

    page: bool | None = Field(default=None)


_EMPTY = ReplayBody()


@routes.post(
    "/{id}/replay",
    Action.TRY_OUT,
    status=201,
    answers=MessageWhole,
    summary="Decide it again by the rules of now: a new row whose `replay_of` is this message",
)
def replay_message(request: HttpRequest, id: str, body: ReplayBody = _EMPTY) -> dict[str, Any]:
    who = caller(request)
    message = find_message(id)
    require(who, Action.TRY_OUT, message.integration.group_id)
    made = replay(message.pk, body.page, changer(who), who.now)
    return show_whole(find_message(str(made.pk)))
