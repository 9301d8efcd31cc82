"""The caller's notification rules: contact methods per priority, quiet hours, hourly limit."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.spec_schemas import written_as
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.people.notification_rules import NotificationRules

routes = AuthorizedRouter("notification-rules")

EXAMPLE = {
    "notification_rules": {
        "by_priority": {"critical": [{"method": "SMS-Official"}, {"method": "Phone-Official-Mobile", "wait": "3m"}]},
        "quiet_hours": [{"from": "22:00", "to": "07:00", "let_through": "high"}],
        "most_per_hour": 20,
    }
}


_Rules = Annotated[dict[str, Any], written_as(NotificationRules)]


class NotificationRulesResponse(BaseModel):
    """The caller's own rules, in the form of a user's YAML spec. Empty if there are none."""

    notification_rules: _Rules


class NotificationRulesBody(Schema):
    model_config = {"extra": "forbid"}

    notification_rules: _Rules = Field(description="by_priority, quiet_hours and most_per_hour; {}: no rules.")


@routes.get("", Permission.VIEW_SELF, answers=NotificationRulesResponse, summary="Your own notification rules")
def get_notification_rules(request: HttpRequest) -> dict[str, Any]:
    return {"notification_rules": caller(request).user.notification_rules}


@routes.put(
    "",
    Permission.MANAGE_SELF,
    answers=NotificationRulesResponse,
    summary="Make your own notification rules these",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def put_notification_rules(request: HttpRequest, body: NotificationRulesBody) -> dict[str, Any]:
    principal = caller(request)
    users.save_notification_rules(
        principal.user, body.notification_rules, actor=audit_actor_of(principal), now=principal.now
    )
    return {"notification_rules": User.objects.get(pk=principal.user.pk).notification_rules}
