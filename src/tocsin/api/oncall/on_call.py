"""Who is on call in a group: at a moment, as a timeline over a range, and with coverage warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import caller
from tocsin.api.framework.moments import ScheduleMoment
from tocsin.api.people.groups import GROUPS, routes
from tocsin.api.reasons import ReasonCode, ReasonData, ReasonSchema
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reason_json import show_reason
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import AT_PATH, NOT_AFTER_FROM
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks, final_schedule
from tocsin.oncall.calculation.coverage_checks import CoverageFinding, CoverageFindingKind
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.operate.coverage import coverage
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group, User

_RANGE_TOO_LONG = ReasonType(
    "api.range_too_long", "must be at most {count} day after from.", "must be at most {count} days after from."
)

MAX_RANGE = timedelta(days=400)
_DEFAULT_RANGE = timedelta(days=14)


class OnCallSchema(BaseModel):
    """One user on call. `since` or `until` is null if that end is unknown."""

    role: MemberRole
    user: str
    since: datetime | None
    until: datetime | None
    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData
    reasons: list[ReasonSchema] = Field(
        description="How it came to that: the shift, the override, who covers for whom."
    )
    absent: bool = Field(description="Out of office, and no one covers: still paged.")
    schedule: str | None
    shift: str | None
    layer: int | None
    override_id: int | None


class OnCallResponse(BaseModel):
    """The users on call: roles in order, and users in the order in which they are paged."""

    at: datetime
    on_call: list[OnCallSchema]


class ShiftSchema(BaseModel):
    """A segment of a shift within the range. `hidden_by` names what takes precedence; it is null if the segment is
    effective."""

    schedule: str
    shift: str
    layer: int
    role: MemberRole
    user: str
    since: datetime
    until: datetime
    hidden_by: str | None


class CoverageGapSchema(BaseModel):
    """A period within the range in which no one has the role."""

    role: MemberRole
    since: datetime
    until: datetime


class TimelineResponse(BaseModel):
    """Who is on call from when to when, consistent with `on-call` at each moment. A segment may extend beyond the
    range."""

    since: datetime
    until: datetime
    segments: list[OnCallSchema]
    shifts: list[ShiftSchema]
    gaps: list[CoverageGapSchema]


class CoverageFindingSchema(BaseModel):
    """One coverage problem, or a note about something that may be intended. It occurs `times` times in total; `since`
    and `until` are its first occurrence."""

    kind: CoverageFindingKind
    note: bool
    text: str
    text_code: ReasonCode
    text_data: ReasonData
    since: datetime | None
    until: datetime | None
    times: int
    role: MemberRole | None
    user: str | None
    schedule: str | None
    shift: str | None


class CoverageResponse(BaseModel):
    """The coverage problems, most severe first."""

    since: datetime
    until: datetime
    findings: list[CoverageFindingSchema]


class RangeQuery(Schema):
    """The requested range."""

    since: ScheduleMoment | None = Field(default=None, alias="from", description="Now, where it is not given.")
    until: ScheduleMoment | None = Field(default=None, alias="to")


@routes.get(
    "/{id}/on-call",
    Permission.VIEW_ALERTS,
    answers=OnCallResponse,
    summary="Who is on call in it, now or `at` a moment",
)
def on_call(request: HttpRequest, id: str, at: Query[ScheduleMoment | None] = None) -> dict[str, Any]:
    group, on_call_at = GROUPS.find(id), at or caller(request).now
    people = final_schedule.on_call(_plan(group, on_call_at), on_call_at)
    names = _usernames(person.user_id for person in people)
    return {"at": on_call_at, "on_call": [_person(person, names) for person in people]}


@routes.get(
    "/{id}/timeline",
    Permission.VIEW_ALERTS,
    answers=TimelineResponse,
    summary="Who is on call in it `from` a moment `to` another: the next 14 days, or 400 at most",
)
def timeline(request: HttpRequest, id: str, query: Query[RangeQuery]) -> dict[str, Any]:
    group = GROUPS.find(id)
    begin, end = requested_range(query, caller(request).now)
    return show_timeline(_plan(group, begin), begin, end)


def requested_range(query: RangeQuery, now: datetime) -> tuple[datetime, datetime]:
    """Return the requested range. Raises Rejected if it is invalid."""
    return _range(query.since, query.until, now, _DEFAULT_RANGE)


def show_timeline(plan: GroupPlan, begin: datetime, end: datetime) -> dict[str, Any]:
    """Return a timeline in the shape of `TimelineResponse`."""
    final_timeline = final_schedule.timeline(plan, begin, end)
    names = _usernames(
        {person.user_id for person in final_timeline.segments} | {bar.user_id for bar in final_timeline.layer_segments}
    )
    return {
        "since": begin,
        "until": end,
        "segments": [_person(person, names) for person in final_timeline.segments],
        "shifts": [
            {
                "schedule": bar.schedule,
                "shift": bar.shift,
                "layer": bar.layer,
                "role": bar.role,
                "user": names.get(bar.user_id, bar.name),
                "since": bar.since,
                "until": bar.until,
                "hidden_by": str(bar.hidden_by) or None,
            }
            for bar in final_timeline.layer_segments
        ],
        "gaps": [{"role": gap.role, "since": gap.since, "until": gap.until} for gap in final_timeline.gaps],
    }


@routes.get(
    "/{id}/coverage",
    Permission.VIEW_ALERTS,
    answers=CoverageResponse,
    summary="What is wrong with who will be on call: gaps, people gone, away or unreachable; 60 days, or up to `to`",
)
def group_coverage(request: HttpRequest, id: str, query: Query[RangeQuery]) -> dict[str, Any]:
    group = GROUPS.find(id)
    begin, end = _range(query.since, query.until, caller(request).now, coverage_checks.COVERAGE_HORIZON)
    with database.transaction() as connection:
        coverage_by_group = coverage.coverage_of_groups(connection, [group.pk], begin, end - begin)
    _plan_of_group, findings = coverage_by_group[group.pk]
    names = _usernames(finding.user_id for finding in findings if finding.user_id)
    return {"since": begin, "until": end, "findings": [_finding(finding, names) for finding in findings]}


def _plan(group: Group, since: datetime) -> GroupPlan:
    with database.transaction() as connection:
        plan = loader.plan(connection, group.pk, since)
    return plan or GroupPlan(group.pk, group.name)


def _range(
    since: datetime | None, until: datetime | None, now: datetime, default_range: timedelta
) -> tuple[datetime, datetime]:
    begin = since or now
    end = until or begin + default_range
    if end <= begin:
        raise Rejected("invalid", AT_PATH(path="to", problem=NOT_AFTER_FROM()), "to")
    if end - begin > MAX_RANGE:
        raise Rejected("invalid", AT_PATH(path="to", problem=_RANGE_TOO_LONG(count=MAX_RANGE.days)), "to")
    return begin, end


def _usernames(users: Iterable[int]) -> dict[int, str]:
    return dict(User.mentioned.filter(pk__in=set(users)).values_list("pk", "username"))


def _person(person: OnCall, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "role": person.role,
        "user": names[person.user_id],
        "since": person.since,
        "until": person.until,
        **show_reason(person.reason),
        "reasons": [show_reason(reason) for reason in person.reasons],
        "absent": person.is_absent,
        "schedule": person.schedule or None,
        "shift": person.shift or None,
        "layer": person.layer,
        "override_id": person.override_id,
    }


def _finding(finding: CoverageFinding, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "note": finding.kind.is_note,
        **show_reason(finding.reason, "text"),
        "since": finding.since,
        "until": finding.until,
        "times": finding.occurrence_count,
        "role": finding.role,
        "user": names.get(finding.user_id) if finding.user_id else None,
        "schedule": finding.schedule or None,
        "shift": finding.shift or None,
    }
