"""Turns agents' notes on tickets into replies on alerts: each note once, and never Tocsin's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, Reply
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.core.db import database
from tocsin.core.delivery.failure import NeedsAttention
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.outbound.connectors.haloitsm.client import HaloClient
from tocsin.outbound.connectors.haloitsm.connector import text_of_note
from tocsin.outbound.connectors.haloitsm.errors import TicketNotFound
from tocsin.outbound.connectors.interfaces import RecordedClient
from tocsin.outbound.halo_sync import ticket_messages

log = logging.getLogger(__name__)

#: Tickets whose notes are read per poll.
MAX_TICKETS_PER_POLL = 20
#: The maximum number of replies from a ticket seen for the first time.
_FIRST_NOTES = 10
#: The number of tickets for which the last note read is remembered.
_MAX_REMEMBERED_NOTES = 2000


class NotesPoll(Protocol):
    """The poll during which notes are read."""

    integration_id: int
    client: HaloClient
    http_client: RecordedClient
    settings: Mapping[str, Any]
    poll_state: dict[str, Any]
    now: datetime
    remarks: list[Reason]


def import_notes_as_replies(poll: NotesPoll, active_alerts: Mapping[str, int]) -> None:
    """Reads the notes of these tickets with active alerts; excess tickets are left for the next poll."""
    # None is forgotten if Halo stops responding.
    poll.poll_state["unread"] = list(active_alerts)
    last_note_ids: dict[str, int] = poll.poll_state.setdefault("notes", {})
    problem = NO_REASON
    for ticket, alert_id in list(active_alerts.items())[:MAX_TICKETS_PER_POLL]:
        try:
            actions = poll.client.list_actions(poll.http_client, ticket, poll.now)
        except NeedsAttention:
            raise
        except TicketNotFound:
            continue
        except Permanent as error:
            # Hidden notes must not stop the rest of the poll.
            problem = problem or error.full_reason
            continue
        own_agent, application = poll.poll_state.get("me", ""), str(poll.settings.get("application", ""))
        notes = ticket_messages.notes(actions, own_agent, application, text_of_note)
        new_notes = (
            [note for note in notes if note.id > last_note_ids[ticket]]
            if ticket in last_note_ids
            else notes[-_FIRST_NOTES:]
        )
        own_notes = _load_own_notes(poll.integration_id, ticket) if new_notes else set()
        for note in new_notes:
            if " ".join(note.text.split()) not in own_notes:
                _apply_reply(poll, alert_id, note)
        last_note_ids[ticket] = max([note.id for note in notes] + [last_note_ids.get(ticket, 0)])
    poll.remarks += [problem] if problem else []
    poll.poll_state["unread"] = list(active_alerts)[MAX_TICKETS_PER_POLL:]
    # Old tickets are forgotten.
    poll.poll_state["notes"] = dict(list(last_note_ids.items())[-_MAX_REMEMBERED_NOTES:])


def _apply_reply(poll: NotesPoll, alert_id: int, note: ticket_messages.TicketNote) -> None:
    user = _find_user(poll.integration_id, note.agent)
    actor = Actor(ActorKind.USER, user[1], user[0]) if user else Actor(ActorKind.CONTACT, note.agent_name)
    try:
        reply = Reply(actor=actor, via=CommandChannel.HALO, text=note.text[:20_000])
        alerts.apply_command(FoundAlert.by_tocsin(alert_id), reply, now=poll.now)
    except Rejected as rejected:
        log.info(
            "A note from Halo does not fit on alert %s: %s", alert_id, rejected.detail, extra={"alert_id": alert_id}
        )


def _load_own_notes(integration_id: int, ticket: str) -> set[str]:
    """Tocsin's own notes on a ticket, each as one line."""
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT content ->> 'note' FROM outbound_call WHERE integration_id = %s AND ticket = %s AND ticket <> '' "
            "ORDER BY id DESC LIMIT 100",
            (integration_id, ticket),
        ).fetchall()
    return {" ".join(row[0].split()) for row in rows if row[0]}


def _find_user(integration_id: int, agent: str) -> tuple[int, str] | None:
    """The user for an agent, matched by hand or by e-mail."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT u.id, coalesce(nullif(u.name, ''), u.username) FROM people_user u WHERE u.is_active AND (u.id = ("
            "SELECT user_id FROM outbound_agentmatch WHERE integration_id = %(i)s AND number = %(a)s LIMIT 1) "
            "OR (u.email <> '' AND lower(u.email) = (SELECT data ->> 'email' FROM outbound_lookup "
            "WHERE integration_id = %(i)s AND list_name = 'agent' AND number = %(a)s LIMIT 1))) ORDER BY u.id LIMIT 1",
            {"i": integration_id, "a": agent},
        ).fetchone()
    return (row[0], row[1]) if row else None
