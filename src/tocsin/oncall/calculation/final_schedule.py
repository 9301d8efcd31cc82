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

from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.calculation.resolver import Assignment, LayeredAssignment, OnCallResolver
from tocsin.oncall.calculation.schedules import CompiledSchedule
from tocsin.oncall.calculation.shifts import Shift
from tocsin.people.member_roles import MemberRole

#: How far the start or end of a period is searched. Beyond that, it counts as unbounded.
HORIZONS = (timedelta(days=3), timedelta(days=32), timedelta(days=400))
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class OnCall:
    """One user on call: role, from when until when (None: no known bound), and why, as a sentence."""

    role: MemberRole
    user_id: int
    name: str
    reason: str
    since: datetime | None = None
    until: datetime | None = None
    #: How it was decided: the shift, the override, the cover. Each is a sentence; the last one decides.
    reasons: tuple[str, ...] = ()
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
    #: The source that takes precedence over it, as text; empty if it has effect.
    hidden_by: str = ""


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
    bars: tuple[LayerSegment, ...]
    gaps: tuple[CoverageGap, ...]


def on_call(plan: GroupPlan, at: datetime) -> tuple[OnCall, ...]:
    """Returns who is on call at `at`, by role, then in the order in which they are paged.

    A user with several roles is listed once for each.
    """
    verdicts = OnCallResolver(plan)
    return tuple(
        _shown(verdicts, claim, _since(verdicts, claim, at), _until(verdicts, claim, at))
        for role, verdict in verdicts.at(at).items()
        for claim in verdict.claims
    )


def timeline(plan: GroupPlan, since: datetime, until: datetime) -> Timeline:
    """Returns who is on call from `since` until `until`. It agrees with `on_call` at every moment, for every range.

    Load the plan by `oncall.loader.plan(connection, group_id, since)`. The API offers this as GET
    /api/v1/groups/{id}/timeline?from=&to=.
    """
    verdicts = OnCallResolver(plan)
    moments = [since, *sorted(set(_all_edges(plan, since, until)))]
    segments: list[OnCall] = []
    bars = _SegmentMerger[LayeredAssignment]()
    claims = _SegmentMerger[Assignment]()
    gaps = _SegmentMerger[MemberRole]()
    for moment in moments:
        found = verdicts.at(moment)
        claims.step(moment, {claim.key: claim for verdict in found.values() for claim in verdict.claims})
        bars.step(moment, {bar.key: bar for verdict in found.values() for bar in verdict.bars})
        gaps.step(moment, {role: role for role in verdicts.scheduled if not found[role].claims})
    for claim, begin, end in claims.all():
        first = _since(verdicts, claim, since) if begin == since else begin
        last = _until(verdicts, claim, moments[-1]) if end is None else end
        segments.append(_shown(verdicts, claim, first, last))
    order = list(MemberRole)
    segments.sort(key=lambda s: (order.index(s.role), s.since or since, s.until or until))
    return Timeline(
        since,
        until,
        tuple(segments),
        tuple(_bar(plan, bar, begin, end or until) for bar, begin, end in bars.all()),
        tuple(CoverageGap(role, begin, end or until) for role, begin, end in gaps.all()),
    )


def next_change(plan: GroupPlan, at: datetime, until: datetime) -> datetime:
    """Returns the first moment after `at` at which another user may be on call; at most `until`."""
    return min((edge for edge in _all_edges(plan, at, until) if edge > at), default=until)


def by_role(people: Iterable[OnCall]) -> Mapping[MemberRole, tuple[OnCall, ...]]:
    """Returns the same users by role, without roles that are empty."""
    found: dict[MemberRole, list[OnCall]] = {}
    for person in people:
        found.setdefault(person.role, []).append(person)
    return {role: tuple(entries) for role, entries in found.items()}


def _since(verdicts: OnCallResolver, claim: Assignment, at: datetime) -> datetime | None:
    """Returns when the period of this assignment, which applies at `at`, began."""
    later = at
    for begin in [claim.since] if claim.since else [at - span for span in HORIZONS]:
        edges = set(_edges_of(verdicts, claim, begin - _TICK, later + _TICK))
        for edge in sorted(edges, reverse=True):
            if not verdicts.holds(claim, edge - _TICK):
                return edge
        later = begin
    return claim.since


def _until(verdicts: OnCallResolver, claim: Assignment, at: datetime) -> datetime | None:
    """Returns when it ends."""
    earlier = at
    for end in [claim.until] if claim.until else [at + span for span in HORIZONS]:
        for edge in sorted(set(_edges_of(verdicts, claim, earlier, end + _TICK))):
            if not verdicts.holds(claim, edge):
                return edge
        earlier = end
    return claim.until


def _edges_of(verdicts: OnCallResolver, claim: Assignment, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yields the moments between `since` and `until` at which this assignment may begin or end."""
    for schedule in verdicts.plan.schedules:
        for shift, roles in zip(schedule.shifts, verdicts.roles[schedule.name], strict=True):
            if claim.role in roles and _may_touch(verdicts.plan, claim, schedule, shift):
                yield from shift.edges(since, until)
    yield from _edges_beside(verdicts.plan, since, until)


def _may_touch(plan: GroupPlan, claim: Assignment, schedule: CompiledSchedule, shift: Shift) -> bool:
    """Returns whether the shift can begin or end the assignment: by going before it, or by assigning the same user."""
    if not claim.schedule:
        return True
    if claim.schedule == schedule.name and claim.layer is not None and shift.layer > claim.layer:
        return True
    beside = claim.schedule != schedule.name or shift.layer == claim.layer
    return beside and bool(claim.user_id in shift.users or plan.absences or schedule.overrides)


def _all_edges(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[datetime]:
    for schedule in plan.schedules:
        for shift in schedule.shifts:
            yield from shift.edges(since, until)
    yield from _edges_beside(plan, since, until)


def _edges_beside(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yields the moments at which overrides and absences begin and end."""
    for schedule in plan.schedules:
        for override in schedule.overrides:
            yield from (edge for edge in (override.starts_at, override.ends_at) if since < edge < until)
    for absence in plan.absences:
        yield from (edge for edge in (absence.starts_at, absence.ends_at) if since < edge < until)


def _shown(verdicts: OnCallResolver, claim: Assignment, since: datetime | None, until: datetime | None) -> OnCall:
    return OnCall(
        role=claim.role,
        user_id=claim.user_id,
        name=verdicts.plan.name_of(claim.user_id),
        reason=claim.reason,
        since=since,
        until=until,
        reasons=claim.reasons,
        is_absent=claim.is_absent,
        schedule=claim.schedule,
        shift=claim.shift,
        layer=claim.layer,
        override_id=claim.override_id,
    )


def _bar(plan: GroupPlan, bar: LayeredAssignment, since: datetime, until: datetime) -> LayerSegment:
    claim = bar.claim
    return LayerSegment(
        schedule=claim.schedule,
        shift=claim.shift,
        layer=claim.layer or 0,
        role=claim.role,
        user_id=claim.user_id,
        name=plan.name_of(claim.user_id),
        since=since,
        until=until,
        hidden_by=bar.hidden_by,
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
        still = [(value, begin, None) for value, begin in self._open.values()]
        return sorted([*self._closed, *still], key=lambda run: run[1])
