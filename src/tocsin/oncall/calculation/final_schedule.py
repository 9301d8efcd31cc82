"""The final schedule of a group: who is on call, in which role, from when until when, and why. Pure.

`on_call` returns it for a moment, `timeline` for a range. A `GroupPlan` contains all data that decides:

1. In each role, the shifts of a schedule's highest layer win, among those that are on and have an active user.
2. Overrides of a shift replace its user. Overrides of a role or a whole schedule then replace the winners.
3. In a role without a shift that is on, its members in the group are on call, in the group's order.
4. An absent user is replaced by the user who covers in that group. Without cover they stay, and are marked. Overrides
   that replace the covering user apply too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from tocsin.access.roles import MemberRole
from tocsin.core.reasons import NO_REASON, Person, Reason, Term
from tocsin.oncall import reasons
from tocsin.oncall.calculation.schedules import CompiledOverride, CompiledSchedule, Shift

# ---------- group snapshot


@dataclass(frozen=True, slots=True)
class SnapshotMember:
    user_id: int
    name: str
    roles: frozenset[MemberRole]
    position: int = 0
    #: A deactivated user is never paged.
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class SnapshotUser:
    """A user named in a schedule, an override or an absence. A deactivated user is never paged."""

    name: str
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Absence:
    """The absence of a user, and who covers: by group id in `covers`, and `cover` in all other groups."""

    user_id: int
    starts_at: datetime
    ends_at: datetime
    cover_id: int | None = None
    cover_ids_by_group: Mapping[int, int] = field(default_factory=dict)

    def cover_ids_in(self, group_id: int) -> tuple[int, ...]:
        """Returns who covers in that group, by precedence. The first active user applies."""
        return tuple(cover for cover in (self.cover_ids_by_group.get(group_id), self.cover_id) if cover is not None)


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """All data that decides who is on call in one group. Loaded by `oncall.loader.plans`."""

    id: int
    name: str
    members: tuple[SnapshotMember, ...] = ()
    #: By name.
    schedules: tuple[CompiledSchedule, ...] = ()
    #: Every user named in this data, by id. A missing user is deleted.
    users: Mapping[int, SnapshotUser] = field(default_factory=dict)
    absences: tuple[Absence, ...] = ()

    def is_active_user(self, user_id: int) -> bool:
        person = self.users.get(user_id)
        return person is not None and person.is_active

    def cover_of(self, absence: Absence) -> int | None:
        return next((cover for cover in absence.cover_ids_in(self.id) if self.is_active_user(cover)), None)

    def name_of(self, user_id: int) -> str:
        """Returns the user's name, or a phrase for a deleted user."""
        person = self.users.get(user_id)
        return person.name if person else "a deleted user"

    def holiday_on(self, day: date) -> str:
        """Returns the name of a holiday on that day that any of the schedules observes, or ""."""
        calendars = {c.name: c for schedule in self.schedules for shift in schedule.shifts for c in shift.calendars}
        return next((name for calendar in calendars.values() if (name := calendar.holiday_on(day))), "")

    def person(self, user_id: int) -> Person:
        return Person(self.name_of(user_id), user_id)


#: Iterating over an enumeration is slow.
_ROLES = tuple(MemberRole)


@dataclass(frozen=True, slots=True)
class OnCall:
    """One user on call: role, from when until when (None: no known bound), and why."""

    role: MemberRole
    user_id: int
    #: Empty while the resolver decides.
    name: str
    reason: Reason
    #: While the resolver decides, the bounds outside which it never applies.
    since: datetime | None = None
    until: datetime | None = None
    #: How it was decided: the shift, the override, the cover. The last one decides.
    reasons: tuple[Reason, ...] = ()
    #: Absent in this period without cover: still paged, and shown in red.
    is_absent: bool = False
    #: The schedule and shift that decide; empty if the group's own order does.
    schedule: str = ""
    shift: str = ""
    #: The shift's layer; None for overrides and the group's own order.
    layer: int | None = None
    override_id: int | None = None
    #: Where it comes from. Together with role and user, it is the identity.
    source: tuple[object, ...] = field(default=(), compare=False, repr=False)

    @property
    def key(self) -> tuple[object, ...]:
        """As long as it stays the same, it is one period."""
        return (self.role, self.user_id, self.source, self.is_absent)

    def within(self, since: datetime, until: datetime) -> OnCall:
        return replace(
            self,
            since=since if self.since is None else max(since, self.since),
            until=until if self.until is None else min(until, self.until),
        )


