"""Tickets read from Halo: as messages of the same form as Halo's webhooks, with their news and notes; and one ticket
before a decision on a message that does not contain it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, Reply
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.core.db import database
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind, NeedsAttention, Throttled, failure_of
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, reason_as_json
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.admin.simple_rules import StatusEffect, action_of_status, reports_new_status
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding import state
from tocsin.inbound.deciding.alert_creation import columns_of
from tocsin.inbound.deciding.state import CREATED_BY_FETCH, without_status
from tocsin.inbound.models import decompress
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.storage.messages import add_to_verdict
from tocsin.outbound.connectors.haloitsm.client import HaloSession, TicketNotFound, id_text
from tocsin.outbound.connectors.haloitsm.connector import HaloSender, text_of_note
from tocsin.outbound.connectors.interfaces import CallDone, RecordedClient
from tocsin.outbound.connectors.tickets import numbered_priority
from tocsin.outbound.delivery import results
from tocsin.outbound.delivery.results import ActiveIntegration, IntegrationPool
from tocsin.people.sql import find_by_id_or_email

# ---------- reasons
# Reasons of the synchronization with HaloITSM: permissions, webhook setup and monitoring, polling and lookups.


# Permissions, and what each is needed for.
SIGN_IN_AS = ReasonType("halo.permission.sign_in", "Sign in as {agent}")
READ_TICKETS = ReasonType("halo.permission.read_tickets", "Read tickets")
READ_LIST = ReasonType("halo.permission.read_list", "Read {list}")
SEE_WEBHOOKS = ReasonType("halo.permission.see_webhooks", "List webhooks")
FOR_EVERYTHING = ReasonType("halo.purpose.everything", "everything")
FOR_POLLING = ReasonType("halo.purpose.polling", "reading tickets back")
FOR_STATUS = ReasonType("halo.purpose.status", "setting a status")
FOR_TEAM = ReasonType("halo.purpose.team", "setting a team")
FOR_AGENT = ReasonType("halo.purpose.agent", "assigning tickets and matching agents with users")
FOR_PRIORITY = ReasonType("halo.purpose.priority", "setting a priority")
FOR_TICKET_TYPE = ReasonType("halo.purpose.ticket_type", "creating tickets")
FOR_OUTCOME = ReasonType("halo.purpose.outcome", "choosing the note action")
FOR_WEBHOOK = ReasonType("halo.purpose.webhook", "setting up the webhook")

# Import of agents.
NO_EMAIL = ReasonType("halo.import.no_email", "{agent} has no email address in Halo.")
NOT_IMPORTED = ReasonType("halo.import.not_imported", "{name}: {problem}")

# Webhook setup: the steps that were completed.
WEBHOOK_CREATED = ReasonType("halo.webhook.created", "Created the webhook, disabled.")
WEBHOOK_FOUND = ReasonType("halo.webhook.found", "Found the webhook and disabled it.")
WEBHOOK_URL_CHANGED = ReasonType("halo.webhook.url_changed", "Found the webhook, disabled it and set the new URL.")
OTHER_WEBHOOK = ReasonType(
    "halo.webhook.other",
    "Halo has another webhook to this integration, {webhook}: delete it in Halo, or each message arrives twice.",
)
WEBHOOK_READ_BACK = ReasonType("halo.webhook.read_back", "Verified the webhook URL in Halo.")
WEBHOOK_ENABLED = ReasonType("halo.webhook.enabled", "Enabled the webhook.")
WEBHOOK_SUBSCRIBED = ReasonType("halo.webhook.subscribed", "Subscribed to {events}.")
EVENTS_MISSING = ReasonType(
    "halo.webhook.events_missing", "This version of Halo has no event for {events}: polling detects those changes."
)
TEST_REQUESTED = ReasonType("halo.webhook.test_requested", "Requested a test message from Halo.")
TEST_NOT_LOGGED = ReasonType(
    "halo.webhook.test_not_logged", "Halo's log does not show the test yet. Create a ticket to verify delivery."
)
TEST_ARRIVED = ReasonType(
    "halo.webhook.test_arrived", "Halo's log confirms that the test was delivered (status {status})."
)
UNDO_FAILED = ReasonType("halo.webhook.undo_failed", "Could not be rolled back: {problem}")
UNDONE = ReasonType("halo.webhook.undone", "All changes in Halo were rolled back.")

# Webhook setup: where it stopped.
URL_TOO_LONG = ReasonType(
    "halo.webhook.url_too_long", "The URL is longer than Halo stores ({count} character).",
    "The URL is longer than Halo stores ({count} characters).",
)  # fmt: skip
SHORTEN_BASE_URL = ReasonType("halo.webhook.shorten_base_url", "Shorten the public URL.")
NO_WEBHOOK_ID = ReasonType("halo.webhook.no_id", "Halo did not return the ID of the webhook that it created.")
URL_NOT_STORED = ReasonType(
    "halo.webhook.url_not_stored", "Halo stored a different webhook URL than the one that was set."
)
TEST_FAILED = ReasonType("halo.webhook.test_failed", "Halo's test did not arrive: {problem}.")
TEST_ANSWERED = ReasonType("halo.webhook.test_answered", "Tocsin returned {status}")
TEST_UNANSWERED = ReasonType("halo.webhook.test_unanswered", "no response")
ALLOW_HALO = ReasonType(
    "halo.webhook.allow_halo", "Halo's cloud must be able to reach this URL; if it can't, use pull mode."
)

# Webhook monitoring.
WEBHOOK_SILENT = ReasonType(
    "halo.webhook.silent",
    "Polling finds changes that the webhook did not report: check the webhook's deliveries, events and "
    "conditions in Halo.",
)
WEBHOOK_DELETED = ReasonType("halo.webhook.deleted", "The webhook no longer exists in Halo: set it up again.")
WEBHOOK_OUTDATED = ReasonType(
    "halo.webhook.outdated", "The webhook in Halo still has the old URL, and it cannot be changed: {problem}"
)
WEBHOOK_DISABLED = ReasonType("halo.webhook.disabled", "Halo has disabled the webhook.")
LAST_DELIVERY = ReasonType("halo.webhook.last_delivery", "The last delivery returned {status}.")
ENABLE_WEBHOOK = ReasonType("halo.webhook.enable", "Set it up again, or enable it in Halo.")
WEBHOOK_OF = ReasonType("halo.webhook.problem_of", "{integration}: {problem}")

# Polling.
NOT_UNDERSTOOD = ReasonType("halo.poll.not_understood", "The response could not be processed; the log has the details.")
TICKET_DELETED = ReasonType("halo.ticket_deleted", "ticket {ticket} was deleted in Halo")
TICKETS_NOT_VISIBLE = ReasonType(
    "halo.tickets_not_visible",
    "Tocsin cannot see {count} ticket with an open alert in Halo: {tickets}. The alert stays open and keeps paging.",
    "Tocsin cannot see {count} tickets with an open alert in Halo: {tickets}. The alerts stay open and keep paging.",
)
TICKET_MERGED = ReasonType("halo.ticket_merged", "ticket {ticket} was merged into {parent} in Halo")

# Why a message was decided without its ticket, appended to the decision.
LOOKUP_BLOCKED = ReasonType(
    "halo.lookup.blocked", "decided without querying Halo, which rejects Tocsin until someone fixes it"
)
LOOKUP_UNREACHABLE = ReasonType("halo.lookup.unreachable", "decided without querying Halo, which is not responding")
LOOKUP_RATE_LIMITED = ReasonType(
    "halo.lookup.rate_limited", "decided without querying Halo, which is rate-limiting Tocsin"
)
LOOKUP_HIDDEN = ReasonType(
    "halo.lookup.hidden", "decided from the message alone, because the ticket is not visible in Halo"
)

# Shown in the inbound log.
CHANGED_SINCE_CREATION = ReasonType(
    "halo.changed_since_creation",
    "created since the last poll, and changed before this one: it is processed as it was created",
)


# ---------- ticket messages
# Converts tickets read from Halo to messages of the same form as Halo's webhooks, and detects news and agent notes.
#
# Pure.


RECONCILIATION = "reconciliation"

#: Stored in the message's headers and shown in the inbound log.
HEADERS = {"x-tocsin-found-by": RECONCILIATION}

#: Tickets changed this long before the last poll are read again: their change may have been in progress.
OVERLAP = timedelta(minutes=2)

#: The most a tenant's clock can be ahead of UTC; a later change is a mistyped date.
_AHEAD = timedelta(hours=15)

#: The fields that can name the ticket into which another was merged; undocumented, and different between versions.
_MERGED = ("merged_into_id", "mergedinto_id", "merged_into", "mergedintoid", "merged_to_id")

#: The fields that can have a priority's number.
_PRIORITY_NUMBERS = ("priority_id", "priorityid", "priority")

#: Columns compared with the alert.
_COMPARED = ("source_status", "subject", "client", "team", "source_priority")


@dataclass(slots=True)
class Poll:
    """What one poll of one Halo reads by, and what it finds."""

    integration_id: int
    halo: HaloSession
    settings: Mapping[str, Any]
    polled_until: str
    poll_state: dict[str, Any]
    inbound_integrations: Sequence[CompiledIntegration]
    now: datetime
    last_polled_at: datetime | None = None
    ingested_count: int = 0
    #: The same, by inbound integration id.
    ingested_by_integration: dict[int, int] = field(default_factory=dict)
    webhook_problem: Reason = NO_REASON
    next_page: int = 0
    #: Tickets created since the last poll and ingested as new.
    new_ticket_ids: list[str] = field(default_factory=list)
    remarks: list[Reason] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KnownTicket:
    """What Tocsin knows of a ticket: its last alert."""

    alert_id: int
    integration_id: int | None
    is_active: bool
    columns: Mapping[str, str]
    agent_id: str


def ticket_message(
    ticket: Mapping[str, Any], at: datetime, event: str = "found by reconciliation", remark: str = ""
) -> Element:
    """The message that Halo's webhook would have sent.

    `at` is the time of the response by Halo's clock, because the ticket's dates carry no zone and cannot tell how new
    it is. `remark` is a sentence for readers of the message.
    """
    payload: dict[str, object] = {
        "event": event,
        "object_id": int(id_text(ticket["id"])),
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        CREATED_BY_FETCH: RECONCILIATION,
        **({"message": remark} if remark else {}),
        "ticket": dict(ticket),
    }
    raw = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
    return Element(payload, raw)


def is_news(integration: CompiledIntegration, event: NormalizedEvent, known_ticket: KnownTicket | None) -> bool:
    """Whether the ticket contains news.

    Without an alert, it is news if it would open one; with a terminal alert, only if it was reopened.
    """
    if known_ticket is None:
        return event.action is EventAction.OPEN and event.check_filters().is_true
    columns = columns_of(integration, event)
    if not known_ticket.is_active:
        return event.action is EventAction.OPEN and columns.get("source_status") != known_ticket.columns.get(
            "source_status"
        )
    if event.action in (EventAction.CLOSE, EventAction.CANCEL):
        return True
    # A list contains a priority's id only, while a webhook contains its name.
    if columns.get("source_priority") in _numbered_priorities(event.payload):
        del columns["source_priority"]
    is_different = any(name in columns and columns[name] != known_ticket.columns.get(name, "") for name in _COMPARED)
    if "agent" not in event.mapped.values:
        return is_different
    agent_id = "" if event.mapped.is_nobody("agent") else event.mapped.text("agent_id") or ""
    return is_different or agent_id != known_ticket.agent_id


def _numbered_priorities(payload: object) -> set[str]:
    ticket = payload.get("ticket") if isinstance(payload, Mapping) else None
    numbers = [ticket.get(name) for name in _PRIORITY_NUMBERS] if isinstance(ticket, Mapping) else []
    return {numbered_priority(number) for number in numbers if number is not None}


def merged_into(ticket: Mapping[str, Any]) -> str:
    """The number of the ticket into which this one was merged, or ""."""
    ticket_ids = (id_text(ticket.get(key)) for key in _MERGED)
    return next((ticket_id for ticket_id in ticket_ids if ticket_id.isdecimal() and int(ticket_id) > 0), "")


def parse_date(text: object) -> datetime | None:
    """A Halo date, which has no zone; None if absent, or for 1900-01-01."""
    if not isinstance(text, str) or not text:
        return None
    try:
        parsed = datetime.fromisoformat(text.strip().rstrip("Z")[:26])
    except ValueError:
        return None
    parsed = parsed.replace(tzinfo=None)
    return parsed if parsed.year > 1901 else None


def newest_change(tickets: Sequence[Mapping[str, Any]], previous: str, now: datetime) -> str:
    """Up to when tickets have been read, in Halo's format: the newest change among them, or `previous`.

    Dates in the future do not count: after one, nothing would ever be found again.
    """
    latest = now.astimezone(UTC).replace(tzinfo=None) + _AHEAD
    changes = [
        text for ticket in tickets if (at := parse_date(text := ticket.get("last_update"))) is not None and at <= latest
    ]
    latest_text = max(changes, key=lambda text: parse_date(text) or datetime.min, default="")  # noqa: DTZ901 - zoneless by nature
    previous_at = parse_date(previous)
    if not latest_text or (previous_at is not None and (parse_date(latest_text) or previous_at) < previous_at):
        return previous
    return str(latest_text)


def overlap_start(polled_until: str, zone: str = "UTC") -> str:
    """From when on tickets are read again.

    When clocks go back in the zone of Halo's dates, an hour occurs twice, and later changes seem older than the ones
    read; then the whole hour is read again.
    """
    at = parse_date(polled_until)
    if at is None:
        return polled_until
    offset, later_offset = (at.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    repeated_hour = (
        max(offset - later_offset, timedelta()) if offset is not None and later_offset is not None else timedelta()
    )
    return (at - OVERLAP - repeated_hour).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class TicketNote:
    """A note by an agent on a ticket."""

    id: int
    agent: str
    agent_name: str
    text: str


def ticket_notes(actions: Sequence[Mapping[str, Any]], own_agent_id: str, application: str) -> list[TicketNote]:
    """The agents' notes among a ticket's actions, oldest first, without Tocsin's own.

    Tocsin's notes are recognized by its agent id or by the name of its application in Halo.
    """
    agent_notes = []
    for action in actions:
        action_id, agent = id_text(action.get("id")), id_text(action.get("who_agentid"))
        application_id = str(action.get("actionby_application_id") or "")
        is_from_tocsin = (own_agent_id and agent == own_agent_id) or (
            application and application_id.casefold() == application.casefold()
        )
        if is_from_tocsin or not action_id.isdecimal() or not agent.isdecimal() or int(agent) < 2:
            continue
        text = text_of_note(action).strip()
        if text:
            agent_notes.append(TicketNote(int(action_id), agent, str(action.get("who") or f"Agent {agent}"), text))
    return sorted(agent_notes, key=lambda note: note.id)


# ---------- new tickets
# Handles tickets created since the last poll.
#
# A ticket that changed since its creation may have been in a state that opens an alert: it is ingested first as it was
# created, then as it is. An unchanged one is decided by its own status, as its webhook would have been.


#: The event name in the webhook of a new ticket.
_EVENT = "new ticket logged"

#: Halo writes the two dates of a new ticket one after the other.
_SAME_CREATION = timedelta(seconds=1)

#: How long before the poll a webhook may have arrived at which its ticket was not visible yet.
_BEFORE = timedelta(hours=1)
#: How far back webhooks are searched before the first poll.
_MAX_LOOKBACK = timedelta(days=1)

#: Keys of the poll state: the highest ticket id seen; the same from polls that did not read all pages; and the new
#: tickets ingested by those.
HIGHEST, _HIGHER, _INGESTED = "highest", "higher", "met"


def is_new(ticket: Mapping[str, Any], poll_state: Mapping[str, Any], polled_until: str) -> bool:
    """Whether a ticket was created since the last poll.

    Ids are ascending, while a person can backdate a ticket. The date decides only as long as no id is known.
    """
    ticket_id = id_text(ticket.get("id"))
    if ticket_id in poll_state.get(_INGESTED, ()):
        return False
    if highest := poll_state.get(HIGHEST):
        return int(ticket_id) > int(highest)
    created, last_poll_at = parse_date(ticket.get("dateoccurred")), parse_date(polled_until)
    return created is not None and last_poll_at is not None and created >= last_poll_at


def remember(poll_state: dict[str, Any], tickets: Sequence[Mapping[str, Any]], *, is_complete: bool) -> None:
    """Records the tickets seen. `is_complete`: every page was read, so a higher id means a newer ticket."""
    ticket_ids = [int(ticket_id) for ticket in tickets if (ticket_id := id_text(ticket.get("id"))).isdecimal()]
    highest = max([int(poll_state.pop(_HIGHER, 0)), int(poll_state.get(HIGHEST) or 0), *ticket_ids])
    if not is_complete:
        poll_state[_HIGHER] = highest
        return
    poll_state.pop(_INGESTED, None)
    if highest:
        poll_state[HIGHEST] = highest


def mark_ingested(poll_state: dict[str, Any], ticket_ids: Sequence[str]) -> None:
    """Records that these new tickets were ingested, until a poll has read all pages."""
    if ticket_ids:
        poll_state[_INGESTED] = list(dict.fromkeys([*poll_state.get(_INGESTED, ()), *ticket_ids]))


def messages(
    ticket: Mapping[str, Any],
    at: datetime,
    candidates: Sequence[tuple[CompiledIntegration, NormalizedEvent]],
    *,
    is_pulled: bool,
) -> Iterator[tuple[Element, CompiledIntegration]]:
    """The messages for a new ticket that opens no alert in its current state and has no alert for its key.

    `candidates` are the integrations that would have received it, each with its reading of the current state. Without
    webhooks (`is_pulled`), an unchanged ticket is ingested too, so that users see which status opened nothing.
    """
    unopened = [
        integration for integration, event in candidates if event.action in (EventAction.UPDATE, EventAction.NONE)
    ]
    if not _has_changed(ticket):
        if is_pulled and unopened:
            yield ticket_message(ticket, at, _EVENT), unopened[0]
        return
    for integration in unopened:
        if (creation_message := _creation_message(integration, ticket, at)) is not None:
            yield creation_message, integration
            yield ticket_message(ticket, at), integration
            return


def _has_changed(ticket: Mapping[str, Any]) -> bool:
    """Whether a ticket changed since its creation, as far as its dates show."""
    created, changed = parse_date(ticket.get("dateoccurred")), parse_date(ticket.get("last_update"))
    return created is None or changed is None or abs(changed - created) > _SAME_CREATION


def _creation_message(integration: CompiledIntegration, ticket: Mapping[str, Any], at: datetime) -> Element | None:
    """The message of the new ticket, if it would have opened an alert with some status."""
    fields = without_status(ticket)
    for status in ({}, *({"status_id": int(status_id)} for status_id in _opening_status_ids(integration))):
        message = ticket_message({**fields, **status}, at, _EVENT, str(CHANGED_SINCE_CREATION()))
        event = integration.normalizer.normalize(message)
        if isinstance(event, NormalizedEvent) and event.action is EventAction.OPEN and event.check_filters().is_true:
            return Element(message.payload, message.raw, (CHANGED_SINCE_CREATION(),))
    return None


def _opening_status_ids(integration: CompiledIntegration) -> list[str]:
    """The ids of the statuses that open an alert, for installations where New has another name."""
    statuses = integration.settings.get("statuses")
    names = statuses.items() if isinstance(statuses, Mapping) else ()
    return [
        status_id
        for status_id, name in names
        if str(status_id).isdecimal() and action_of_status(integration.normalizer, str(name)) is StatusEffect.OPEN
    ]


_REPORTED = """
SELECT integration_id, source_id, raw, content_type FROM inbound_inboundmessage
WHERE integration_id = ANY(%(doors)s) AND id >= %(since)s AND source_id = ANY(%(tickets)s)
  AND NOT test AND replay_of IS NULL AND NOT headers ? %(found_by)s ORDER BY id LIMIT 500
