"""Loads the data for finding a step's targets, for many runs at once.

That is: who is on call, who can be reached, and the objects in the policies' conditions and final actions. The number
of statements is fixed, however many runs there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.escalation.policy.policy import CompiledPolicy, references
from tocsin.escalation.policy.policy import load as load_plan
from tocsin.escalation.run.run_state import RunState
from tocsin.escalation.run.target_resolution import (
    ContactTarget,
    GroupOnCall,
    HandoverPolicy,
    ScheduleOnCall,
    TargetContext,
    TargetFacts,
)
from tocsin.notify.enqueue.recipients import load_administrators, load_recipients
from tocsin.notify.registry import address_problem
from tocsin.notify.rules.notification_rules import Recipient
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import OnCall
from tocsin.people.member_roles import MemberRole

_GROUPS = "SELECT id, name FROM people_group WHERE id = ANY(%s)"
_CONTACTS = "SELECT id, group_id, label FROM people_groupcontact WHERE group_id = ANY(%s) ORDER BY position, id"
_MEMBERS = "SELECT group_id, user_id FROM people_membership WHERE group_id = ANY(%s) ORDER BY group_id, position, id"
_GROUPS_OF_SCHEDULES = "SELECT DISTINCT group_id FROM oncall_schedule WHERE id = ANY(%s)"
_SUCCESSORS = """
SELECT p.id, p.name, v.id AS version_id, v.definition
FROM escalation_policy p JOIN escalation_policyversion v ON v.id = p.current_version_id WHERE p.id = ANY(%s)
"""
_FACTS = "SELECT id, tags, source_agent, owner_id FROM alerts_alert WHERE id = ANY(%s)"
# E-mail takes precedence over username, and username over name, as for the agent named in a message.
_AGENTS = """
SELECT DISTINCT ON (agent) agent, u.id FROM unnest(%s::text[]) AS agent
JOIN people_user u ON u.is_active AND NOT u.is_service_account
AND lower(agent) IN (lower(u.email), lower(u.username), lower(u.name))
ORDER BY agent, lower(agent) = lower(u.email) DESC, lower(agent) = lower(u.username) DESC, u.id
"""


def load_target_context(
    connection: Connection, runs: Iterable[RunState], at: datetime, facts: Mapping[int, TargetFacts] | None = None
) -> TargetContext:
    """The targets that these runs may page or notify at `at`. `facts` overrides the data of the alerts' rows."""
    groups: set[int] = set()
    users: set[int] = set()
    alert_ids: set[int] = set()
    plans: list[CompiledPolicy] = []
    for run in runs:
        refs = references(run.plan)
        groups |= {*run.recipient_groups, *refs.groups}
        users |= {*run.recipient_users, *refs.users}
        plans.append(run.plan)
        if run.progress.assignee_page_at is not None or any(
            step.assignee or (step.when is not None and step.when.tags) for step in run.plan.steps
        ):
            alert_ids.add(run.alert_id)
    alert_facts = facts if facts is not None else _facts(connection, alert_ids)
    return load(connection, groups, users, at, plans=plans, facts=alert_facts)


def valid_until(connection: Connection, run: RunState, at: datetime, max_duration: timedelta) -> datetime:
    """Until when the users on call for a run at `at` stay the same, at most `max_duration` after it."""
    refs = references(run.plan)
    schedule_rows = database.rows(connection, _GROUPS_OF_SCHEDULES, (sorted(refs.schedules),))
    groups = {*run.recipient_groups, *refs.groups, *(row["group_id"] for row in schedule_rows)}
    plans = loader.plans(connection, groups, at).values()
    return min((final_schedule.next_change(plan, at, at + max_duration) for plan in plans), default=at + max_duration)


def load(
    connection: Connection,
    groups: Iterable[int],
    users: Iterable[int],
    at: datetime,
    *,
    plans: Collection[CompiledPolicy] = (),
    facts: Mapping[int, TargetFacts] | None = None,
) -> TargetContext:
    """The target data for these groups and users, for administrators, and for everything else that `plans` refer to."""
    group_ids = sorted(set(groups))
    policy_refs = [references(plan) for plan in plans]
    on_call = loader.on_call(connection, group_ids, at)
    groups_on_call = _groups_on_call(connection, group_ids, on_call, plans)
    if any(step.previous_on_call for plan in plans for step in plan.steps):
        groups_on_call = _with_previous_on_call(connection, groups_on_call, on_call)
    schedules_on_call = _on_schedules(connection, {number for names in policy_refs for number in names.schedules}, at)
    user_ids = {person.user_id for recipients in on_call.values() for person in recipients}
    for group_on_call in groups_on_call.values():
        user_ids |= {*group_on_call.members, *(user for users in group_on_call.previous.values() for user in users)}
    user_ids |= {user for schedule in schedules_on_call.values() for user in schedule.user_ids}
    user_ids |= {fact.assignee_id for fact in (facts or {}).values() if fact.assignee_id is not None}
    admins = load_administrators(connection)
    recipients = load_recipients(connection, {*users, *user_ids, *admins})
    return TargetContext(
        groups=groups_on_call,
        active_users={person.id: _with_usable_methods(person) for person in recipients.values() if person.is_active},
        admin_ids=tuple(admins),
        schedules=schedules_on_call,
        support_hours=loader.support_hours(connection) if any(names.support_hours for names in policy_refs) else {},
        facts=facts or {},
        handover_policies=_successors(connection, {number for names in policy_refs for number in names.policies}),
        deactivated_names={person.id: person.name for person in recipients.values() if not person.is_active},
    )


