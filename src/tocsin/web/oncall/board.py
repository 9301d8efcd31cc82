"""`/on-call/`: for every group, who is on call now and next in each role, and its coverage warnings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.cache import caches
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.access import boundary
from tocsin.access.roles import MemberRole, Permission
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.notify.rules import responder_readiness
from tocsin.notify.rules.responder_readiness import ReadinessProblem, ShiftReadiness
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall, OnCallResolver
from tocsin.operate import coverage
from tocsin.people import permissions
from tocsin.people.models import Group
from tocsin.web.http.request import SignedInRequest, may_somewhere, render_view
from tocsin.web.oncall import schedules, swaps
from tocsin.web.ui.forms import channel_name

# ---------- readiness

#: Cache lifetime on Home in seconds: a test that has arrived shows after a minute.
_CACHE_SECONDS = 60

#: The columns of the matrix after the channels, each with the problem that it shows.
COLUMNS = (
    ReadinessProblem.NOT_VERIFIED,
    ReadinessProblem.NOT_TESTED,
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
            ReadinessProblem.QUIET_HOURS: _("Quiet hours"),
            ReadinessProblem.SEVERAL_ROLES: _("One role at a time"),
        }
        return [(names[problem], self._is_met(problem)) for problem in COLUMNS]

    def _is_met(self, problem: ReadinessProblem) -> bool | None:
        if problem in self.first.problems:
            return False
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
                # Managers are paged at the end of an escalation, if at all.
                paged = [one for one in shifts if one.shift.role is not MemberRole.MANAGER]
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