"""


def find_reported(
    integrations: Sequence[CompiledIntegration],
    ticket_ids: Sequence[str],
    last_polled_at: datetime | None,
    now: datetime,
) -> set[str]:
    """Those of these tickets whose creation a webhook reported, so that the rules have decided on them."""
    since = max(last_polled_at or now - _MAX_LOOKBACK, now - _MAX_LOOKBACK) - _BEFORE
    parameters = {
        "doors": [integration.id for integration in integrations],
        "since": first_uuid7(since),
        "tickets": list(ticket_ids),
        "found_by": next(iter(HEADERS)),
    }
    by_id = {integration.id: integration for integration in integrations}
    with database.transaction() as connection:
        rows = database.rows(connection, _REPORTED, parameters)
    return {
        row["source_id"]
        for row in rows
        if reports_new_status(by_id[row["integration_id"]].normalizer, decompress(row["raw"]), row["content_type"])
    }


# ---------- notes
# Turns agents' notes on tickets into replies on alerts: each note once, and never Tocsin's own.


log = logging.getLogger(__name__)

#: Tickets whose notes are read per poll.
MAX_TICKETS_PER_POLL = 20
#: The maximum number of replies from a ticket seen for the first time.
_FIRST_NOTES = 10
#: The number of tickets for which the last note read is remembered.
_MAX_REMEMBERED_NOTES = 2000


def import_notes_as_replies(poll: Poll, active_alerts: Mapping[str, int]) -> None:
    """Reads the notes of these tickets with active alerts; excess tickets are left for the next poll."""
    # None is forgotten if Halo stops responding.
    poll.poll_state["unread"] = list(active_alerts)
    last_note_ids: dict[str, int] = poll.poll_state.setdefault("notes", {})
    problem = NO_REASON
    for ticket, alert_id in list(active_alerts.items())[:MAX_TICKETS_PER_POLL]:
        try:
            actions = poll.halo.list_actions(ticket)
        except NeedsAttention:
            raise
        except TicketNotFound:
            continue
        except Permanent as error:
            # Hidden notes must not stop the rest of the poll.
            problem = problem or error.full_reason
            continue
        own_agent, application = poll.poll_state.get("me", ""), str(poll.settings.get("application", ""))
        notes = ticket_notes(actions, own_agent, application)
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


def _apply_reply(poll: Poll, alert_id: int, note: TicketNote) -> None:
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
            "SELECT (SELECT user_id FROM outbound_agentmatch WHERE integration_id = %(i)s AND number = %(a)s LIMIT 1), "
            "(SELECT data ->> 'email' FROM outbound_lookup "
            "WHERE integration_id = %(i)s AND list_name = 'agent' AND number = %(a)s LIMIT 1)",
            {"i": integration_id, "a": agent},
        ).fetchone()
        assert row is not None
        return find_by_id_or_email(connection, *row)


# ---------- lookup before decide
# Reads a ticket from Halo before deciding on a message that does not contain the ticket's state.
#
# While Halo is unreachable, rejects Tocsin or rate-limits it, no lookup is made, and the message is decided as it is,
# with the reason noted.


#: Messages completed per run.
_MAX_MESSAGES_PER_RUN = 5
#: Longer ticket texts are irrelevant for a decision and left out.
_MAX_TEXT_CHARS = 100_000
_WAITS = "status = 'Pending' AND verdict ->> 'reread' = 'wanted'"


@dataclass(frozen=True, slots=True)
class TicketLookup:
    """The ticket in Halo, or why it is unknown."""

    ticket: Mapping[str, Any] = field(default_factory=dict)
    #: Why the message is decided without the ticket, appended to its reason.
    skip_reason: Reason = NO_REASON
    #: Until when Halo rate-limits Tocsin.
    retry_at: datetime | None = None


def lookup_task(pool: IntegrationPool) -> PeriodicTask:
    """The worker's periodic task."""
    topics = frozenset({state.TICKET_FETCH})
    return PeriodicTask(
        "outbound ask",
        lambda: complete_waiting_messages(pool, clock.now),
        timedelta(seconds=1),
        topics,
        due=database.literal(f"EXISTS (SELECT FROM inbound_inboundmessage WHERE {_WAITS})"),
    )


