"""Whether the users on call can be woken, shift by shift."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.oncall.on_call import RangeQuery, requested_range
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.db import database
from tocsin.core.reason_json import show_reason
from tocsin.notify.rules.responder_readiness import ReadinessProblem, ShiftReadiness
from tocsin.operate.coverage import responders
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group, User
from tocsin.resources import registry

routes = AuthorizedRouter("readiness")


class ReadinessProblemSchema(BaseModel):
    """What may keep a page from waking the user."""

    kind: ReadinessProblem
    text: str
    text_code: ReasonCode
    text_data: ReasonData


class ShiftReadinessSchema(BaseModel):
    """One shift. `since` or `until` is null if that end is unknown."""

    group: str
    user: str
    role: MemberRole
    since: datetime | None
    until: datetime | None
    schedule: str | None
    shift: str | None
    ready: bool = Field(description="Whether there are no problems.")
    loud_channels: list[str] = Field(description="Those that pages of high priority use: voice, sms, push, ntfy.")
    verified: bool = Field(description="Whether a contact method of a loud channel is verified.")
    tested_at: datetime | None = Field(description="When a message last arrived there, within 90 days.")
    problems: list[ReadinessProblemSchema]


class ReadinessResponse(BaseModel):
    """The shifts by group, role and start."""

    since: datetime
    until: datetime
    shifts: list[ShiftReadinessSchema]


class ReadinessQuery(RangeQuery):
    group: str | None = Field(default=None, description="All groups, where it is not given.")


@routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=ReadinessResponse,
    summary="Whether the people on call can be woken, `from` a moment `to` another: the next 14 days",
)
def list_readiness(request: HttpRequest, query: Query[ReadinessQuery]) -> dict[str, Any]:
    now = caller(request).now
    since, until = requested_range(query, now)
    groups = [registry.GROUPS.resolve(query.group, "group")] if query.group is not None else list(Group.objects.all())
    with database.transaction() as connection:
        assessed = responders.readiness_of_groups(connection, [group.pk for group in groups], now, since, until)
    user_ids = {one.shift.user_id for _plan, shifts in assessed.values() for one in shifts}
    names = dict(User.mentioned.filter(pk__in=user_ids).values_list("pk", "username"))
    shown = [
        _show(one, group.name, names[one.shift.user_id])
        for group in groups
        if group.pk in assessed
        for one in assessed[group.pk][1]
    ]
    return {"since": since, "until": until, "shifts": shown}


def _show(one: ShiftReadiness, group: str, username: str) -> dict[str, Any]:
    shift = one.shift
    return {
        "group": group,
        "user": username,
        "role": shift.role,
        "since": shift.since,
        "until": shift.until,
        "schedule": shift.schedule or None,
        "shift": shift.shift or None,
        "ready": one.is_ready,
        "loud_channels": one.loud_channels,
        "verified": one.is_verified,
        "tested_at": one.arrived_at,
        "problems": [{"kind": kind, **show_reason(reason, "text")} for kind, reason in one.problems.items()],
    }
