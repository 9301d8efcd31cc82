"""Whom a step starts: its roles, users and contacts against who is on call, who acted and who is busy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tocsin.escalation.policy import PolicyPlan, Step
from tocsin.people.members import MemberRole


@dataclass(frozen=True, slots=True)
class Reach:
    """A person, and when each of their pages leaves, counted from a step's firing. No offsets: no way to be reached."""

    user_id: int
    name: str
    offsets: tuple[timedelta, ...] = ()

    @property
    def last(self) -> timedelta:
        """When the last page leaves: after it, all methods have been tried."""
        return max(self.offsets, default=timedelta())


@dataclass(frozen=True, slots=True)
class Contact:
    """A group contact, such as a chat channel."""

    id: int
    label: str


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is on call in a group, by role and in the order of calling (user ids), and the group's contacts."""

    group_id: int
    name: str
    roles: Mapping[MemberRole, tuple[int, ...]] = field(default_factory=dict)
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class Roster:
    """Everything a turn needs to know about people: the groups on call by id, the active people by id, and
    the administrators' ids. Whoever is not in `people` is not called.
    """

    duties: Mapping[int, Duty] = field(default_factory=dict)
    people: Mapping[int, Reach] = field(default_factory=dict)
    admins: tuple[int, ...] = ()

    def name(self, user_id: int) -> str:
        """The name to show."""
        person = self.people.get(user_id)
        return person.name if person else f"user {user_id}"


@dataclass(frozen=True, slots=True)
class Pick:
    """A person whom a step starts, and as what: `label` is "secondary, Service Desk", or how else they were named."""

    user_id: int
    name: str
    label: str
    role: MemberRole | None = None
    group_id: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a step comes to."""

    picks: tuple[Pick, ...]
    contacts: tuple[tuple[Duty, Contact], ...]
    #: Why somebody or nobody was taken, each without a full stop.
    notes: tuple[str, ...]
    #: Whether somebody of this step is still being paged by an earlier one.
    is_busy: bool

    @property
    def is_empty(self) -> bool:
        """A step with nobody: none to start, and none who is still being paged."""
        return not (self.picks or self.contacts or self.is_busy)


def choose(
    step: Step,
    roster: Roster,
    *,
    recipient_users: tuple[int, ...],
    recipient_groups: tuple[int, ...],
    acted: Mapping[int, str],
    busy: Mapping[int, datetime],
    at: datetime,
) -> Choice:
    """Whom `step` starts at `at`.

    `recipient_users` are paged beside the step's targets (pass none for any step but the first); roles are looked up
    in the step's groups, else in `recipient_groups`. `acted` says why somebody is left in peace; `busy` until when
    somebody has pages of an earlier step to come. For each role of each group the first person who can be started is
    taken; nobody is taken twice.
    """
    search = _Search(roster, acted, busy, at)
    groups = step.group_ids or recipient_groups
    for role in step.roles:
        if not groups:
            search.notes.append(f"no group says who is {role}")
        for group_id in groups:
            search.role(role, roster.duties.get(group_id), group_id)
    for user_id in step.user_ids:
        search.user(user_id, "named by the step")
    for user_id in recipient_users:
        search.user(user_id, "recipient")
    contacts = _contacts(step, groups, roster, search.notes)
    return Choice(tuple(search.picks), contacts, tuple(dict.fromkeys(search.notes)), search.is_busy)


class _Search:
    """Collects the picks of one step."""

    def __init__(self, roster: Roster, acted: Mapping[int, str], busy: Mapping[int, datetime], at: datetime) -> None:
        self.roster, self.acted, self.busy, self.at = roster, acted, busy, at
        self.picks: list[Pick] = []
        self.notes: list[str] = []
        self.is_busy = False
        self._started: set[int] = set()
        self._of_group: dict[int, set[int]] = {}

    def role(self, role: MemberRole, duty: Duty | None, group_id: int) -> None:
        """Takes the first of that role's order who can be started."""
        order = duty.roles.get(role, ()) if duty else ()
        name = duty.name if duty else f"group {group_id}"
        mine = self._of_group.setdefault(group_id, set())
        for user_id in order:
            if user_id in mine:
                continue  # another role of this group has them already: this role wants a second person
            if user_id in self._started:
                mine.add(user_id)
                return  # another group has them already: one page reaches them for both
            if self._can_start(user_id):
                mine.add(user_id)
                self._take(user_id, f"{role}, {name}", role, group_id)
                return
        self.notes.append(f"nobody {'else ' if order else ''}is {role} in {name}")

    def user(self, user_id: int, label: str) -> None:
        """Takes a person named directly."""
        if user_id not in self._started and self._can_start(user_id):
            self._take(user_id, label)

    def _take(self, user_id: int, label: str, role: MemberRole | None = None, group_id: int | None = None) -> None:
        self._started.add(user_id)
        self.picks.append(Pick(user_id, self.roster.name(user_id), label, role, group_id))

    def _can_start(self, user_id: int) -> bool:
        person = self.roster.people.get(user_id)
        if person is None:
            self.notes.append(f"user {user_id} is switched off")
        elif user_id in self.acted:
            self.notes.append(f"{person.name} {self.acted[user_id]}")
        elif not person.offsets:
            self.notes.append(f"{person.name} has no contact method in use")
        elif user_id in self.busy and self.busy[user_id] >= self.at:
            self.is_busy = True
            self.notes.append(f"{person.name} is still being paged by an earlier step")
        else:
            return True
        return False


def managers(recipient_groups: tuple[int, ...], roster: Roster) -> tuple[int, ...]:
    """Who hears that nobody answered: the recipient groups' managers, if none the administrators."""
    found = [
        user_id
        for group_id in recipient_groups
        if (duty := roster.duties.get(group_id)) is not None
        for user_id in duty.roles.get(MemberRole.MANAGER, ())
        if user_id in roster.people
    ]
    return tuple(dict.fromkeys(found)) or tuple(user for user in roster.admins if user in roster.people)


def problem_with_reach(
    plan: PolicyPlan,
    roster: Roster,
    recipient_users: tuple[int, ...],
    recipient_groups: tuple[int, ...],
    at: datetime,
) -> str | None:
    """Why a policy with these recipients would reach nobody at all, as a sentence; None when it reaches somebody."""
    notes: list[str] = []
    for number, step in enumerate(plan.steps):
        choice = choose(
            step,
            roster,
            recipient_users=recipient_users if number == 0 else (),
            recipient_groups=recipient_groups,
            acted={},
            busy={},
            at=at,
        )
        if not choice.is_empty:
            return None
        notes.extend(choice.notes)
    return f"It can reach nobody: {'; '.join(dict.fromkeys(notes)) or 'it names nobody'}."


def _contacts(
    step: Step, groups: tuple[int, ...], roster: Roster, notes: list[str]
) -> tuple[tuple[Duty, Contact], ...]:
    found = []
    for label in step.group_contacts:
        having = [
            (duty, contact)
            for group_id in groups
            if (duty := roster.duties.get(group_id)) is not None
            for contact in duty.contacts
            if contact.label.lower() == label.lower()
        ]
        if not having:
            notes.append(f"no group has a contact {label}")
        found.extend(having)
    return tuple(found)