def complete_waiting_messages(pool: IntegrationPool, now: Callable[[], datetime]) -> bool:
    """Completes waiting messages, a few at a time, by reading their tickets from Halo."""
    with database.transaction() as connection:
        pool.refresh(connection)
        messages = database.rows(
            connection,
            "SELECT id, integration_id, source_id, received_at FROM inbound_inboundmessage "
            f"WHERE {_WAITS} ORDER BY id LIMIT %s",
            (_MAX_MESSAGES_PER_RUN,),
        )
    if not messages:
        return False
    inbound_registry = registry.shared_registry()
    inbound_registry.refresh()
    lookups: dict[tuple[int, str], TicketLookup] = {}
    has_progress = False
    for row in messages:
        key = (row["integration_id"], row["source_id"])
        if key not in lookups:
            lookups[key] = _fetch_ticket(pool, inbound_registry, key, now)
        lookup = lookups[key]
        if lookup.retry_at is not None and lookup.retry_at < row["received_at"] + state.LOOKUP_TIMEOUT:
            # The limit ends early enough to ask again.
            continue
        has_progress = True
        fields = {
            state.TICKET_FETCH: lookup.ticket,
            **({state.FETCH_SKIPPED: reason_as_json(lookup.skip_reason)} if lookup.skip_reason else {}),
        }
        with database.transaction() as connection:
            add_to_verdict(connection, row["id"], fields)
            database.notify(connection, "pending")
    return has_progress


