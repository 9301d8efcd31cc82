"""Loads the facts about alerts that runs need, in bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts import store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, Term
from tocsin.core.validation import durations
from tocsin.escalation import reasons as escalation_reasons
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.outbound import alert_values
from tocsin.people.member_roles import MemberRole
from tocsin.workflows import reasons
from tocsin.workflows.definition.definition import WorkflowAction
from tocsin.workflows.run.context import WorkflowFacts, moment_of
from tocsin.workflows.states import SlaMoment

#: The SQL of the zone of a ticket's dates without an offset: that configured for its Halo, the outbound integration
#: `o`, or else the default zone.
TICKET_ZONE = """coalesce(nullif(o.settings ->> 'time_zone', ''), (SELECT value #>> '{}' FROM core_setting
       WHERE name = 'time_zone'), 'UTC')"""

_ALERTS = f"""
SELECT a.id, a.opened_at, a.dry_run, a.tags, a.custom, i.group_id, a.group_ids,
       {TICKET_ZONE} AS zone,
       p.sla, p.recipient_groups
FROM alerts_alert a LEFT JOIN inbound_integration i ON i.id = a.integration_id
LEFT JOIN outbound_outboundintegration o ON o.id = i.outbound_id
LEFT JOIN LATERAL (
  SELECT v.definition -> 'sla' AS sla, r.recipient_groups FROM escalation_run r
  LEFT JOIN escalation_policyversion v ON v.id = r.version_id WHERE r.alert_id = a.id ORDER BY r.id DESC LIMIT 1
) AS p ON true
WHERE a.id = ANY(%s)
"""


def facts(connection: Connection, alert_ids: Sequence[int]) -> dict[int, WorkflowFacts]:
    """The facts by alert id; deleted alerts are absent. Six statements, however many alerts there are."""
    requested_ids = sorted(set(alert_ids))
    states = store.load(connection, requested_ids)
    values_by_alert = alert_values.load_alert_values(connection, requested_ids)
    return {
        row["id"]: WorkflowFacts(
            states[row["id"]],
            values_by_alert[row["id"]],
            row["dry_run"],
            _texts(row["custom"]),
            _texts(row["tags"]),
            row["zone"],
            _spans(row["sla"]),
            frozenset({row["group_id"], *row["group_ids"]} - {None}),
            tuple(row["recipient_groups"] or ([row["group_id"]] if row["group_id"] is not None else ())),
        )
        for row in database.rows(connection, _ALERTS, (requested_ids,))
        if row["id"] in states and row["id"] in values_by_alert
    }


def load_sla_moments(connection: Connection, alert_ids: Sequence[int]) -> dict[int, dict[SlaMoment, datetime]]:
    """Returns until when each alert must be answered (`RESPOND_BY`) and fixed (`FIX_BY`), in UTC: the ticket's dates,
    or else the policy's targets. What has neither is absent."""
    moments: dict[int, dict[SlaMoment, datetime]] = {}
    for row in database.rows(connection, _ALERTS, (sorted(set(alert_ids)),)):
        custom, targets = _texts(row["custom"]), _spans(row["sla"])
        for moment in (SlaMoment.RESPOND_BY, SlaMoment.FIX_BY):
            at = moment_of(custom.get(moment, ""), row["zone"])
            if at is None and moment in targets:
                at = row["opened_at"] + targets[moment]
            if at is not None:
                moments.setdefault(row["id"], {})[moment] = at
    return moments


def _spans(stored: object) -> dict[str, timedelta]:
    """The SLA durations of a policy, as stored in its version."""
    return {name: durations.parse(text) for name, text in _texts(stored).items()}


def _texts(stored: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in stored.items()} if isinstance(stored, Mapping) else {}


_MEMBERS = """
SELECT m.group_id, m.user_id, g.name FROM people_membership m JOIN people_group g ON g.id = m.group_id
JOIN people_user u ON u.id = m.user_id AND u.is_active
WHERE m.group_id = ANY(%s) ORDER BY array_position(%s::bigint[], m.group_id), m.position, m.id
"""

_PAGED = """
SELECT DISTINCT user_id FROM notify_notification WHERE alert_id = %s AND purpose = 'page' AND user_id IS NOT NULL
"""


def resolve_recipients(
    connection: Connection, action: WorkflowAction, alert: WorkflowFacts, now: datetime, *, first_only: bool = False
) -> dict[int, Reason]:
    """The users an action refers to, by id, with their capacity.

    Users, group members or holders of a role in a group now (all, or the first of each role), the managers of the
    alert's groups, the assignee, and everybody paged.
    """
    capacities = dict.fromkeys(action.users, reasons.NAMED())
    roles_by_group = {group: [*action.roles] for group in action.groups if action.roles}
    for group in alert.recipient_groups if action.managers else ():
        roles_by_group.setdefault(group, []).append(MemberRole.MANAGER)
    if roles_by_group:
        on_call = loader.on_call(connection, list(roles_by_group), now)
        names = names_of(connection, {"groups": list(roles_by_group)}).get("groups", {})
        for group, roles in roles_by_group.items():
            by_role = final_schedule.by_role(on_call.get(group, ()))
            for role in roles:
                holders = [one.user_id for one in by_role.get(role, ())]
                for user in holders[:1] if first_only else holders:
                    capacity = escalation_reasons.ROLE_IN_GROUP(role=Term(role), group=names.get(group, f"#{group}"))
                    capacities.setdefault(user, capacity)
    if action.groups and not action.roles:
        groups = list(action.groups)
        for _group, user, name in connection.execute(_MEMBERS, (groups, groups)).fetchall():
            capacities.setdefault(user, escalation_reasons.GROUP_MEMBER(group=name))
    if action.owner and alert.state.owner_id is not None:
        capacities.setdefault(alert.state.owner_id, reasons.ASSIGNEE())
    if action.paged:
        for (user,) in connection.execute(_PAGED, (alert.state.id,)).fetchall():
            capacities.setdefault(user, reasons.WAS_PAGED())
    return capacities


def names_of(connection: Connection, ids_by_noun: Mapping[str, Sequence[int]]) -> dict[str, dict[int, Any]]:
    """The names of users, groups, policies and outbound integrations, by noun and id."""
    queries = {
        "users": "SELECT id, coalesce(nullif(name, ''), username) FROM people_user WHERE id = ANY(%s)",
        "groups": "SELECT id, name FROM people_group WHERE id = ANY(%s)",
        "policies": "SELECT id, name FROM escalation_policy WHERE id = ANY(%s)",
        "outbound": "SELECT id, name FROM outbound_outboundintegration WHERE id = ANY(%s)",
    }
    return {
        noun: dict(connection.execute(database.literal(query), (list(ids_by_noun[noun]),)).fetchall())
        for noun, query in queries.items()
        if ids_by_noun.get(noun)
    }
