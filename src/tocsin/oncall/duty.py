"""Who is on call in a group at an instant, by its schedules and its role holders together, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tocsin.oncall import rota
from tocsin.oncall.rota import Member, OnCall
from tocsin.oncall.schedules import Schedule
from tocsin.people.members import MemberRole


def on_call(
    group: str,
    members: Iterable[Member],
    schedules: Sequence[Schedule],
    people: Mapping[int, str],
    at: datetime,
) -> tuple[OnCall, ...]:
    """Who is on call in the group named `group` at `at`: roles in order, people in the order they would be called.

    A role that any of its schedules names is decided by the schedules alone; the others are held by whoever has them
    in the group. `people` has the names of the active users by id: nobody else is called.
    """
    scheduled = frozenset(role for schedule in schedules for role in schedule.roles)
    found = [*_by_schedule(schedules, people, at), *_by_role(group, members, scheduled, at)]
    # Each once in a role: by the first schedule and shift that names them.
    first: dict[tuple[MemberRole, int], OnCall] = {}
    for person in found:
        first.setdefault((person.role, person.user_id), person)
    return tuple(person for role in MemberRole for person in first.values() if person.role is role)


def _by_schedule(schedules: Sequence[Schedule], people: Mapping[int, str], at: datetime) -> Iterable[OnCall]:
    for schedule in schedules:
        for turn in schedule.turns(at):
            if turn.user_id in people:
                reason = f"shift {turn.shift} of {schedule.name}"
                yield OnCall(turn.role, turn.user_id, people[turn.user_id], reason, turn.since, turn.until)


def _by_role(group: str, members: Iterable[Member], scheduled: frozenset[MemberRole], at: datetime) -> Iterable[OnCall]:
    for person in rota.on_call(group, members, at):
        if person.role not in scheduled:
            yield replace(person, reason=f"{person.role} of {group}; no shift has this role") if scheduled else person