@dataclass(frozen=True, slots=True)
class LayeredAssignment:
    """A shift's assignment before anything else is applied, and the source that takes precedence over it, if any."""

    assignment: OnCall
    hidden_by: Reason

    @property
    def key(self) -> tuple[object, ...]:
        return (self.assignment.key, self.hidden_by)


@dataclass(slots=True)
class RoleAssignment:
    assignments: list[OnCall]
    layered_assignments: list[LayeredAssignment]


class OnCallResolver:
    """Decides who has each role in a group at a moment. Each moment is decided once and cached."""

    def __init__(self, plan: GroupPlan) -> None:
        self.plan = plan
        self._cache: dict[datetime, dict[MemberRole, RoleAssignment]] = {}
        self._member_roles = {
            member.user_id: tuple(role for role in MemberRole if role in member.roles) for member in plan.members
        }
        #: The roles that each schedule's shifts assign at any time.
        self.roles = {
            schedule.name: tuple(self._roles_of(shift) for shift in schedule.shifts) for schedule in plan.schedules
        }
        self.scheduled = frozenset(
            role for shift_roles in self.roles.values() for roles in shift_roles for role in roles
        )
        self._by_order = {role: list(_in_group_order(plan, role, self.scheduled)) for role in MemberRole}

    def at(self, at: datetime) -> dict[MemberRole, RoleAssignment]:
        by_role = self._cache.get(at)
        if by_role is None:
            by_role = self._cache[at] = self._decide(at)
        return by_role

    def is_assigned_at(self, assignment: OnCall, at: datetime) -> bool:
        return any(assignment.key == other.key for other in self.at(at)[assignment.role].assignments)

    def roles_of(self, schedule: str) -> frozenset[MemberRole]:
        """Returns the roles that a schedule assigns at any time."""
        return frozenset().union(*self.roles[schedule])

    def member_roles(self, user_id: int) -> tuple[MemberRole, ...]:
        """Returns a user's roles in the group; primary if they have none."""
        return self._member_roles.get(user_id) or (MemberRole.PRIMARY,)

    def _roles_of(self, shift: Shift) -> frozenset[MemberRole]:
        return frozenset(shift.roles or (role for user in shift.users for role in self.member_roles(user)))

    def _decide(self, at: datetime) -> dict[MemberRole, RoleAssignment]:
        plan = self.plan
        by_role = {role: RoleAssignment([], []) for role in _ROLES}
        replacing: dict[str, list[CompiledOverride]] = {}
        for schedule in plan.schedules:
            current = [o for o in schedule.overrides if o.is_active_at(at) and plan.is_active_user(o.user_id)]
            replacing[schedule.name] = [override for override in current if override.instead_of is not None]
            assignments = list(self._shift_assignments(schedule, current, at))
            for role, role_assignment in by_role.items():
                role_claims = [assignment for assignment in assignments if assignment.role is role]
                if role_claims or current:
                    _apply_schedule(
                        plan, schedule, current, self.roles[schedule.name], role_claims, role, role_assignment
                    )
        for role, role_assignment in by_role.items():
            if not role_assignment.assignments:
                role_assignment.assignments = self._by_order[role]
            # Each user once per role, by the first assignment that names them.
            by_user: dict[int, OnCall] = {}
            for assignment in role_assignment.assignments:
                covered = (
                    _apply_absences(plan, assignment, replacing.get(assignment.schedule, ()), at)
                    if plan.absences
                    else assignment
                )
                by_user.setdefault(covered.user_id, covered)
            role_assignment.assignments = list(by_user.values())
        return by_role

    def _shift_assignments(
        self, schedule: CompiledSchedule, current: list[CompiledOverride], at: datetime
    ) -> Iterator[OnCall]:
        """Yields the assignments of shifts, with the overrides of single shifts applied."""
        for occurrence in schedule.occurrences(at):
            reason = reasons.SHIFT(shift=occurrence.shift, schedule=schedule.name)
            for role in self.member_roles(occurrence.user_id) if occurrence.role is None else (occurrence.role,):
                assignment = OnCall(
                    role,
                    occurrence.user_id,
                    "",
                    reason,
                    occurrence.since,
                    occurrence.until,
                    (reason,),
                    schedule=schedule.name,
                    shift=occurrence.shift,
                    layer=occurrence.layer,
                    source=(schedule.name, occurrence.shift, occurrence.since, occurrence.until),
                )
                for override in current:
                    if override.shift == occurrence.shift and override.role in (None, role):
                        assignment = _apply_override(self.plan, assignment, override)
                yield assignment


