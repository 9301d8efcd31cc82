"""Decides who has which role in a group at one moment, and which source took precedence. Pure.

`final_schedule` states the rules, and calculates how long a decision applies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tocsin.oncall.calculation.group_snapshot import Absence, GroupPlan
from tocsin.oncall.calculation.schedules import CompiledOverride, CompiledSchedule
from tocsin.oncall.calculation.shifts import Shift
from tocsin.people.member_roles import MemberRole

#: Iterating over an enumeration is slow.
_ROLES = tuple(MemberRole)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The assignment of a role to a user at a moment. As long as its key stays the same, it is one period."""

    role: MemberRole
    user_id: int
    reasons: tuple[str, ...]
    reason: str
    #: Where it comes from. Together with role and user, it is the identity.
    source: tuple[object, ...]
    #: Bounds outside which it never applies.
    since: datetime | None = None
    until: datetime | None = None
    schedule: str = ""
    shift: str = ""
    layer: int | None = None
    override_id: int | None = None
    is_absent: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        return (self.role, self.user_id, self.source, self.is_absent)

    def within(self, since: datetime, until: datetime) -> Assignment:
        """Returns the assignment with its bounds narrowed to `since` and `until`."""
        return replace(
            self,
            since=since if self.since is None else max(since, self.since),
            until=until if self.until is None else min(until, self.until),
        )


@dataclass(frozen=True, slots=True)
class LayeredAssignment:
    """A shift's assignment before anything else is applied, and the source that takes precedence over it, if any."""

    claim: Assignment
    hidden_by: str

    @property
    def key(self) -> tuple[object, ...]:
        return (self.claim.key, self.hidden_by)


@dataclass(slots=True)
class RoleAssignment:
    claims: list[Assignment]
    bars: list[LayeredAssignment]


class OnCallResolver:
    """Decides who has each role in a group at a moment. Each moment is decided once and cached."""

    def __init__(self, plan: GroupPlan) -> None:
        self.plan = plan
        self._known: dict[datetime, dict[MemberRole, RoleAssignment]] = {}
        self._own = {
            member.user_id: tuple(role for role in MemberRole if role in member.roles) for member in plan.members
        }
        #: The roles that each schedule's shifts assign at any time.
        self.roles = {
            schedule.name: tuple(self._roles_of(shift) for shift in schedule.shifts) for schedule in plan.schedules
        }
        self.scheduled = frozenset(role for several in self.roles.values() for roles in several for role in roles)
        self._by_order = {role: list(_by_order(plan, role, self.scheduled)) for role in MemberRole}

    def at(self, at: datetime) -> dict[MemberRole, RoleAssignment]:
        """Returns the decision on each role at `at`."""
        found = self._known.get(at)
        if found is None:
            found = self._known[at] = self._decide(at)
        return found

    def holds(self, claim: Assignment, at: datetime) -> bool:
        """Returns whether the same assignment applies at `at`."""
        return any(claim.key == other.key for other in self.at(at)[claim.role].claims)

    def own_roles(self, user_id: int) -> tuple[MemberRole, ...]:
        """Returns a user's roles in the group; primary if they have none."""
        return self._own.get(user_id) or (MemberRole.PRIMARY,)

    def _roles_of(self, shift: Shift) -> frozenset[MemberRole]:
        return frozenset(shift.roles or (role for user in shift.users for role in self.own_roles(user)))

    def _decide(self, at: datetime) -> dict[MemberRole, RoleAssignment]:
        plan = self.plan
        found = {role: RoleAssignment([], []) for role in _ROLES}
        replacing: dict[str, list[CompiledOverride]] = {}
        for schedule in plan.schedules:
            current = [o for o in schedule.overrides if o.holds(at) and plan.is_callable(o.user_id)]
            replacing[schedule.name] = [override for override in current if override.instead_of is not None]
            claims = list(self._claims(schedule, current, at))
            for role, verdict in found.items():
                of_role = [claim for claim in claims if claim.role is role]
                if of_role or current:
                    _settle(plan, schedule, current, self.roles[schedule.name], of_role, role, verdict)
        for role, verdict in found.items():
            if not verdict.claims:
                verdict.claims = self._by_order[role]
            # Each user once per role, by the first assignment that names them.
            first: dict[int, Assignment] = {}
            for claim in verdict.claims:
                covered = _covered(plan, claim, replacing.get(claim.schedule, ()), at) if plan.absences else claim
                first.setdefault(covered.user_id, covered)
            verdict.claims = list(first.values())
        return found

    def _claims(
        self, schedule: CompiledSchedule, current: list[CompiledOverride], at: datetime
    ) -> Iterator[Assignment]:
        """Yields the assignments of shifts, with the overrides of single shifts applied."""
        for turn in schedule.turns(at):
            reason = f"shift {turn.shift} of {schedule.name}"
            for role in self.own_roles(turn.user_id) if turn.role is None else (turn.role,):
                claim = Assignment(
                    role,
                    turn.user_id,
                    (reason,),
                    reason,
                    (schedule.name, turn.shift, turn.since, turn.until),
                    turn.since,
                    turn.until,
                    schedule.name,
                    turn.shift,
                    turn.layer,
                )
                for override in current:
                    if override.shift == turn.shift and override.role in (None, role):
                        claim = _replaced(self.plan, claim, override)
                yield claim