def _fetch_ticket(
    pool: IntegrationPool,
    inbound_registry: registry.IntegrationRegistry,
    key: tuple[int, str],
    now: Callable[[], datetime],
) -> TicketLookup:
    """The ticket in Halo; without one if Halo must not be asked or does not answer."""
    try:
        inbound_integration = inbound_registry.get(key[0])
    except UnknownIntegration:
        return TicketLookup()
    integration = pool.get(inbound_integration.outbound_id or 0)
    if (
        integration is None
        or not isinstance(integration.sender, HaloSender)
        or not integration.account.settings.get("reread", True)
    ):
        return TicketLookup()
    started_at = now()
    if (skipped := _skip_reason(integration, started_at)) is not None:
        return skipped
    http_client = RecordedClient(pool.client, now, integration.secrets)
    try:
        ticket, _at = integration.sender.client.session(http_client, started_at).get_ticket(key[1])
    except (Temporary, Permanent) as error:
        log.info("Ticket %s could not be read before deciding: %s", key[1], error)
        outcome = failure_of(error)
        reason = _SKIP_REASONS.get(outcome.kind, LOOKUP_UNREACHABLE)()
        _record_outcome(pool, integration, http_client, outcome, now())
        if isinstance(error, Throttled):
            return _skip_reason(integration, now()) or TicketLookup(skip_reason=reason)
        return TicketLookup(skip_reason=reason)
    _record_outcome(pool, integration, http_client, CallDone(), now())
    return TicketLookup(
        {key: value for key, value in ticket.items() if not (isinstance(value, str) and len(value) > _MAX_TEXT_CHARS)}
    )


