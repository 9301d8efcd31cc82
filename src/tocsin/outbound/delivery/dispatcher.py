"""The outbox of one process: claims due calls, sends them from threads, and records the results.

Holds no database connection while sending. The leases of a killed process expire.
"""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts import store
from tocsin.alerts.commands import RepeatedMessages
from tocsin.alerts.store import load_alerts, lock_custom
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.core.delivery import job_pool
from tocsin.core.delivery.circuit_breaker import WORKER_LOST, AttemptFailed, FailureKind, count_allowed, failure_of
from tocsin.core.delivery.job_pool import LEASE_SECONDS, JobPool, LeaseKeeper, LeaseLost, LeaseTable
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.inputs import sanitize
from tocsin.outbound import reasons, states
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, ConnectorKind, RecordedClient
from tocsin.outbound.connectors.tickets import ReferenceLists, load, missing_entry, numbered_priority
from tocsin.outbound.delivery import queue
from tocsin.outbound.delivery.queue import TOPIC
from tocsin.outbound.delivery.results import ActiveIntegration, CallResult, IntegrationPool, mark_ended, record
from tocsin.people.sql import load_users

# ---------- claim
# Claims due calls: the first of each order key, as far as rate limit, circuit breaker and blocks allow.
#
# Works in the caller's transaction. A claim is a lease by the database's clock.


LEASES = LeaseTable[int]("outbound_call", "bigint")

_STATUS_ROWS = """
SELECT s.integration_id, s.failures, s.open_until, s.blocked_until, s.granted_to, s.not_before
FROM outbound_integrationstatus s
WHERE s.integration_id = ANY(%(ids)s) AND EXISTS (
  SELECT FROM outbound_call c WHERE c.integration_id = s.integration_id AND c.status = 'queued'
  AND (c.due_at <= %(now)s OR s.failures >= %(opens)s))
ORDER BY s.integration_id FOR NO KEY UPDATE SKIP LOCKED
"""

_PICK = """
SELECT c.id, c.integration_id, c.alert_id, c.order_key, c.action, c.ticket, c.content, c.progress, c.attempts,
       c.is_uncertain, c.queued_at
FROM outbound_call c
WHERE c.integration_id = %(integration)s AND c.status = 'queued' AND (c.due_at <= %(now)s OR %(probes)s)
  AND NOT EXISTS (
    SELECT FROM outbound_call e WHERE e.integration_id = c.integration_id AND e.order_key = c.order_key
    AND e.status IN ('queued', 'sending') AND e.id < c.id)
ORDER BY c.due_at, c.id LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
"""

#: Nothing is sent before these times of an integration's status.
_BLOCKED_UNTIL = ("open_until", "blocked_until", "not_before")

_CHARGE = "UPDATE outbound_integrationstatus SET granted_to = %s WHERE integration_id = %s"

_LEASE = """
UPDATE outbound_call SET status = 'sending', leased_by = %(node)s, error = '{}',
       lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = ANY(%(ids)s)
"""


def claim(
    connection: Connection,
    pool: IntegrationPool,
    calls_by_integration: Mapping[int, int],
    free: int,
    node: str,
    now: datetime,
) -> list[CallJob]:
    """Leases at most `free` calls to `node`. `calls_by_integration` counts the calls in progress, so that a slow
    integration leaves slots for the others.
    """
    integrations = pool.all()
    if free <= 0 or not integrations:
        return []
    jobs: list[CallJob] = []
    max_failures = states.CIRCUIT.max_failures
    parameters: dict[str, object] = {"ids": list(integrations), "now": now, "opens": max_failures}
    for status in database.rows(connection, _STATUS_ROWS, parameters):
        integration_id = status["integration_id"]
        if any(until is not None and until > now for until in (status[name] for name in _BLOCKED_UNTIL)):
            continue
        rate = integrations[integration_id].sender.rate.used_until(status["granted_to"])
        # After failures, a single call probes the remote system: the oldest, regardless of its own retry time.
        is_probing = status["failures"] >= max_failures or status["blocked_until"] is not None
        allowed = count_allowed(calls_by_integration.get(integration_id, 0), free - len(jobs))
        limit = min(allowed, rate.count_available(now), 1 if is_probing else allowed)
        parameters = {"integration": integration_id, "now": now, "most": limit, "probes": is_probing}
        if rows := database.rows(connection, _PICK, parameters) if limit else []:
            jobs += [CallJob(**row) for row in rows]
            connection.execute(_CHARGE, (rate.charge(len(rows), now).free_at, integration_id))
    if jobs:
        connection.execute(_LEASE, {"node": node, "seconds": LEASE_SECONDS, "ids": [job.id for job in jobs]})
    return jobs


