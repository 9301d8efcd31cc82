"""Loads the data for writes to Halo tickets: ids for status, agent and priority names, and the alert's ticket.

Records what is about to be written before it is sent, so that its echo is recognized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tocsin.alerts import store
from tocsin.alerts.commands import RepeatedMessages
from tocsin.alerts.sql import load_alerts, lock_custom
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.connectors.haloitsm.reference_data import ReferenceLists, load, numbered_priority
from tocsin.outbound.connectors.interfaces import CallDone, CallJob
from tocsin.outbound.delivery import queue
from tocsin.outbound.delivery.results import ActiveIntegration, CallResult
from tocsin.people.sql import load_users

#: The agent id of Halo's "Unassigned".
UNASSIGNED_AGENT = "1"

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


@dataclass(frozen=True, slots=True)
class HaloJobHooks:
    """Job hooks for calls of the kind `haloitsm`."""

    def prepare(
        self, connection: Connection, integration: ActiveIntegration, jobs: Sequence[CallJob]
    ) -> Sequence[CallJob]:
        """Returns the jobs with names resolved to ids."""
        integration_id = integration.account.id
        jobs = _drop_superseded_fields(connection, jobs)
        lists = load(connection, integration_id)
        people = _people(connection, integration_id, jobs)
        links = _links(connection, integration_id, [job.alert_id for job in jobs if not job.ticket and job.alert_id])
        assignees = _owners(connection, jobs)
        keys = sorted({job.order_key for job in jobs})
        later_writes = {
            row["order_key"]: row for row in database.rows(connection, _LATER_WRITES, (integration_id, keys))
        }
        settings = integration.account.settings
        prepared = [
            replace(
                job,
                prepared=_load_context(
                    job, settings, lists, people, links, later_writes.get(job.order_key, {}), assignees
                ),
            )
            for job in jobs
        ]
        _record_written_values(connection, prepared)
        same_notes = _count_same_notes(connection, [job.id for job in jobs if job.is_uncertain])
        return [replace(job, prepared={**job.prepared, "same_notes": same_notes.get(job.id, 0)}) for job in prepared]

    def conclude(self, connection: Connection, integration: ActiveIntegration, results: Sequence[CallResult]) -> None:
        """Stores the numbers of new tickets, and the agents that were written."""
        _update_alert_agents(connection, results)
        created = [r for r in results if r.job.action == "create" and isinstance(r.outcome, CallDone)]
        if created:
            # The obstacle for other ticket creations may be gone too.
            queue.retry_creation(connection, integration.account.id, created[-1].at)
        for result in results:
            if result.job.action == "create" and isinstance(result.outcome, CallDone):
                connection.execute(
                    "UPDATE outbound_ticketlink SET ticket = %s, made_at = %s "
                    "WHERE integration_id = %s AND alert_id = %s",
                    (result.outcome.ticket, result.at, integration.account.id, result.job.alert_id),
                )


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
        is_unassigned = agent["number"] == UNASSIGNED_AGENT
        custom = {**row["custom"], "agent_id": "" if is_unassigned else agent["number"]}
        changes = {"source_agent": "" if is_unassigned else agent["name"], "custom": custom}
        updates.append(RepeatedMessages(row["id"], 0, row["last_message_at"], changes))
    store.count_messages(connection, updates)


@dataclass(frozen=True, slots=True)
class HaloUser:
    """A user's data for a write."""

    name: str
    email: str
    #: The agent matched by hand.
    agent_number: str


def _people(connection: Connection, integration_id: int, jobs: Sequence[CallJob]) -> dict[int, HaloUser]:
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
    return {key: HaloUser(row["display_name"], row["email"], chosen.get(key, "")) for key, row in users.items()}


def _owners(connection: Connection, jobs: Sequence[CallJob]) -> dict[int, tuple[int | None, str]]:
    """The current assignee of each alert."""
    alert_ids = [job.alert_id for job in jobs if job.alert_id is not None and "agent" in job.content]
    if not alert_ids:
        return {}
    alerts = load_alerts(connection, alert_ids, "owner_id", "owner_name")
    return {key: (row["owner_id"], row["owner_name"]) for key, row in alerts.items()}


