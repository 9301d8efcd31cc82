"""The caller's own preferences: display name, time zone, language and theme."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.people.changes import preferences

routes = AuthorizedRouter("preferences")

EXAMPLE = {"time_zone": "Europe/Zurich", "language": "de", "theme": "dark"}


class PreferencesResponse(BaseModel):
    """The caller's own preferences."""

    name: str
    time_zone: str
    #: Empty: the browser's language.
    language: str
    #: Empty: the system's theme.
    theme: str


class PreferencesBody(Schema):
    model_config = {"extra": "forbid"}

    name: str | None = Field(default=None, description="The name to show; empty: the username.")
    time_zone: str | None = Field(default=None, description="Such as Europe/Zurich.")
    language: str | None = Field(default=None, description="en or de; empty: as the browser asks.")
    theme: str | None = Field(default=None, description="light or dark; empty: as the system has it.")


@routes.get(
    "", Permission.VIEW_SELF, answers=PreferencesResponse, summary="Your own name, time zone, language and theme"
)
def get_preferences(request: HttpRequest) -> dict[str, Any]:
    return preferences.preferences_spec(caller(request).user)


@routes.patch(
    "",
    Permission.MANAGE_SELF,
    answers=PreferencesResponse,
    summary="Change the keys of the body of your own; the others stay, null takes one away",
    extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
def change_preferences(request: HttpRequest, body: PreferencesBody) -> dict[str, Any]:
    principal, changes = caller(request), body.model_dump(exclude_unset=True)
    return preferences.preferences_spec(
        preferences.change(principal.user, changes, actor=audit_actor_of(principal), now=principal.now)
    )
