"""Resolves a step's targets to users and group contacts, given who is on call, who responded and who is being paged.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.alerts.states import Priority
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.policy.steps import PolicyStep
from tocsin.notify.rules.notification_rules import Recipient, plan_pages
from tocsin.oncall.calculation.support_hours import CompiledSupportHours
from tocsin.people.member_roles import MemberRole

#: The note for a group that was deleted after the alert was created.
_NO_GROUP = "a group in which this step looks for people exists no longer"


@dataclass(frozen=True, slots=True)
class ContactTarget:
    """A group contact, such as a chat channel."""

    id: int
    label: str


@dataclass(frozen=True, slots=True)
class GroupOnCall:
    """A group's contacts, and its on-call users (ids) by role in the order in which they are paged."""

    group_id: int
    name: str
    roles: Mapping[MemberRole, tuple[int, ...]] = field(default_factory=dict)
    contacts: tuple[ContactTarget, ...] = ()
    #: All members in the group's order, and the previous holders of each role.
    members: tuple[int, ...] = ()
    previous: Mapping[MemberRole, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScheduleOnCall:
    """The users on call on one schedule, in any role."""

    name: str
    user_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """An alert's data for conditions and targets: its tags, and the assignee of the source's ticket."""

    tags: Mapping[str, str] = field(default_factory=dict)
    assignee_id: int | None = None
    #: The assignee's name from the source, even if it is not a user.
    assignee: str = ""


@dataclass(frozen=True, slots=True)
class HandoverPolicy:
    """The current version of a policy that others hand over to."""

    name: str
    version_id: int
    plan: CompiledPolicy


@dataclass(frozen=True, slots=True)
class TargetContext:
    """Everything a decision needs besides run and alert.

    Groups with their on-call users by id, active users by id with their usable contact methods, administrators' ids,
    and the objects in the policies' conditions and final actions. A user who is not in `people` is not paged.
    """

    duties: Mapping[int, GroupOnCall] = field(default_factory=dict)
    people: Mapping[int, Recipient] = field(default_factory=dict)
    admins: tuple[int, ...] = ()
    schedules: Mapping[int, ScheduleOnCall] = field(default_factory=dict)
    hours: Mapping[int, CompiledSupportHours] = field(default_factory=dict)
    #: By alert id.
    facts: Mapping[int, TargetFacts] = field(default_factory=dict)
    #: By policy id.
    successors: Mapping[int, HandoverPolicy] = field(default_factory=dict)
    #: The names of deactivated users, by id.
    gone: Mapping[int, str] = field(default_factory=dict)

    def name(self, user_id: int) -> str:
        """The user's display name."""
        person = self.people.get(user_id)
        return person.name if person else self.gone.get(user_id, f"user {user_id}")


@dataclass(frozen=True, slots=True)
class TargetUser:
    """A user to page, and in which capacity: `label` is "secondary, Service Desk", for example."""

    user_id: int
    name: str
    label: str
    role: MemberRole | None = None
    group_id: int | None = None


@dataclass(frozen=True, slots=True)
class ResolvedTargets:
    """The resolved targets of a step."""

    picks: tuple[TargetUser, ...] = ()
    contacts: tuple[tuple[GroupOnCall, ContactTarget], ...] = ()
    #: Reasons why somebody or nobody was chosen, without a final period.
    notes: tuple[str, ...] = ()
    #: Whether a user of this step is still being paged by an earlier one.
    is_busy: bool = False
    #: For one-by-one steps: whether another user follows.
    has_more: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the step has nobody: no user to page, and none still being paged."""
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
    """Resolves the targets of `step` at `at`.

    - `recipient_users` are paged in addition to the step's targets; pass them for the first step only.
    - Roles are looked up in the step's groups, or else in `recipient_groups`.
    - `acted` gives the reason for skipping a user, by user id.
    - `busy` says until when a user has pages of an earlier step pending.

    For each role of each group, the first user who can be paged is chosen; no user is chosen twice. For a one-by-one
    step, all holders of each role count, and the next user who is not in `taken` is chosen.
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
    """Collects the targets of one step."""

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
        """Adds the holders of the step's roles in each group."""
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
        """Adds the first holder of the role who can be paged."""
        if duty is None:
            self._no_group()
            return
        order = duty.roles.get(role, ())
        mine = self._of_group.setdefault(group_id, set())
        for user_id in order:
            if user_id in mine:
                continue  # already chosen for another role of this group: this role needs a second user
            if user_id in self._started:
                mine.add(user_id)
                return  # already chosen for another group: one page covers both
            if self._can_start(user_id):
                mine.add(user_id)
                self._take(user_id, f"{role}, {duty.name}", role, group_id)
                return
        self.notes.append(f"nobody {'else ' if order else ''}is {role} in {duty.name}")

    def _no_group(self) -> None:
        if _NO_GROUP not in self.notes:
            self.notes.append(_NO_GROUP)

    def previous(self, groups: tuple[int, ...]) -> None:
        """Adds the previous holders of the roles."""
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
        """Adds the users on call on the schedule."""
        held = self.roster.schedules.get(schedule_id)
        if held is None:
            self.notes.append("a schedule that this step names exists no longer")
            return
        if not held.user_ids:
            self.notes.append(f"nobody is on call by {held.name}")
        for user_id in held.user_ids:
            self.user(user_id, f"on call by {held.name}")

    def everybody(self, groups: tuple[int, ...]) -> None:
        """Adds every member of the groups."""
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
        """Adds the assignee of the ticket."""
        if facts.assignee_id is not None:
            self.user(facts.assignee_id, "the ticket is with them")
        elif facts.assignee:
            self.notes.append(f"the ticket is with {facts.assignee}, who is no user")
        else:
            self.notes.append("the ticket is with nobody")

    def user(self, user_id: int, label: str, role: MemberRole | None = None, group_id: int | None = None) -> None:
        """Adds one user."""
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
        elif not plan_pages(person, self.step.calling, self.priority, self.at):
            self.notes.append(f"{person.name} has no contact method in use")
        elif user_id in self.busy and self.busy[user_id] >= self.at:
            self.is_busy = True
            self.notes.append(f"{person.name} is still being paged by an earlier step")
        else:
            return True
        return False


def managers(recipient_groups: tuple[int, ...], roster: TargetContext) -> tuple[int, ...]:
    """The users notified when nobody answers: the recipient groups' managers, or else the administrators."""
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
    """Why a policy with these recipients would reach nobody, as a sentence; None when it reaches somebody."""
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