# ---------- writes to tickets
# The data of writes to tickets: ids for status, agent and priority names, and the alert's ticket.
#
# What is about to be written is recorded before it is sent, so that its echo is recognized.


_LATER_WRITES = """
SELECT order_key, max(id) FILTER (WHERE content ? 'agent') AS agent, max(id) FILTER (WHERE content ? 'status') AS status
FROM outbound_call WHERE integration_id = %s AND order_key = ANY(%s) AND status = 'queued' AND action = 'write'
GROUP BY order_key
"""

# A failed call that is sent again is older than writes made in the meantime.
_SUPERSEDED = """
SELECT c.id, bool_or(e.progress ? 'status' AND e.wrote ? 'status') AS status,
       bool_or(e.progress ? 'fields' AND e.wrote ? 'agent') AS agent,
       bool_or(e.progress ? 'fields' AND e.wrote ? 'priority') AS priority,
       bool_or(e.progress ? 'fields' AND e.wrote ? 'team') AS team
FROM outbound_call c JOIN outbound_call e ON e.integration_id = c.integration_id AND e.ticket = c.ticket AND e.id > c.id
WHERE c.id = ANY(%s) AND c.action = 'write' AND e.ticket <> '' GROUP BY c.id
"""


def prepare(connection: Connection, pool: IntegrationPool, jobs: list[CallJob]) -> list[CallJob]:
    """Returns the jobs, those for tickets with names resolved to ids."""
    prepared = {job.id: job for job in jobs}
    for integration, own_jobs in _of_tickets(pool, jobs, lambda job: job.integration_id):
        prepared |= {job.id: job for job in prepare_writes(connection, integration, own_jobs)}
    return [prepared[job.id] for job in jobs]


def conclude(connection: Connection, pool: IntegrationPool, results: Sequence[CallResult]) -> None:
    """Stores the numbers of new tickets, and the agents that were written."""
    for integration, own_results in _of_tickets(pool, results, lambda result: result.job.integration_id):
        _update_alert_agents(connection, own_results)
        created = [
            (result.outcome.ticket, result.at, integration.account.id, result.job.alert_id)
            for result in own_results
            if result.job.action == "create" and isinstance(result.outcome, CallDone)
        ]
        if created:
            # The obstacle for other ticket creations may be gone too.
            queue.retry_creation(connection, integration.account.id, created[-1][1])
        for values in created:
            connection.execute(
                "UPDATE outbound_ticketlink SET ticket = %s, made_at = %s WHERE integration_id = %s AND alert_id = %s",
                values,
            )


def _of_tickets[T](
    pool: IntegrationPool, items: Sequence[T], integration_id: Callable[[T], int]
) -> Iterator[tuple[ActiveIntegration, list[T]]]:
    for number in sorted({integration_id(item) for item in items}):
        integration = pool.get(number)
        if integration is not None and integration.kind.has_tickets:
            yield integration, [item for item in items if integration_id(item) == number]


def prepare_writes(connection: Connection, integration: ActiveIntegration, jobs: Sequence[CallJob]) -> list[CallJob]:
    """The jobs of one ticket system with names resolved to ids. Records what they are about to write."""
    integration_id, settings = integration.account.id, integration.account.settings
    jobs = _drop_superseded_fields(connection, jobs)
    lists = load(connection, integration_id)
    people = _people(connection, integration_id, jobs)
    links = _links(connection, integration_id, [job.alert_id for job in jobs if not job.ticket and job.alert_id])
    assignees = _owners(connection, jobs)
    keys = sorted({job.order_key for job in jobs})
    later_writes = {row["order_key"]: row for row in database.rows(connection, _LATER_WRITES, (integration_id, keys))}
    same_notes = _count_same_notes(connection, [job.id for job in jobs if job.is_uncertain])
    prepared = []
    for job in jobs:
        later = later_writes.get(job.order_key, {})
        context = _load_context(job, integration.kind, settings, lists, people, links, later, assignees)
        prepared.append(replace(job, prepared={**context, "same_notes": same_notes.get(job.id, 0)}))
    _record_written_values(connection, prepared)
    return prepared


