"""Claims, reads and writes workflow runs, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tocsin.access.roles import MemberRole
from tocsin.alerts import store
from tocsin.alerts.store import IS_ACTIVE, WITH_INTEGRATION, is_about
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_storable_json
from tocsin.core.hooks import Expiry
from tocsin.core.reasons import NO_REASON, Reason, Term, reason_as_json, reason_from_json, sentence
from tocsin.core.runtime.clock import Timers
from tocsin.core.validation import inputs
from tocsin.escalation import reasons as escalation_reasons
from tocsin.notify.notices import Notice, queue_notice, was_noticed
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.outbound.delivery import queue
from tocsin.people.sql import join_user, load_administrators
from tocsin.workflows import reasons
from tocsin.workflows.definition import LIMIT_SPAN, SlaMoment, WorkflowAction, WorkflowRunStatus
from tocsin.workflows.run.engine import (
    MAX_DEPTH,
    FinishRun,
    OwnerGroup,
    StartActions,
    WaitUntil,
    WorkflowFacts,
    WorkflowProgress,
    moment_of,
)

# ---------- loader


#: The SQL of the zone of a ticket's dates without an offset: that configured for its Halo, the outbound integration
#: `o`, or else the default zone.
TICKET_ZONE = """coalesce(nullif(o.settings ->> 'time_zone', ''), (SELECT value #>> '{}' FROM core_setting
       WHERE name = 'time_zone'), 'UTC')"""

_ALERTS = f"""
SELECT a.id, a.opened_at, a.dry_run, a.tags, a.custom, i.group_id, a.group_ids,
       {TICKET_ZONE} AS zone,
       p.sla, p.recipient_groups
FROM {WITH_INTEGRATION}
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
    values_by_alert = queue.load_alert_values(connection, requested_ids)
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
    return {name: inputs.parse_duration(text) for name, text in _texts(stored).items()}


def _texts(stored: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in stored.items()} if isinstance(stored, Mapping) else {}


_MEMBERS = f"""
SELECT m.group_id, m.user_id, g.name FROM people_membership m JOIN people_group g ON g.id = m.group_id
{join_user("m.user_id")} AND u.is_active
WHERE m.group_id = ANY(%s) ORDER BY array_position(%s::bigint[], m.group_id), m.position, m.id
"""

_PAGED = """
SELECT DISTINCT user_id FROM notify_notification WHERE alert_id = %s AND purpose = 'page' AND user_id IS NOT NULL
"""


def resolve_recipients(
    connection: Connection, action: WorkflowAction, alert: WorkflowFacts, now: datetime, *, first_only: bool = False
) -> dict[int, Reason]:
    """The users an action refers to, by id, with their capacity.

    Users, group members or holders of a role in a group now (all, or the first of each role), the leads of the
    alert's groups, the assignee, and everybody paged.
    """
    capacities = dict.fromkeys(action.users, sentence("listed in the workflow"))
    roles_by_group = {group: [*action.roles] for group in action.groups if action.roles}
    for group in alert.recipient_groups if action.leads else ():
        roles_by_group.setdefault(group, []).append(MemberRole.LEAD)
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
        capacities.setdefault(alert.state.owner_id, sentence("assignee"))
    if action.paged:
        for (user,) in connection.execute(_PAGED, (alert.state.id,)).fetchall():
            capacities.setdefault(user, sentence("paged about the alert"))
    return capacities


_NAMED_TABLES = {
    "groups": "people_group", "policies": "escalation_policy", "outbound": "outbound_outboundintegration",
}  # fmt: skip


def names_of(connection: Connection, ids: Mapping[str, Iterable[int]]) -> dict[str, dict[int, str]]:
    """The names of groups, policies and outbound integrations, by kind and id."""
    return {
        kind: dict(
            connection.execute(
                database.literal(f"SELECT id, name FROM {table} WHERE id = ANY(%s)"), (sorted(ids[kind]),)
            ).fetchall()
        )
        for kind, table in _NAMED_TABLES.items()
        if ids.get(kind)
    }


