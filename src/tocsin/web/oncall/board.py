"""Who is on call: the board of every group, the calendar of all groups or one, and the problems of the next 60 days."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

from django.core.cache import caches
from django.http import HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from tocsin.access import boundary
from tocsin.access.roles import MemberRole, Permission
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.rules import responder_readiness
from tocsin.notify.rules.responder_readiness import ReadinessProblem, ShiftReadiness
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks, final_schedule, weekly_windows
from tocsin.oncall.calculation.coverage_checks import CoverageFindingKind
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall, OnCallResolver
from tocsin.oncall.calculation.lanes import Collision, Lanes, lanes
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import CalendarFeed, FeedKind, Schedule
from tocsin.operate import coverage
from tocsin.people import permissions
from tocsin.people.models import Group
from tocsin.resources.registry import GROUPS
from tocsin.web.http.request import SignedInRequest, find_object, may, may_somewhere, render_view
from tocsin.web.oncall import schedules, shift_forms, swaps
from tocsin.web.oncall.lanes import DateRange, View, agenda, drawings, range_of
from tocsin.web.ui.forms import channel_name, user_zone

# ---------- readiness

#: Cache lifetime on Home in seconds: a test that has arrived shows after a minute.
_CACHE_SECONDS = 60

#: The columns of the matrix after the channels, each with the problem that it shows.
COLUMNS = (
    ReadinessProblem.NOT_VERIFIED,
    ReadinessProblem.NOT_TESTED,
    ReadinessProblem.SILENCED,
    ReadinessProblem.QUIET_HOURS,
    ReadinessProblem.SEVERAL_ROLES,
)


@dataclass(frozen=True, slots=True)
class ReadinessRow:
    """A user's shifts with the same problems: the first one, how many follow it, and their roles."""

    group_id: int
    group: str
    first: ShiftReadiness
    following_count: int
    roles: Sequence[MemberRole]
    is_now: bool

    @property
    def channels(self) -> str:
        return ", ".join(channel_name(channel) for channel in self.first.loud_channels)

    @property
    def problems(self) -> list[str]:
        """Each problem as a sentence."""
        return [reason.localized() for reason in self.first.problems.values()]

    @property
    def cells(self) -> list[tuple[str, bool | None]]:
        """The columns' names, and whether each is fulfilled; None if it does not apply."""
        names = {
            ReadinessProblem.NOT_VERIFIED: _("Verified"),
            ReadinessProblem.NOT_TESTED: _("Tested"),
            ReadinessProblem.SILENCED: _("Through silence"),
            ReadinessProblem.QUIET_HOURS: _("Quiet hours"),
            ReadinessProblem.SEVERAL_ROLES: _("One role at a time"),
        }
        return [(names[problem], self._is_met(problem)) for problem in COLUMNS]

    def _is_met(self, problem: ReadinessProblem) -> bool | None:
        if problem in self.first.problems:
            return False
        if problem is ReadinessProblem.SILENCED:
            # Who was not asked, or did not answer, is not known to be woken.
            return self.first.rings_silenced
        # Without a loud channel there is nothing to verify, to test or to delay.
        is_several = problem is ReadinessProblem.SEVERAL_ROLES
        applies = not self.first.has_other_roles if is_several else self.first.loud_channels
        return True if applies else None


def on_call_soon(now: datetime) -> list[ReadinessRow]:
    """Return who is on call now and next in each group, those who may not be woken first."""
    with database.transaction() as connection:
        limit = boundary.current()
        viewer = "" if limit is None else limit.user_id
        key = f"readiness:{viewer}:{settings_store.current_version(connection)}"
        rows: list[ReadinessRow] | None = caches["process"].get(key)
        if rows is None:
            group_ids = list(Group.objects.filter(memberships__isnull=False).distinct().values_list("pk", flat=True))
            until = now + coverage.READINESS_HORIZON
            groups = coverage.readiness_of_groups(connection, group_ids, now, now, until)
            rows = []
            for group_id, (plan, shifts) in groups.items():
                # Leads are paged at the end of an escalation, if at all.
                paged = [one for one in shifts if one.shift.role is not MemberRole.LEAD]
                soon = responder_readiness.now_and_next(paged, now)
                rows += _rows(group_id, plan.name, soon, now, by_role=False)
            rows.sort(key=lambda row: (row.first.is_ready, row.group.casefold(), not row.is_now))
            caches["process"].set(key, rows, _CACHE_SECONDS)
    return rows