def _drop_superseded_fields(connection: Connection, jobs: Sequence[CallJob]) -> list[CallJob]:
    """The jobs without fields that a later write has already set."""
    superseded = {row["id"]: row for row in database.rows(connection, _SUPERSEDED, ([job.id for job in jobs],))}
    return [
        replace(job, content={name: value for name, value in job.content.items() if not row.get(name)})
        for job in jobs
        for row in [superseded.get(job.id, {})]
    ]


_SAME_NOTES = """
SELECT c.id, (SELECT count(*) FROM outbound_call e WHERE e.integration_id = c.integration_id AND e.ticket = c.ticket
              AND e.ticket <> '' AND e.id < c.id AND e.progress ? 'note'
              AND e.content ->> 'note' = c.content ->> 'note')
FROM outbound_call c WHERE c.id = ANY(%s)
"""


def _count_same_notes(connection: Connection, call_ids: Sequence[int]) -> dict[int, int]:
    """The number of notes with the same text that earlier calls wrote to the ticket, by call id."""
    if not call_ids:
        return {}
    return {row[0]: row[1] for row in connection.execute(_SAME_NOTES, (list(call_ids),)).fetchall()}


def _update_alert_agents(connection: Connection, results: Sequence[CallResult]) -> None:
    """Updates the alert's agent as Tocsin wrote it, in case the echoing webhook gets lost.

    This way, the next change in Halo is seen as a change.
    """
    written_agents = {
        result.job.alert_id: result.job.prepared["agent"]
        for result in results
        if result.job.alert_id is not None and result.job.progress.get("fields") and result.job.prepared.get("agent")
    }
    updates = []
    for row in lock_custom(connection, written_agents):
        agent = written_agents[row["id"]]
        custom = {**row["custom"], "agent_id": agent["number"]}
        changes = {"source_agent": agent["name"], "custom": custom}
        updates.append(RepeatedMessages(row["id"], 0, row["last_message_at"], changes))
    store.count_messages(connection, updates)


@dataclass(frozen=True, slots=True)
class TicketUser:
    """A user's data for a write."""

    name: str
    email: str
    #: The agent matched by hand.
    agent_number: str


def _people(connection: Connection, integration_id: int, jobs: Sequence[CallJob]) -> dict[int, TicketUser]:
    ids = {
        user_id
        for job in jobs
        for user_id in (_assigned_user_id(job), job.content.get("who_user"))
        if isinstance(user_id, int)
    }
    if not ids:
        return {}
    chosen: dict[int, str] = dict(
        connection.execute(
            "SELECT user_id, number FROM outbound_agentmatch WHERE integration_id = %s AND user_id = ANY(%s)",
            (integration_id, sorted(ids)),
        ).fetchall()
    )
    users = load_users(connection, ids, "display_name", "email")
    return {key: TicketUser(row["display_name"], row["email"], chosen.get(key, "")) for key, row in users.items()}


def _owners(connection: Connection, jobs: Sequence[CallJob]) -> dict[int, tuple[int | None, str, str]]:
    """The current assignee of each alert, and the number of its ticket's agent."""
    alert_ids = [job.alert_id for job in jobs if job.alert_id is not None and "agent" in job.content]
    if not alert_ids:
        return {}
    alerts = load_alerts(connection, alert_ids, "owner_id", "owner_name", "custom")
    return {
        key: (row["owner_id"], row["owner_name"], str(row["custom"].get("agent_id") or ""))
        for key, row in alerts.items()
    }


def _is_reassigned(target: Mapping[str, Any], assignee: tuple[int | None, str, str] | None) -> bool:
    """Whether the alert has been reassigned since the call was queued, such as in Halo; then that assignment
    prevails."""
    if assignee is None or assignee[:2] == (None, ""):
        # Unassigned: an acknowledgement may still set an agent, and a write that unassigns is right.
        return False
    if target.get("user") is not None:
        return bool(assignee[0] != target["user"])
    return bool(not target.get("name") or assignee[1] != target["name"])


def _assigned_user_id(job: CallJob) -> int | None:
    agent = job.content.get("agent")
    return agent.get("user") if isinstance(agent, Mapping) else None


def _links(connection: Connection, integration_id: int, alert_ids: Sequence[int]) -> dict[int, str]:
    if not alert_ids:
        return {}
    cursor = connection.execute(
        "SELECT alert_id, ticket FROM outbound_ticketlink WHERE integration_id = %s AND alert_id = ANY(%s)",
        (integration_id, list(alert_ids)),
    )
    return {row[0]: row[1] for row in cursor.fetchall()}


