"""Who is on call in a group: at a moment, as a timeline over a range, and with coverage warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field, model_validator

from tocsin.access.roles import MemberRole, Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    ScheduleMoment,
    audit_actor_of,
    caller,
    page,
)
from tocsin.api.framework.resources import written_as
from tocsin.api.users import GROUPS, groups_routes
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, show_reason
from tocsin.core.validation.inputs import AT_PATH, NOT_AFTER_FROM
from tocsin.notify.rules.responder_readiness import ReadinessProblem, RouteState, ShiftReadiness
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks, final_schedule, lanes
from tocsin.oncall.calculation.coverage_checks import CoverageFinding, CoverageFindingKind
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall
from tocsin.oncall.calendars import feeds
from tocsin.oncall.calendars.feeds import NewFeed
from tocsin.oncall.models import CalendarFeed, FeedKind
from tocsin.operate import coverage
from tocsin.people.changes.users import MAX_ANNOUNCEMENTS, AnnouncementSpec, AnnouncementTopic
from tocsin.people.models import Group, User
from tocsin.reports import announcements
from tocsin.resources import registry
from tocsin.resources.resource import find

_RANGE_TOO_LONG = Text("must be at most {count} day after from.", "must be at most {count} days after from.")

MAX_RANGE = timedelta(days=400)
_DEFAULT_RANGE = timedelta(days=14)


class OnCallSchema(BaseModel):
    """One user on call. `since` or `until` is null if that end is unknown."""

    role: MemberRole
    user: str
    since: datetime | None
    until: datetime | None
    reason: ReasonSchema
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
    reason: ReasonSchema
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


@groups_routes.get(
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


@groups_routes.get(
    "/{id}/timeline",
    Permission.VIEW_ALERTS,
    answers=TimelineResponse,
    summary="Who is on call in it `from` a moment `to` another: the next 14 days, or 400 at most",
)
def timeline(request: HttpRequest, id: str, query: Query[RangeQuery]) -> dict[str, Any]:
    group = GROUPS.find(id)
    begin, end = requested_range(query, caller(request).now)
    return show_timeline(_plan(group, begin), begin, end)


class AnnouncementPreviewSchema(BaseModel):
    """A message of an announcement, as it would be now."""

    topic: AnnouncementTopic = Field(description="What is announced.")
    at: datetime | None = Field(description="When it is sent next; null: when it happens.")
    contacts: list[str] = Field(description="Labels of the contacts that are notified.")
    title: str
    text: str = Field(description="Empty: nothing would be sent now.")


class AnnouncementsPreviewBody(Schema):
    model_config = {"extra": "forbid"}

    announcements: list[Annotated[dict[str, Any], written_as(AnnouncementSpec)]] | None = Field(
        default=None, description="Announcements as in a group, which are not stored. Default: those of the group."
    )


class AnnouncementsPreviewResponse(BaseModel):
    announcements: list[AnnouncementPreviewSchema]


@groups_routes.post(
    "/{id}/announcements/preview",
    Permission.VIEW_ALERTS,
    answers=AnnouncementsPreviewResponse,
    summary="What its announcements would send now, and when they do; nothing is sent",
    example={"announcements": [{"topics": ["on_call", "handovers"], "at": "08:00"}]},
)
def preview_announcements(request: HttpRequest, id: str, body: AnnouncementsPreviewBody) -> dict[str, Any]:
    group = GROUPS.find(id)
    given = group.announcements if body.announcements is None else body.announcements
    specs = AnnouncementSpec.read_list(given, "announcements", maximum=MAX_ANNOUNCEMENTS)
    with database.transaction() as connection:
        found = announcements.preview(connection, group, group.time_zone, specs, caller(request).now)
    return {"announcements": [show(AnnouncementPreviewSchema, one) for one in found]}


def requested_range(query: RangeQuery, now: datetime) -> tuple[datetime, datetime]:
    """Return the requested range. Raises Rejected if it is invalid."""
    return _range(query.since, query.until, now, _DEFAULT_RANGE)


def show_timeline(plan: GroupPlan, begin: datetime, end: datetime) -> dict[str, Any]:
    """Return a timeline in the shape of `TimelineResponse`."""
    final_timeline = final_schedule.timeline(plan, begin, end)
    bars = final_timeline.layer_segments
    names = _usernames({*(person.user_id for person in final_timeline.segments), *(bar.user_id for bar in bars)})
    return {
        "since": begin,
        "until": end,
        "segments": [_person(person, names) for person in final_timeline.segments],
        "shifts": [
            show(ShiftSchema, bar, user=names.get(bar.user_id, bar.name), hidden_by=str(bar.hidden_by) or None)
            for bar in bars
        ],
        "gaps": [show(CoverageGapSchema, gap) for gap in final_timeline.gaps],
    }


@groups_routes.get(
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
    since: datetime | None,
    until: datetime | None,
    now: datetime,
    default_range: timedelta,
    longest: timedelta = MAX_RANGE,
) -> tuple[datetime, datetime]:
    begin = since or now
    end = until or begin + default_range
    if end <= begin:
        raise Rejected("invalid", AT_PATH(path="to", problem=NOT_AFTER_FROM()), "to")
    if end - begin > longest:
        raise Rejected("invalid", AT_PATH(path="to", problem=_RANGE_TOO_LONG(count=longest.days)), "to")
    return begin, end


def _usernames(users: Iterable[int]) -> dict[int, str]:
    return dict(User.mentioned.filter(pk__in=set(users)).values_list("pk", "username"))


def _person(person: OnCall, names: Mapping[int, str]) -> dict[str, Any]:
    return show(
        OnCallSchema,
        person,
        user=names[person.user_id],
        reasons=[show_reason(reason) for reason in person.reasons],
        absent=person.is_absent,
        schedule=person.schedule or None,
        shift=person.shift or None,
    )


def _finding(finding: CoverageFinding, names: Mapping[int, str]) -> dict[str, Any]:
    return show(
        CoverageFindingSchema,
        finding,
        note=finding.kind.is_note,
        times=finding.occurrence_count,
        user=names.get(finding.user_id) if finding.user_id else None,
        schedule=finding.schedule or None,
        shift=finding.shift or None,
    )


# ---------- readiness
# Whether the users on call can be woken, shift by shift.


routes = AuthorizedRouter("readiness")


class ReadinessProblemSchema(BaseModel):
    """What may keep a page from waking the user."""

    kind: ReadinessProblem
    reason: ReasonSchema


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
    loud_channels: list[str] = Field(description="Those that pages of high priority use and that make a phone ring.")
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
        assessed = coverage.readiness_of_groups(connection, [group.pk for group in groups], now, since, until)
    names = _usernames(one.shift.user_id for _plan, shifts in assessed.values() for one in shifts)
    shown = [
        _show(one, group.name, names[one.shift.user_id])
        for group in groups
        if group.pk in assessed
        for one in assessed[group.pk][1]
    ]
    return {"since": since, "until": until, "shifts": shown}


class RouteSchema(BaseModel):
    """A provider that would carry a message to the contact method. Only `works` is known to work."""

    provider: str
    state: RouteState
    worked_at: datetime | None
    failed_at: datetime | None
    error: ReasonSchema | None


class MethodRoutesSchema(BaseModel):
    """A contact method with its providers in order; without any, its messages go to the sandbox."""

    label: str
    channel: str
    problems: list[str]
    routes: list[RouteSchema]


class PersonTonightSchema(BaseModel):
    """A user who is on call in the coming night."""

    group: str
    user: str
    roles: list[MemberRole]
    methods: list[MethodRoutesSchema]


class TonightResponse(BaseModel):
    """The coming night by the setting `night_hours`, or the one that it is."""

    since: datetime
    until: datetime
    people: list[PersonTonightSchema]


class TonightQuery(Schema):
    group: str | None = Field(default=None, description="All groups, where it is not given.")


@routes.get(
    "/tonight",
    Permission.VIEW_ALERTS,
    answers=TonightResponse,
    summary="Which contact method of which person on call works by which provider tonight",
)
def list_tonight(request: HttpRequest, query: Query[TonightQuery]) -> dict[str, Any]:
    now = caller(request).now
    groups = [registry.GROUPS.resolve(query.group, "group")] if query.group is not None else list(Group.objects.all())
    with database.transaction() as connection:
        (since, until), people = coverage.tonight(connection, [group.pk for group in groups], now)
    names = _usernames(person.user_id for found in people.values() for person in found)
    shown = [
        {
            "group": group.name,
            "user": names[person.user_id],
            "roles": person.roles,
            "methods": [
                show(
                    MethodRoutesSchema,
                    method,
                    problems=[str(problem) for problem in method.problems],
                    routes=[show(RouteSchema, route) for route in method.routes],
                )
                for method in person.methods
            ],
        }
        for group in groups
        for person in people.get(group.pk, ())
    ]
    return {"since": since, "until": until, "people": shown}


def _show(one: ShiftReadiness, group: str, username: str) -> dict[str, Any]:
    return show(
        ShiftReadinessSchema,
        one.shift,
        group=group,
        user=username,
        schedule=one.shift.schedule or None,
        shift=one.shift.shift or None,
        ready=one.is_ready,
        loud_channels=one.loud_channels,
        verified=one.is_verified,
        tested_at=one.arrived_at,
        problems=[{"kind": kind, "reason": show_reason(reason)} for kind, reason in one.problems.items()],
    )


# ---------- calendar
# The on-call calendar: the lanes of every group, or of one, between two moments.


calendar_routes = AuthorizedRouter("on-call")

#: The longest range of the calendar, which may be that of every group.
MAX_CALENDAR_RANGE = timedelta(days=92)


class DutySchema(BaseModel):
    """What a user can be on call for: one role of a group."""

    group: str
    role: MemberRole


class LaneSchema(DutySchema):
    """One role of a group. `segments` are as in the group's timeline; at each moment they name whom `on-call` names."""

    scheduled: bool = Field(description="Whether a shift assigns the role; otherwise the order of the group does.")
    segments: list[OnCallSchema]
    gaps: list[CoverageGapSchema]


