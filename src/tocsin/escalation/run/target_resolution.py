"""Resolves a step's targets to users and group contacts, given who is on call, who responded and who is being paged.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.access.roles import MemberRole
from tocsin.alerts.states import Priority
from tocsin.core.reasons import Person, Reason, Term, Text, joined
from tocsin.escalation import reasons
from tocsin.escalation.policy import CompiledPolicy, PolicyStep
from tocsin.notify.rules.page_planner import Recipient, count_pages
from tocsin.oncall.calculation.weekly_windows import CompiledSupportHours


@dataclass(frozen=True, slots=True)
class ContactTarget:
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

    groups: Mapping[int, GroupOnCall] = field(default_factory=dict)
    active_users: Mapping[int, Recipient] = field(default_factory=dict)
    admin_ids: tuple[int, ...] = ()
    schedules: Mapping[int, ScheduleOnCall] = field(default_factory=dict)
    support_hours: Mapping[int, CompiledSupportHours] = field(default_factory=dict)
    facts: Mapping[int, TargetFacts] = field(default_factory=dict)
    handover_policies: Mapping[int, HandoverPolicy] = field(default_factory=dict)
    deactivated_names: Mapping[int, str] = field(default_factory=dict)

    def person(self, user_id: int) -> Person:
        return Person(self.display_name(user_id), user_id)

    def display_name(self, user_id: int) -> str:
        person = self.active_users.get(user_id)
        return person.name if person else self.deactivated_names.get(user_id, f"user {user_id}")


@dataclass(frozen=True, slots=True)
class TargetUser:
    """A user to page, and in which capacity, for example "secondary, Service Desk"."""

    user_id: int
    name: str
    capacity: Reason
    role: MemberRole | None = None
    group_id: int | None = None

    @property
    def person(self) -> Person:
        return Person(self.name, self.user_id)


@dataclass(frozen=True, slots=True)
class ResolvedTargets:
    users: tuple[TargetUser, ...] = ()
    contacts: tuple[tuple[GroupOnCall, ContactTarget], ...] = ()
    #: Why somebody or nobody was chosen: parts of a sentence. Those about one user have the parameter `user`.
    notes: tuple[Reason, ...] = ()
    has_pending_pages: bool = False
    #: For one-by-one steps: whether another user follows.
    has_more: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the step has nobody: no user to page, and none still being paged."""
        return not (self.users or self.contacts or self.has_pending_pages)


def resolve_targets(
    step: PolicyStep,
    context: TargetContext,
    *,
    recipient_users: tuple[int, ...],
    recipient_groups: tuple[int, ...],
    skip_reasons: Mapping[int, Text],
    paging_until: Mapping[int, datetime],
    at: datetime,
    priority: Priority = Priority.HIGH,
    alert_id: int = 0,
    already_notified: frozenset[int] = frozenset(),
) -> ResolvedTargets:
    """Resolves the targets of `step` at `at`.

    - `recipient_users` are paged in addition to the step's targets; pass them for the first step only.
    - Roles are looked up in the step's groups, or else in `recipient_groups`.
    - `skip_reasons` gives the reason for skipping a user, by user id, with the parameter `user`.
    - `paging_until` says until when a user has pages of an earlier step pending.

    For each role of each group, the first user who can be paged is chosen; no user is chosen twice. For a one-by-one
    step, all holders of each role count, and the next user who is not in `already_notified` is chosen.
    """
    collector = _TargetCollector(step, context, skip_reasons, paging_until, at, priority, already_notified)
    groups = step.group_ids or recipient_groups
    collector.add_roles(groups)
    if step.previous_on_call:
        collector.add_previous_on_call(groups)
    for schedule_id in step.schedule_ids:
        collector.add_schedule(schedule_id)
    if step.everybody:
        collector.add_members(groups)
    for user_id in step.user_ids:
        collector.add_user(user_id, reasons.NAMED_BY_STEP())
    if step.assignee:
        collector.add_assignee(context.facts.get(alert_id, TargetFacts()))
    for user_id in recipient_users:
        collector.add_user(user_id, reasons.RECIPIENT())
    contacts = () if already_notified else _contacts(step, groups, context, collector.notes)
    return ResolvedTargets(
        tuple(collector.users),
        contacts,
        tuple(dict.fromkeys(collector.notes)),
        collector.has_pending_pages,
        has_more=collector.has_more,
    )