def _load_context(
    job: CallJob,
    kind: ConnectorKind,
    settings: Mapping[str, Any],
    lists: ReferenceLists,
    people: Mapping[int, TicketUser],
    links: Mapping[int, str],
    later_writes: Mapping[str, Any],
    assignees: Mapping[int, tuple[int | None, str, str]],
) -> dict[str, Any]:
    context: dict[str, Any] = {"note_action": settings.get("note_action", "")}
    if not job.ticket and job.alert_id is not None:
        context["ticket"] = links.get(job.alert_id, "")
    names = [key for key in ("status", "priority", "ticket_type") if job.content.get(key)]
    # A system without a list takes names, or is asked for the agent when it is written.
    needed = {*names, *(["agent"] if job.content.get("agent") else [])} & {*kind.list_names}
    if needed and not lists.entries:
        return {**context, "wait": reasons.LISTS_NOT_READ(desk=kind.label)}
    if job.action == "create":
        return context | _fields(job.content, kind, lists)
    for list_name in ("status", "priority"):
        name = job.content.get(list_name)
        if not name or (list_name == "status" and (later_writes.get("status") or 0) > job.id):
            continue
        context[list_name] = _entry(kind, lists, list_name, str(name))
        if context[list_name] is None:
            return {**context, "problem": missing_entry(reasons.ENTRY_MISSING, kind.label, list_name, name)}
    if team := str(job.content.get("team", "")):
        context["team"] = _entry(kind, lists, "team", team)
        if context["team"] is None:
            return {**context, "problem": missing_entry(reasons.ENTRY_MISSING, kind.label, "team", team)}
    if "agent" in job.content and (later_writes.get("agent") or 0) <= job.id:
        target = job.content["agent"]
        assignee = assignees.get(job.alert_id or 0)
        is_reassigned = _is_reassigned(target, assignee)
        context["agent_before"] = assignee[2] if assignee is not None else ""
        context |= (
            {"remark": reasons.ASSIGNED_MEANWHILE()} if is_reassigned else agent_for(target, kind.label, lists, people)
        )
    user = people.get(job.content.get("who_user") or 0)
    fallback_agent = _find_agent(user, lists) if user is not None else None
    return {**context, "fallback_agent": fallback_agent} if fallback_agent else context


def _entry(kind: ConnectorKind, lists: ReferenceLists, list_name: str, name: str) -> dict[str, str] | None:
    """The entry of that name; the name itself if the system has no such list, or one that could not be read."""
    if entry := lists.find_by_name(list_name, name):
        return {"number": entry.number, "name": entry.name}
    is_open = list_name not in kind.list_names or (list_name == "team" and not lists.has_list("team"))
    return {"number": name, "name": name} if is_open else None


def agent_for(
    target: Mapping[str, Any], desk: str, lists: ReferenceLists, people: Mapping[int, TicketUser]
) -> dict[str, Any]:
    """The agent of a person: matched by hand, by e-mail, or else by name; a remark if there is none, and the address
    to look up at the system."""
    user = people.get(target.get("user") or 0)
    if user is not None:
        agent = _find_agent(user, lists)
        if agent is not None:
            return {"agent": agent}
        if not user.email:
            return {"remark": reasons.NO_EMAIL_OF_USER(user=user.name, desk=desk)}
        remark = reasons.NO_AGENT_WITH_EMAIL(email=user.email, user=user.name, desk=desk)
        return {"remark": remark, "look_up": user.email}
    name = str(target.get("name") or "")
    if not name:
        return {"agent": {"number": "", "name": ""}}
    entry = lists.find_by_name("agent", name)
    if entry is None:
        return {"remark": reasons.NO_AGENT_NAMED(agent=name, desk=desk)}
    return {"agent": {"number": entry.number, "name": entry.name}}


def _find_agent(user: TicketUser, lists: ReferenceLists) -> dict[str, str] | None:
    entry = lists.find_by_number("agent", user.agent_number) or lists.find_agent_by_email(user.email)
    return {"number": entry.number, "name": entry.name} if entry else None


