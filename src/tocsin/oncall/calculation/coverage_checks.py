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
    DEPARTED = "departed"
    #: A shift never has an effect, because another takes precedence whenever it is on.
    HIDDEN = "hidden"
    #: One user has two roles at once: if they do not answer, the next step pages them again.
    TWICE = "twice"
    #: No shift is on, so the group's own order applies.
    NO_SHIFT = "no_shift"

    @property
    def is_note(self) -> bool:
        """Whether it may well be intended."""
        return self in (CoverageFindingKind.NO_SHIFT, CoverageFindingKind.TWICE)


@dataclass(frozen=True, slots=True)
class CoverageFinding:
    """A problem: its first occurrence (`until` None: no known end), and the number of occurrences."""

    kind: CoverageFindingKind
    #: A sentence without times.
    text: str
    since: datetime | None = None
    until: datetime | None = None
    times: int = 1
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
    drawn = timeline or final_schedule.timeline(plan, since, until)
    found = [
        *_gaps(plan, drawn),
        *_people(plan, drawn, reachable),
        *_departed(plan, since),
        *_without_stand_in(plan, since, until),
        *_hidden(drawn),
        *_twice(plan, drawn),
        *_no_shift(plan, drawn),
    ]
    order = list(CoverageFindingKind)
    return tuple(sorted(found, key=lambda finding: order.index(finding.kind)))


def _gaps(plan: GroupPlan, drawn: Timeline) -> Iterator[CoverageFinding]:
    for role in MemberRole:
        gaps = [gap for gap in drawn.gaps if gap.role is role]
        for gap in gaps:
            yield CoverageFinding(
                CoverageFindingKind.GAP, f"Nobody is {role} of {plan.name}.", gap.since, gap.until, len(gaps), role
            )


def _people(plan: GroupPlan, drawn: Timeline, reachable: Collection[int]) -> Iterator[CoverageFinding]:
    absent = [segment for segment in drawn.segments if segment.is_absent]
    for user_id, role in dict.fromkeys((segment.user_id, segment.role) for segment in absent):
        theirs = [segment for segment in absent if (segment.user_id, segment.role) == (user_id, role)]
        text = f"{theirs[0].name} is {role} of {plan.name} while out of office, and nobody covers."
        yield from (
            replace(_about(CoverageFindingKind.ABSENT, text, [segment]), times=len(theirs)) for segment in theirs
        )
    for user_id in dict.fromkeys(segment.user_id for segment in drawn.segments):
        if user_id not in reachable:
            theirs = [segment for segment in drawn.segments if segment.user_id == user_id]
            text = f"{theirs[0].name} is on call in {plan.name} and has no contact method that can be used."
            yield _about(CoverageFindingKind.UNREACHABLE, text, theirs)


def _departed(plan: GroupPlan, since: datetime) -> Iterator[CoverageFinding]:
    for schedule in plan.schedules:
        for shift in schedule.shifts:
            if shift.end is not None and shift.end <= since:
                continue
            for user_id in shift.users:
                if not plan.is_callable(user_id):
                    yield CoverageFinding(
                        CoverageFindingKind.DEPARTED,
                        f"Shift {shift.name} of {schedule.name} names {plan.name_of(user_id)}, who is switched off: "
                        "nobody calls them.",
                        user_id=user_id,
                        schedule=schedule.name,
                        shift=shift.name,
                    )


def _without_stand_in(plan: GroupPlan, since: datetime, until: datetime) -> Iterator[CoverageFinding]:
    """Yields the overrides in the range without effect, because the replacing user was deactivated since."""
    for schedule in plan.schedules:
        for override in schedule.overrides:
            if override.ends_at > since and override.starts_at < until and not plan.is_callable(override.user_id):
                who = plan.name_of(override.user_id)
                text = f"An override of {schedule.name} has {who} stand in, who is switched off: it does not count."
                if override.name:
                    text = text.replace("An override", f"Override {override.name}", 1)
                yield CoverageFinding(
                    CoverageFindingKind.DEPARTED,
                    text,
                    override.starts_at,
                    override.ends_at,
                    role=override.role,
                    user_id=override.user_id,
                    schedule=schedule.name,
                    shift=override.shift,
                )


def _hidden(drawn: Timeline) -> Iterator[CoverageFinding]:
    for key in dict.fromkeys((bar.schedule, bar.shift) for bar in drawn.bars):
        bars = [bar for bar in drawn.bars if (bar.schedule, bar.shift) == key]
        if all(bar.hidden_by.startswith("shift ") for bar in bars):
            schedule, shift = key
            text = f"Shift {shift} of {schedule} never counts: {bars[0].hidden_by} goes before it."
            yield CoverageFinding(
                CoverageFindingKind.HIDDEN,
                text,
                bars[0].since,
                bars[-1].until,
                len(bars),
                bars[0].role,
                schedule=schedule,
                shift=shift,
            )


def _twice(plan: GroupPlan, drawn: Timeline) -> Iterator[CoverageFinding]:
    for first, second in combinations(MemberRole, 2):
        both = list(_overlaps(drawn, first, second))
        if both:
            name, since, until = both[0]
            text = f"{name} is {first} and {second} of {plan.name} at once."
            yield CoverageFinding(CoverageFindingKind.TWICE, text, since, until, len(both), second)


def _overlaps(
    drawn: Timeline, first: MemberRole, second: MemberRole
) -> Iterator[tuple[str, datetime | None, datetime | None]]:
    """Yields the periods in which one user has both roles through shifts or overrides."""
    for one in drawn.segments:
        for other in drawn.segments:
            if (
                one.role is first
                and other.role is second
                and one.user_id == other.user_id
                and (one.schedule and other.schedule)
                and _is_before(one.since, other.until)
                and _is_before(other.since, one.until)
            ):
                yield one.name, _latest(one.since, other.since), other.until


def _no_shift(plan: GroupPlan, drawn: Timeline) -> Iterator[CoverageFinding]:
    scheduled = OnCallResolver(plan).scheduled
    for role in MemberRole:
        stretches = [s for s in drawn.segments if s.role is role and not s.schedule and role in scheduled]
        if stretches:
            names = ", ".join(dict.fromkeys(stretch.name for stretch in stretches))
            text = f"No shift is on for {role} of {plan.name}; in the group's own order it is {names}."
            yield _about(CoverageFindingKind.NO_SHIFT, text, stretches)


def _about(kind: CoverageFindingKind, text: str, segments: Sequence[OnCall]) -> CoverageFinding:
    first = segments[0]
    user = first.user_id if kind is not CoverageFindingKind.NO_SHIFT else None
    return CoverageFinding(
        kind, text, first.since, first.until, len(segments), first.role, user, first.schedule, first.shift
    )


def _is_before(one: datetime | None, other: datetime | None) -> bool:
    return one is None or other is None or one < other


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def problems(found: Iterable[CoverageFinding]) -> tuple[CoverageFinding, ...]:
    """Returns only those that are unlikely to be intended."""
    return tuple(finding for finding in found if not finding.kind.is_note)


def first_of_each(found: Iterable[CoverageFinding]) -> tuple[CoverageFinding, ...]:
    """Returns only the first of recurring problems, each of which has the number of its occurrences."""
    kept: dict[object, CoverageFinding] = {}
    for finding in found:
        # An absent user is absent from every shift, so that counts as one problem.
        shift = () if finding.kind is CoverageFindingKind.ABSENT else (finding.schedule, finding.shift)
        kept.setdefault((finding.kind, finding.role, finding.user_id, shift), finding)
    return tuple(kept.values())
