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
from tocsin.notify.enqueue import queue
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
JOIN people_user u ON u.is_active AND lower(agent) IN (lower(u.email), lower(u.username), lower(u.name))
ORDER BY agent, lower(agent) = lower(u.email) DESC, lower(agent) = lower(u.username) DESC, u.id
"""


def load_target_context(
    connection: Connection, runs: Iterable[RunState], at: datetime, facts: Mapping[int, TargetFacts] | None = None
) -> TargetContext:
    """The targets that these runs may page or notify at `at`. `facts` overrides the data of the alerts' rows."""
    groups: set[int] = set()
    users: set[int] = set()
    alerts: set[int] = set()
    plans: list[CompiledPolicy] = []
    for run in runs:
        named = references(run.plan)
        groups |= {*run.recipient_groups, *named.groups}
        users |= {*run.recipient_users, *named.users}
        plans.append(run.plan)
        if any(step.assignee or (step.when is not None and step.when.tags) for step in run.plan.steps):
            alerts.add(run.alert_id)
    known = facts if facts is not None else _facts(connection, alerts)
    return load(connection, groups, users, at, plans=plans, facts=known)


def valid_until(connection: Connection, run: RunState, at: datetime, most: timedelta) -> datetime:
    """Until when the users on call for a run at `at` stay the same, at most `most` after it."""
    named = references(run.plan)
    of_schedules = database.rows(connection, _GROUPS_OF_SCHEDULES, (sorted(named.schedules),))
    groups = {*run.recipient_groups, *named.groups, *(row["group_id"] for row in of_schedules)}
    plans = loader.plans(connection, groups, at).values()
    return min((final_schedule.next_change(plan, at, at + most) for plan in plans), default=at + most)


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
    wanted = sorted(set(groups))
    named = [references(plan) for plan in plans]
    on_call = loader.on_call(connection, wanted, at)
    duties = _duties(connection, wanted, on_call, plans)
    if any(step.previous_on_call for plan in plans for step in plan.steps):
        duties = _with_previous(connection, duties, on_call)
    on_schedule = _on_schedules(connection, {number for names in named for number in names.schedules}, at)
    called = {person.user_id for people in on_call.values() for person in people}
    for duty in duties.values():
        called |= {*duty.members, *(user for users in duty.previous.values() for user in users)}
    called |= {user for held in on_schedule.values() for user in held.user_ids}
    called |= {one.assignee_id for one in (facts or {}).values() if one.assignee_id is not None}
    admins = queue.administrators(connection)
    people = queue.people_of(connection, {*users, *called, *admins})
    return TargetContext(
        duties=duties,
        people={person.id: _reachable(person) for person in people.values() if person.is_active},
        admins=tuple(admins),
        schedules=on_schedule,
        hours=loader.support_hours(connection) if any(names.support_hours for names in named) else {},
        facts=facts or {},
        successors=_successors(connection, {number for names in named for number in names.policies}),
        gone={person.id: person.name for person in people.values() if not person.is_active},
    )


def _reachable(person: Recipient) -> Recipient:
    """The user with only the contact methods that can be used."""
    usable = tuple(method for method in person.usable if address_problem(method.channel, method.address) is None)
    return replace(person, methods=usable)


def _duties(
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


def _roles(people: Iterable[OnCall]) -> dict[MemberRole, tuple[int, ...]]:
    return {role: tuple(person.user_id for person in found) for role, found in final_schedule.by_role(people).items()}


def _with_previous(
    connection: Connection, duties: Mapping[int, GroupOnCall], on_call: Mapping[int, tuple[OnCall, ...]]
) -> dict[int, GroupOnCall]:
    """The groups, each with the users who held every role just before its current holders."""
    found = dict(duties)
    for group_id, duty in duties.items():
        before: dict[MemberRole, tuple[int, ...]] = {}
        for role, people in final_schedule.by_role(on_call.get(group_id, ())).items():
            began = max((person.since for person in people if person.since is not None), default=None)
            if began is None:
                continue
            then = loader.on_call(connection, [group_id], began - timedelta(seconds=1))
            now = {person.user_id for person in people}
            before[role] = tuple(user for user in _roles(then.get(group_id, ())).get(role, ()) if user not in now)
        found[group_id] = replace(duty, previous=before)
    return found


def _on_schedules(connection: Connection, wanted: set[int], at: datetime) -> dict[int, ScheduleOnCall]:
    return {
        number: ScheduleOnCall(name, tuple(dict.fromkeys(person.user_id for person in people)))
        for number, (name, people) in loader.on_schedules(connection, wanted, at).items()
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


def facts_of(connection: Connection, tags: Mapping[str, str], source_agent: str) -> TargetFacts:
    """The facts of an alert without a row, for the simulator."""
    found = _agents(connection, {source_agent}) if source_agent else {}
    return TargetFacts(tags, found.get(source_agent), source_agent)


def _agents(connection: Connection, names: set[str]) -> dict[str, int]:
    if not names:
        return {}
    return {row["agent"]: row["id"] for row in database.rows(connection, _AGENTS, (sorted(names),))}


def _successors(connection: Connection, wanted: set[int]) -> dict[int, HandoverPolicy]:
    if not wanted:
        return {}
    found = {}
    for row in database.rows(connection, _SUCCESSORS, (sorted(wanted),)):
        try:
            found[row["id"]] = HandoverPolicy(row["name"], row["version_id"], load_plan(row["definition"]))
        except Rejected:
            continue  # it cannot be read: a policy that hands over to it notifies the managers instead
    return found