def _settle(
    plan: GroupPlan,
    schedule: CompiledSchedule,
    current: list[CompiledOverride],
    roles: Sequence[frozenset[MemberRole]],
    claims: list[Assignment],
    role: MemberRole,
    verdict: RoleAssignment,
) -> None:
    """Adds this schedule's decision on the role: layers first, then overrides of roles and of the schedule."""
    callable_ones = [claim for claim in claims if plan.is_callable(claim.user_id)]
    top = max((claim.layer or 0 for claim in callable_ones), default=0)
    winners = [claim for claim in callable_ones if claim.layer == top]
    ahead = winners[0].reason if winners else ""
    over = ""
    for override in current:
        if override.shift or override.role not in (None, role):
            continue
        if override.instead_of is not None:
            winners = [_replaced(plan, claim, override) for claim in winners]
        elif override.role is role or any(role in several for several in roles):
            winners, over = [_alone(plan, schedule, override, role)], _said(override)
    verdict.claims += winners
    for claim in claims:
        if not plan.is_callable(claim.user_id):
            hidden = f"{plan.name_of(claim.user_id)} is switched off"
        else:
            hidden = over or (ahead if claim.layer != top else "")
        verdict.bars.append(LayeredAssignment(claim, hidden))


def _replaced(plan: GroupPlan, claim: Assignment, override: CompiledOverride) -> Assignment:
    """Returns the assignment after the override is applied."""
    if override.user_id == claim.user_id or override.instead_of not in (None, claim.user_id):
        return claim
    reason = _said(override)
    reasons = (
        f"{claim.reason}: {plan.name_of(claim.user_id)}",
        f"{reason}: {plan.name_of(override.user_id)} instead",
    )
    return replace(
        claim.within(override.starts_at, override.ends_at),
        user_id=override.user_id,
        reasons=(*claim.reasons[:-1], *reasons),
        reason=reason,
        source=(*claim.source, override.id),
        override_id=override.id,
    )


def _alone(plan: GroupPlan, schedule: CompiledSchedule, override: CompiledOverride, role: MemberRole) -> Assignment:
    """Returns the override's own assignment, which replaces all others in the role."""
    reason = _said(override)
    what = f"{override.role} of {schedule.name}" if override.role else f"the whole of {schedule.name}"
    return Assignment(
        role,
        override.user_id,
        (f"{reason}: {plan.name_of(override.user_id)} for {what}",),
        reason,
        (schedule.name, override.id),
        override.starts_at,
        override.ends_at,
        schedule.name,
        override_id=override.id,
    )


def _said(override: CompiledOverride) -> str:
    return f"override {override.name}" if override.name else "an override"


def _by_order(plan: GroupPlan, role: MemberRole, scheduled: Collection[MemberRole]) -> Iterator[Assignment]:
    """Yields the members with the role, in the group's order."""
    if not plan.schedules:
        why = "the group has no schedule"
    else:
        why = "no shift is on" if role in scheduled else "no shift has this role"
    reason = f"{role} of {plan.name}; {why}"
    for member in sorted(plan.members, key=lambda member: member.position):
        if member.is_active and role in member.roles:
            yield Assignment(role, member.user_id, (reason,), reason, ())


def _covered(plan: GroupPlan, claim: Assignment, replacing: Iterable[CompiledOverride], at: datetime) -> Assignment:
    """Applies absences: returns the assignment of the covering user, or of an override that replaces them. If the user
    is absent and nobody covers, the assignment is marked."""
    away = {claim.user_id}
    while absence := _absence(plan, claim.user_id, at):
        name = plan.name_of(claim.user_id)
        cover = plan.cover_of(absence)
        claim = claim.within(absence.starts_at, absence.ends_at)
        if cover is None or cover in away:
            reason = f"{claim.reason}; out of office, and nobody covers"
            return replace(claim, reason=reason, reasons=(*claim.reasons, reason), is_absent=True)
        away.add(cover)
        reason = f"covers for {name}, who is out of office"
        claim = replace(
            claim,
            user_id=cover,
            reason=reason,
            reasons=(
                *claim.reasons[:-1],
                f"{claim.reasons[-1].removesuffix(f': {name}')}: {name}",
                f"{plan.name_of(cover)} {reason}",
            ),
            source=(*claim.source, absence.user_id, absence.starts_at),
        )
        for override in replacing:
            is_meant = override.role in (None, claim.role) and override.shift in ("", claim.shift)
            if is_meant and override.user_id not in away:
                claim = _handed_over(plan, claim, override)
        away.add(claim.user_id)
    return claim


def _handed_over(plan: GroupPlan, claim: Assignment, override: CompiledOverride) -> Assignment:
    """Returns a covering user's assignment after the override is applied."""
    replaced = _replaced(plan, claim, override)
    return replaced if replaced is claim else replace(replaced, reasons=(*claim.reasons, replaced.reasons[-1]))


def _absence(plan: GroupPlan, user_id: int, at: datetime) -> Absence | None:
    return next((a for a in plan.absences if a.user_id == user_id and a.starts_at <= at < a.ends_at), None)
