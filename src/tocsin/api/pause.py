"""The pause of all paging. Every user can see it; administrators start and end it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field, model_validator

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import AuthorizedRouter, UtcDatetime, audit_actor_of, caller, shaped
from tocsin.core.db import database
from tocsin.core.validation import field_errors
from tocsin.notify import pause
from tocsin.people.models import User

routes = AuthorizedRouter("pause")


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


@routes.get("", Permission.VIEW_ALERTS, answers=PauseSchema, summary="Whether all paging is paused")
def get_pause(request: HttpRequest) -> dict[str, Any]:
    return _show(caller(request).now)


@routes.put(
    "",
    Permission.ADMINISTER,
    answers=PauseSchema,
    summary="Pause all paging: alerts open as usual, pages wait until the end",
    example=EXAMPLE,
)
def put_pause(request: HttpRequest, body: PauseBody) -> dict[str, Any]:
    principal = caller(request)
    until = body.until or principal.now + field_errors.parse(body.span, "for")
    pause.start(body.reason, until, audit_actor_of(principal), principal.now)
    return _show(principal.now)


@routes.delete("", Permission.ADMINISTER, answers=PauseSchema, summary="End the pause now. Held pages are sent")
def delete_pause(request: HttpRequest) -> dict[str, Any]:
    principal = caller(request)
    pause.end(audit_actor_of(principal), principal.now)
    return _show(principal.now)


def _show(now: datetime) -> dict[str, Any]:
    with database.transaction() as connection:
        current = pause.current_pause(connection, now)
    if current is None:
        return dict.fromkeys(PauseSchema.model_fields) | {"paused": False}
    user = User.objects.filter(pk=current.user_id).first() if current.user_id else None
    return shaped(PauseSchema, current, paused=True, user=user.username if user else None)