def _apply_schedule(
    plan: GroupPlan,
    schedule: CompiledSchedule,
    current: list[CompiledOverride],
    roles: Sequence[frozenset[MemberRole]],
    assignments: list[OnCall],
    role: MemberRole,
    role_assignment: RoleAssignment,
) -> None:
    """Adds this schedule's decision on the role: layers first, then overrides of roles and of the schedule."""
    available = [assignment for assignment in assignments if plan.is_active_user(assignment.user_id)]
    top_layer = max((assignment.layer or 0 for assignment in available), default=0)
    winners = [assignment for assignment in available if assignment.layer == top_layer]
    winning_reason = winners[0].reason if winners else NO_REASON
    override_reason = NO_REASON
    for override in current:
        if override.shift or override.role not in (None, role):
            continue
        if override.instead_of is not None:
            winners = [_apply_override(plan, assignment, override) for assignment in winners]
        elif override.role is role or any(role in shift_roles for shift_roles in roles):
            winners, override_reason = [_override_assignment(plan, schedule, override, role)], _override_label(override)
    role_assignment.assignments += winners
    for assignment in assignments:
        if not plan.is_active_user(assignment.user_id):
            hidden_by = reasons.USER_DEACTIVATED(user=plan.person(assignment.user_id))
        else:
            hidden_by = override_reason or (winning_reason if assignment.layer != top_layer else NO_REASON)
        role_assignment.layered_assignments.append(LayeredAssignment(assignment, hidden_by))


def _apply_override(plan: GroupPlan, assignment: OnCall, override: CompiledOverride) -> OnCall:
    if override.user_id == assignment.user_id or override.instead_of not in (None, assignment.user_id):
        return assignment
    reason = _override_label(override)
    replacement = (
        reasons.BY_USER(source=assignment.reason, user=plan.person(assignment.user_id)),
        reasons.REPLACED_BY(source=reason, user=plan.person(override.user_id)),
    )
    return replace(
        assignment.within(override.starts_at, override.ends_at),
        user_id=override.user_id,
        reasons=(*assignment.reasons[:-1], *replacement),
        reason=reason,
        source=(*assignment.source, override.id),
        override_id=override.id,
    )


def _override_assignment(
    plan: GroupPlan, schedule: CompiledSchedule, override: CompiledOverride, role: MemberRole
) -> OnCall:
    """Returns the override's own assignment, which replaces all others in the role."""
    reason = _override_label(override)
    user = plan.person(override.user_id)
    if override.role:
        detail = reasons.OVERRIDE_OF_ROLE(source=reason, user=user, role=Term(override.role), schedule=schedule.name)
    else:
        detail = reasons.OVERRIDE_OF_SCHEDULE(source=reason, user=user, schedule=schedule.name)
    return OnCall(
        role,
        override.user_id,
        "",
        reason,
        override.starts_at,
        override.ends_at,
        (detail,),
        schedule=schedule.name,
        override_id=override.id,
        source=(schedule.name, override.id),
    )


def _override_label(override: CompiledOverride) -> Reason:
    return reasons.NAMED_OVERRIDE(name=override.name) if override.name else reasons.OVERRIDE()


def _in_group_order(plan: GroupPlan, role: MemberRole, scheduled: Collection[MemberRole]) -> Iterator[OnCall]:
    """Yields the members with the role, in the group's order."""
    if not plan.schedules:
        reason_type = reasons.ORDER_WITHOUT_SCHEDULE
    else:
        reason_type = reasons.ORDER_WITHOUT_SHIFT if role in scheduled else reasons.ORDER_OF_OTHER_ROLE
    reason = reason_type(role=Term(role), group=plan.name)
    for member in sorted(plan.members, key=lambda member: member.position):
        if member.is_active and role in member.roles:
            yield OnCall(role, member.user_id, "", reason, reasons=(reason,))


