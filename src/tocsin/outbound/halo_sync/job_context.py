"""Loads the data for writes to Halo tickets: ids for status, agent and priority names, and the alert's ticket.

Records what is about to be written before it is sent, so that its echo is recognized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tocsin.alerts import store
from tocsin.alerts.new_alert import RepeatedMessages
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json
from tocsin.outbound.connectors.haloitsm.reference_data import ReferenceLists, load
from tocsin.outbound.connectors.interfaces import CallDone, CallJob
from tocsin.outbound.delivery import ticket_creation
from tocsin.outbound.delivery.integration_pool import ActiveIntegration
from tocsin.outbound.delivery.results import CallResult

#: The agent id of Halo's "Unassigned".
NOBODY = "1"

_LATER = """
SELECT order_key, max(id) FILTER (WHERE content ? 'agent') AS agent, max(id) FILTER (WHERE content ? 'status') AS status
FROM outbound_call WHERE integration_id = %s AND order_key = ANY(%s) AND status = 'queued' AND action = 'write'
GROUP BY order_key
"""

# A failed call that is sent again is older than writes made in the meantime.
_SINCE = """
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

    def prepare(self, connection: Connection, opened: ActiveIntegration, jobs: Sequence[CallJob]) -> Sequence[CallJob]:
        """Returns the jobs with names resolved to ids."""
        number = opened.account.id
        jobs = _without_what_was_set_since(connection, jobs)
        lists = load(connection, number)
        people = _people(connection, number, jobs)
        links = _links(connection, number, [job.alert_id for job in jobs if not job.ticket and job.alert_id])
        owners = _owners(connection, jobs)
        keys = sorted({job.order_key for job in jobs})
        later = {row["order_key"]: row for row in database.rows(connection, _LATER, (number, keys))}
        settings = opened.account.settings
        prepared = [
            replace(job, known=_known(job, settings, lists, people, links, later.get(job.order_key, {}), owners))
            for job in jobs
        ]
        _note_what_is_written(connection, prepared)
        same = _same_before(connection, [job.id for job in jobs if job.is_uncertain])
        return [replace(job, known={**job.known, "same_before": same.get(job.id, 0)}) for job in prepared]

    def conclude(self, connection: Connection, opened: ActiveIntegration, results: Sequence[CallResult]) -> None:
        """Stores the numbers of new tickets, and the agents that were written."""
        _know_agents(connection, results)
        made = [r for r in results if r.job.action == "create" and isinstance(r.outcome, CallDone)]
        if made:
            # The obstacle for other ticket creations may be gone too.
            ticket_creation.retry_creation(connection, opened.account.id, made[-1].at)
        for result in results:
            if result.job.action == "create" and isinstance(result.outcome, CallDone):
                connection.execute(
                    "UPDATE outbound_ticketlink SET ticket = %s, made_at = %s "
                    "WHERE integration_id = %s AND alert_id = %s",
                    (result.outcome.ticket, result.at, opened.account.id, result.job.alert_id),
                )


def _without_what_was_set_since(connection: Connection, jobs: Sequence[CallJob]) -> list[CallJob]:
    """The jobs without fields that a later write has already set."""
    found = {row["id"]: row for row in database.rows(connection, _SINCE, ([job.id for job in jobs],))}
    return [
        replace(job, content={name: value for name, value in job.content.items() if not row.get(name)})
        for job in jobs
        for row in [found.get(job.id, {})]
    ]


_SAME = """
SELECT c.id, (SELECT count(*) FROM outbound_call e WHERE e.integration_id = c.integration_id AND e.ticket = c.ticket
              AND e.ticket <> '' AND e.id < c.id AND e.progress ? 'note'
              AND e.content ->> 'note' = c.content ->> 'note')
FROM outbound_call c WHERE c.id = ANY(%s)
"""


def _same_before(connection: Connection, uncertain: Sequence[int]) -> dict[int, int]:
    """The number of notes with the same text that earlier calls wrote to the ticket, by call id."""
    if not uncertain:
        return {}
    return {row[0]: row[1] for row in connection.execute(_SAME, (list(uncertain),)).fetchall()}


