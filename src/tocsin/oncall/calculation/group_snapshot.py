"""What decides who is on call in one group: members, schedules, absences, and the names of everybody in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.oncall.calculation.schedules import CompiledSchedule
from tocsin.people.member_roles import MemberRole


@dataclass(frozen=True, slots=True)
class SnapshotMember:
    """A user's place in a group: who, with what roles, where in the order (lower is called sooner)."""

    user_id: int
    #: The name to show.
    name: str
    roles: frozenset[MemberRole]
    position: int = 0
    #: Somebody who is switched off is never called.
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class SnapshotUser:
    """Somebody whom a schedule, an override or an absence names. Who is switched off is never called."""

    name: str
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Absence:
    """A user away from `starts_at` to `ends_at`, and who covers: in single groups, by their ids, and in all others."""

    user_id: int
    starts_at: datetime
    ends_at: datetime
    cover: int | None = None
    covers: Mapping[int, int] = field(default_factory=dict)

    def covers_in(self, group_id: int) -> tuple[int, ...]:
        """Who covers in that group: the first of them who can be called."""
        return tuple(cover for cover in (self.covers.get(group_id), self.cover) if cover is not None)


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """All that decides who is on call in one group. Loaded by `lookup.plans`."""

    id: int
    name: str
    members: tuple[SnapshotMember, ...] = ()
    #: By name.
    schedules: tuple[CompiledSchedule, ...] = ()
    #: Everybody whom anything here names, by id; whoever is missing is gone.
    people: Mapping[int, SnapshotUser] = field(default_factory=dict)
    absences: tuple[Absence, ...] = ()

    def is_callable(self, user_id: int) -> bool:
        """Whether there is such a user, not switched off."""
        person = self.people.get(user_id)
        return person is not None and person.is_active

    def cover_of(self, absence: Absence) -> int | None:
        """Who covers for them here, or None."""
        return next((cover for cover in absence.covers_in(self.id) if self.is_callable(cover)), None)

    def name_of(self, user_id: int) -> str:
        """Their name, or words for somebody who is gone."""
        person = self.people.get(user_id)
        return person.name if person else "somebody who is gone"