def _apply_absences(plan: GroupPlan, assignment: OnCall, replacing: Iterable[CompiledOverride], at: datetime) -> OnCall:
    """Applies absences: returns the assignment of the covering user, or of an override that replaces them. If the user
    is absent and nobody covers, the assignment is marked."""
    absent_ids = {assignment.user_id}
    while absence := _absence(plan, assignment.user_id, at):
        absent = plan.person(assignment.user_id)
        cover = plan.cover_of(absence)
        assignment = assignment.within(absence.starts_at, absence.ends_at)
        if cover is None or cover in absent_ids:
            reason = reasons.ABSENT_WITHOUT_COVER(source=assignment.reason)
            return replace(assignment, reason=reason, reasons=(*assignment.reasons, reason), is_absent=True)
        absent_ids.add(cover)
        assignment = replace(
            assignment,
            user_id=cover,
            reason=reasons.COVERS(user=absent),
            reasons=(
                *assignment.reasons[:-1],
                _with_user(assignment.reasons[-1], absent),
                reasons.COVERED_BY(cover=plan.person(cover), user=absent),
            ),
            source=(*assignment.source, absence.user_id, absence.starts_at),
        )
        for override in replacing:
            is_applicable = override.role in (None, assignment.role) and override.shift in ("", assignment.shift)
            if is_applicable and override.user_id not in absent_ids:
                assignment = _apply_override_of_cover(plan, assignment, override)
        absent_ids.add(assignment.user_id)
    return assignment


def _with_user(source: Reason, user: Person) -> Reason:
    """The source with the user, if it does not name them already."""
    if source.code == reasons.BY_USER.code and source["user"] == user:
        return source
    return reasons.BY_USER(source=source, user=user)


def _apply_override_of_cover(plan: GroupPlan, assignment: OnCall, override: CompiledOverride) -> OnCall:
    replaced = _apply_override(plan, assignment, override)
    return (
        replaced if replaced is assignment else replace(replaced, reasons=(*assignment.reasons, replaced.reasons[-1]))
    )


def _absence(plan: GroupPlan, user_id: int, at: datetime) -> Absence | None:
    return next((a for a in plan.absences if a.user_id == user_id and a.starts_at <= at < a.ends_at), None)


#: How far the start or end of a period is searched. Beyond that, it counts as unbounded.
HORIZONS = (timedelta(days=3), timedelta(days=32), timedelta(days=400))
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class LayerSegment:
    """A period of a shift as its schedule defines it, cut to the range. Used to draw the layers."""

    schedule: str
    shift: str
    layer: int
    role: MemberRole
    user_id: int
    name: str
    since: datetime
    until: datetime
    #: The source that takes precedence over it; `NO_REASON` if it has effect.
    hidden_by: Reason = NO_REASON


@dataclass(frozen=True, slots=True)
class CoverageGap:
    """A coverage gap: nobody has `role` from `since` until `until`, cut to the range."""

    role: MemberRole
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """Who is on call over a range.

    `segments` are the results of `on_call` at each moment, with their true start and end, which may lie outside the
    range; sorted by role, then start. `bars` are all shifts, hidden ones included. `gaps` are the periods in which
    nobody has a role that some shift assigns.
    """

    since: datetime
    until: datetime
    segments: tuple[OnCall, ...]
    layer_segments: tuple[LayerSegment, ...]
    gaps: tuple[CoverageGap, ...]

    @property
    def scheduled_roles(self) -> frozenset[MemberRole]:
        """The roles that a shift assigns somewhere in the range, or leaves without anybody. In all others the same
        members are on call every day."""
        return frozenset({s.role for s in self.segments if s.schedule} | {gap.role for gap in self.gaps})


def on_call(plan: GroupPlan, at: datetime) -> tuple[OnCall, ...]:
    """Returns who is on call at `at`, by role, then in the order in which they are paged.

    A user with several roles is listed once for each.
    """
    resolver = OnCallResolver(plan)
    return tuple(
        replace(
            assignment,
            name=plan.name_of(assignment.user_id),
            since=_since(resolver, assignment, at),
            until=_until(resolver, assignment, at),
        )
        for role, role_assignment in resolver.at(at).items()
        for assignment in role_assignment.assignments
    )