def _with_usable_methods(person: Recipient) -> Recipient:
    """The user with only the contact methods that can be used."""
    usable = tuple(method for method in person.usable if address_problem(method.channel, method.address) is None)
    return replace(person, methods=usable)


def _groups_on_call(
    connection: Connection,
    groups: list[int],
    on_call: Mapping[int, tuple[OnCall, ...]],
    plans: Iterable[CompiledPolicy],
) -> dict[int, GroupOnCall]:
    if not groups:
        return {}
    contacts: dict[int, list[ContactTarget]] = {}
    for row in database.rows(connection, _CONTACTS, (groups,)):
        contacts.setdefault(row["group_id"], []).append(ContactTarget(row["id"], row["label"]))
    members: dict[int, list[int]] = {}
    if any(step.everybody for plan in plans for step in plan.steps):
        for row in database.rows(connection, _MEMBERS, (groups,)):
            members.setdefault(row["group_id"], []).append(row["user_id"])
    return {
        row["id"]: GroupOnCall(
            row["id"],
            row["name"],
            _roles(on_call.get(row["id"], ())),
            tuple(contacts.get(row["id"], ())),
            tuple(members.get(row["id"], ())),
        )
        for row in database.rows(connection, _GROUPS, (groups,))
    }


def _roles(on_call: Iterable[OnCall]) -> dict[MemberRole, tuple[int, ...]]:
    return {
        role: tuple(person.user_id for person in holders) for role, holders in final_schedule.by_role(on_call).items()
    }


def _with_previous_on_call(
    connection: Connection, groups_on_call: Mapping[int, GroupOnCall], on_call: Mapping[int, tuple[OnCall, ...]]
) -> dict[int, GroupOnCall]:
    """The groups, each with the users who held every role just before its current holders."""
    result = dict(groups_on_call)
    for group_id, group_on_call in groups_on_call.items():
        previous_roles: dict[MemberRole, tuple[int, ...]] = {}
        for role, holders in final_schedule.by_role(on_call.get(group_id, ())).items():
            started_at = max((person.since for person in holders if person.since is not None), default=None)
            if started_at is None:
                continue
            previous_on_call = loader.on_call(connection, [group_id], started_at - timedelta(seconds=1))
            current_ids = {person.user_id for person in holders}
            previous_roles[role] = tuple(
                user for user in _roles(previous_on_call.get(group_id, ())).get(role, ()) if user not in current_ids
            )
        result[group_id] = replace(group_on_call, previous=previous_roles)
    return result


def _on_schedules(connection: Connection, schedule_ids: set[int], at: datetime) -> dict[int, ScheduleOnCall]:
    return {
        number: ScheduleOnCall(name, tuple(dict.fromkeys(person.user_id for person in on_call)))
        for number, (name, on_call) in loader.on_schedules(connection, schedule_ids, at).items()
    }


def _facts(connection: Connection, alert_ids: set[int]) -> dict[int, TargetFacts]:
    if not alert_ids:
        return {}
    rows = database.rows(connection, _FACTS, (sorted(alert_ids),))
    agents = _agents(connection, {row["source_agent"] for row in rows if row["source_agent"]})
    return {
        row["id"]: TargetFacts(
            row["tags"] if isinstance(row["tags"], dict) else {},
            row["owner_id"] or agents.get(row["source_agent"]),
            row["source_agent"],
        )
        for row in rows
    }


def build_facts(connection: Connection, tags: Mapping[str, str], source_agent: str) -> TargetFacts:
    """The facts of an alert without a row, for the simulator."""
    agent_ids = _agents(connection, {source_agent}) if source_agent else {}
    return TargetFacts(tags, agent_ids.get(source_agent), source_agent)


def _agents(connection: Connection, names: set[str]) -> dict[str, int]:
    if not names:
        return {}
    return {row["agent"]: row["id"] for row in database.rows(connection, _AGENTS, (sorted(names),))}


def _successors(connection: Connection, policy_ids: set[int]) -> dict[int, HandoverPolicy]:
    if not policy_ids:
        return {}
    policies = {}
    for row in database.rows(connection, _SUCCESSORS, (sorted(policy_ids),)):
        try:
            policies[row["id"]] = HandoverPolicy(row["name"], row["version_id"], load_plan(row["definition"]))
        except Rejected:
            continue  # it cannot be read: a policy that hands over to it notifies the managers instead
    return policies
