"""The final schedule of a group: who is on call, in which role, from when until when, and why. Pure.

`on_call` returns it for a moment, `timeline` for a range. A `GroupPlan` contains all data that decides:

1. In each role, the shifts of a schedule's highest layer win, among those that are on and have an active user.
2. Overrides of a shift replace its user. Overrides of a role or a whole schedule then replace the winners.
3. In a role without a shift that is on, its members in the group are on call, in the group's order.
4. An absent user is replaced by the user who covers in that group. Without cover they stay, and are marked. Overrides
   that replace the covering user apply too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.access.roles import MemberRole
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.oncall.calculation.resolver import Assignment, GroupPlan, LayeredAssignment, OnCallResolver
from tocsin.oncall.calculation.schedules import CompiledSchedule, Shift

#: How far the start or end of a period is searched. Beyond that, it counts as unbounded.
HORIZONS = (timedelta(days=3), timedelta(days=32), timedelta(days=400))
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class OnCall:
    """One user on call: role, from when until when (None: no known bound), and why."""

    role: MemberRole
    user_id: int
    name: str
    reason: Reason
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
        _to_on_call(resolver, assignment, _since(resolver, assignment, at), _until(resolver, assignment, at))
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
    segments: list[OnCall] = []
    layers = _SegmentMerger[LayeredAssignment]()
    assignments = _SegmentMerger[Assignment]()
    gaps = _SegmentMerger[MemberRole]()
    for moment in moments:
        decided = resolver.at(moment)
        assignments.step(
            moment,
            {
                assignment.key: assignment
                for role_assignment in decided.values()
                for assignment in role_assignment.assignments
            },
        )
        layers.step(
            moment,
            {
                layered.key: layered
                for role_assignment in decided.values()
                for layered in role_assignment.layered_assignments
            },
        )
        gaps.step(moment, {role: role for role in resolver.scheduled if not decided[role].assignments})
    for assignment, begin, end in assignments.all():
        first = _since(resolver, assignment, since) if begin == since else begin
        last = _until(resolver, assignment, moments[-1]) if end is None else end
        segments.append(_to_on_call(resolver, assignment, first, last))
    order = list(MemberRole)
    segments.sort(key=lambda s: (order.index(s.role), s.since or since, s.until or until))
    return Timeline(
        since,
        until,
        tuple(segments),
        tuple(_to_layer_segment(plan, layered, begin, end or until) for layered, begin, end in layers.all()),
        tuple(CoverageGap(role, begin, end or until) for role, begin, end in gaps.all()),
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


def _since(resolver: OnCallResolver, assignment: Assignment, at: datetime) -> datetime | None:
    """Returns when the period of this assignment, which applies at `at`, began."""
    later = at
    for begin in [assignment.since] if assignment.since else [at - span for span in HORIZONS]:
        transitions = set(_transitions_of(resolver, assignment, begin - _TICK, later + _TICK))
        for transition in sorted(transitions, reverse=True):
            if not resolver.is_assigned_at(assignment, transition - _TICK):
                return transition
        later = begin
    return assignment.since


def _until(resolver: OnCallResolver, assignment: Assignment, at: datetime) -> datetime | None:
    """Returns when it ends."""
    earlier = at
    for end in [assignment.until] if assignment.until else [at + span for span in HORIZONS]:
        for transition in sorted(set(_transitions_of(resolver, assignment, earlier, end + _TICK))):
            if not resolver.is_assigned_at(assignment, transition):
                return transition
        earlier = end
    return assignment.until


def _transitions_of(
    resolver: OnCallResolver, assignment: Assignment, since: datetime, until: datetime
) -> Iterator[datetime]:
    """Yields the moments between `since` and `until` at which this assignment may begin or end."""
    for schedule in resolver.plan.schedules:
        for shift, roles in zip(schedule.shifts, resolver.roles[schedule.name], strict=True):
            if assignment.role in roles and _may_affect(resolver.plan, assignment, schedule, shift):
                yield from shift.transitions(since, until)
    yield from _override_and_absence_transitions(resolver.plan, since, until)


def _may_affect(plan: GroupPlan, assignment: Assignment, schedule: CompiledSchedule, shift: Shift) -> bool:
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


def _to_on_call(
    resolver: OnCallResolver, assignment: Assignment, since: datetime | None, until: datetime | None
) -> OnCall:
    return OnCall(
        role=assignment.role,
        user_id=assignment.user_id,
        name=resolver.plan.name_of(assignment.user_id),
        reason=assignment.reason,
        since=since,
        until=until,
        reasons=assignment.reasons,
        is_absent=assignment.is_absent,
        schedule=assignment.schedule,
        shift=assignment.shift,
        layer=assignment.layer,
        override_id=assignment.override_id,
    )


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


class _SegmentMerger[T]:
    """Joins values at successive moments into periods, as long as their key stays the same."""

    def __init__(self) -> None:
        self._open: dict[object, tuple[T, datetime]] = {}
        self._closed: list[tuple[T, datetime, datetime | None]] = []

    def step(self, at: datetime, current: Mapping[object, T]) -> None:
        """Records the values, by key, that apply from `at` on."""
        for key in [key for key in self._open if key not in current]:
            value, begin = self._open.pop(key)
            self._closed.append((value, begin, at))
        for key, value in current.items():
            self._open.setdefault(key, (value, at))

    def all(self) -> list[tuple[T, datetime, datetime | None]]:
        """Returns every period with its start and end, by start; an end of None means that it has not ended."""
        open_periods = [(value, begin, None) for value, begin in self._open.values()]
        return sorted([*self._closed, *open_periods], key=lambda period: period[1])


# ---------- handovers
# When the shifts of a schedule change hands: from whom to whom. Pure.


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