@dataclass(frozen=True, slots=True)
class DueRun:
    """A due run with its current workflow; `definition` is None if that was deleted."""

    id: int
    workflow_id: int
    alert_id: int
    name: str
    is_enabled: bool
    definition: Any
    progress: WorkflowProgress
    user_id: int | None = None
    user_name: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    reason: Reason = NO_REASON
    failures: int = 0


# Skips runs that another worker is deciding or executing.
_UNDECIDED = """
SELECT id FROM workflows_run WHERE due_at <= %(now)s AND started_at IS NULL
AND (%(only)s::bigint[] IS NULL OR id = ANY(%(only)s)) ORDER BY due_at, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""

_STARTED = """
SELECT id FROM workflows_run WHERE id = %s AND due_at <= %s AND started_at IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED
"""

_DUE = """
SELECT id FROM workflows_run WHERE due_at <= %(now)s AND (started_at IS NOT NULL) = %(is_started)s
ORDER BY due_at, id LIMIT %(limit)s
"""

#: A condition with the parameter `now`.
IS_DUE = "EXISTS (SELECT FROM workflows_run WHERE due_at <= %(now)s)"

# Every earlier run of the workflow on the alert counts; recurring ones may go on as long as the alert is active.
_READ = """
SELECT r.id, r.workflow_id, r.alert_id, r.cause, r.depth, r.created_at,
       r.started_at IS NOT NULL AS is_started, r.step, r.steps,
       r.reason, r.failures, r.user_id, r.user_name, w.name, w.is_enabled, w.definition,
       w.group_id, g.name AS group_name,
       h.lately, h.in_all, h.moments,
       EXISTS (SELECT FROM workflows_run n WHERE n.alert_id = r.alert_id AND n.workflow_id = r.workflow_id
               AND n.id > r.id) AS is_superseded
FROM workflows_run r
LEFT JOIN workflows_workflow w ON w.id = r.workflow_id
LEFT JOIN people_group g ON g.id = w.group_id
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE p.started_at > %(now)s - interval '1 minute') AS lately, count(*) AS in_all,
         array_agg(p.moment) FILTER (WHERE p.moment IS NOT NULL) AS moments
  FROM workflows_run p
  WHERE p.alert_id = r.alert_id AND p.workflow_id = r.workflow_id AND p.started_at IS NOT NULL AND p.id <> r.id
) AS h
WHERE r.id = ANY(%(ids)s) ORDER BY r.due_at, r.id
"""


def claim_undecided(connection: Connection, now: datetime, limit: int, only: Sequence[int] = ()) -> list[DueRun]:
    """Locks and reads due runs that have not started, of those with the ids `only` if there are any. Returns only the
    first per workflow and alert."""
    parameters = {"now": now, "limit": limit, "only": list(only) or None}
    runs = read(connection, [row[0] for row in connection.execute(_UNDECIDED, parameters).fetchall()], now)
    first: dict[tuple[int, int], DueRun] = {}
    for run in runs:
        first.setdefault((run.workflow_id, run.alert_id), run)
    return list(first.values())


def claim_started(connection: Connection, run_id: int, now: datetime) -> DueRun | None:
    """Locks and reads a due run that has started; None if another worker has it, or it is not due."""
    if connection.execute(_STARTED, (run_id, now)).fetchone() is None:
        return None
    return next(iter(read(connection, [run_id], now)), None)


def due(connection: Connection, now: datetime, limit: int, *, is_started: bool) -> list[int]:
    parameters = {"now": now, "limit": limit, "is_started": is_started}
    return [row[0] for row in connection.execute(_DUE, parameters).fetchall()]


def read(connection: Connection, ids: Sequence[int], now: datetime) -> list[DueRun]:
    if not ids:
        return []
    return [_run(row) for row in database.rows(connection, _READ, {"ids": list(ids), "now": now})]


def _run(row: Mapping[str, Any]) -> DueRun:
    progress = WorkflowProgress(
        reason_from_json(row["cause"]), row["depth"], row["is_started"], row["step"], row["is_superseded"],
        row["lately"], row["in_all"],
        frozenset(row["moments"] or ()), OwnerGroup(row["group_id"], row["group_name"]) if row["group_id"] else None,
        row["created_at"],
    )  # fmt: skip
    return DueRun(
        row["id"], row["workflow_id"], row["alert_id"], row["name"] or "", bool(row["is_enabled"]), row["definition"],
        progress, row["user_id"], row["user_name"], list(row["steps"]), reason_from_json(row["reason"]),
        row["failures"],
    )  # fmt: skip


_UPDATE = """
UPDATE workflows_run r SET status = n.status, reason = n.reason,
       due_at = n.due_at, ended_at = n.ended_at,
       started_at = coalesce(n.started_at, r.started_at), moment = coalesce(n.moment, r.moment), step = n.step,
       steps = n.steps, failures = 0, error = ''