class _TargetCollector:
    def __init__(
        self,
        step: PolicyStep,
        context: TargetContext,
        skip_reasons: Mapping[int, Text],
        paging_until: Mapping[int, datetime],
        at: datetime,
        priority: Priority,
        already_notified: frozenset[int],
    ) -> None:
        self.step, self.context, self.skip_reasons = step, context, skip_reasons
        self.paging_until, self.at, self.priority = paging_until, at, priority
        self.already_notified = already_notified
        self.users: list[TargetUser] = []
        self.notes: list[Reason] = []
        self.has_pending_pages = self.has_more = False
        self._added_ids: set[int] = set()
        self._chosen_by_group: dict[int, set[int]] = {}

    def _groups(self, group_ids: tuple[int, ...]) -> Iterator[GroupOnCall]:
        for group_id in group_ids:
            group = self.context.groups.get(group_id)
            if group is None:
                self.notes.append(reasons.GROUP_DELETED())
            else:
                yield group

    def add_roles(self, group_ids: tuple[int, ...]) -> None:
        for role in self.step.roles:
            if not group_ids:
                self.notes.append(reasons.NO_GROUP_FOR_ROLE(role=Term(role)))
            for group in self._groups(group_ids):
                if self.step.sequential_interval is None:
                    self._add_first_holder(role, group)
                    continue
                for user_id in group.roles.get(role, ()):
                    capacity = reasons.ROLE_IN_GROUP(role=Term(role), group=group.name)
                    self.add_user(user_id, capacity, role, group.group_id)
                if not group.roles.get(role):
                    self.notes.append(reasons.NOBODY_HAS_ROLE(role=Term(role), group=group.name))

    def _add_first_holder(self, role: MemberRole, group: GroupOnCall) -> None:
        """Adds the first holder of the role who can be paged."""
        holders = group.roles.get(role, ())
        chosen = self._chosen_by_group.setdefault(group.group_id, set())
        for user_id in holders:
            if user_id in chosen:
                continue  # already chosen for another role of this group: this role needs a second user
            if user_id in self._added_ids:
                chosen.add(user_id)
                return  # already chosen for another group: one page covers both
            if self._can_page(user_id):
                chosen.add(user_id)
                self._add(user_id, reasons.ROLE_IN_GROUP(role=Term(role), group=group.name), role, group.group_id)
                return
        note = reasons.NOBODY_ELSE_HAS_ROLE if holders else reasons.NOBODY_HAS_ROLE
        self.notes.append(note(role=Term(role), group=group.name))

    def add_previous_on_call(self, group_ids: tuple[int, ...]) -> None:
        for group in self._groups(group_ids):
            for role in self.step.roles or (MemberRole.PRIMARY,):
                if not group.previous.get(role):
                    self.notes.append(reasons.NOBODY_HAD_ROLE(role=Term(role), group=group.name))
                for user_id in group.previous.get(role, ()):
                    capacity = reasons.PREVIOUS_ROLE_IN_GROUP(role=Term(role), group=group.name)
                    self.add_user(user_id, capacity, role, group.group_id)

    def add_schedule(self, schedule_id: int) -> None:
        on_call = self.context.schedules.get(schedule_id)
        if on_call is None:
            self.notes.append(reasons.SCHEDULE_DELETED())
            return
        if not on_call.user_ids:
            self.notes.append(reasons.NOBODY_ON_SCHEDULE(schedule=on_call.name))
        for user_id in on_call.user_ids:
            self.add_user(user_id, reasons.ON_SCHEDULE(schedule=on_call.name))

    def add_members(self, group_ids: tuple[int, ...]) -> None:
        for group in self._groups(group_ids):
            if not group.members:
                self.notes.append(reasons.GROUP_EMPTY(group=group.name))
            for user_id in group.members:
                self.add_user(user_id, reasons.GROUP_MEMBER(group=group.name))
        if not group_ids:
            self.notes.append(reasons.NO_GROUP())

    def add_assignee(self, facts: TargetFacts) -> None:
        if facts.assignee_id is not None:
            self.add_user(facts.assignee_id, reasons.TICKET_ASSIGNEE())
        elif facts.assignee:
            self.notes.append(reasons.ASSIGNEE_UNKNOWN(assignee=facts.assignee))
        else:
            self.notes.append(reasons.NO_ASSIGNEE())

    def add_user(
        self, user_id: int, capacity: Reason, role: MemberRole | None = None, group_id: int | None = None
    ) -> None:
        if user_id not in self._added_ids and self._can_page(user_id):
            self._add(user_id, capacity, role, group_id)

    def _add(self, user_id: int, capacity: Reason, role: MemberRole | None = None, group_id: int | None = None) -> None:
        if self.step.sequential_interval is not None and self.users:
            self.has_more = True
            return
        self._added_ids.add(user_id)
        self.users.append(TargetUser(user_id, self.context.display_name(user_id), capacity, role, group_id))

    def _can_page(self, user_id: int) -> bool:
        person = self.context.active_users.get(user_id)
        if user_id in self.already_notified:
            return False
        if person is None:
            name = self.context.deactivated_names.get(user_id)
            self.notes.append(reasons.USER_DEACTIVATED(user=Person(name, user_id)) if name else reasons.USER_DELETED())
        elif user_id in self.skip_reasons:
            self.notes.append(self.skip_reasons[user_id](user=Person(person.name, user_id)))
        elif not count_pages(person, self.step.delivery_override, self.priority):
            self.notes.append(reasons.NO_CONTACT_METHOD(user=Person(person.name, user_id)))
        elif user_id in self.paging_until and self.paging_until[user_id] >= self.at:
            self.has_pending_pages = True
            self.notes.append(reasons.STILL_BEING_PAGED(user=Person(person.name, user_id)))
        else:
            return True
        return False