def of_group(group: Group, now: datetime) -> list[ReadinessRow]:
    """Return the readiness of the group's shifts of the next days."""
    with database.transaction() as connection:
        until = now + coverage.READINESS_HORIZON
        groups = coverage.readiness_of_groups(connection, [group.pk], now, now, until)
    return [
        row
        for group_id, (plan, shifts) in groups.items()
        for row in _rows(group_id, plan.name, shifts, now, by_role=True)
    ]


def _tonight(group: Group, now: datetime) -> dict[str, Any]:
    """Return the coming night, and how the group's users on call in it would be reached."""
    with database.transaction() as connection:
        night, people = coverage.tonight(connection, [group.pk], now)
    tonight = people.get(group.pk, ())
    sandboxed = dict.fromkeys(
        channel_name(method.channel) for person in tonight for method in person.methods if not method.routes
    )
    return {"night": night, "tonight": tonight, "sandboxed": sandboxed}


def _rows(
    group_id: int, group: str, shifts: Sequence[ShiftReadiness], now: datetime, *, by_role: bool
) -> list[ReadinessRow]:
    merged: dict[object, list[ShiftReadiness]] = {}
    for one in shifts:
        role = (one.shift.role, one.has_other_roles) if by_role else None
        merged.setdefault((one.shift.user_id, role, frozenset(one.problems)), []).append(one)
    return [
        ReadinessRow(
            group_id,
            group,
            first=same[0],
            following_count=len(same) - 1,
            roles=tuple(dict.fromkeys(one.shift.role for one in same)),
            is_now=same[0].shift.since is None or same[0].shift.since <= now,
        )
        for same in merged.values()
    ]


#: Maximum number of warnings per group; the group's schedule shows all of them.
MAX_WARNINGS_PER_GROUP = 3

#: Horizon of the warnings on the board; the group's schedule looks further ahead.
HORIZON = timedelta(days=14)

#: Number of consecutive shifts with the same users after which the search for the next change stops.
MAX_UNCHANGED_SHIFTS = 20


@dataclass(frozen=True, slots=True)
class RoleOnCall:
    """One role of a group: the users on call now, and the next ones from `at` on.

    `is_scheduled` is true if any shift of the group assigns the role.
    """

    role: MemberRole
    now: Sequence[OnCall]
    next: Sequence[OnCall]
    changes_at: datetime | None
    is_scheduled: bool

    @property
    def is_gap(self) -> bool:
        return self.is_scheduled and not self.now


@dataclass(frozen=True, slots=True)
class GroupNow:
    """One group on the board."""

    group: Group
    roles: Sequence[RoleOnCall]
    #: Coverage warnings as sentences.
    warnings: Sequence[str]
    has_schedule: bool
    is_mine: bool


@require_safe
def board(request: SignedInRequest) -> HttpResponse:
    own_group_ids = permissions.own_groups(request.user)
    groups = sorted(Group.objects.all(), key=lambda group: (group.pk not in own_group_ids, group.name.casefold()))
    now = request.now
    with database.transaction() as connection:
        plans = loader.plans(connection, [group.pk for group in groups], now)
        findings = schedules.findings_of_plans(connection, plans, now, HORIZON)
    rows = [
        GroupNow(
            group,
            roles_on_call(plan, now),
            schedules.sentences(findings[group.pk][:MAX_WARNINGS_PER_GROUP], now),
            bool(plan.schedules),
            group.pk in own_group_ids,
        )
        for group in groups
        if (plan := plans.get(group.pk)) is not None
    ]
    context = {
        "groups": rows,
        "swap_requests": swaps.requests_received(request.user, now),
        "may_add": may_somewhere(request, Permission.MANAGE_TEAMS),
    }
    return render_view(request, "oncall/board.html", context, partials=("board",))


def roles_on_call(plan: GroupPlan, now: datetime) -> list[RoleOnCall]:
    """Return the roles that somebody has now or that a shift assigns."""
    people = final_schedule.by_role(final_schedule.on_call(plan, now))
    scheduled = OnCallResolver(plan).scheduled
    return [
        _role_on_call(plan, role, people.get(role, ()), now, role in scheduled)
        for role in MemberRole
        if role in people or role in scheduled
    ]