def _know_agents(connection: Connection, results: Sequence[CallResult]) -> None:
    """Updates the alert's agent as Tocsin wrote it, in case the echoing webhook gets lost.

    This way, the next change in Halo is seen as a change.
    """
    wrote = {
        result.job.alert_id: result.job.known["agent"]
        for result in results
        if result.job.alert_id is not None and result.job.progress.get("fields") and result.job.known.get("agent")
    }
    found = database.rows(
        connection,
        "SELECT id, custom, last_message_at FROM alerts_alert WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
        (sorted(wrote),),
    )
    counted = []
    for row in found:
        agent = wrote[row["id"]]
        is_nobody = agent["number"] == NOBODY
        custom = {**row["custom"], "agent_id": "" if is_nobody else agent["number"]}
        changes = {"source_agent": "" if is_nobody else agent["name"], "custom": custom}
        counted.append(RepeatedMessages(row["id"], 0, row["last_message_at"], changes))
    store.count_messages(connection, counted)


@dataclass(frozen=True, slots=True)
class HaloUser:
    """A user's data for a write."""

    name: str
    email: str
    #: The agent matched by hand.
    chosen: str


def _people(connection: Connection, number: int, jobs: Sequence[CallJob]) -> dict[int, HaloUser]:
    ids = {user for job in jobs for user in (_user_of(job), job.content.get("who_user")) if isinstance(user, int)}
    if not ids:
        return {}
    found = database.rows(
        connection,
        "SELECT u.id, coalesce(nullif(u.name, ''), u.username) AS name, u.email, coalesce(m.number, '') AS chosen "
        "FROM people_user u LEFT JOIN outbound_agentmatch m ON m.user_id = u.id AND m.integration_id = %s "
        "WHERE u.id = ANY(%s)",
        (number, sorted(ids)),
    )
    return {row["id"]: HaloUser(row["name"], row["email"], row["chosen"]) for row in found}


def _owners(connection: Connection, jobs: Sequence[CallJob]) -> dict[int, tuple[int | None, str]]:
    """The current assignee of each alert."""
    wanted = [job.alert_id for job in jobs if job.alert_id is not None and "agent" in job.content]
    if not wanted:
        return {}
    found = connection.execute("SELECT id, owner_id, owner_name FROM alerts_alert WHERE id = ANY(%s)", (wanted,))
    return {row[0]: (row[1], row[2]) for row in found.fetchall()}


def _is_overtaken(wanted: Mapping[str, Any], owner: tuple[int | None, str] | None) -> bool:
    """Whether the alert has been reassigned since the call was queued, such as in Halo; then that assignment
    prevails."""
    if owner is None or owner == (None, ""):
        # Unassigned: an acknowledgement may still set an agent, and a write that unassigns is right.
        return False
    if wanted.get("user") is not None:
        return bool(owner[0] != wanted["user"])
    return bool(not wanted.get("name") or owner[1] != wanted["name"])


def _user_of(job: CallJob) -> int | None:
    agent = job.content.get("agent")
    return agent.get("user") if isinstance(agent, Mapping) else None


def _links(connection: Connection, number: int, alerts: Sequence[int]) -> dict[int, str]:
    if not alerts:
        return {}
    found = connection.execute(
        "SELECT alert_id, ticket FROM outbound_ticketlink WHERE integration_id = %s AND alert_id = ANY(%s)",
        (number, list(alerts)),
    )
    return {row[0]: row[1] for row in found.fetchall()}


