"""The data that decides who is on call in a group: members, schedules, absences, and the names of all users. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from tocsin.core.reasons import Person
from tocsin.oncall.calculation.schedules import CompiledSchedule
from tocsin.people.member_roles import MemberRole


@dataclass(frozen=True, slots=True)
class SnapshotMember:
    """A member of a group: user, roles and position (lower is paged earlier)."""

    user_id: int
    #: The display name.
    name: str
    roles: frozenset[MemberRole]
    position: int = 0
    #: A deactivated user is never paged.
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class SnapshotUser:
    """A user named in a schedule, an override or an absence. A deactivated user is never paged."""

    name: str
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Absence:
    """The absence of a user, and who covers: by group id in `covers`, and `cover` in all other groups."""

    user_id: int
    starts_at: datetime
    ends_at: datetime
    cover_id: int | None = None
    cover_ids_by_group: Mapping[int, int] = field(default_factory=dict)

    def cover_ids_in(self, group_id: int) -> tuple[int, ...]:
        """Returns who covers in that group, by precedence. The first active user applies."""
        return tuple(cover for cover in (self.cover_ids_by_group.get(group_id), self.cover_id) if cover is not None)


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """All data that decides who is on call in one group. Loaded by `oncall.loader.plans`."""

    id: int
    name: str
    members: tuple[SnapshotMember, ...] = ()
    #: By name.
    schedules: tuple[CompiledSchedule, ...] = ()
    #: Every user named in this data, by id. A missing user is deleted.
    users: Mapping[int, SnapshotUser] = field(default_factory=dict)
    absences: tuple[Absence, ...] = ()

    def is_active_user(self, user_id: int) -> bool:
        """Returns whether the user exists and is active."""
        person = self.users.get(user_id)
        return person is not None and person.is_active

    def cover_of(self, absence: Absence) -> int | None:
        """Returns the user who covers for this absence here, or None."""
        return next((cover for cover in absence.cover_ids_in(self.id) if self.is_active_user(cover)), None)

    def name_of(self, user_id: int) -> str:
        """Returns the user's name, or a phrase for a deleted user."""
        person = self.users.get(user_id)
        return person.name if person else "a deleted user"

    def holiday_on(self, day: date) -> str:
        """Returns the name of a holiday on that day that any of the schedules observes, or ""."""
        calendars = {c.name: c for schedule in self.schedules for shift in schedule.shifts for c in shift.calendars}
        return next((name for calendar in calendars.values() if (name := calendar.holiday_on(day))), "")

    def person(self, user_id: int) -> Person:
        """Returns the user, for a reason."""
        return Person(self.name_of(user_id), user_id)
