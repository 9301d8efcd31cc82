"""What a policy would do if an alert opened now and nobody answered: each step with real names. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core import database
from tocsin.escalation import rosters
from tocsin.escalation.policy import PolicyPlan
from tocsin.escalation.targets import Choice, Roster, choose


@dataclass(frozen=True, slots=True)
class Shown:
    """One step: how long after the opening, whom it starts, and why somebody or nobody."""

    number: int
    after: timedelta
    #: (name, what they are: "secondary, Service Desk").
    people: Sequence[tuple[str, str]]
    contacts: Sequence[str]
    notes: Sequence[str]
    #: Nobody at all: the next step fires at once.
    is_empty: bool


def steps(
    plan: PolicyPlan, recipient_groups: tuple[int, ...], recipient_users: tuple[int, ...], now: datetime
) -> list[Shown]:
    """The steps of one pass, by who is on call when each would fire."""
    named_groups = {group for step in plan.steps for group in step.group_ids} | set(recipient_groups)
    named_users = {user for step in plan.steps for user in step.user_ids} | set(recipient_users)
    found = []
    busy: dict[int, datetime] = {}
    after = timedelta()
    for number, step in enumerate(plan.steps):
        after += step.after
        at = now + after
        with database.transaction() as connection:
            roster = rosters.load(connection, named_groups, named_users, at)
        choice = choose(
            step,
            roster,
            recipient_users=recipient_users if number == 0 else (),
            recipient_groups=recipient_groups,
            acted={},
            busy=busy,
            at=at,
        )
        for pick in choice.picks:
            busy[pick.user_id] = at + roster.people[pick.user_id].last
        found.append(_shown(number, after, choice, roster))
    return found


def _shown(number: int, after: timedelta, choice: Choice, roster: Roster) -> Shown:
    return Shown(
        number=number + 1,
        after=after,
        people=[(roster.name(pick.user_id), pick.label) for pick in choice.picks],
        contacts=[f"{contact.label}, {duty.name}" for duty, contact in choice.contacts],
        notes=choice.notes,
        is_empty=choice.is_empty,
    )