def _known(
    job: CallJob,
    settings: Mapping[str, Any],
    lists: ReferenceLists,
    people: Mapping[int, HaloUser],
    links: Mapping[int, str],
    later: Mapping[str, Any],
    owners: Mapping[int, tuple[int | None, str]],
) -> dict[str, Any]:
    known: dict[str, Any] = {"note_action": settings.get("note_action", "")}
    if not job.ticket and job.alert_id is not None:
        known["ticket"] = links.get(job.alert_id, "")
    names = [key for key in ("status", "priority", "ticket_type") if job.content.get(key)]
    if (names or job.content.get("agent")) and not lists.is_known:
        return {**known, "wait": "Halo's lists of statuses and agents have not been read yet."}
    if job.action == "create":
        return known | _fields(job.content, lists)
    for noun in ("status", "priority"):
        name = job.content.get(noun)
        if not name or (noun == "status" and (later.get("status") or 0) > job.id):
            continue
        entry = lists.named(noun, str(name))
        if entry is None:
            said = f'Halo has no {noun} "{name}": it was renamed or taken away. Choose another for this event.'
            return {**known, "problem": said}
        known[noun] = {"number": entry.number, "name": entry.name}
    team = str(job.content.get("team", ""))
    if team and lists.has("team") and lists.named("team", team) is None:
        said = f'Halo has no team "{team}": it was renamed or taken away. Choose another for this event.'
        return {**known, "problem": said}
    known["team"] = team
    if "agent" in job.content and (later.get("agent") or 0) <= job.id:
        wanted = job.content["agent"]
        overtaken = _is_overtaken(wanted, owners.get(job.alert_id or 0))
        known |= {"remark": "Somebody else has it meanwhile."} if overtaken else agent_for(wanted, lists, people)
    who = people.get(job.content.get("who_user") or 0)
    stand_in = _agent_of(who, lists) if who is not None else None
    return {**known, "stand_in": stand_in} if stand_in else known


def agent_for(wanted: Mapping[str, Any], lists: ReferenceLists, people: Mapping[int, HaloUser]) -> dict[str, Any]:
    """The agent of a person: matched by hand, by e-mail, or else by name; a remark if there is none."""
    person = people.get(wanted.get("user") or 0)
    if person is not None:
        found = _agent_of(person, lists)
        if found is not None:
            return {"agent": found}
        why = f"Halo has no agent with the address {person.email}"
        if not person.email:
            why = f"{person.name} has no e-mail address by which Halo's agent is found"
        return {"remark": f"{why}: choose {person.name}'s agent under People."}
    name = str(wanted.get("name") or "")
    if not name:
        return {"agent": {"number": NOBODY, "name": "nobody"}}
    entry = lists.named("agent", name)
    return (
        {"agent": {"number": entry.number, "name": entry.name}} if entry else {"remark": f"Halo has no agent {name}."}
    )


def _agent_of(person: HaloUser, lists: ReferenceLists) -> dict[str, str] | None:
    entry = lists.numbered("agent", person.chosen) or lists.agent_with(person.email)
    return {"number": entry.number, "name": entry.name} if entry else None


def _fields(content: Mapping[str, Any], lists: ReferenceLists) -> dict[str, Any]:
    """The fields of a new ticket. Client, site and user are ids, because their names are not unique in Halo."""
    fields: dict[str, Any] = {}
    for noun, field in (("ticket_type", "tickettype_id"), ("priority", "priority_id")):
        if name := content.get(noun):
            entry = lists.named(noun, str(name))
            if entry is None:
                return {"problem": f'Halo has no {noun.replace("_", " ")} "{name}": choose another for new tickets.'}
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


def _note_what_is_written(connection: Connection, jobs: Sequence[CallJob]) -> None:
    """Records what each job is about to write. An empty agent means unassigned."""
    noted = []
    for job in jobs:
        wrote: dict[str, object] = {}
        if agent := job.known.get("agent"):
            wrote["agent"] = "" if agent["number"] == NOBODY else agent["number"]
        if status := job.known.get("status"):
            wrote["status"] = status["name"]
        if priority := job.known.get("priority"):
            wrote["priority"] = [priority["name"], f"Priority {priority['number']}"]
        if team := job.known.get("team"):
            wrote["team"] = team
        noted.append({"id": job.id, "wrote": wrote, "ticket": job.known.get("ticket", "")})
    if noted:
        connection.execute(_WROTE, (as_json(noted),))
