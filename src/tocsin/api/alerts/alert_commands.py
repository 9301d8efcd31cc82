"""Alert commands: one endpoint per command, all implemented by `alerts.service.act`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Self

from django.http import HttpRequest
from ninja import Schema
from pydantic import Field, model_validator

from tocsin.access.roles import Permission
from tocsin.alerts import service
from tocsin.alerts.commands import (
    COMMAND_CLASSES,
    Acknowledge,
    Assign,
    BaseCommand,
    Cancel,
    Close,
    Command,
    Escalate,
    Hold,
    Reopen,
    Reply,
    Resume,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.service import find_alert
from tocsin.alerts.states import CommandKind
from tocsin.api.alerts.alerts import AlertDetail, require_response, routes, show_detail
from tocsin.api.framework.auth import Principal, actor_of, caller, via_of
from tocsin.api.framework.moments import UtcDatetime
from tocsin.api.framework.pagination import Number
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.errors import Rejected
from tocsin.core.reason_json import show_reason
from tocsin.core.validation import durations
from tocsin.people.models import User
from tocsin.resources.lookup import find_named


class CommandBody(Schema):
    """Fields that every command accepts. An empty body is sufficient."""

    model_config = {"extra": "forbid", "str_strip_whitespace": True}

    note: str = Field(default="", max_length=2000, description="The reason, shown on the timeline.")
    seen_at: UtcDatetime | None = Field(
        default=None,
        description="When you saw the alert. Assigning is refused if it was assigned since then.",
    )


_EMPTY = CommandBody()


class AssignBody(CommandBody):
    """Assign the alert to a Tocsin user, or by `name` to someone without an account."""

    user: str | None = Field(default=None, description="A user's name or number.")
    name: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _require_one_of(self) -> Self:
        if (self.user is None) == (self.name is None):
            raise ValueError("give either user or name")
        return self


class ReplyBody(CommandBody):
    text: str = Field(min_length=1, max_length=20_000)


class HoldBody(CommandBody):
    """Snooze the alert until a time, or for a duration such as `30m`."""

    until: UtcDatetime | None = None
    span: str | None = Field(default=None, alias="for", max_length=20, examples=["30m", "1h30m"])

    @model_validator(mode="after")
    def _require_one_of(self) -> Self:
        if (self.until is None) == (self.span is None):
            raise ValueError("give either until or for")
        return self


class MergeBody(CommandBody):
    into: Number = Field(description="The number of the alert that stays.")


class CommandResponse(AlertDetail):
    """The alert after the command, and the result of the command."""

    answer: str = Field(description="The result in a sentence.")
    answer_code: ReasonCode
    answer_data: ReasonData
    changed: bool = Field(description="False if the alert was in that state already.")


_SUMMARIES = {
    CommandKind.ACKNOWLEDGE: "Acknowledge the alert. Escalation stops, pauses or continues, as its policy says",
    CommandKind.UNACKNOWLEDGE: "Remove your acknowledgement. Escalation continues",
    CommandKind.UNASSIGN: "Unassign the alert. It is open again, and escalation restarts",
    CommandKind.ESCALATE: "Escalate to the next step now",
    CommandKind.RESUME: "End the snooze now. Escalation continues",
    CommandKind.CLOSE: "Close the alert. Paging stops",
    CommandKind.CANCEL: "Close the alert as a false alarm",
    CommandKind.REOPEN: "Reopen a closed alert within 24 hours, unless a newer alert has its dedup key",
    CommandKind.UNDO: "Undo your last command, within a minute",
}

type _SimpleCommand = type[Acknowledge | Unacknowledge | Unassign | Escalate | Resume | Close | Cancel | Reopen | Undo]


def _post(kind: CommandKind, summary: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return routes.post(
        f"/{{int:id}}/{kind}",
        Permission.RESPOND,
        answers=CommandResponse,
        summary=summary,
        operation_id=f"alerts_{kind}",
    )


def _add_plain(kind: CommandKind, command_class: _SimpleCommand) -> None:
    """Add the endpoint of a command that has no fields of its own."""

    @_post(kind, _SUMMARIES[kind])
    def give(request: HttpRequest, id: Number, body: CommandBody = _EMPTY) -> dict[str, Any]:
        return _act(id, command_class(**_common(body, caller(request))), caller(request))


for _kind, _class in COMMAND_CLASSES.items():
    if _kind in _SUMMARIES:
        _add_plain(_kind, _class)  # type: ignore[arg-type] # commands with fields have endpoints below


@_post(CommandKind.ASSIGN, "Assign the alert to a user, or to a person outside Tocsin")
def assign(request: HttpRequest, id: Number, body: AssignBody) -> dict[str, Any]:
    principal = caller(request)
    if body.name is not None:
        return _act(id, Assign(**_common(body, principal), name=body.name), principal)
    active = User.objects.filter(is_active=True)
    user = find_named(active, body.user or "", label="active user", field="user", name_column="username")
    return _act(id, Assign(**_common(body, principal), name=user.display_name, user_id=user.pk), principal)


@_post(CommandKind.REPLY, "Add a note to the timeline")
def reply(request: HttpRequest, id: Number, body: ReplyBody) -> dict[str, Any]:
    return _act(id, Reply(**_common(body, caller(request)), text=body.text), caller(request))


@_post(CommandKind.HOLD, "Snooze the alert: pause escalation until a time")
def hold(request: HttpRequest, id: Number, body: HoldBody) -> dict[str, Any]:
    principal = caller(request)
    until = body.until or principal.now + _span(body)
    return _act(id, Hold(**_common(body, principal), until=until), principal)


@_post(CommandKind.MERGE, "Merge the alert into another one, which stays open")
def merge(request: HttpRequest, id: Number, body: MergeBody) -> dict[str, Any]:
    principal = caller(request)
    find_alert(id)
    try:
        into = find_alert(body.into)
        return _act(id, service.merge_into(into, BaseCommand(**_common(body, principal))), principal)
    except Rejected as error:
        if error.code == "not_found":
            raise Rejected("invalid", error.reason, "into") from error
        raise


def _common(body: CommandBody, principal: Principal) -> dict[str, Any]:
    return {"actor": actor_of(principal), "via": via_of(principal), "note": body.note, "seen_at": body.seen_at}


def _act(number: int, command: Command, principal: Principal) -> dict[str, Any]:
    outcome = service.apply_command(require_response(principal, number), command, now=principal.now)
    return {
        **show_detail(find_alert(number).row, principal.now),
        **show_reason(outcome.answer, "answer"),
        "changed": outcome.is_change,
    }


def _span(body: HoldBody) -> timedelta:
    return durations.parse(body.span, "for")
