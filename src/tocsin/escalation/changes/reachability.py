"""Checks whether a policy with its recipients can reach anybody at any time, with the current configuration.

Called while configuration is saved, over Django's connection, so that it sees changes of the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from tocsin.core.hooks import Hooks
from tocsin.core.reasons import Reason
from tocsin.escalation import reasons
from tocsin.escalation.policy.policy import CompiledPolicy, references
from tocsin.escalation.policy.steps import PolicyStep
from tocsin.escalation.run.target_resolution import (
    ContactTarget,
    GroupOnCall,
    ScheduleOnCall,
    TargetContext,
    problem_with_reach,
)
from tocsin.notify.rules.notification_rules import NotificationMethod, Recipient
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.models import Schedule
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, User


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """One use of a policy: by which object, and with which recipients."""

    #: None: the viewer does not see the object.
    name: Reason | None
    users: tuple[int, ...]
    groups: tuple[int, ...]


#: The uses of a policy, by policy id. Asked when a policy changes.
POLICY_USES: Hooks[Callable[[int], Iterable[PolicyUse]]] = Hooks()


def problem_in_use(policy_id: int | None, plan: CompiledPolicy, at: datetime) -> Reason | None:
    """Why a policy would reach nobody, in any of its uses, or by itself when it does not depend on recipients."""
    if all(step.group_ids or not (step.roles or _needs_groups(step)) for step in plan.steps):
        return reachability_problem(plan, (), (), at)
    for find_uses in POLICY_USES.of() if policy_id is not None else ():
        for use in find_uses(policy_id or 0):
            if (problem := reachability_problem(plan, use.users, use.groups, at)) is not None:
                if use.name is None:
                    return reasons.HIDDEN_USE_REACHES_NOBODY()
                return reasons.USE_REACHES_NOBODY(use=use.name, problem=problem)
    return None


def _needs_groups(step: PolicyStep) -> bool:
    return step.everybody or step.previous_on_call or bool(step.group_contacts)


def reachability_problem(
    plan: CompiledPolicy, recipient_users: Iterable[int], recipient_groups: Iterable[int], at: datetime
) -> Reason | None:
    """Why nobody could ever be reached; None when somebody can.

    A user who has a role at some time by a schedule counts, whether or not they are on call at `at`.
    """
    users, groups = tuple(recipient_users), tuple(recipient_groups)
    if any(step.assignee for step in plan.steps):
        return None  # the assignee comes from the ticket and is not known yet
    refs = references(plan)
    return problem_with_reach(plan, _load_context(refs.groups | set(groups), refs.schedules), users, groups, at)


def _load_context(group_ids: Iterable[int], schedule_ids: Iterable[int]) -> TargetContext:
    methods: dict[int, list[NotificationMethod]] = {}
    for method in ContactMethod.objects.filter(is_enabled=True, awaits_code=False, user__is_active=True):
        methods.setdefault(method.user_id, []).append(NotificationMethod(method.label, method.channel, method.address))
    active_users = {
        user.pk: Recipient(user.pk, user.display_name, tuple(methods.get(user.pk, ())))
        for user in User.objects.filter(is_active=True)
    }
    deactivated_names = {user.pk: user.display_name for user in User.objects.filter(is_active=False)}
    groups = {group.pk: _group_on_call(group) for group in Group.objects.filter(pk__in=group_ids)}
    schedules = {schedule.pk: _on_schedule(schedule) for schedule in Schedule.objects.filter(pk__in=schedule_ids)}
    return TargetContext(
        groups=groups, active_users=active_users, schedules=schedules, deactivated_names=deactivated_names
    )


def _on_schedule(schedule: Schedule) -> ScheduleOnCall:
    users = dict.fromkeys(user for shift in oncall.shifts_of(schedule) for user in shift.users)
    return ScheduleOnCall(schedule.name, tuple(users))


def _group_on_call(group: Group) -> GroupOnCall:
    holders: dict[MemberRole, list[int]] = {role: [] for role in MemberRole}
    for schedule in Schedule.objects.filter(group=group):
        for shift in oncall.shifts_of(schedule):
            # A shift without roles gives its users the roles they have in the group, or else primary.
            for role in shift.roles or (MemberRole.PRIMARY,):
                holders[role].extend(shift.users)
    # Where no shift is active, the group's role holders are on call.
    for membership in Membership.objects.filter(group=group):
        for role in map(MemberRole, membership.roles):
            holders[role].append(membership.user_id)
    contacts = tuple(ContactTarget(contact.pk, contact.label) for contact in GroupContact.objects.filter(group=group))
    roles = {role: tuple(users) for role, users in holders.items()}
    members = tuple(Membership.objects.filter(group=group).values_list("user_id", flat=True))
    # Every role holder may also have held the role before, so `previous` equals `roles`.
    return GroupOnCall(group.pk, group.name, roles, contacts, members, roles)
