"""Shift reminders: each user's own, up to three."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.spec_schemas import SpecSchema
from tocsin.people.changes import reminder_rules
from tocsin.people.models import User

routes = AuthorizedRouter("reminders")

EXAMPLE = {"reminders": [{"before": "1d"}, {"before": "1h", "by": "SMS-Official"}]}


_REMINDER = SpecSchema(reminder_rules.ReminderSpec, has_id=False)
_Reminder = Annotated[dict[str, Any], _REMINDER.whole.annotation]


class ShiftRemindersResponse(BaseModel):
    """The caller's own reminders."""

    reminders: list[_Reminder]


class ShiftRemindersBody(Schema):
    model_config = {"extra": "forbid"}

    reminders: list[_Reminder] = Field(description="Up to three: before (1h), and by, a contact method's label.")


@routes.get("", Permission.VIEW_SELF, answers=ShiftRemindersResponse, summary="Your own reminders before a shift")
def get_reminders(request: HttpRequest) -> dict[str, Any]:
    return {"reminders": caller(request).user.reminders}


@routes.put(
    "",
    Permission.MANAGE_SELF,
    answers=ShiftRemindersResponse,
    summary="Make your own reminders these",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def put_reminders(request: HttpRequest, body: ShiftRemindersBody) -> dict[str, Any]:
    principal = caller(request)
    reminder_rules.replace_all(principal.user, body.reminders, actor=audit_actor_of(principal), now=principal.now)
    return {"reminders": User.objects.get(pk=principal.user.pk).reminders}