_SKIP_REASONS = {
    FailureKind.THROTTLED: LOOKUP_RATE_LIMITED,
    FailureKind.BLOCKED: LOOKUP_BLOCKED,
    FailureKind.PERMANENT: LOOKUP_HIDDEN,
}


def _skip_reason(integration: ActiveIntegration, now: datetime) -> TicketLookup | None:
    """Why Halo must not be asked now; None if it may be."""
    with database.transaction() as connection:
        row = database.row(
            connection,
            "SELECT open_until, blocked_until, not_before FROM outbound_integrationstatus WHERE integration_id = %s",
            (integration.account.id,),
        )
    if row is None:
        return None
    status: Mapping[str, datetime | None] = row
    causes = {
        "blocked_until": LOOKUP_BLOCKED,
        "open_until": LOOKUP_UNREACHABLE,
        "not_before": LOOKUP_RATE_LIMITED,
    }
    for name, reason in causes.items():
        if (until := status[name]) is not None and until > now:
            return TicketLookup(skip_reason=reason(), retry_at=until if name == "not_before" else None)
    return None


def _record_outcome(
    pool: IntegrationPool,
    integration: ActiveIntegration,
    http_client: RecordedClient,
    outcome: CallDone | AttemptFailed,
    now: datetime,
) -> None:
    if isinstance(outcome, AttemptFailed):
        outcome = replace(outcome, error=http_client.mask_reason(outcome.error))
    with database.transaction() as connection:
        results.update_status(connection, pool, integration.account.id, [(outcome, now)], http_client.requests)
        if isinstance(outcome, AttemptFailed):
            results.store_exchange(
                connection, [(integration.account.id, None, exchange) for exchange in http_client.exchanges]
            )
