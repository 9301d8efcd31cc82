"""Reminders before a shift: everybody's own, up to three."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Action
from tocsin.api.framework.auth import caller, changer
from tocsin.api.framework.authorized_router import Routes
from tocsin.people.changes import reminder_rules
from tocsin.people.models import User

routes = Routes("reminders")

EXAMPLE = {"reminders": [{"before": "1d"}, {"before": "1h", "by": "SMS-Official"}]}


class ReminderShape(BaseModel):
    """So long before a shift, by the contact method of that label; without one, by mail to the account's address."""

    before: str
    by: str | None = None


class RemindersAnswer(BaseModel):
    """The caller's own reminders."""

    reminders: list[ReminderShape]


class RemindersBody(Schema):
    model_config = {"extra": "forbid"}

    reminders: list[dict[str, Any]] = Field(description="Up to three: before (1h), and by, a contact method's label.")


@routes.get("", Action.OWN, answers=RemindersAnswer, summary="Your own reminders before a shift")
def get_reminders(request: HttpRequest) -> dict[str, Any]:
    return {"reminders": caller(request).user.reminders}


@routes.put(
    "",
    Action.OWN,
    answers=RemindersAnswer,
    summary="Make your own reminders these",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def put_reminders(request: HttpRequest, body: RemindersBody) -> dict[str, Any]:
    who = caller(request)
    reminder_rules.replace_all(who.user, body.reminders, actor=changer(who), now=who.now)
    return {"reminders": User.objects.get(pk=who.user.pk).reminders}
