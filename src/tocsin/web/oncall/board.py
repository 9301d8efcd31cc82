"""`/on-call/`: for every group, who is on call now and next in each role, and its coverage warnings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access.roles import Permission
from tocsin.core.db import database
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.calculation.resolver import OnCallResolver
from tocsin.people import permissions
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import Group
from tocsin.web.http.authorization import may_somewhere
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.oncall import swaps
from tocsin.web.oncall.schedules import coverage_warnings

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
    """Render who is on call now and next."""
    own_group_ids = permissions.own_groups(request.user)
    groups = sorted(Group.objects.all(), key=lambda group: (group.pk not in own_group_ids, group.name.casefold()))
    now = request.now
    with database.transaction() as connection:
        plans = loader.plans(connection, [group.pk for group in groups], now)
        findings = coverage_warnings.findings_of_plans(connection, plans, now, HORIZON)
    rows = [
        GroupNow(
            group,
            roles_on_call(plan, now),
            coverage_warnings.sentences(findings[group.pk][:MAX_WARNINGS_PER_GROUP], now),
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