class CollisionSchema(BaseModel):
    """One user with two roles of a group at once, or the primary role of two groups. A null end is unknown."""

    user: str
    duties: list[DutySchema]
    since: datetime | None
    until: datetime | None


class HolidayBandSchema(BaseModel):
    """A holiday that the group's schedules observe."""

    group: str
    name: str
    day: date


class AbsenceBandSchema(BaseModel):
    """Someone of the group is out of office. `cover` is null if no one covers: they are still paged."""

    group: str
    user: str
    since: datetime
    until: datetime
    cover: str | None


class LocalDaySchema(BaseModel):
    """A day in the caller's time zone. When clocks change it has 23 or 25 hours."""

    day: date
    since: datetime
    until: datetime


class CalendarResponse(BaseModel):
    """Collisions are found between the groups that the caller may see."""

    since: datetime
    until: datetime
    time_zone: str
    days: list[LocalDaySchema]
    lanes: list[LaneSchema]
    collisions: list[CollisionSchema]
    holidays: list[HolidayBandSchema]
    absences: list[AbsenceBandSchema]


class CalendarQuery(RangeQuery):
    """The range, and one group instead of all."""

    group: str | None = None


@calendar_routes.get(
    "/calendar",
    Permission.VIEW_ALERTS,
    answers=CalendarResponse,
    summary="Who is on call in every group, or in one, with gaps, collisions, absences: 14 days, or to `to`",
)
def calendar(request: HttpRequest, query: Query[CalendarQuery]) -> dict[str, Any]:
    principal = caller(request)
    zone = ZoneInfo(principal.user.time_zone)
    begin, end = _range(query.since, query.until, principal.now, _DEFAULT_RANGE, MAX_CALENDAR_RANGE)
    group = GROUPS.find(query.group) if query.group else None
    with database.transaction() as connection:
        plans = loader.plans(connection, Group.objects.values_list("pk", flat=True), begin)
    shown = lanes.lanes(sorted(plans.values(), key=lambda plan: plan.name.casefold()), begin, end, zone)
    if group is not None:
        shown = shown.only(lambda duty: duty.group_id == group.pk)
    people = {one.user_id for lane in shown.lanes for one in lane.segments}
    for absence in shown.absences:
        people |= {absence.user_id} if absence.cover_id is None else {absence.user_id, absence.cover_id}
    names = _usernames(people | {one.user_id for one in shown.collisions})
    return {
        "since": begin,
        "until": end,
        "time_zone": zone.key,
        "days": [show(LocalDaySchema, day) for day in shown.days],
        "lanes": [
            show(
                LaneSchema,
                lane.duty,
                scheduled=lane.is_scheduled,
                segments=[_person(person, names) for person in lane.segments],
                gaps=[show(CoverageGapSchema, gap) for gap in lane.gaps],
            )
            for lane in shown.lanes
        ],
        "collisions": [
            show(
                CollisionSchema,
                one,
                user=names.get(one.user_id, one.name),
                duties=[show(DutySchema, duty) for duty in one.duties],
            )
            for one in shown.collisions
        ],
        "holidays": [show(HolidayBandSchema, one, day=one.day.day) for one in shown.holidays],
        "absences": [
            show(
                AbsenceBandSchema,
                one,
                user=names.get(one.user_id, one.name),
                cover=names.get(one.cover_id) if one.cover_id is not None else None,
            )
            for one in shown.absences
        ],
    }