def timeline(plan: GroupPlan, since: datetime, until: datetime) -> Timeline:
    """Returns who is on call from `since` until `until`. It agrees with `on_call` at every moment, for every range.

    Load the plan by `oncall.loader.plan(connection, group_id, since)`. The API offers this as GET
    /api/v1/groups/{id}/timeline?from=&to=.
    """
    resolver = OnCallResolver(plan)
    moments = [since, *sorted(set(_all_transitions(plan, since, until)))]

    def assigned(at: datetime) -> dict[object, OnCall]:
        return {one.key: one for decided in resolver.at(at).values() for one in decided.assignments}

    def layered(at: datetime) -> dict[object, LayeredAssignment]:
        return {one.key: one for decided in resolver.at(at).values() for one in decided.layered_assignments}

    def unassigned(at: datetime) -> dict[object, MemberRole]:
        return {role: role for role in resolver.scheduled if not resolver.at(at)[role].assignments}

    segments = [
        replace(
            assignment,
            name=plan.name_of(assignment.user_id),
            since=_since(resolver, assignment, since) if begin == since else begin,
            until=_until(resolver, assignment, moments[-1]) if end is None else end,
        )
        for assignment, begin, end in _periods(moments, assigned)
    ]
    order = list(MemberRole)
    segments.sort(key=lambda s: (order.index(s.role), s.since or since, s.until or until))
    return Timeline(
        since,
        until,
        tuple(segments),
        tuple(_to_layer_segment(plan, one, begin, end or until) for one, begin, end in _periods(moments, layered)),
        tuple(CoverageGap(role, begin, end or until) for role, begin, end in _periods(moments, unassigned)),
    )


def next_change(plan: GroupPlan, at: datetime, until: datetime) -> datetime:
    """Returns the first moment after `at` at which another user may be on call; at most `until`."""
    return min((transition for transition in _all_transitions(plan, at, until) if transition > at), default=until)


def by_role(people: Iterable[OnCall]) -> Mapping[MemberRole, tuple[OnCall, ...]]:
    """Returns the same users by role, without roles that are empty."""
    grouped: dict[MemberRole, list[OnCall]] = {}
    for person in people:
        grouped.setdefault(person.role, []).append(person)
    return {role: tuple(entries) for role, entries in grouped.items()}


def _since(resolver: OnCallResolver, assignment: OnCall, at: datetime) -> datetime | None:
    """Returns when the period of this assignment, which applies at `at`, began."""
    later = at
    for begin in [assignment.since] if assignment.since else [at - span for span in HORIZONS]:
        transitions = set(_transitions_of(resolver, assignment, begin - _TICK, later + _TICK))
        for transition in sorted(transitions, reverse=True):
            if not resolver.is_assigned_at(assignment, transition - _TICK):
                return transition
        later = begin
    return assignment.since


def _until(resolver: OnCallResolver, assignment: OnCall, at: datetime) -> datetime | None:
    """Returns when it ends."""
    earlier = at
    for end in [assignment.until] if assignment.until else [at + span for span in HORIZONS]:
        for transition in sorted(set(_transitions_of(resolver, assignment, earlier, end + _TICK))):
            if not resolver.is_assigned_at(assignment, transition):
                return transition
        earlier = end
    return assignment.until


def _transitions_of(
    resolver: OnCallResolver, assignment: OnCall, since: datetime, until: datetime
) -> Iterator[datetime]:
    """Yields the moments between `since` and `until` at which this assignment may begin or end."""
    for schedule in resolver.plan.schedules:
        for shift, roles in zip(schedule.shifts, resolver.roles[schedule.name], strict=True):
            if assignment.role in roles and _may_affect(resolver.plan, assignment, schedule, shift):
                yield from shift.transitions(since, until)
    yield from _override_and_absence_transitions(resolver.plan, since, until)


def _may_affect(plan: GroupPlan, assignment: OnCall, schedule: CompiledSchedule, shift: Shift) -> bool:
    """Returns whether the shift can begin or end the assignment: by going before it, or by assigning the same user."""
    if not assignment.schedule:
        return True
    if assignment.schedule == schedule.name and assignment.layer is not None and shift.layer > assignment.layer:
        return True
    is_peer = assignment.schedule != schedule.name or shift.layer == assignment.layer
    return is_peer and bool(assignment.user_id in shift.users or plan.absences or schedule.overrides)


