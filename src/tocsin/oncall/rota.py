"""Who is on call in a group at an instant, and why. Pure: members come in, nothing is looked up.

While a group has no schedule, the holders of each role count as on call, in the group's order, at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tocsin.people.members import MemberRole


@dataclass(frozen=True, slots=True)
class Member:
    """A user's place in a group: who, with what roles, where in the order (lower is called sooner)."""

    user_id: int
    #: The name to show.
    name: str
    roles: frozenset[MemberRole]
    position: int = 0
    #: Somebody who is switched off is never called.
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class OnCall:
    """One person on call: in what role, since and until when (None: no end known), and why, as a sentence."""

    role: MemberRole
    user_id: int
    name: str
    reason: str
    since: datetime | None = None
    until: datetime | None = None


def on_call(group: str, members: Iterable[Member], at: datetime) -> tuple[OnCall, ...]:
    """Who is on call in the group named `group` at `at`: roles in order, people in the order they would be called.

    Somebody with several roles comes once for each.
    """
    del at  # without a schedule the answer is the same at any time
    ordered = sorted((member for member in members if member.is_active), key=lambda member: member.position)
    return tuple(
        OnCall(role, member.user_id, member.name, f"{role} of {group}; the group has no schedule")
        for role in MemberRole
        for member in ordered
        if role in member.roles
    )


def by_role(people: Iterable[OnCall]) -> Mapping[MemberRole, tuple[OnCall, ...]]:
    """The same people, by role; a role that nobody has is absent."""
    found: dict[MemberRole, list[OnCall]] = {}
    for person in people:
        found.setdefault(person.role, []).append(person)
    return {role: tuple(entries) for role, entries in found.items()}
