"""Whether a policy with its recipients can reach anybody at all, at whatever time, by what is configured now.

Asked while configuration is saved, over Django's connection, so that it sees what the same transaction made.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tocsin.escalation.policy import PolicyPlan
from tocsin.escalation.targets import Contact, Duty, Reach, Roster, problem_with_reach
from tocsin.oncall import schedules
from tocsin.oncall.models import Schedule
from tocsin.people.members import MemberRole
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, User


def problem(
    plan: PolicyPlan, recipient_users: Iterable[int], recipient_groups: Iterable[int], at: datetime
) -> str | None:
    """Why nobody could ever be reached, as a sentence; None when somebody could.

    Whoever has a role by a schedule at some time counts, whether or not it is their turn at `at`.
    """
    users, groups = tuple(recipient_users), tuple(recipient_groups)
    named = {group for step in plan.steps for group in step.group_ids} | set(groups)
    return problem_with_reach(plan, _roster(named), users, groups, at)


def _roster(group_ids: set[int]) -> Roster:
    methods: dict[int, list[ContactMethod]] = {}
    for method in ContactMethod.objects.filter(is_enabled=True, user__is_active=True):
        methods.setdefault(method.user_id, []).append(method)
    people = {
        user.pk: Reach(user.pk, user.display_name, tuple(method.wait for method in methods.get(user.pk, ())))
        for user in User.objects.filter(is_active=True)
    }
    duties = {group.pk: _duty(group) for group in Group.objects.filter(pk__in=group_ids)}
    return Roster(duties=duties, people=people)


def _duty(group: Group) -> Duty:
    holders: dict[MemberRole, list[int]] = {role: [] for role in MemberRole}
    planned = [
        schedules.load(schedule.name, schedule.time_zone, schedule.definition)
        for schedule in Schedule.objects.filter(group=group)
    ]
    scheduled = {role for schedule in planned for role in schedule.roles}
    for schedule in planned:
        for shift in schedule.shifts:
            for role in shift.roles:
                holders[role].extend(shift.users)
    for membership in Membership.objects.filter(group=group):
        for role in map(MemberRole, membership.roles):
            if role not in scheduled:
                holders[role].append(membership.user_id)
    contacts = tuple(Contact(contact.pk, contact.label) for contact in GroupContact.objects.filter(group=group))
    return Duty(group.pk, group.name, {role: tuple(users) for role, users in holders.items()}, contacts)