def _all_transitions(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[datetime]:
    for schedule in plan.schedules:
        for shift in schedule.shifts:
            yield from shift.transitions(since, until)
    yield from _override_and_absence_transitions(plan, since, until)


def _override_and_absence_transitions(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yields the moments at which overrides and absences begin and end."""
    for schedule in plan.schedules:
        for override in schedule.overrides:
            yield from (
                transition for transition in (override.starts_at, override.ends_at) if since < transition < until
            )
    for absence in plan.absences:
        yield from (transition for transition in (absence.starts_at, absence.ends_at) if since < transition < until)


def _to_layer_segment(plan: GroupPlan, layered: LayeredAssignment, since: datetime, until: datetime) -> LayerSegment:
    assignment = layered.assignment
    return LayerSegment(
        schedule=assignment.schedule,
        shift=assignment.shift,
        layer=assignment.layer or 0,
        role=assignment.role,
        user_id=assignment.user_id,
        name=plan.name_of(assignment.user_id),
        since=since,
        until=until,
        hidden_by=layered.hidden_by,
    )


def _periods[T](
    moments: Iterable[datetime], values_at: Callable[[datetime], Mapping[object, T]]
) -> list[tuple[T, datetime, datetime | None]]:
    """Joins values at successive moments into periods, as long as their key stays the same. Returns each with its start
    and end, by start; an end of None means that it has not ended."""
    current: dict[object, tuple[T, datetime]] = {}
    ended: list[tuple[T, datetime, datetime | None]] = []
    for moment in moments:
        values = values_at(moment)
        ended += [(*current.pop(key), moment) for key in [key for key in current if key not in values]]
        for key, value in values.items():
            current.setdefault(key, (value, moment))
    return sorted([*ended, *((*one, None) for one in current.values())], key=lambda period: period[1])


# ---------- handovers


#: The longest gap between two shifts after which the first still hands over to the second.
MAX_GAP = timedelta(days=8)


@dataclass(frozen=True, slots=True)
class Handover:
    """At `at` the `incoming` users follow the `outgoing` ones, whose shift began at `since`. Both are never empty.

    A user who changes to another role is in both.
    """

    at: datetime
    since: datetime
    outgoing: tuple[int, ...]
    incoming: tuple[int, ...]


def handovers(plan: GroupPlan, schedule: str, since: datetime, until: datetime) -> tuple[Handover, ...]:
    """Returns the handovers of one schedule from `since` (inclusive) until `until` (exclusive), by time.

    When nobody is on call between two shifts, the handover is at the start of the second. A user who follows
    themselves hands nothing over, nor does one who joins others.
    """
    begin = since - MAX_GAP
    segments = [segment for segment in timeline(plan, begin, until).segments if segment.schedule == schedule]
    by_moment: dict[datetime, list[Handover]] = {}
    for role in MemberRole:
        for one in _of_role([segment for segment in segments if segment.role is role], begin):
            if since <= one.at < until:
                by_moment.setdefault(one.at, []).append(one)
    return tuple(_merged(parts) for _at, parts in sorted(by_moment.items()))


def _of_role(segments: Iterable[OnCall], begin: datetime) -> Iterator[Handover]:
    """Yields the handovers of one role. `begin` is where the data begins."""
    spans = [(segment.since or begin, segment.until, segment.user_id) for segment in segments]
    before: frozenset[int] = frozenset()
    before_since = begin
    for moment in sorted({edge for since, until, _user in spans for edge in (since, until) if edge}):
        users = frozenset(user for since, until, user in spans if since <= moment and (until is None or moment < until))
        # Between two shifts nobody is on call, and the last users still are those who hand over.
        if not users or users == before:
            continue
        outgoing, incoming = before - users, users - before
        if outgoing and incoming:
            yield Handover(moment, before_since, tuple(sorted(outgoing)), tuple(sorted(incoming)))
        before, before_since = users, moment


def _merged(parts: list[Handover]) -> Handover:
    return Handover(
        parts[0].at,
        min(part.since for part in parts),
        tuple(sorted({user for part in parts for user in part.outgoing})),
        tuple(sorted({user for part in parts for user in part.incoming})),
    )