def _role_on_call(
    plan: GroupPlan, role: MemberRole, people: Sequence[OnCall], now: datetime, is_scheduled: bool
) -> RoleOnCall:
    if not people and is_scheduled:
        change = _end_of_gap(plan, role, now)
        return RoleOnCall(role, people, _on_call_at(plan, role, change) if change else (), change, is_scheduled)
    change, following = _ends(people), people
    # A handoff from one shift to another with the same users is not a change.
    for _again in range(MAX_UNCHANGED_SHIFTS):
        if change is None:
            break
        following = _on_call_at(plan, role, change)
        if _ids(following) != _ids(people):
            return RoleOnCall(role, people, following, change, is_scheduled)
        change = _ends(following)
    return RoleOnCall(role, people, (), None, is_scheduled)


def _on_call_at(plan: GroupPlan, role: MemberRole, at: datetime) -> Sequence[OnCall]:
    return final_schedule.by_role(final_schedule.on_call(plan, at)).get(role, ())


def _ends(people: Sequence[OnCall]) -> datetime | None:
    return min((person.until for person in people if person.until), default=None)


def _ids(people: Sequence[OnCall]) -> list[int]:
    return [person.user_id for person in people]


def _end_of_gap(plan: GroupPlan, role: MemberRole, now: datetime) -> datetime | None:
    """Return when the current coverage gap ends within the horizon, or None."""
    gaps: Iterable[final_schedule.CoverageGap] = final_schedule.timeline(plan, now, now + HORIZON).gaps
    end = next((gap.until for gap in gaps if gap.role is role), None)
    return end if end is not None and end < now + HORIZON else None


# ---------- calendar


@dataclass(frozen=True, slots=True)
class BoardProblem:
    """A coverage problem or a collision of the next 60 days, and where the calendar shows it."""

    text: str
    url: str
    is_collision: bool = False


def problems(plans: Mapping[int, GroupPlan], shown_ids: Collection[int], now: datetime) -> list[BoardProblem]:
    """Return the coverage problems and collisions of some groups: recurring ones once, with their number. Collisions
    are found between all of `plans`."""
    shown_plans = {group_id: plan for group_id, plan in plans.items() if group_id in shown_ids}
    with database.transaction() as connection:
        findings = schedules.findings_of_plans(connection, shown_plans, now, coverage_checks.COVERAGE_HORIZON)
    ahead = lanes(plans.values(), now, now + coverage_checks.COVERAGE_HORIZON, user_zone())
    found = [
        BoardProblem(schedules.describe_finding(finding, now), _place(group_id, finding.since, now))
        for group_id, of_group in findings.items()
        for finding in of_group
        if finding.kind is not CoverageFindingKind.DOUBLE_ROLE
    ]
    recurring: dict[object, list[Collision]] = {}
    for one in ahead.only(lambda duty: duty.group_id in shown_ids).collisions:
        recurring.setdefault((one.user_id, one.duties), []).append(one)
    return found + [
        BoardProblem(
            _describe_collisions(same), _place(same[0].duties[0].group_id, same[0].since, now), is_collision=True
        )
        for same in recurring.values()
    ]


def _describe_collisions(same: Sequence[Collision]) -> str:
    first = same[0]
    duties = [
        _("%(role)s of %(group)s") % {"role": shift_forms.role_name(duty.role), "group": duty.group}
        for duty in first.duties
    ]
    text = _("%(name)s is %(first)s and %(second)s at once: %(when)s") % {
        "name": first.name, "first": duties[0], "second": duties[1],
        "when": shift_forms.format_period(first.since, first.until),
    }  # fmt: skip
    if len(same) > 1:
        count = ngettext("%(count)d occurrence", "%(count)d occurrences", len(same)) % {"count": len(same)}
        text = f"{text} ({count})"
    return f"{text}."


def _place(group_id: int, since: datetime | None, now: datetime) -> str:
    day = weekly_windows.day_of(max(since or now, now), user_zone())
    return f"{reverse('group_schedule', args=[group_id])}?day={day.isoformat()}"


