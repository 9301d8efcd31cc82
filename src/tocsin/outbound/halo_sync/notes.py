"""Turns agents' notes on tickets into replies on alerts: each note once, and never Tocsin's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, Reply
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected
from tocsin.outbound.connectors.haloitsm.client import HaloClient
from tocsin.outbound.connectors.haloitsm.connector import text_of_note
from tocsin.outbound.connectors.haloitsm.errors import TicketNotFound
from tocsin.outbound.connectors.interfaces import NeedsAttention, RecordedClient
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
    line: RecordedClient
    settings: Mapping[str, Any]
    poll_state: dict[str, Any]
    now: datetime
    remarks: list[str]


def import_notes_as_replies(look: NotesPoll, live: Mapping[str, int]) -> None:
    """Reads the notes of these tickets with active alerts; excess tickets are left for the next poll."""
    # None is forgotten if Halo stops responding.
    look.poll_state["unread"] = list(live)
    seen: dict[str, int] = look.poll_state.setdefault("notes", {})
    refused = ""
    for ticket, alert_id in list(live.items())[:MAX_TICKETS_PER_POLL]:
        try:
            actions = look.client.actions(look.line, ticket, look.now)
        except NeedsAttention:
            raise
        except TicketNotFound:
            continue
        except Permanent as error:
            # Hidden notes must not stop the rest of the poll.
            refused = refused or str(error)
            continue
        me, application = look.poll_state.get("me", ""), str(look.settings.get("application", ""))
        found = ticket_messages.notes(actions, me, application, text_of_note)
        fresh = [note for note in found if note.id > seen[ticket]] if ticket in seen else found[-_FIRST_NOTES:]
        written = _written(look.integration_id, ticket) if fresh else set()
        for note in fresh:
            if " ".join(note.text.split()) not in written:
                _reply(look, alert_id, note)
        seen[ticket] = max([note.id for note in found] + [seen.get(ticket, 0)])
    look.remarks += [refused] if refused else []
    look.poll_state["unread"] = list(live)[MAX_TICKETS_PER_POLL:]
    # Old tickets are forgotten.
    look.poll_state["notes"] = dict(list(seen.items())[-_MAX_REMEMBERED_NOTES:])


def _reply(look: NotesPoll, alert_id: int, note: ticket_messages.TicketNote) -> None:
    user = _user_of(look.integration_id, note.agent)
    actor = Actor(ActorKind.USER, user[1], user[0]) if user else Actor(ActorKind.CONTACT, note.agent_name)
    try:
        alerts.apply_command(
            alert_id, Reply(actor=actor, via=CommandChannel.HALO, text=note.text[:20_000]), now=look.now
        )
    except Rejected as rejected:
        log.info("A note from Halo does not fit on alert %s: %s", alert_id, rejected.detail)


def _written(integration_id: int, ticket: str) -> set[str]:
    """Tocsin's own notes on a ticket, each as one line."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT content ->> 'note' FROM outbound_call WHERE integration_id = %s AND ticket = %s AND ticket <> '' "
            "ORDER BY id DESC LIMIT 100",
            (integration_id, ticket),
        ).fetchall()
    return {" ".join(row[0].split()) for row in found if row[0]}


def _user_of(integration_id: int, agent: str) -> tuple[int, str] | None:
    """The user for an agent, matched by hand or by e-mail."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT u.id, coalesce(nullif(u.name, ''), u.username) FROM people_user u WHERE u.is_active AND (u.id = ("
            "SELECT user_id FROM outbound_agentmatch WHERE integration_id = %(i)s AND number = %(a)s LIMIT 1) "
            "OR (u.email <> '' AND lower(u.email) = (SELECT data ->> 'email' FROM outbound_lookup "
            "WHERE integration_id = %(i)s AND noun = 'agent' AND number = %(a)s LIMIT 1))) ORDER BY u.id LIMIT 1",
            {"i": integration_id, "a": agent},
        ).fetchone()
    return (row[0], row[1]) if row else None
