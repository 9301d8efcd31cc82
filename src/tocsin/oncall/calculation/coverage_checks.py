"""Finds coverage problems in a group: gaps, users who cannot be paged, and shifts that never count. Pure.

Users are deactivated, absent without cover, or without a usable contact method. Used by `tocsin doctor`, the API, the
home page, the schedule's page and the weekly e-mail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations

from tocsin.core.reasons import Person, Reason, Term
from tocsin.oncall import reasons
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall, Timeline
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.calculation.resolver import OnCallResolver
from tocsin.people.member_roles import MemberRole

#: How far ahead coverage is checked.
COVERAGE_HORIZON = timedelta(days=60)


class CoverageFindingKind(StrEnum):
    """The kind of a problem."""

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
    plan: GroupPlan,
    reachable: Collection[int],
    since: datetime,
    until: datetime,
    timeline: Timeline | None = None,
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
    for user_id, role in dict.fromkeys((segment.user_id, segment.role) for segment in absent):
        user_segments = [segment for segment in absent if (segment.user_id, segment.role) == (user_id, role)]
        reason = reasons.ABSENT(user=_person(user_segments[0]), role=Term(role), group=plan.name)
        yield from (
            replace(_finding_of(CoverageFindingKind.ABSENT, reason, [segment]), occurrence_count=len(user_segments))
            for segment in user_segments
        )
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
            for user_id in shift.users:
                if not plan.is_active_user(user_id):
                    yield CoverageFinding(
                        CoverageFindingKind.DEACTIVATED_USER,
                        reasons.SHIFT_OF_DEACTIVATED(
                            shift=shift.name, schedule=schedule.name, user=plan.person(user_id)
                        ),
                        user_id=user_id,
                        schedule=schedule.name,
                        shift=shift.name,
                    )


def _ineffective_overrides(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[CoverageFinding]:
    """Yields the overrides in the range without effect, because the replacing user was deactivated since."""
    for schedule in plan.schedules:
        for override in schedule.overrides:
            if override.ends_at > since and override.starts_at < until and not plan.is_active_user(override.user_id):
                user = plan.person(override.user_id)
                reason = reasons.OVERRIDE_OF_DEACTIVATED(schedule=schedule.name, user=user)
                if override.name:
                    reason = reasons.NAMED_OVERRIDE_OF_DEACTIVATED(
                        name=override.name, schedule=schedule.name, user=user
                    )
                yield CoverageFinding(
                    CoverageFindingKind.DEACTIVATED_USER,
                    reason,
                    override.starts_at,
                    override.ends_at,
                    role=override.role,
                    user_id=override.user_id,
                    schedule=schedule.name,
                    shift=override.shift,
                )


def _hidden(timeline: Timeline) -> Iterator[CoverageFinding]:
    for key in dict.fromkeys((segment.schedule, segment.shift) for segment in timeline.layer_segments):
        segments = [segment for segment in timeline.layer_segments if (segment.schedule, segment.shift) == key]
        if all(segment.hidden_by.code == reasons.SHIFT.code for segment in segments):
            schedule, shift = key
            yield CoverageFinding(
                CoverageFindingKind.HIDDEN,
                reasons.HIDDEN(shift=shift, schedule=schedule, other=segments[0].hidden_by),
                segments[0].since,
                segments[-1].until,
                len(segments),
                segments[0].role,
                schedule=schedule,
                shift=shift,
            )


def _double_roles(plan: GroupPlan, timeline: Timeline) -> Iterator[CoverageFinding]:
    doubles = double_roles(timeline)
    for first, second in combinations(MemberRole, 2):
        both = [double for double in doubles if double.roles == (first, second)]
        if both:
            user = Person(both[0].name, both[0].user_id)
            reason = reasons.DOUBLE_ROLE(user=user, first=Term(first), second=Term(second), group=plan.name)
            yield CoverageFinding(
                CoverageFindingKind.DOUBLE_ROLE,
                reason,
                both[0].since,
                both[0].until,
                len(both),
                second,
                user_id=user.user_id,
            )


def double_roles(timeline: Timeline) -> tuple[DoubleRole, ...]:
    """Returns the periods in which a user has two roles at once, by start: through shifts, overrides, or the group's
    own order, of which only the first member counts, who is the one to be paged, and no manager."""
    scheduled: dict[int, list[OnCall]] = {}
    first_by_order: list[OnCall] = []
    for segment in timeline.segments:
        if not segment.schedule:
            if segment.role is MemberRole.MANAGER or any(_meet(segment, one) for one in first_by_order):
                continue
            first_by_order.append(segment)
        scheduled.setdefault(segment.user_id, []).append(segment)
    order = list(MemberRole)
    doubles = [
        DoubleRole(
            one.user_id, one.name, (one.role, other.role), _latest(one.since, other.since),
            _earliest(one.until, other.until),
        )
        for segments in scheduled.values()
        for one in segments
        for other in segments
        if order.index(one.role) < order.index(other.role)
        and _is_before(one.since, other.until)
        and _is_before(other.since, one.until)
    ]  # fmt: skip
    return tuple(sorted(doubles, key=lambda double: double.since or timeline.since))


def _meet(one: OnCall, other: OnCall) -> bool:
    return one.role is other.role and _is_before(one.since, other.until) and _is_before(other.since, one.until)


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


def _is_before(one: datetime | None, other: datetime | None) -> bool:
    return one is None or other is None or one < other


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


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