# ---------- calendar feeds
# Calendar feeds: each user's own secret URLs for calendar applications.


calendar_feeds_routes = AuthorizedRouter("calendar-feeds")


class FeedBody(Schema):
    """A feed of your own shifts (`person`), of a group, of a schedule, or of every group (`all`)."""

    model_config = {"extra": "forbid"}

    kind: FeedKind
    group: str | None = None
    schedule: str | None = None

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if (self.kind is FeedKind.GROUP) != (self.group is not None):
            raise ValueError("give group for kind group, and only there")
        if (self.kind is FeedKind.SCHEDULE) != (self.schedule is not None):
            raise ValueError("give schedule for kind schedule, and only there")
        return self


class FeedSchema(BaseModel):
    """A calendar feed, without its address."""

    id: int
    user: str
    kind: FeedKind
    group: str | None
    schedule: str | None
    created_at: datetime
    used_at: datetime | None


class NewFeedResponse(FeedSchema):
    """A calendar feed with its address, which is shown this once."""

    url: str


@calendar_feeds_routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PaginatedList[FeedSchema],
    summary="Your calendar feeds, without their addresses",
)
def list_feeds(request: HttpRequest, query: Query[PaginationQuery]) -> dict[str, Any]:
    return page(_rows(caller(request)), query, lambda page_rows: [_show_calendar_feeds(feed) for feed in page_rows])