def _fields(content: Mapping[str, Any], kind: ConnectorKind, lists: ReferenceLists) -> dict[str, Any]:
    """The type, priority and team of a new ticket."""
    fields: dict[str, Any] = {}
    for list_name in ("ticket_type", "priority", "team"):
        if name := content.get(list_name):
            fields[list_name] = _entry(kind, lists, list_name, str(name))
            if fields[list_name] is None:
                return {"problem": missing_entry(reasons.TICKET_FIELD_MISSING, kind.label, list_name, name)}
    return fields


_WROTE = """
UPDATE outbound_call c SET wrote = n.wrote, ticket = CASE WHEN n.ticket = '' THEN c.ticket ELSE n.ticket END
FROM jsonb_to_recordset(%s) AS n(id bigint, wrote jsonb, ticket text) WHERE c.id = n.id
"""


def _record_written_values(connection: Connection, jobs: Sequence[CallJob]) -> None:
    """Records what each job is about to write. An empty agent means unassigned."""
    records = []
    for job in jobs:
        wrote: dict[str, object] = {}
        if agent := job.prepared.get("agent"):
            wrote |= {"agent": agent["number"], "agent_before": job.prepared.get("agent_before", "")}
        if status := job.prepared.get("status"):
            wrote["status"] = status["name"]
        if priority := job.prepared.get("priority"):
            wrote["priority"] = [priority["name"], numbered_priority(priority["number"])]
        if team := job.prepared.get("team"):
            wrote["team"] = team["name"]
        records.append({"id": job.id, "wrote": wrote, "ticket": job.prepared.get("ticket", "")})
    if records:
        connection.execute(_WROTE, (as_json(records),))


# ---------- dispatcher


log = logging.getLogger(__name__)

#: The maximum number of concurrent calls.
MAX_CONCURRENT_CALLS = 8


class CallDispatcher:
    """One per process; `run_once` and `keep_leases` run as periodic tasks."""

    def __init__(
        self,
        *,
        slots: int = MAX_CONCURRENT_CALLS,
        pool: IntegrationPool | None = None,
        now: Callable[[], datetime] = clock.now,
        jitter: Callable[[], float] = random.random,
        elapsed: Callable[[], float] = job_pool.elapsed,
    ) -> None:
        self.node = f"{socket.gethostname()[:60]}/{ids.uuid7()}"
        self.pool = pool or IntegrationPool()
        self._now = now
        self._jitter = jitter
        self.leases = LeaseKeeper(LEASES, self.node, elapsed)
        self.in_flight = JobPool[int, CallJob, CallResult](
            "outbound",
            slots,
            key=lambda job: job.id,
            work=lambda job: make_call(self.pool, job, self._now, lambda: self.leases.check([job.id])),
            write=self._record,
            salvage=_end,
        )

    def run_once(self) -> bool:
        """Records finished calls, claims due ones up to the free slots, and starts sending them, without waiting.

        Always returns False: the next interval or hint continues.
        """
        self.in_flight.store_results()
        free = self.in_flight.free_slots()
        if free > 0:
            self.in_flight.start(database.retry_once(lambda: self._claim(free)))
        return False

    def keep_leases(self) -> bool:
        """Renews this process's leases, and requeues calls that another process lost. Always returns False."""
        own_call_ids = [job.id for job in self.in_flight.jobs()]
        with database.transaction() as connection:
            self.pool.refresh(connection)
            self.leases.renew(connection, own_call_ids)
        database.retry_once(lambda: self._requeue_lost(own_call_ids))
        return False

    def settle(self) -> None:
        """Waits until no call is in flight and all results are recorded."""
        self.in_flight.settle()

    def close(self, timeout: float = 20.0) -> None:
        """Waits at most `timeout` seconds for calls in flight, and records their results."""
        self.in_flight.close(timeout)
        self.pool.close()

    def _claim(self, free: int) -> list[CallJob]:
        now, claimed_at = self._now(), self.leases.now()
        held = Counter(job.integration_id for job in self.in_flight.jobs())
        with database.transaction() as connection:
            self.pool.refresh(connection)
            jobs = claim(connection, self.pool, held, free, self.node, now)
            jobs = prepare(connection, self.pool, jobs)
        self.leases.granted([job.id for job in jobs], claimed_at)
        return jobs

    def _record(self, results: Sequence[CallResult]) -> None:
        with database.transaction() as connection:
            # This may lock alerts, which come before calls in the lock order.
            conclude(connection, self.pool, results)
            record(connection, self.pool, results, self.node, self._jitter())

    def _requeue_lost(self, own_call_ids: list[int]) -> None:
        """Requeues calls whose sender stopped midway, so that their outcome is unknown.

        Calls queued before a clock rollback no longer wait for the clock to catch up.
        """
        now = self._now()
        with database.transaction() as connection:
            if ids := LEASES.take_over(connection, own_call_ids, self.node, limit=200):
                connection.execute(_LOST, {"ids": ids, "now": now, "error": WORKER_LOST()})
            connection.execute(_QUEUED_IN_FUTURE, {"now": now, "ahead": now + _NOT_YET})