FROM jsonb_to_recordset(%s) AS n(id bigint, status text, reason jsonb, due_at timestamptz,
     ended_at timestamptz, started_at timestamptz, moment timestamptz, step smallint, steps jsonb)
WHERE r.id = n.id
"""

_INSERT_NEXT = """
INSERT INTO workflows_run (workflow_id, alert_id, status, cause, depth, created_at, due_at)
SELECT r.workflow_id, r.alert_id, 'waiting', r.cause, least(r.depth, %(depth)s), %(now)s, n.due_at
FROM unnest(%(ids)s::bigint[], %(due)s::timestamptz[]) AS n(id, due_at) JOIN workflows_run r ON r.id = n.id
"""


def write(
    connection: Connection, decided: Sequence[tuple[DueRun, FinishRun | WaitUntil | StartActions]], now: datetime
) -> None:
    """Writes decisions in one statement; recurring runs get a successor."""
    if not decided:
        return
    connection.execute(_UPDATE, (as_storable_json([_columns(run, decision, now) for run, decision in decided]),))
    recurring = [
        (run.id, decision.again_at)
        for run, decision in decided
        if isinstance(decision, StartActions) and decision.again_at is not None
    ]
    if recurring:
        ids, at = [one[0] for one in recurring], [one[1] for one in recurring]
        connection.execute(_INSERT_NEXT, {"ids": ids, "due": at, "now": now, "depth": MAX_DEPTH})


def _columns(run: DueRun, decision: FinishRun | WaitUntil | StartActions, now: datetime) -> dict[str, object]:
    columns: dict[str, object] = {"id": run.id, "steps": run.steps, "step": run.progress.step}
    reason = decision.reason
    match decision:
        case FinishRun(status=status):
            columns |= {"status": status, "ended_at": now}
            if status is WorkflowRunStatus.DONE and run.reason:
                reason = run.reason  # why it acted is more useful than "everything was done"
        case WaitUntil():
            columns |= {"status": WorkflowRunStatus.WAITING, "due_at": decision.until, "step": decision.step}
        case StartActions():
            columns |= {"status": WorkflowRunStatus.WAITING, "due_at": now, "started_at": now}
            columns |= {"moment": decision.moment}
    return columns | {"reason": reason_as_json(reason)}


def write_step(connection: Connection, run: DueRun, step: Mapping[str, object]) -> None:
    connection.execute(
        "UPDATE workflows_run SET step = %s, steps = steps || %s::jsonb, failures = 0, error = '' WHERE id = %s",
        (run.progress.step + 1, as_storable_json([step]), run.id),
    )


def fail(
    connection: Connection,
    run_id: int,
    failures: int,
    error: str,
    reason: Reason,
    due_at: datetime | None,
    now: datetime,
) -> None:
    """Postpones a failed run to `due_at`; None: it is stuck until a person retries it."""
    status = WorkflowRunStatus.STUCK if due_at is None else WorkflowRunStatus.WAITING
    ended_at = now if due_at is None else None
    connection.execute(
        "UPDATE workflows_run SET failures = %s, error = %s, reason = %s, due_at = %s, "
        "status = %s, ended_at = %s WHERE id = %s",
        (failures, error[:2000], reason, due_at, status, ended_at, run_id),
    )


# ---------- limits
# Limits how much a workflow may cause in other systems within a period.
# A call may make another system open an alert, which triggers the workflow again. No depth is counted through another
# system, so this limit ends such loops.


#: The minimum interval between two notices about a workflow's limit.
NOTICE_INTERVAL = LIMIT_SPAN * 36

_CONSUME = """
INSERT INTO workflows_limit AS l (workflow_id, since, used) VALUES (%(workflow)s, %(now)s, 1)
ON CONFLICT (workflow_id) DO UPDATE SET
  since = CASE WHEN l.since <= %(begin)s THEN %(now)s ELSE l.since END,
  used = CASE WHEN l.since <= %(begin)s THEN 1 ELSE least(l.used, %(limit)s) + 1 END