def _is_reassigned(target: Mapping[str, Any], assignee: tuple[int | None, str] | None) -> bool:
    """Whether the alert has been reassigned since the call was queued, such as in Halo; then that assignment
    prevails."""
    if assignee is None or assignee == (None, ""):
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
    settings: Mapping[str, Any],
    lists: ReferenceLists,
    people: Mapping[int, HaloUser],
    links: Mapping[int, str],
    later_writes: Mapping[str, Any],
    assignees: Mapping[int, tuple[int | None, str]],
) -> dict[str, Any]:
    context: dict[str, Any] = {"note_action": settings.get("note_action", "")}
    if not job.ticket and job.alert_id is not None:
        context["ticket"] = links.get(job.alert_id, "")
    names = [key for key in ("status", "priority", "ticket_type") if job.content.get(key)]
    if (names or job.content.get("agent")) and not lists.is_loaded:
        return {**context, "wait": client.LISTS_NOT_READ()}
    if job.action == "create":
        return context | _fields(job.content, lists)
    for list_name in ("status", "priority"):
        name = job.content.get(list_name)
        if not name or (list_name == "status" and (later_writes.get("status") or 0) > job.id):
            continue
        entry = lists.find_by_name(list_name, str(name))
        if entry is None:
            return {**context, "problem": client.missing_entry(client.ENTRY_MISSING, list_name, name)}
        context[list_name] = {"number": entry.number, "name": entry.name}
    team = str(job.content.get("team", ""))
    if team and lists.has_list("team") and lists.find_by_name("team", team) is None:
        return {**context, "problem": client.missing_entry(client.ENTRY_MISSING, "team", team)}
    context["team"] = team
    if "agent" in job.content and (later_writes.get("agent") or 0) <= job.id:
        target = job.content["agent"]
        is_reassigned = _is_reassigned(target, assignees.get(job.alert_id or 0))
        context |= {"remark": client.ASSIGNED_MEANWHILE()} if is_reassigned else agent_for(target, lists, people)
    user = people.get(job.content.get("who_user") or 0)
    fallback_agent = _find_agent(user, lists) if user is not None else None
    return {**context, "fallback_agent": fallback_agent} if fallback_agent else context


def agent_for(target: Mapping[str, Any], lists: ReferenceLists, people: Mapping[int, HaloUser]) -> dict[str, Any]:
    """The agent of a person: matched by hand, by e-mail, or else by name; a remark if there is none."""
    user = people.get(target.get("user") or 0)
    if user is not None:
        agent = _find_agent(user, lists)
        if agent is not None:
            return {"agent": agent}
        if not user.email:
            return {"remark": client.NO_EMAIL_OF_USER(user=user.name)}
        return {"remark": client.NO_AGENT_WITH_EMAIL(email=user.email, user=user.name)}
    name = str(target.get("name") or "")
    if not name:
        return {"agent": {"number": UNASSIGNED_AGENT, "name": ""}}
    entry = lists.find_by_name("agent", name)
    if entry is None:
        return {"remark": client.NO_AGENT_NAMED(agent=name)}
    return {"agent": {"number": entry.number, "name": entry.name}}


def _find_agent(user: HaloUser, lists: ReferenceLists) -> dict[str, str] | None:
    entry = lists.find_by_number("agent", user.agent_number) or lists.find_agent_by_email(user.email)
    return {"number": entry.number, "name": entry.name} if entry else None


def _fields(content: Mapping[str, Any], lists: ReferenceLists) -> dict[str, Any]:
    """The fields of a new ticket. Client, site and user are ids, because their names are not unique in Halo."""
    fields: dict[str, Any] = {}
    for list_name, field in (("ticket_type", "tickettype_id"), ("priority", "priority_id")):
        if name := content.get(list_name):
            entry = lists.find_by_name(list_name, str(name))
            if entry is None:
                return {"problem": client.missing_entry(client.TICKET_FIELD_MISSING, list_name, name)}
            fields[field] = int(entry.number)
    if content.get("team"):
        fields["team"] = content["team"]
    for key in ("client", "site", "user"):
        if str(content.get(key, "")).isdecimal():
            fields[f"{key}_id"] = int(content[key])
    return {"fields": fields}


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
            wrote["agent"] = "" if agent["number"] == UNASSIGNED_AGENT else agent["number"]
        if status := job.prepared.get("status"):
            wrote["status"] = status["name"]
        if priority := job.prepared.get("priority"):
            wrote["priority"] = [priority["name"], numbered_priority(priority["number"])]
        if team := job.prepared.get("team"):
            wrote["team"] = team
        records.append({"id": job.id, "wrote": wrote, "ticket": job.prepared.get("ticket", "")})
    if records:
        connection.execute(_WROTE, (as_json(records),))
