"""Stretches in which a schedule leaves a role to nobody. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.oncall.schedules import Schedule
from tocsin.people.members import MemberRole

#: How exactly the end of a gap is found; its beginning is exact.
STEP = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Gap:
    """Nobody has `role` from `since` until `until`, which may be the end of what was looked at."""

    role: MemberRole
    since: datetime
    until: datetime


def gaps(
    schedules: Sequence[Schedule], active: Collection[int], since: datetime, until: datetime
) -> dict[MemberRole, tuple[Gap, ...]]:
    """For each role that a group's schedules decide about, when none of the active users has it, oldest first."""
    roles = {role for schedule in schedules for role in schedule.roles}
    return {role: tuple(_of_role(role, schedules, active, since, until)) for role in MemberRole if role in roles}


def _of_role(
    role: MemberRole, schedules: Sequence[Schedule], active: Collection[int], since: datetime, until: datetime
) -> list[Gap]:
    found: list[Gap] = []
    at, began = since, None
    while at < until:
        covered = _covered_until(role, schedules, active, at)
        if covered is None:
            began = began or at
            at = min(at + STEP, until)
            continue
        if began is not None:
            found.append(Gap(role, began, at))
            began = None
        at = covered
    if began is not None:
        found.append(Gap(role, began, until))
    return found


def _covered_until(
    role: MemberRole, schedules: Sequence[Schedule], active: Collection[int], at: datetime
) -> datetime | None:
    """Until when somebody who has the role at `at` has it; None when nobody does."""
    turns = [turn for schedule in schedules for turn in schedule.turns(at)]
    return max((turn.until for turn in turns if turn.role is role and turn.user_id in active), default=None)