RETURNING used
"""

_REFUSED = """
UPDATE workflows_limit SET refused = CASE WHEN refused_at > %(begin)s THEN refused + 1 ELSE 1 END, refused_at = %(now)s
WHERE workflow_id = %(workflow)s
"""


_MANAGERS = f"""
SELECT u.id FROM workflows_workflow w JOIN people_membership m ON m.group_id = w.group_id {join_user("m.user_id")}
WHERE w.id = %s AND u.is_active AND u.role = 'manager'
"""


def consume(connection: Connection, workflow_id: int, limit: int, now: datetime) -> bool:
    """Consumes one unit of the workflow's limit. Returns False if nothing is left, and counts the refusal."""
    parameters = {"workflow": workflow_id, "now": now, "begin": now - LIMIT_SPAN, "limit": limit}
    row = connection.execute(_CONSUME, parameters).fetchone()
    if row is not None and row[0] <= limit:
        return True
    connection.execute(_REFUSED, {"workflow": workflow_id, "now": now, "begin": now - NOTICE_INTERVAL})
    return False


def describe_limit(limit: int) -> Reason:
    return reasons.LIMIT_REACHED(limit=limit, period=LIMIT_SPAN)


def report_limit(connection: Connection, workflow_id: int, name: str, limit: int, now: datetime) -> None:
    """Notifies administrators and the leads of the workflow's group, at most once per interval."""
    about = f"workflow:limit:{workflow_id}"
    managers = connection.execute(_MANAGERS, (workflow_id,)).fetchall()
    user_ids = {*load_administrators(connection), *(row[0] for row in managers)}
    if not user_ids or was_noticed(connection, sorted(user_ids), about, now, NOTICE_INTERVAL):
        return
    notice = Notice(
        sentence("Workflow {workflow} reached its limit", workflow=name),
        sentence(
            "{workflow}: {why}\n\nFurther actions were skipped, and each alert says so. See its log under Workflows: "
            "if it runs in circles, narrow its conditions; if that many are intended, raise its limit.",
            workflow=name,
            why=describe_limit(limit),
        ),
        about,
        sentence("You receive this because you manage this workflow."),
    )
    queue_notice(connection, notice, now, user_ids=sorted(user_ids))


# ---------- retention


# A workflow's runs on an active alert still count for its limits, and are kept.
_OLD_RUNS = f"""
DELETE FROM workflows_run WHERE id IN (
  SELECT r.id FROM workflows_run r WHERE r.ended_at < %(before)s AND r.status <> 'stuck'
  AND NOT {is_about("r.alert_id", IS_ACTIVE)}
  ORDER BY r.ended_at LIMIT %(chunk)s)
"""

EXPIRIES = (Expiry(_OLD_RUNS, settings_store.DELIVERY_RETENTION_DAYS.name),)


TIMERS = (Timers("workflows_run", ("due_at",)), Timers("workflows_limit", ("since",), key="workflow_id"))