def leads(recipient_groups: tuple[int, ...], context: TargetContext) -> tuple[int, ...]:
    """The users notified when nobody answers: the recipient groups' leads, or else the administrators."""
    lead_ids = [
        user_id
        for group_id in recipient_groups
        if (group := context.groups.get(group_id)) is not None
        for user_id in group.roles.get(MemberRole.LEAD, ())
        if user_id in context.active_users
    ]
    return tuple(dict.fromkeys(lead_ids)) or tuple(user for user in context.admin_ids if user in context.active_users)


def problem_with_reach(
    plan: CompiledPolicy,
    context: TargetContext,
    recipient_users: tuple[int, ...],
    recipient_groups: tuple[int, ...],
    at: datetime,
) -> Reason | None:
    """Why a policy with these recipients would reach nobody; None when it reaches somebody."""
    notes: list[Reason] = []
    for number, step in enumerate(plan.steps):
        targets = resolve_targets(
            step,
            context,
            recipient_users=recipient_users if number == 0 else (),
            recipient_groups=recipient_groups,
            skip_reasons={},
            paging_until={},
            at=at,
        )
        if not targets.is_empty:
            return None
        notes.extend(targets.notes)
    return reasons.REACHES_NOBODY(notes=joined(*dict.fromkeys(notes)) or reasons.NO_TARGETS())


def _contacts(
    step: PolicyStep, groups: tuple[int, ...], context: TargetContext, notes: list[Reason]
) -> tuple[tuple[GroupOnCall, ContactTarget], ...]:
    contacts = []
    for label in step.group_contacts:
        matches = [
            (group, contact)
            for group_id in groups
            if (group := context.groups.get(group_id)) is not None
            for contact in group.contacts
            if contact.label.lower() == label.lower()
        ]
        if not matches:
            notes.append(reasons.NO_CONTACT(contact=label))
        contacts.extend(matches)
    return tuple(contacts)
