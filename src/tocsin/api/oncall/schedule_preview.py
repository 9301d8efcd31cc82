"""Previews an unsaved schedule: the group's timeline, computed by the code that decides who is paged."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Body, Query
from pydantic import Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import caller
from tocsin.api.oncall.on_call import RangeQuery, TimelineResponse, requested_range, show_timeline
from tocsin.api.oncall.schedules import SCHEDULES
from tocsin.api.people.groups import GROUPS, routes
from tocsin.oncall.changes import schedule_preview


class SchedulePreviewQuery(RangeQuery):
    """The range of the preview, and the schedule to replace."""

    existing: str | None = Field(default=None, description="The schedule that it would change, by number or name.")


@routes.post(
    "/{id}/timeline",
    Permission.MANAGE_TEAMS,
    answers=TimelineResponse,
    body=SCHEDULES.schema.changes,
    summary="The same with a schedule as the body has it, before it is saved; saves nothing",
    extra={"requestBody": {"content": {"application/json": {"example": SCHEDULES.resource.example}}}},
)
def try_schedule(
    request: HttpRequest, id: str, body: Body[dict[str, Any]], query: Query[SchedulePreviewQuery]
) -> dict[str, Any]:
    principal = caller(request)
    group = GROUPS.find_authorized(id, principal, Permission.MANAGE_TEAMS)
    begin, end = requested_range(query, principal.now)
    existing = (
        SCHEDULES.find_authorized(query.existing, principal, Permission.MANAGE_TEAMS)
        if query.existing is not None
        else None
    )
    spec = {**SCHEDULES.spec_of(body), "group": group.name}
    plan = schedule_preview.plan_with(spec, existing=existing, now=min(begin, principal.now))
    return show_timeline(plan, begin, end)
