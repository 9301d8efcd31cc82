"""Resolves who is on call by an imported schedule, without storing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.oncall.calculation import final_schedule, schedules
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCallResolver, SnapshotUser
from tocsin.oncall.calculation.schedules import CompiledOverride
from tocsin.oncall.changes import specs

type Names = frozenset[str]


def on_call(entry: Mapping[str, Any]) -> Callable[[datetime], Names]:
    """Asks a schedule in YAML who is on call at a moment."""
    read = specs.read_schedule(dict(entry))
    named = {user for shift in read.shifts for user in shift.users} | {o.user for o in read.overrides or ()}
    ids = {name: number for number, name in enumerate(sorted(named), 1)}
    names = {number: name for name, number in ids.items()}
    overrides = [
        CompiledOverride(
            number,
            one.name,
            ids[one.user],
            one.starts_at,
            one.ends_at,
            one.shift,
            MemberRole(one.role) if one.role else None,
        )
        for number, one in enumerate(read.overrides or (), 1)
    ]
    stored = {"shifts": [shift.stored([ids[user] for user in shift.users]) for shift in read.shifts]}
    schedule = schedules.load(read.name, read.time_zone or "UTC", stored, overrides=overrides)
    plan = GroupPlan(1, "Group", (), (schedule,), {number: SnapshotUser(name) for number, name in names.items()})
    verdicts, requested_count = OnCallResolver(plan), count()

    def at(moment: datetime) -> Names:
        results = frozenset(
            names[claim.user_id]
            for role_assignment in verdicts.at(moment).values()
            for claim in role_assignment.assignments
        )
        if next(requested_count) % 40 == 0:  # since when and until when is slow to find, and beside the point
            assert results == frozenset(names[person.user_id] for person in final_schedule.on_call(plan, moment))
        return results

    return at


def moments(since: datetime, days: int, minutes: int = 30) -> Iterator[datetime]:
    """Every so many minutes, and a minute before each, so that both sides of an edge are looked at."""
    for number in range(days * 24 * 60 // minutes):
        at = since + timedelta(minutes=minutes * number)
        yield at - timedelta(minutes=1)
        yield at


def local(at: datetime, zone: str) -> datetime:
    """The time on the wall."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
