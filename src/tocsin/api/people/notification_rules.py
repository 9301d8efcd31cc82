"""How everybody wants to be called: ways by priority, quiet hours, messages an hour; their own."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Action
from tocsin.api.framework.auth import caller, changer
from tocsin.api.framework.authorized_router import Routes
from tocsin.people.changes import users
from tocsin.people.models import User

routes = Routes("contact-rules")

EXAMPLE = {
    "contact_rules": {
        "by_priority": {"critical": [{"method": "SMS-Official"}, {"method": "Phone-Official-Mobile", "wait": "3m"}]},
        "quiet_hours": [{"from": "22:00", "to": "07:00", "let_through": "high"}],
        "most_per_hour": 20,
    }
}


class ContactRulesAnswer(BaseModel):
    """The caller's own rules, in the shape that a user in YAML has them; empty where there are none."""

    contact_rules: dict[str, Any]


class ContactRulesBody(Schema):
    model_config = {"extra": "forbid"}

    contact_rules: dict[str, Any] = Field(description="by_priority, quiet_hours and most_per_hour; {}: no rules.")


@routes.get("", Action.OWN, answers=ContactRulesAnswer, summary="Your own contact rules")
def get_contact_rules(request: HttpRequest) -> dict[str, Any]:
    return {"contact_rules": caller(request).user.contact_rules}


@routes.put(
    "",
    Action.OWN,
    answers=ContactRulesAnswer,
    summary="Make your own contact rules these",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def put_contact_rules(request: HttpRequest, body: ContactRulesBody) -> dict[str, Any]:
    who = caller(request)
    users.save_contact_rules(who.user, body.contact_rules, actor=changer(who), now=who.now)
    return {"contact_rules": User.objects.get(pk=who.user.pk).contact_rules}