def _end(result: CallResult) -> None:
    with database.transaction() as connection:
        mark_ended(connection, result)


def make_call(
    pool: IntegrationPool,
    job: CallJob,
    now: Callable[[], datetime],
    before_request: Callable[[], None] | None = None,
) -> CallResult:
    """Makes one call. Every error becomes a result, but for the LeaseLost of `before_request`."""
    integration = pool.get(job.integration_id)
    if integration is None:
        return CallResult(job, AttemptFailed(FailureKind.BLOCKED, reasons.INTEGRATION_DISABLED()), now())
    http_client = RecordedClient(pool.client, now, integration.secrets, before_request)
    outcome = _outcome(job, lambda: integration.sender.send(job, http_client, now()))
    return CallResult(job, _storable(outcome, http_client), now(), tuple(http_client.exchanges))


def _outcome(job: CallJob, send: Callable[[], CallDone]) -> CallDone | AttemptFailed:
    try:
        return send()
    except LeaseLost:
        raise
    except (Temporary, Permanent) as error:
        return failure_of(error)
    except Exception as error:  # a call's edge: one failure must not affect others
        log.exception("The outbound call %s broke.", job.id)
        return AttemptFailed(FailureKind.PERMANENT, reasons.INTERNAL_ERROR(error=type(error).__name__))


def _storable(outcome: CallDone | AttemptFailed, http_client: RecordedClient) -> CallDone | AttemptFailed:
    """The outcome without secrets and without characters the database rejects: the remote text may contain anything."""
    if isinstance(outcome, AttemptFailed):
        return replace(outcome, error=http_client.mask_reason(outcome.error))
    captured = {name: sanitize(value) for name, value in outcome.captured.items()}
    result = http_client.mask_reason(outcome.result)
    return replace(outcome, result=result, captured=captured, ticket=sanitize(outcome.ticket))


_LOST = """
UPDATE outbound_call SET attempts = attempts + 1, is_uncertain = true, lease_until = NULL, due_at = %(now)s,
       error = %(error)s,
       status = CASE WHEN attempts >= 4 THEN 'dead' ELSE 'queued' END,
       ended_at = CASE WHEN attempts >= 4 THEN %(now)s END
WHERE id = ANY(%(ids)s)
"""

_QUEUED_IN_FUTURE = """
UPDATE outbound_call SET queued_at = %(now)s, due_at = %(now)s + greatest(due_at - queued_at, interval '0')
WHERE id IN (SELECT id FROM outbound_call WHERE status = 'queued' AND due_at > %(ahead)s AND queued_at > %(ahead)s
             ORDER BY id LIMIT 200 FOR NO KEY UPDATE SKIP LOCKED)
"""

#: Nodes whose clocks differ by more are not ready.
_NOT_YET = timedelta(minutes=1)


_shared: CallDispatcher | None = None


def shared_dispatcher() -> CallDispatcher:
    """The process's outbox, created on first use."""
    global _shared
    if _shared is None:
        _shared = CallDispatcher()
    return _shared


def close(timeout: float = 20.0) -> None:
    """Waits for calls in flight and records their results."""
    global _shared
    if _shared is not None:
        _shared.close(timeout)
        _shared = None


def dispatcher_tasks() -> tuple[PeriodicTask, ...]:
    """The outbox's periodic tasks in a worker."""
    dispatcher = shared_dispatcher()
    return (
        PeriodicTask(
            "outbound",
            dispatcher.run_once,
            timedelta(milliseconds=500),
            frozenset({TOPIC, "clock", "config"}),
            # After failures, one that is not due yet may probe the remote system.
            due="EXISTS (SELECT FROM outbound_call WHERE status = 'queued')",
            is_busy=lambda: bool(dispatcher.in_flight.jobs()),
        ),
        PeriodicTask("outbound leases", dispatcher.keep_leases, timedelta(seconds=2), due=LEASES.is_any_held),
    )
