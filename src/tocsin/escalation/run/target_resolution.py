"""Whom a step starts: its roles, users and contacts against who is on call, who acted and who is busy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.alerts.states import Priority
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.policy.steps import PolicyStep
from tocsin.notify.rules.notification_rules import Recipient, leaves
from tocsin.oncall.calculation.support_hours import CompiledSupportHours
from tocsin.people.member_roles import MemberRole

#: What a step says of a group that was deleted after the alert had opened.
_NO_GROUP = "a group in which this step looks for people exists no longer"


@dataclass(frozen=True, slots=True)
class ContactTarget:
    """A group contact, such as a chat channel."""

    id: int
    label: str


@dataclass(frozen=True, slots=True)
class GroupOnCall:
    """Who is on call in a group, by role and in the order of calling (user ids), and the group's contacts."""

    group_id: int
    name: str
    roles: Mapping[MemberRole, tuple[int, ...]] = field(default_factory=dict)
    contacts: tuple[ContactTarget, ...] = ()
    #: All members in the group's order, and who had each role before those who have it.
    members: tuple[int, ...] = ()
    previous: Mapping[MemberRole, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScheduleOnCall:
    """Who is on call by one schedule, in whatever role."""

    name: str
    user_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What conditions and targets need to know of an alert: its tags, and whom the source's ticket is with."""

    tags: Mapping[str, str] = field(default_factory=dict)
    assignee_id: int | None = None
    #: As the source gives it, also where it is no user.
    assignee: str = ""


@dataclass(frozen=True, slots=True)
class HandoverPolicy:
    """A policy that others hand over to, as it is now."""

    name: str
    version_id: int
    plan: CompiledPolicy


@dataclass(frozen=True, slots=True)
class TargetContext:
    """Everything a turn needs to know beside run and alert: the groups on call by id, the active people by id with the
    ways that can be used, the administrators' ids, and what the plans' conditions and ends refer to. Whoever is not in
    `people` is not called.
    """

    duties: Mapping[int, GroupOnCall] = field(default_factory=dict)
    people: Mapping[int, Recipient] = field(default_factory=dict)
    admins: tuple[int, ...] = ()
    schedules: Mapping[int, ScheduleOnCall] = field(default_factory=dict)
    hours: Mapping[int, CompiledSupportHours] = field(default_factory=dict)
    #: By alert.
    facts: Mapping[int, TargetFacts] = field(default_factory=dict)
    #: By policy.
    successors: Mapping[int, HandoverPolicy] = field(default_factory=dict)
    #: The names of those who are switched off.
    gone: Mapping[int, str] = field(default_factory=dict)

    def name(self, user_id: int) -> str:
        """The name to show."""
        person = self.people.get(user_id)
        return person.name if person else self.gone.get(user_id, f"user {user_id}")


@dataclass(frozen=True, slots=True)
class TargetUser:
    """A person whom a step starts, and as what: `label` is "secondary, Service Desk", or how else they were named."""

    user_id: int
    name: str
    label: str
    role: MemberRole | None = None
    group_id: int | None = None


@dataclass(frozen=True, slots=True)
class ResolvedTargets:
    """What a step comes to."""

    picks: tuple[TargetUser, ...] = ()
    contacts: tuple[tuple[GroupOnCall, ContactTarget], ...] = ()
    #: Why somebody or nobody was taken, each without a full stop.
    notes: tuple[str, ...] = ()
    #: Whether somebody of this step is still being paged by an earlier one.
    is_busy: bool = False
    #: One by one: whether somebody else comes after.
    has_more: bool = False

    @property
    def is_empty(self) -> bool:
        """A step with nobody: none to start, and none who is still being paged."""
        return not (self.picks or self.contacts or self.is_busy)


def choose(
    step: PolicyStep,
    roster: TargetContext,
    *,
    recipient_users: tuple[int, ...],
    recipient_groups: tuple[int, ...],
    acted: Mapping[int, str],
    busy: Mapping[int, datetime],
    at: datetime,
    priority: Priority = Priority.HIGH,
    alert_id: int = 0,
    taken: frozenset[int] = frozenset(),
) -> ResolvedTargets:
    """Whom `step` starts at `at`.

    `recipient_users` are paged beside the step's targets (pass none for any step but the first); roles are looked up
    in the step's groups, else in `recipient_groups`. `acted` says why somebody is left in peace; `busy` until when
    somebody has pages of an earlier step to come. For each role of each group the first person who can be started is
    taken; nobody is taken twice. One by one, the whole order of each role counts, and the next who is not in `taken`.
    """
    search = _TargetCollector(step, roster, acted, busy, at, priority, taken)
    groups = step.group_ids or recipient_groups
    search.roles(groups)
    if step.previous_on_call:
        search.previous(groups)
    for schedule_id in step.schedule_ids:
        search.schedule(schedule_id)
    if step.everybody:
        search.everybody(groups)
    for user_id in step.user_ids:
        search.user(user_id, "named by the step")
    if step.assignee:
        search.assignee(roster.facts.get(alert_id, TargetFacts()))
    for user_id in recipient_users:
        search.user(user_id, "recipient")
    contacts = () if taken else _contacts(step, groups, roster, search.notes)
    return ResolvedTargets(
        tuple(search.picks), contacts, tuple(dict.fromkeys(search.notes)), search.is_busy, has_more=search.has_more
    )


class _TargetCollector:
    """Collects the picks of one step."""

    def __init__(
        self,
        step: PolicyStep,
        roster: TargetContext,
        acted: Mapping[int, str],
        busy: Mapping[int, datetime],
        at: datetime,
        priority: Priority,
        taken: frozenset[int],
    ) -> None:
        self.step, self.roster, self.acted, self.busy, self.at = step, roster, acted, busy, at
        self.priority, self.taken = priority, taken
        self.picks: list[TargetUser] = []
        self.notes: list[str] = []
        self.is_busy = self.has_more = False
        self._started: set[int] = set()
        self._of_group: dict[int, set[int]] = {}

    def roles(self, groups: tuple[int, ...]) -> None:
        """The step's roles in each of the groups."""
        for role in self.step.roles:
            if not groups:
                self.notes.append(f"no group says who is {role}")
            for group_id in groups:
                duty = self.roster.duties.get(group_id)
                if self.step.sequential is None:
                    self._role(role, duty, group_id)
                else:
                    self._whole_role(role, duty, group_id)

    def _whole_role(self, role: MemberRole, duty: GroupOnCall | None, group_id: int) -> None:
        if duty is None:
            self._no_group()
            return
        order = duty.roles.get(role, ())
        for user_id in order:
            self.user(user_id, f"{role}, {duty.name}", role, group_id)
        if not order:
            self.notes.append(f"nobody is {role} in {duty.name}")

    def _role(self, role: MemberRole, duty: GroupOnCall | None, group_id: int) -> None:
        """Takes the first of that role's order who can be started."""
        if duty is None:
            self._no_group()
            return
        order = duty.roles.get(role, ())
        mine = self._of_group.setdefault(group_id, set())
        for user_id in order:
            if user_id in mine:
                continue  # another role of this group has them already: this role wants a second person
            if user_id in self._started:
                mine.add(user_id)
                return  # another group has them already: one page reaches them for both
            if self._can_start(user_id):
                mine.add(user_id)
                self._take(user_id, f"{role}, {duty.name}", role, group_id)
                return
        self.notes.append(f"nobody {'else ' if order else ''}is {role} in {duty.name}")

    def _no_group(self) -> None:
        if _NO_GROUP not in self.notes:
            self.notes.append(_NO_GROUP)

    def previous(self, groups: tuple[int, ...]) -> None:
        """Takes whoever had the roles before those who have them now."""
        for group_id in groups:
            duty = self.roster.duties.get(group_id)
            if duty is None:
                self._no_group()
                continue
            for role in self.step.roles or (MemberRole.PRIMARY,):
                before = duty.previous.get(role, ())
                if not before:
                    self.notes.append(f"nobody was {role} in {duty.name} before")
                for user_id in before:
                    self.user(user_id, f"{role} before, {duty.name}", role, group_id)

    def schedule(self, schedule_id: int) -> None:
        """Takes whoever is on call by that schedule."""
        held = self.roster.schedules.get(schedule_id)
        if held is None:
            self.notes.append("a schedule that this step names exists no longer")
            return
        if not held.user_ids:
            self.notes.append(f"nobody is on call by {held.name}")
        for user_id in held.user_ids:
            self.user(user_id, f"on call by {held.name}")

    def everybody(self, groups: tuple[int, ...]) -> None:
        """Takes every member of the groups."""
        for group_id in groups:
            duty = self.roster.duties.get(group_id)
            if duty is None:
                self._no_group()
                continue
            if not duty.members:
                self.notes.append(f"nobody is in {duty.name}")
            for user_id in duty.members:
                self.user(user_id, f"member of {duty.name}")
        if not groups:
            self.notes.append("there is no group whose members to page")

    def assignee(self, facts: TargetFacts) -> None:
        """Takes whoever the ticket is with."""
        if facts.assignee_id is not None:
            self.user(facts.assignee_id, "the ticket is with them")
        elif facts.assignee:
            self.notes.append(f"the ticket is with {facts.assignee}, who is no user")
        else:
            self.notes.append("the ticket is with nobody")

    def user(self, user_id: int, label: str, role: MemberRole | None = None, group_id: int | None = None) -> None:
        """Takes a person."""
        if user_id not in self._started and self._can_start(user_id):
            self._take(user_id, label, role, group_id)

    def _take(self, user_id: int, label: str, role: MemberRole | None = None, group_id: int | None = None) -> None:
        if self.step.sequential is not None and self.picks:
            self.has_more = True
            return
        self._started.add(user_id)
        self.picks.append(TargetUser(user_id, self.roster.name(user_id), label, role, group_id))

    def _can_start(self, user_id: int) -> bool:
        person = self.roster.people.get(user_id)
        if user_id in self.taken:
            return False
        if person is None:
            name = self.roster.gone.get(user_id)
            self.notes.append(f"{name} is switched off" if name else "the user whom this step names exists no longer")
        elif user_id in self.acted:
            self.notes.append(f"{person.name} {self.acted[user_id]}")
        elif not leaves(person, self.step.calling, self.priority, self.at):
            self.notes.append(f"{person.name} has no contact method in use")
        elif user_id in self.busy and self.busy[user_id] >= self.at:
            self.is_busy = True
            self.notes.append(f"{person.name} is still being paged by an earlier step")
        else:
            return True
        return False


def managers(recipient_groups: tuple[int, ...], roster: TargetContext) -> tuple[int, ...]:
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
    plan: CompiledPolicy,
    roster: TargetContext,
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
    step: PolicyStep, groups: tuple[int, ...], roster: TargetContext, notes: list[str]
) -> tuple[tuple[GroupOnCall, ContactTarget], ...]:
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