@calendar_feeds_routes.post(
    "",
    Permission.MANAGE_SELF,
    status=201,
    answers=NewFeedResponse,
    summary="Make one; its address (`url`) is shown this once",
    example={"kind": "group", "group": "Service Desk"},
)
def create_feed(request: HttpRequest, body: FeedBody) -> dict[str, Any]:
    principal = caller(request)
    group = registry.GROUPS.resolve(body.group, "group") if body.group else None
    schedule = registry.SCHEDULES.resolve(body.schedule, "schedule") if body.schedule else None
    new_feed = feeds.create_feed(
        principal.user, body.kind, group=group, schedule=schedule, actor=audit_actor_of(principal), now=principal.now
    )
    return _with_address(new_feed)


@calendar_feeds_routes.get("/{int:id}", Permission.VIEW_SELF, answers=FeedSchema, summary="One of your calendar feeds")
def get_feed(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show_calendar_feeds(_find(id, caller(request)))


@calendar_feeds_routes.post(
    "/{int:id}/rotate",
    Permission.MANAGE_SELF,
    answers=NewFeedResponse,
    summary="Give it a new address; the old one ends at once",
)
def rotate_feed(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal = caller(request)
    return _with_address(feeds.rotate(_find(id, principal), actor=audit_actor_of(principal), now=principal.now))


@calendar_feeds_routes.delete("/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="End it")
def delete_feed(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    feeds.delete(_find(id, principal), actor=audit_actor_of(principal), now=principal.now)


def _rows(principal: Principal) -> QuerySet[CalendarFeed]:
    return CalendarFeed.objects.select_related("owner", "group", "schedule").filter(owner=principal.user)


def _find(feed_id: int, principal: Principal) -> CalendarFeed:
    return find(_rows(principal), str(feed_id), label="calendar feed")


def _with_address(new_feed: NewFeed) -> dict[str, Any]:
    return {**_show_calendar_feeds(new_feed.feed), "url": new_feed.url}


def _show_calendar_feeds(feed: CalendarFeed) -> dict[str, Any]:
    return {"id": feed.pk, **feeds.feed_spec(feed)}