@require_safe
def group_schedule(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the group's calendar with its shifts, its problems of the next 60 days, and the readiness of the next
    shifts."""
    group = find_object(GROUPS, number)
    date_range = _requested_range(request)
    with database.transaction() as connection:
        plans = _with_colleagues(connection, group, min(date_range.since, request.now))
    schedules_of_group = list(Schedule.objects.filter(group=group).prefetch_related("imports", overrides.prefetched()))
    names = commands.user_names(schedules_of_group, "display_name")
    context = {
        **_calendar_context(request, date_range, plans, {group.pk}, of_one_group=True),
        "group": group,
        "problems": problems(plans, {group.pk}, request.now),
        "readiness": of_group(group, request.now),
        **_tonight(group, request.now),
        "schedules": [
            (schedule, shift_forms.lines(schedule.definition, names), overrides.current(schedule, request.now))
            for schedule in schedules_of_group
        ],
        "swap_requests": swaps.requests_received(request.user, request.now),
        "may_change": may(request, Permission.MANAGE_TEAMS, group),
    }
    return render_view(request, "oncall/group_schedule.html", context, partials=("timeline",))


def _with_colleagues(connection: Connection, group: Group, since: datetime) -> dict[int, GroupPlan]:
    """Return the group's plan, and those of the visible groups in which its users may be on call too."""
    plan = loader.plan(connection, group.pk, since) or GroupPlan(group.pk, group.name)
    others = Group.objects.filter(pk__in=loader.groups_of(connection, plan.users)).exclude(pk=group.pk)
    return {group.pk: plan, **loader.plans(connection, others.values_list("pk", flat=True), since)}


@require_safe
def calendar(request: SignedInRequest) -> HttpResponse:
    """Render the calendar of every group, the user's own first, or of one."""
    date_range = _requested_range(request)
    own_group_ids = permissions.own_groups(request.user)
    groups = sorted(Group.objects.all(), key=lambda group: (group.pk not in own_group_ids, group.name.casefold()))
    selected = next((group for group in groups if str(group.pk) == request.GET.get("group")), None)
    with database.transaction() as connection:
        loaded = loader.plans(connection, [group.pk for group in groups], min(date_range.since, request.now))
    plans = {group.pk: loaded[group.pk] for group in groups if group.pk in loaded}
    kind = FeedKind.GROUP if selected else FeedKind.ALL
    shown_ids = {selected.pk} if selected else set(plans)
    context = {
        **_calendar_context(request, date_range, plans, shown_ids),
        "groups": groups,
        "selected": selected,
        "feed": CalendarFeed.objects.filter(owner=request.user, kind=kind, group=selected).first(),
        "feed_kind": kind,
        "problems": problems(plans, shown_ids, request.now) if date_range.view is View.COVERAGE else (),
    }
    return render_view(request, "oncall/calendar.html", context, partials=("calendar",))


def _calendar_context(
    request: SignedInRequest,
    date_range: DateRange,
    plans: Mapping[int, GroupPlan],
    shown_ids: set[int],
    *,
    of_one_group: bool = False,
) -> dict[str, Any]:
    """Return what `oncall/calendar_card.html` shows of the groups; collisions are found between all of `plans`."""

    @cache
    def lanes_of(part: DateRange) -> Lanes:
        found = lanes(plans.values(), part.since, part.until, part.zone)
        return found.only(lambda duty: duty.group_id in shown_ids)

    is_agenda = date_range.view is View.AGENDA
    return {
        "range": date_range,
        "views": list(View),
        "has_lanes": bool(lanes_of(date_range).lanes),
        "agenda": agenda(lanes_of(date_range), request.now, date_range.zone) if is_agenda else None,
        "drawings": [] if is_agenda else drawings(lanes_of, date_range, request.now, of_one_group=of_one_group),
        "zone": date_range.zone.key,
    }


def _requested_range(request: SignedInRequest) -> DateRange:
    """Parse the query string. Unknown values fall back to two weeks from today on."""
    zone, name = user_zone(), request.GET.get("show", "")
    try:
        day = date.fromisoformat(request.GET.get("day", ""))
    except ValueError:
        day = weekly_windows.day_of(request.now, zone)
    day = min(max(day, weekly_windows.FIRST_DAY), weekly_windows.LAST_DAY)
    return range_of(View(name) if name in list(View) else View.WEEKS, day, zone)
