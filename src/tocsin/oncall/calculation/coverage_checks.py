"""Finds coverage problems in a group: gaps, users who cannot be paged, and shifts that never count. Pure.

Users are deactivated, absent without cover, or without a usable contact method. Used by `tocsin doctor`, the API, the
home page, the schedule's page and the weekly e-mail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain, combinations
from operator import add, sub
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.core.reasons import Param, Person, Reason, Term
from tocsin.core.validation.inputs import NightHours
from tocsin.oncall import reasons
from tocsin.oncall.calculation import final_schedule, weekly_windows
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCall, OnCallResolver, Timeline
from tocsin.oncall.calculation.schedules import later, sooner

COVERAGE_HORIZON = timedelta(days=60)


class CoverageFindingKind(StrEnum):
    #: Nobody has a role that some shift assigns.
    GAP = "gap"
    #: A user on call is absent, and nobody covers.
    ABSENT = "absent"
    #: A user on call has no usable contact method.
    UNREACHABLE = "unreachable"
    #: A shift or an override names a deactivated or deleted user.
    DEACTIVATED_USER = "departed"
    #: A shift never has an effect, because another takes precedence whenever it is on.
    HIDDEN = "hidden"
    #: One user has two roles at once: if they do not answer, the next step pages them again.
    DOUBLE_ROLE = "twice"
    #: No shift is on, so the group's own order applies.
    NO_SHIFT = "no_shift"

    @property
    def is_note(self) -> bool:
        """Whether it may well be intended."""
        return self is CoverageFindingKind.NO_SHIFT


@dataclass(frozen=True, slots=True)
class CoverageFinding:
    """A problem: its first occurrence (`until` None: no known end), and the number of occurrences."""

    kind: CoverageFindingKind
    #: Without times.
    reason: Reason
    since: datetime | None = None
    until: datetime | None = None
    occurrence_count: int = 1
    role: MemberRole | None = None
    user_id: int | None = None
    schedule: str = ""
    shift: str = ""


@dataclass(frozen=True, slots=True)
class DoubleRole:
    """A period in which one user has two roles of a group; an end of None is not known."""

    user_id: int
    name: str
    roles: tuple[MemberRole, MemberRole]
    since: datetime | None
    until: datetime | None


def findings(
    plan: GroupPlan, reachable: Collection[int], since: datetime, until: datetime, timeline: Timeline | None = None
) -> tuple[CoverageFinding, ...]:
    """Returns the problems from `since` to `until`, the most severe first.

    `reachable` contains every user with a usable contact method. `timeline` is that of the range, if already
    calculated. A group without a schedule has no problems.
    """
    if not plan.schedules:
        return ()
    checked = timeline or final_schedule.timeline(plan, since, until)
    all_findings = [
        *_gaps(plan, checked),
        *_absent_and_unreachable(plan, checked, reachable),
        *_departed(plan, since),
        *_ineffective_overrides(plan, since, until),
        *_hidden(checked),
        *_double_roles(plan, checked),
        *_no_shift(plan, checked),
    ]
    order = list(CoverageFindingKind)
    return tuple(sorted(all_findings, key=lambda finding: order.index(finding.kind)))


def _gaps(plan: GroupPlan, timeline: Timeline) -> Iterator[CoverageFinding]:
    for role in MemberRole:
        gaps = [gap for gap in timeline.gaps if gap.role is role]
        for gap in gaps:
            reason = reasons.GAP(role=Term(role), group=plan.name)
            yield CoverageFinding(CoverageFindingKind.GAP, reason, gap.since, gap.until, len(gaps), role)


def _absent_and_unreachable(
    plan: GroupPlan, timeline: Timeline, reachable: Collection[int]
) -> Iterator[CoverageFinding]:
    absent = [segment for segment in timeline.segments if segment.is_absent]
    counts = Counter((segment.user_id, segment.role) for segment in absent)
    for user_id, role in counts:
        for segment in absent:
            if (segment.user_id, segment.role) == (user_id, role):
                reason = reasons.ABSENT(user=_person(segment), role=Term(role), group=plan.name)
                found = _finding_of(CoverageFindingKind.ABSENT, reason, [segment])
                yield replace(found, occurrence_count=counts[user_id, role])
    for user_id in dict.fromkeys(segment.user_id for segment in timeline.segments):
        if user_id not in reachable:
            user_segments = [segment for segment in timeline.segments if segment.user_id == user_id]
            reason = reasons.UNREACHABLE(user=_person(user_segments[0]), group=plan.name)
            yield _finding_of(CoverageFindingKind.UNREACHABLE, reason, user_segments)


def _departed(plan: GroupPlan, since: datetime) -> Iterator[CoverageFinding]:
    for schedule in plan.schedules:
        for shift in schedule.shifts:
            if shift.end is not None and shift.end <= since:
                continue
            place: dict[str, Any] = {"schedule": schedule.name, "shift": shift.name}
            for user_id in shift.users:
                if not plan.is_active_user(user_id):
                    reason = reasons.SHIFT_OF_DEACTIVATED(user=plan.person(user_id), **place)
                    yield CoverageFinding(CoverageFindingKind.DEACTIVATED_USER, reason, user_id=user_id, **place)


def _ineffective_overrides(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[CoverageFinding]:
    """Yields the overrides in the range without effect, because the replacing user was deactivated since."""
    for schedule in plan.schedules:
        for override in schedule.overrides:
            if override.ends_at > since and override.starts_at < until and not plan.is_active_user(override.user_id):
                params: dict[str, Param] = {"schedule": schedule.name, "user": plan.person(override.user_id)}
                reason = reasons.OVERRIDE_OF_DEACTIVATED(**params)
                if override.name:
                    reason = reasons.NAMED_OVERRIDE_OF_DEACTIVATED(name=override.name, **params)
                yield CoverageFinding(
                    CoverageFindingKind.DEACTIVATED_USER, reason, override.starts_at, override.ends_at, 1,
                    override.role, override.user_id, schedule.name, override.shift,
                )  # fmt: skip


def _hidden(timeline: Timeline) -> Iterator[CoverageFinding]:
    for key in dict.fromkeys((segment.schedule, segment.shift) for segment in timeline.layer_segments):
        segments = [segment for segment in timeline.layer_segments if (segment.schedule, segment.shift) == key]
        if all(segment.hidden_by.code == reasons.SHIFT.code for segment in segments):
            (schedule, shift), first = key, segments[0]
            reason = reasons.HIDDEN(shift=shift, schedule=schedule, other=first.hidden_by)
            yield CoverageFinding(
                CoverageFindingKind.HIDDEN, reason, first.since, segments[-1].until, len(segments), first.role,
                schedule=schedule, shift=shift,
            )  # fmt: skip


def _double_roles(plan: GroupPlan, timeline: Timeline) -> Iterator[CoverageFinding]:
    doubles = double_roles(timeline)
    for first, second in combinations(MemberRole, 2):
        if both := [double for double in doubles if double.roles == (first, second)]:
            one = both[0]
            user = Person(one.name, one.user_id)
            reason = reasons.DOUBLE_ROLE(user=user, first=Term(first), second=Term(second), group=plan.name)
            yield CoverageFinding(
                CoverageFindingKind.DOUBLE_ROLE, reason, one.since, one.until, len(both), second, one.user_id
            )


def counted(timeline: Timeline) -> list[OnCall]:
    """Returns who is paged: everybody by shifts and overrides; of the group's own order only the first member, and no
    lead."""
    segments: list[OnCall] = []
    first_by_order: list[OnCall] = []
    for segment in timeline.segments:
        if not segment.schedule:
            is_first = not any(segment.role is one.role and overlap_in_time(segment, one) for one in first_by_order)
            if segment.role is MemberRole.LEAD or not is_first:
                continue
            first_by_order.append(segment)
        segments.append(segment)
    return segments


def double_roles(timeline: Timeline) -> tuple[DoubleRole, ...]:
    """Returns the periods in which a user who counts has two roles at once, by start."""
    by_user: dict[int, list[OnCall]] = {}
    for segment in counted(timeline):
        by_user.setdefault(segment.user_id, []).append(segment)
    order = list(MemberRole)
    doubles = [
        DoubleRole(
            one.user_id, one.name, (one.role, other.role), later(one.since, other.since),
            sooner(one.until, other.until),
        )
        for segments in by_user.values()
        for one in segments
        for other in segments
        if order.index(one.role) < order.index(other.role) and overlap_in_time(one, other)
    ]  # fmt: skip
    return tuple(sorted(doubles, key=lambda double: double.since or timeline.since))


class _Period(Protocol):
    """A period with ends that may be unknown."""

    @property
    def since(self) -> datetime | None: ...

    @property
    def until(self) -> datetime | None: ...


def overlap_in_time(one: _Period, other: _Period) -> bool:
    return all(
        since is None or until is None or since < until
        for since, until in ((one.since, other.until), (other.since, one.until))
    )


def _no_shift(plan: GroupPlan, timeline: Timeline) -> Iterator[CoverageFinding]:
    scheduled = OnCallResolver(plan).scheduled
    for role in MemberRole:
        segments = [s for s in timeline.segments if s.role is role and not s.schedule and role in scheduled]
        if segments:
            users = tuple(dict.fromkeys(_person(segment) for segment in segments))
            reason = reasons.NO_SHIFT(role=Term(role), group=plan.name, users=users)
            yield _finding_of(CoverageFindingKind.NO_SHIFT, reason, segments)


def _person(segment: OnCall) -> Person:
    return Person(segment.name, segment.user_id)


def _finding_of(kind: CoverageFindingKind, reason: Reason, segments: Sequence[OnCall]) -> CoverageFinding:
    first = segments[0]
    user = first.user_id if kind is not CoverageFindingKind.NO_SHIFT else None
    return CoverageFinding(
        kind, reason, first.since, first.until, len(segments), first.role, user, first.schedule, first.shift
    )


def problems(candidates: Iterable[CoverageFinding]) -> tuple[CoverageFinding, ...]:
    """Returns only those that are unlikely to be intended."""
    return tuple(finding for finding in candidates if not finding.kind.is_note)


def first_of_each(candidates: Iterable[CoverageFinding]) -> tuple[CoverageFinding, ...]:
    """Returns only the first of recurring problems, each of which has the number of its occurrences."""
    first_by_key: dict[object, CoverageFinding] = {}
    for finding in candidates:
        # An absent user is absent from every shift, so that counts as one problem.
        shift = () if finding.kind is CoverageFindingKind.ABSENT else (finding.schedule, finding.shift)
        first_by_key.setdefault((finding.kind, finding.role, finding.user_id, shift), finding)
    return tuple(first_by_key.values())


# ---------- workload
# How much each user is on call, and how far that is from an even share within each group. Pure.
# The time is what the calendar of the month shows: roles that a schedule assigns in the period, including the members
# who are on call by the group's own order while no shift is on. Time in several roles of a group counts once; time in
# several groups counts once for each group. Nights and weekends are those of the user's time zone.


_DAY = timedelta(days=1)
_NOTHING = timedelta()
_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class OnCallTime:
    """Time on call, and the parts of it at night, on Saturdays and Sundays, and on holidays of the group."""

    total: timedelta = _NOTHING
    night: timedelta = _NOTHING
    weekend: timedelta = _NOTHING
    holiday: timedelta = _NOTHING

    def __add__(self, other: OnCallTime) -> OnCallTime:
        return OnCallTime(*map(add, astuple(self), astuple(other)))

    def __sub__(self, other: OnCallTime) -> OnCallTime:
        return OnCallTime(*map(sub, astuple(self), astuple(other)))

    def __truediv__(self, count: int) -> OnCallTime:
        return OnCallTime(*(part / count for part in astuple(self)))


@dataclass(frozen=True, slots=True)
class Workload:
    """One user's time on call, and the even share: the time of each of their groups, divided by the users of its shifts
    and its order. A user who only replaces others has no share."""

    user_id: int
    name: str
    time: OnCallTime
    even_share: OnCallTime

    @property
    def difference(self) -> OnCallTime:
        """What the user has above the even share; negative below it."""
        return self.time - self.even_share


def workloads(
    plans: Iterable[GroupPlan],
    since: datetime,
    until: datetime,
    night: NightHours,
    zones: Mapping[int, ZoneInfo],
    role: MemberRole | None = None,
) -> tuple[Workload, ...]:
    """Returns everybody's workload from `since` to `until`, the highest first.

    That is each user who is on call, and each active user whom a shift of the period names. `zones` are the users' time
    zones by id. With a role only time in it counts.
    """
    loads: dict[int, Workload] = {}
    for plan in plans:
        segments = _segments(plan, since, until, role)
        periods = _periods(segments, since, until)
        regular_ids = {one.user_id for one in segments if not one.schedule} | _shift_users(plan, since, until, role)
        # Where only overrides and covers assign anybody, those users share the time.
        sharing_ids = regular_ids or periods.keys()
        user_ids = periods.keys() | regular_ids
        times = {user_id: _time(plan, periods.get(user_id, ()), night, zones.get(user_id)) for user_id in user_ids}
        share = sum(times.values(), OnCallTime()) / max(len(sharing_ids), 1)
        for user_id, time in times.items():
            other = loads.get(user_id, Workload(user_id, plan.name_of(user_id), OnCallTime(), OnCallTime()))
            own_share = other.even_share + share if user_id in sharing_ids else other.even_share
            loads[user_id] = Workload(user_id, other.name, other.time + time, own_share)
    return tuple(sorted(loads.values(), key=lambda load: (-load.time.total, load.name.casefold(), load.user_id)))


def _segments(plan: GroupPlan, since: datetime, until: datetime, role: MemberRole | None) -> list[OnCall]:
    timeline = final_schedule.timeline(plan, since, until)
    roles = timeline.scheduled_roles if role is None else timeline.scheduled_roles & {role}
    return [segment for segment in timeline.segments if segment.role in roles]


def _periods(
    segments: Iterable[OnCall], since: datetime, until: datetime
) -> dict[int, list[tuple[datetime, datetime]]]:
    """Returns when each user is on call, without overlaps."""
    periods: dict[int, list[tuple[datetime, datetime]]] = {}
    spans = [(max(one.since or since, since), min(one.until or until, until), one.user_id) for one in segments]
    for begin, end, user_id in sorted(spans):
        own = periods.setdefault(user_id, [])
        if own and begin <= own[-1][1]:
            own[-1] = own[-1][0], max(own[-1][1], end)
        else:
            own.append((begin, end))
    return periods


def _shift_users(plan: GroupPlan, since: datetime, until: datetime, role: MemberRole | None) -> set[int]:
    """Returns the active users whom a shift of the period names."""
    roles = OnCallResolver(plan).roles
    return {
        user_id
        for schedule in plan.schedules
        for shift, shift_roles in zip(schedule.shifts, roles[schedule.name], strict=True)
        if (shift.start is None or shift.start < until)
        and (shift.end is None or shift.end > since)
        and (role is None or role in shift_roles)
        for user_id in shift.users
        if plan.is_active_user(user_id)
    }


def _time(
    plan: GroupPlan, periods: Iterable[tuple[datetime, datetime]], night: NightHours, zone: ZoneInfo | None
) -> OnCallTime:
    parts = (_daily_parts(plan, begin, end, night, zone or ZoneInfo("UTC")) for begin, end in periods)
    return sum(chain.from_iterable(parts), OnCallTime())


def _daily_parts(
    plan: GroupPlan, begin: datetime, end: datetime, night: NightHours, zone: ZoneInfo
) -> Iterator[OnCallTime]:
    """Yields the time on each local day of a period. A night belongs to the day on which it begins."""
    # The night that began on the day before may still last.
    day = begin.astimezone(zone).date() - _DAY
    while (midnight := weekly_windows.midnight(day, zone)) < end:
        tomorrow = day + _DAY
        next_midnight = weekly_windows.midnight(tomorrow, zone)
        # A day that the zone skipped has no length, and no night.
        if midnight < next_midnight:
            total = _overlap(begin, end, midnight, next_midnight)
            night_end = datetime.combine(day if night.start < night.end else tomorrow, night.end)
            night_start = weekly_windows.instant(datetime.combine(day, night.start), zone)
            yield OnCallTime(
                total,
                _overlap(begin, end, night_start, weekly_windows.instant(night_end, zone)),
                total if day.weekday() >= _SATURDAY else _NOTHING,
                total if plan.holiday_on(day) else _NOTHING,
            )
        day = tomorrow


def _overlap(begin: datetime, end: datetime, since: datetime, until: datetime) -> timedelta:
    # In UTC, since a difference within one zone ignores a change of its clocks.
    return max(_NOTHING, min(end, until).astimezone(UTC) - max(begin, since).astimezone(UTC))
