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
        return self in (CoverageFindingKind.NO_SHIFT, CoverageFindingKind.DOUBLE_ROLE)


@dataclass(frozen=True, slots=True)
class CoverageFinding:
    """A problem: its first occurrence (`until` None: no known end), and the number of occurrences."""

    kind: CoverageFindingKind
    #: A sentence without times.
    text: str
    since: datetime | None = None
    until: datetime | None = None
    occurrence_count: int = 1
    role: MemberRole | None = None
    user_id: int | None = None
    schedule: str = ""
    shift: str = ""


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
            yield CoverageFinding(
                CoverageFindingKind.GAP, f"Nobody is {role} of {plan.name}.", gap.since, gap.until, len(gaps), role
            )


def _absent_and_unreachable(
    plan: GroupPlan, timeline: Timeline, reachable: Collection[int]
) -> Iterator[CoverageFinding]:
    absent = [segment for segment in timeline.segments if segment.is_absent]
    for user_id, role in dict.fromkeys((segment.user_id, segment.role) for segment in absent):
        user_segments = [segment for segment in absent if (segment.user_id, segment.role) == (user_id, role)]
        text = f"{user_segments[0].name} is {role} of {plan.name} while out of office, and nobody covers."
        yield from (
            replace(_finding_of(CoverageFindingKind.ABSENT, text, [segment]), occurrence_count=len(user_segments))
            for segment in user_segments
        )
    for user_id in dict.fromkeys(segment.user_id for segment in timeline.segments):
        if user_id not in reachable:
            user_segments = [segment for segment in timeline.segments if segment.user_id == user_id]
            text = f"{user_segments[0].name} is on call in {plan.name} and has no contact method that can be used."
            yield _finding_of(CoverageFindingKind.UNREACHABLE, text, user_segments)


def _departed(plan: GroupPlan, since: datetime) -> Iterator[CoverageFinding]:
    for schedule in plan.schedules:
        for shift in schedule.shifts:
            if shift.end is not None and shift.end <= since:
                continue
            for user_id in shift.users:
                if not plan.is_active_user(user_id):
                    yield CoverageFinding(
                        CoverageFindingKind.DEACTIVATED_USER,
                        f"Shift {shift.name} of {schedule.name} names {plan.name_of(user_id)}, who is switched off: "
                        "nobody calls them.",
                        user_id=user_id,
                        schedule=schedule.name,
                        shift=shift.name,
                    )


def _ineffective_overrides(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[CoverageFinding]:
    """Yields the overrides in the range without effect, because the replacing user was deactivated since."""
    for schedule in plan.schedules:
        for override in schedule.overrides:
            if override.ends_at > since and override.starts_at < until and not plan.is_active_user(override.user_id):
                user_name = plan.name_of(override.user_id)
                text = (
                    f"An override of {schedule.name} has {user_name} stand in, who is switched off: it does not count."
                )
                if override.name:
                    text = text.replace("An override", f"Override {override.name}", 1)
                yield CoverageFinding(
                    CoverageFindingKind.DEACTIVATED_USER,
                    text,
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
        if all(segment.hidden_by.startswith("shift ") for segment in segments):
            schedule, shift = key
            text = f"Shift {shift} of {schedule} never counts: {segments[0].hidden_by} goes before it."
            yield CoverageFinding(
                CoverageFindingKind.HIDDEN,
                text,
                segments[0].since,
                segments[-1].until,
                len(segments),
                segments[0].role,
                schedule=schedule,
                shift=shift,
            )


def _double_roles(plan: GroupPlan, timeline: Timeline) -> Iterator[CoverageFinding]:
    for first, second in combinations(MemberRole, 2):
        both = list(_overlaps(timeline, first, second))
        if both:
            name, since, until = both[0]
            text = f"{name} is {first} and {second} of {plan.name} at once."
            yield CoverageFinding(CoverageFindingKind.DOUBLE_ROLE, text, since, until, len(both), second)


def _overlaps(
    timeline: Timeline, first: MemberRole, second: MemberRole
) -> Iterator[tuple[str, datetime | None, datetime | None]]:
    """Yields the periods in which one user has both roles through shifts or overrides."""
    for one in timeline.segments:
        for other in timeline.segments:
            if (
                one.role is first
                and other.role is second
                and one.user_id == other.user_id
                and (one.schedule and other.schedule)
                and _is_before(one.since, other.until)
                and _is_before(other.since, one.until)
            ):
                yield one.name, _latest(one.since, other.since), other.until


def _no_shift(plan: GroupPlan, timeline: Timeline) -> Iterator[CoverageFinding]:
    scheduled = OnCallResolver(plan).scheduled
    for role in MemberRole:
        segments = [s for s in timeline.segments if s.role is role and not s.schedule and role in scheduled]
        if segments:
            names = ", ".join(dict.fromkeys(segment.name for segment in segments))
            text = f"No shift is on for {role} of {plan.name}; in the group's own order it is {names}."
            yield _finding_of(CoverageFindingKind.NO_SHIFT, text, segments)


def _finding_of(kind: CoverageFindingKind, text: str, segments: Sequence[OnCall]) -> CoverageFinding:
    first = segments[0]
    user = first.user_id if kind is not CoverageFindingKind.NO_SHIFT else None
    return CoverageFinding(
        kind, text, first.since, first.until, len(segments), first.role, user, first.schedule, first.shift
    )


def _is_before(one: datetime | None, other: datetime | None) -> bool:
    return one is None or other is None or one < other


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


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
