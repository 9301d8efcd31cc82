"""Who is on call in a group, in which role, since and until when, and why: at an instant (`on_call`), and over a range
(`timeline`). Pure: a `GroupPlan` has all that decides, and nothing is looked up.

1. In each role the shifts of a schedule's highest layer win, of those that are on and have somebody to call.
2. Overrides of a shift replace who has it; those of a role or a whole schedule then replace who won.
3. Where no shift is on for a role, its holders in the group are on call, in the group's order.
4. Whoever is out of office is replaced by who covers for them in that group; without cover they stay, marked. Overrides
   instead of who covers count too.
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

#: So far a stretch without an end of its own is followed to find one; beyond, it has none.
HORIZONS = (timedelta(days=3), timedelta(days=32), timedelta(days=400))
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class OnCall:
    """One person on call: in what role, since and until when (None: no end known), and why, as a sentence."""

    role: MemberRole
    user_id: int
    name: str
    reason: str
    since: datetime | None = None
    until: datetime | None = None
    #: How it came to that: the shift, the override, the cover; each a sentence, the last decides.
    reasons: tuple[str, ...] = ()
    #: Away at this time, and nobody covers: still paged, and shown in red.
    is_absent: bool = False
    #: Whose shift or override it is; empty where the group's own order decides.
    schedule: str = ""
    shift: str = ""
    #: The layer of the shift; None for overrides and the group's own order.
    layer: int | None = None
    override_id: int | None = None


@dataclass(frozen=True, slots=True)
class LayerSegment:
    """A stretch of a shift as its schedule has it, within the range: what a drawing of the layers shows."""

    schedule: str
    shift: str
    layer: int
    role: MemberRole
    user_id: int
    name: str
    since: datetime
    until: datetime
    #: What goes before it, as words; empty where it decides.
    hidden_by: str = ""


@dataclass(frozen=True, slots=True)
class CoverageGap:
    """Nobody has `role` from `since` until `until`, within the range."""

    role: MemberRole
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """Who is on call over a range.

    `segments` are what `on_call` answers at each moment in them, with their true beginnings and ends, which may lie
    outside the range; by role, then by beginning. `bars` are all shifts, hidden ones too; `gaps` the stretches in which
    a role that some shift has is nobody's.
    """

    since: datetime
    until: datetime
    segments: tuple[OnCall, ...]
    bars: tuple[LayerSegment, ...]
    gaps: tuple[CoverageGap, ...]


def on_call(plan: GroupPlan, at: datetime) -> tuple[OnCall, ...]:
    """Who is on call at `at`: roles in order, people in the order in which they would be called.

    Somebody with several roles comes once for each.
    """
    verdicts = OnCallResolver(plan)
    return tuple(
        _shown(verdicts, claim, _since(verdicts, claim, at), _until(verdicts, claim, at))
        for role, verdict in verdicts.at(at).items()
        for claim in verdict.claims
    )


def timeline(plan: GroupPlan, since: datetime, until: datetime) -> Timeline:
    """The same from `since` until `until`. Agrees with `on_call` at every moment, wherever the range begins.

    How to ask for one: `lookup.plan(connection, group_id, since, until)` loads the plan, and this draws it; the API has
    it as GET /api/v1/groups/{id}/timeline?from=&to=.
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
    """The first moment after `at` at which somebody else may be on call, and not before; at the latest `until`."""
    return min((edge for edge in _all_edges(plan, at, until) if edge > at), default=until)


def by_role(people: Iterable[OnCall]) -> Mapping[MemberRole, tuple[OnCall, ...]]:
    """The same people, by role; a role that nobody has is absent."""
    found: dict[MemberRole, list[OnCall]] = {}
    for person in people:
        found.setdefault(person.role, []).append(person)
    return {role: tuple(entries) for role, entries in found.items()}


def _since(verdicts: OnCallResolver, claim: Assignment, at: datetime) -> datetime | None:
    """When the stretch of this claim, which holds at `at`, began."""
    later = at
    for begin in [claim.since] if claim.since else [at - span for span in HORIZONS]:
        edges = set(_edges_of(verdicts, claim, begin - _TICK, later + _TICK))
        for edge in sorted(edges, reverse=True):
            if not verdicts.holds(claim, edge - _TICK):
                return edge
        later = begin
    return claim.since


def _until(verdicts: OnCallResolver, claim: Assignment, at: datetime) -> datetime | None:
    """When it ends."""
    earlier = at
    for end in [claim.until] if claim.until else [at + span for span in HORIZONS]:
        for edge in sorted(set(_edges_of(verdicts, claim, earlier, end + _TICK))):
            if not verdicts.holds(claim, edge):
                return edge
        earlier = end
    return claim.until


def _edges_of(verdicts: OnCallResolver, claim: Assignment, since: datetime, until: datetime) -> Iterator[datetime]:
    """The moments between `since` and `until` at which this claim may begin or end."""
    for schedule in verdicts.plan.schedules:
        for shift, roles in zip(schedule.shifts, verdicts.roles[schedule.name], strict=True):
            if claim.role in roles and _may_touch(verdicts.plan, claim, schedule, shift):
                yield from shift.edges(since, until)
    yield from _edges_beside(verdicts.plan, since, until)


def _may_touch(plan: GroupPlan, claim: Assignment, schedule: CompiledSchedule, shift: Shift) -> bool:
    """Whether what the shift does can begin or end the claim: by going before it, or by bringing the same person."""
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
    """The moments at which overrides and absences begin and end."""
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
    """Joins what holds at successive moments into stretches, while its key stays."""

    def __init__(self) -> None:
        self._open: dict[object, tuple[T, datetime]] = {}
        self._closed: list[tuple[T, datetime, datetime | None]] = []

    def step(self, at: datetime, current: Mapping[object, T]) -> None:
        """Notes that from `at` on these hold, by key."""
        for key in [key for key in self._open if key not in current]:
            value, begin = self._open.pop(key)
            self._closed.append((value, begin, at))
        for key, value in current.items():
            self._open.setdefault(key, (value, at))

    def all(self) -> list[tuple[T, datetime, datetime | None]]:
        """Every stretch with its beginning and end, by beginning; None: it has not ended."""
        still = [(value, begin, None) for value, begin in self._open.values()]
        return sorted([*self._closed, *still], key=lambda run: run[1])
