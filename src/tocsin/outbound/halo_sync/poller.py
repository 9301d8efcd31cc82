"""Polls Halo for changed tickets and ingests what is new, like any other message.

Polls every few minutes, in pull mode every half minute, and immediately after an outage. Also detects deleted or merged
tickets, and webhooks that are silent or disabled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, BaseCommand, Cancel
from tocsin.alerts.states import ACTIVE, ActorKind, CommandChannel
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.json_text import as_json
from tocsin.core.errors import Permanent, Rejected, Temporary, TocsinError
from tocsin.core.ids import key_hash, uuid7
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.processing.process_now import process_now
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.outbound import rate_limit
from tocsin.outbound.connectors.haloitsm import reference_data
from tocsin.outbound.connectors.haloitsm.client import MAX_LIST_PAGES, PAGE_SIZE, HaloClient, whole
from tocsin.outbound.connectors.haloitsm.connector import HaloSender
from tocsin.outbound.connectors.haloitsm.errors import TicketNotFound
from tocsin.outbound.connectors.interfaces import CallDone, NeedsAttention, RecordedClient, Throttled
from tocsin.outbound.delivery import results, ticket_creation
from tocsin.outbound.delivery.integration_pool import IntegrationPool
from tocsin.outbound.halo_sync import (
    lookup_before_decide,
    new_tickets,
    notes,
    poll_lease,
    ticket_messages,
    webhook_monitor,
)
from tocsin.outbound.halo_sync.ticket_messages import KnownTicket
from tocsin.outbound.models import OutboundIntegration

log = logging.getLogger(__name__)

POLL_INTERVAL = timedelta(minutes=3)
PULL_INTERVAL = timedelta(seconds=30)
#: In pull mode polling is the only source of tickets, so a rejection that lasted only a minute must not block for long.
BLOCKED_INTERVAL = timedelta(minutes=5)
#: The interval for rereading Halo's lists.
LISTS_TTL = timedelta(hours=12)
#: The first poll only finds the starting point; Halo's dates may be this far behind UTC.
_BEHIND = timedelta(hours=15)

#: Messages ingested at a time, and active tickets checked individually per poll.
_CHUNK, _SINGLY = 50, 10


@dataclass(slots=True)
class PollRun:
    """One poll of one Halo."""

    integration_id: int
    client: HaloClient
    line: RecordedClient
    settings: Mapping[str, Any]
    polled_until: str
    poll_state: dict[str, Any]
    doors: Sequence[CompiledIntegration]
    now: datetime
    last_polled_at: datetime | None = None
    found: int = 0
    #: The same, by inbound integration id.
    found_by: dict[int, int] = field(default_factory=dict)
    webhook_problem: str = ""
    next_page: int = 0
    #: Tickets created since the last poll and ingested as new.
    begun: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def carry_out(self) -> None:
        """Runs all parts of the poll in order. Raises Temporary or Permanent; completed parts remain done."""
        self._read_lists()
        if not self.polled_until:
            self._begin()
            return
        changed = self._changed()
        if changed:
            into = {
                whole(ticket["id"]): parent
                for ticket, _at in changed
                if (parent := ticket_messages.merged_into(ticket))
            }
            self._bring_in([(ticket, at) for ticket, at in changed if whole(ticket["id"]) not in into])
            # Handled after the ingestion, because a merged ticket's parent may only just have become known.
            for ticket, alert_id in (self._live(list(into)) if into else {}).items():
                self._merge(alert_id, ticket, into[ticket])
        if self.settings.get("read_notes", True):
            # Tickets whose notes could not be read before come first.
            wanted = [*self.poll_state.get("unread", ()), *(whole(ticket["id"]) for ticket, _at in changed)]
            notes.import_notes_as_replies(self, self._live(wanted))
        self._move_on([ticket for ticket, _at in changed])
        self._look_singly({whole(ticket["id"]) for ticket, _at in changed})
        if not self.settings.get("pull"):
            self.webhook_problem = webhook_monitor.problems(self)

    def _read_lists(self) -> None:
        at = self.poll_state.get("lists_at")
        if at and datetime.fromisoformat(at) > self.now - LISTS_TTL:
            return
        refresh_lists(self.integration_id, self.client, self.line, self.poll_state, self.now)

    def _begin(self) -> None:
        """Sets the starting point; older changes are not read."""
        seen = ""
        first = (self.now - _BEHIND).replace(tzinfo=None).isoformat(timespec="seconds")
        for rows, _at in self.client.pages(self.line, self.now, {"lastupdatefromdate": first, "order": "id"}):
            seen = ticket_messages.newest(rows, seen, self.now)
            new_tickets.remember(self.poll_state, rows, is_all=len(rows) < PAGE_SIZE)
        self.polled_until = seen or first

    def _changed(self) -> list[tuple[dict[str, Any], datetime]]:
        """The tickets changed since the last poll, each with the time of the response by Halo's clock."""
        begin = ticket_messages.since(self.polled_until, self._zone())
        earliest = ticket_messages.moment(begin)
        found = []
        first = int(self.poll_state.get("page", 1))
        pages, full = 0, False
        asked = {"lastupdatefromdate": begin, "order": "id"}
        for rows, at in self.client.pages(self.line, self.now, asked, first):
            pages, full = pages + 1, len(rows) == PAGE_SIZE
            if first == pages == 1:
                self.poll_state["begun"] = at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
            for ticket in rows:
                changed = ticket_messages.moment(ticket.get("last_update"))
                # Halo ignores a filter that its version does not know.
                if whole(ticket.get("id")).isdecimal() and not (changed and earliest and changed < earliest):
                    found.append((ticket, at))
        # There were more changes than one poll reads; the next poll continues with this page.
        self.next_page = first + pages if pages == MAX_LIST_PAGES and full else 0
        return found

    def _zone(self) -> str:
        """The zone of Halo's dates, which carry no offset."""
        return str(self.settings.get("time_zone") or settings_store.get(settings_store.TIME_ZONE))

    def _move_on(self, changed: Sequence[dict[str, Any]]) -> None:
        """Sets where the next poll starts: at the newest change, once all pages were read.

        If that took several polls, then no later than the start of the first, because a later change may be on a page
        that was read before.
        """
        newest = ticket_messages.newest(changed, self.poll_state.get("newest") or self.polled_until, self.now)
        new_tickets.remember(self.poll_state, changed, is_all=not self.next_page)
        if self.next_page:
            self.poll_state |= {"page": self.next_page, "newest": newest}
            return
        begun, last = ticket_messages.moment(self.poll_state.pop("begun", None)), ticket_messages.moment(newest)
        if self.poll_state.pop("page", None) and begun and last and begun < last:
            newest = begun.isoformat(timespec="seconds")
        self.polled_until = newest
        self.poll_state.pop("newest", None)

    def _bring_in(self, tickets: Sequence[tuple[dict[str, Any], datetime]]) -> None:
        """Ingests what is new through the integration that would have received it."""
        wanted: list[IncomingMessage] = []
        for element, door in self._news(tickets):
            wanted.append(self._incoming(door, element))
            self.found_by[door.id] = self.found_by.get(door.id, 0) + 1
        for start in range(0, len(wanted), _CHUNK):
            process_now(wanted[start : start + _CHUNK], self.now)
        self.found += len(wanted)
        new_tickets.already_seen(self.poll_state, self.begun)

    def _incoming(self, door: CompiledIntegration, element: Element) -> IncomingMessage:
        return IncomingMessage(
            uuid7(), door.id, self.now, element.raw, element, "application/json", ticket_messages.HEADERS
        )  # fmt: skip

    def _news(
        self, tickets: Sequence[tuple[dict[str, Any], datetime]]
    ) -> Iterable[tuple[Element, CompiledIntegration]]:
        read: list[tuple[Element, list[tuple[CompiledIntegration, NormalizedEvent]]]] = []
        for ticket, at in tickets:
            element = ticket_messages.message(ticket, at)
            ways = [(door, one) for door in self.doors if isinstance(one := door.reader.read(element), NormalizedEvent)]
            read.append((element, ways))
        keys = {_key(door, one) for _element, ways in read for door, one in ways}
        known, waiting = known_alerts(keys), waiting_keys(keys)
        new: list[tuple[dict[str, Any], datetime, list[tuple[CompiledIntegration, NormalizedEvent]]]] = []
        for (ticket, at), (element, ways) in zip(tickets, read, strict=True):
            door = _whose_news(ways, known, waiting)
            if door is not None:
                yield element, door
            elif not any(_key(*way) in known or _key(*way) in waiting for way in ways):
                new += [(ticket, at, ways)] if new_tickets.is_new(ticket, self.poll_state, self.polled_until) else []
        yield from self._new(new)

    def _new(
        self, tickets: Sequence[tuple[dict[str, Any], datetime, list[tuple[CompiledIntegration, NormalizedEvent]]]]
    ) -> Iterable[tuple[Element, CompiledIntegration]]:
        """The messages for tickets that were created since the last poll and open nothing in their current state."""
        is_pulled = bool(self.settings.get("pull"))
        numbers = [whole(ticket["id"]) for ticket, _at, _ways in tickets]
        told = (
            new_tickets.mark_reported(self.doors, numbers, self.last_polled_at, self.now)
            if numbers and not is_pulled
            else set()
        )
        for ticket, at, ways in tickets:
            if whole(ticket["id"]) not in told:
                yield from new_tickets.messages(ticket, at, ways, is_pulled=is_pulled)
        self.begun = numbers

    def _live(self, tickets: Sequence[str] | None = None, above: int = 0, most: int = 1000) -> dict[str, int]:
        """Active alerts of these integrations by ticket number, oldest first."""
        with database.transaction() as connection:
            found = database.rows(
                connection,
                "SELECT id, source_id FROM alerts_alert WHERE integration_id = ANY(%s) AND status = ANY(%s) "
                "AND id > %s AND source_id <> '' AND NOT is_test AND (%s OR source_id = ANY(%s)) ORDER BY id LIMIT %s",
                ([door.id for door in self.doors], sorted(ACTIVE), above, tickets is None, list(tickets or ()), most),
            )
        return {row["source_id"]: row["id"] for row in found}

    def _look_singly(self, changed: set[str]) -> None:
        """Checks a few active alerts' tickets individually: deleted or merged tickets do not show up as changed."""
        above = int(self.poll_state.get("looked_singly_to", 0))
        live = self._live(above=above, most=_SINGLY)
        self.poll_state["looked_singly_to"] = max(live.values(), default=0) if len(live) == _SINGLY else 0
        gone: dict[str, int] = self.poll_state.setdefault("gone", {})
        again: list[tuple[dict[str, Any], datetime]] = []
        waiting = self._live(list(gone)) if gone else {}
        for ticket, alert_id in {**live, **waiting}.items():
            if ticket in changed or not ticket.isdecimal():
                continue
            try:
                whole_ticket, at = self.client.ticket(self.line, ticket, self.now)
            except TicketNotFound as error:
                self._is_gone(ticket, alert_id, error, gone)
                continue
            except NeedsAttention:
                raise
            except Permanent as error:
                self.remarks.append(str(error))
                continue
            gone.pop(ticket, None)
            if parent := ticket_messages.merged_into(whole_ticket):
                self._merge(alert_id, ticket, parent)
            else:
                again.append((whole_ticket, at))
        self._bring_in(again)
        self.poll_state["gone"] = {ticket: times for ticket, times in gone.items() if ticket in {**live, **waiting}}

    def _is_gone(self, ticket: str, alert_id: int, error: TicketNotFound, gone: dict[str, int]) -> None:
        """Cancels the alert of a deleted ticket: one unknown to Halo (404) in two polls.

        A ticket that is merely hidden may still need somebody, so its alert stays.
        """
        if "(404)" not in error.detail:
            self.remarks.append(error.detail)
            return
        gone[ticket] = gone.get(ticket, 0) + 1
        if gone[ticket] < 2:
            return
        gone.pop(ticket)
        door = self.doors[0]
        self._act(
            alert_id, Cancel(actor=_actor(door), via=CommandChannel.HALO, note=f"ticket {ticket} was deleted in Halo")
        )

    def _merge(self, alert_id: int, ticket: str, parent: str) -> None:
        door = self.doors[0]
        note = f"ticket {ticket} was merged into {parent} in Halo"
        order = BaseCommand(actor=_actor(door), via=CommandChannel.HALO, note=note)
        other = self._live([parent]).get(parent)
        if other is not None and other != alert_id:
            self._act(alert_id, alerts.merge_into(other, order))
        else:
            self._act(alert_id, Cancel(actor=order.actor, via=order.via, note=note))

    def _act(self, alert_id: int, command: Any) -> None:
        try:
            alerts.apply_command(alert_id, command, now=self.now)
        except Rejected as rejected:
            log.info("What Halo says of alert %s does not fit: %s", alert_id, rejected.detail)


def _actor(door: CompiledIntegration) -> Actor:
    return Actor(ActorKind.INTEGRATION, door.shown_source)


def _whose_news(
    ways: Sequence[tuple[CompiledIntegration, NormalizedEvent]], known: Mapping[bytes, KnownTicket], waiting: set[bytes]
) -> CompiledIntegration | None:
    """The integration that would have received the ticket and for which it is news, or None."""
    for door, one in ways:
        last = known.get(_key(door, one))
        if last is not None and last.integration_id not in (None, door.id) and len(ways) > 1:
            continue
        if one.intent is EventAction.OPEN and _key(door, one) in waiting:
            # Its alert is delayed: ingesting the ticket again would count it twice.
            return None
        if ticket_messages.is_news(door, one, last):
            return door
    return None


def _key(door: CompiledIntegration, one: NormalizedEvent) -> bytes:
    text = door.dedup_key(one)
    return key_hash(text) if text is not None else b""


_KNOWN = """
SELECT k.key_hash, a.id, a.integration_id, a.status, a.source_status, a.subject, a.client, a.team, a.source_priority,
       coalesce(a.custom ->> 'agent_id', '') AS agent_id
FROM inbound_dedupkey k JOIN alerts_alert a ON a.id = k.last_alert WHERE k.key_hash = ANY(%s)
"""


def known_alerts(keys: set[bytes]) -> dict[bytes, KnownTicket]:
    """The last alert of each dedup key."""
    with database.transaction() as connection:
        found = database.rows(connection, _KNOWN, (sorted(keys),))
    return {
        bytes(row["key_hash"]): KnownTicket(
            row["id"], row["integration_id"], row["status"] in ACTIVE, row, row["agent_id"]
        )
        for row in found
    }


def waiting_keys(keys: set[bytes]) -> set[bytes]:
    """The dedup keys with a delayed alert."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT key_hash FROM inbound_delayedalert WHERE key_hash = ANY(%s)", (sorted(keys),)
        )
        return {bytes(row[0]) for row in found}


def refresh_lists(
    integration_id: int, client: HaloClient, line: RecordedClient, poll_state: dict[str, Any], now: datetime
) -> list[str]:
    """Reads and stores Halo's lists and Tocsin's own agent, and updates the inbound integrations.

    Returns the errors of unreadable lists.
    """
    me = client.me(line, now)
    found, problems = reference_data.read(client, line, now)
    with database.transaction() as connection:
        if reference_data.store(connection, integration_id, found, now):
            # A missing type or priority may exist now.
            ticket_creation.retry_creation(connection, integration_id, now)
        poll_state["me"], poll_state["lists_at"] = whole(me.get("id")), now.isoformat()
        connection.execute(
            "UPDATE outbound_integrationstatus SET poll_state = poll_state || %s WHERE integration_id = %s",
            (as_json({"me": poll_state["me"], "lists_at": poll_state["lists_at"]}), integration_id),
        )
    reference_data.publish_to_inbound(OutboundIntegration.objects.get(pk=integration_id), now)
    return list(problems.values())


_WRITE = """
UPDATE outbound_integrationstatus SET next_poll_at = %(next)s,
       last_polled_at = coalesce(%(last_polled_at)s, last_polled_at), polled_until = %(polled_until)s,
       poll_state = %(poll_state)s,
       poll_error = %(problem)s, found = found + %(found)s, webhook_problem = %(webhook)s, granted_to = %(granted)s
WHERE integration_id = %(id)s
"""

_BAR = """
UPDATE outbound_integrationstatus SET problem = %(problem)s, blocked_until = %(until)s,
       problem_at = CASE WHEN problem = %(problem)s THEN problem_at ELSE %(now)s END
WHERE integration_id = %(id)s
"""


_PATIENCE = """
UPDATE outbound_integrationstatus SET not_before = greatest(not_before, %(until)s),
       next_poll_at = greatest(next_poll_at, %(until)s)
WHERE integration_id = %(id)s
"""


def poll(directory: IntegrationPool, now: Callable[[], datetime]) -> bool:
    """Polls the Halo that is due next. Returns whether there was one."""
    at = now()
    with database.transaction() as connection:
        directory.refresh(connection)
        turn = poll_lease.claim(connection, at)
    if turn is None:
        return False
    standing = turn.standing
    opened = directory.get(turn.integration_id)
    if opened is None or not isinstance(opened.sender, HaloSender):
        return False
    line = RecordedClient(directory.client, now, opened.secrets, before=turn.renew)
    one = PollRun(
        standing["integration_id"], opened.sender.client, line, opened.account.settings, standing["polled_until"],
        dict(standing["poll_state"]), _doors(standing["integration_id"]), at, standing["last_polled_at"],
    )  # fmt: skip
    problem: TocsinError | None = None
    try:
        one.carry_out()
    except poll_lease.LeaseLost:
        log.warning("The look at outbound integration %s took too long: another process goes on.", one.integration_id)
        return True
    except (Temporary, Permanent) as error:
        problem = error
    except Exception as error:  # one Halo's edge: show the error to users, and poll again at the next interval
        if database.is_unavailable(error):
            raise
        log.exception("The tickets of outbound integration %s cannot be read.", one.integration_id)
        problem = Permanent("Something in it could not be understood; the log says what.")
    try:
        _write(one, directory, opened.sender.rate, turn, problem)
    except poll_lease.LeaseLost:
        log.warning("The look at outbound integration %s took too long: another process goes on.", one.integration_id)
    return True


def _doors(integration_id: int) -> list[CompiledIntegration]:
    doors = registry.shared_registry()
    doors.refresh()
    own = [door for door in doors.doors().values() if door.outbound_id == integration_id]
    usable = [door for door in own if door.mode is not IntegrationMode.DISABLED and door.reader.kind.follows_agent]
    return sorted(usable, key=lambda door: door.id)


def _write(
    one: PollRun,
    directory: IntegrationPool,
    rate: rate_limit.RequestRate,
    turn: poll_lease.PollLease,
    problem: TocsinError | None,
) -> None:
    every = PULL_INTERVAL if one.settings.get("pull") else POLL_INTERVAL
    if isinstance(problem, NeedsAttention):
        every = BLOCKED_INTERVAL
    text = one.line.masked(str(problem) if problem is not None else " ".join(one.remarks))
    times = int(one.poll_state.pop("throttled", 0)) + 1
    if isinstance(problem, Throttled):
        one.poll_state["throttled"] = times
    with database.transaction() as connection:
        turn.end(connection)
        if problem is None and turn.was_barred:
            # Clears the problem found by polling; its requests are charged below.
            results.record_outcome(connection, directory, one.integration_id, CallDone(), 0, one.now)
        connection.execute(
            _WRITE,
            {
                "next": one.now + every,
                "last_polled_at": one.now if problem is None else None,
                "polled_until": one.polled_until,
                "poll_state": as_json(one.poll_state),
                "problem": sanitize(text)[:500],
                "found": one.found,
                "webhook": one.webhook_problem,
                "granted": rate_limit.charged(rate, turn.standing["granted_to"], one.line.requests, one.now),
                "id": one.integration_id,
            },
        )
        if isinstance(problem, NeedsAttention):
            until = one.now + rate_limit.BLOCKED_INTERVAL
            connection.execute(_BAR, {"problem": text, "until": until, "now": one.now, "id": one.integration_id})
        if isinstance(problem, Throttled):
            until = one.now + rate_limit.throttle(times, problem.retry_after)
            connection.execute(_PATIENCE, {"until": until, "id": one.integration_id})
        # Successful polls are logged only if they found changes.
        if problem is not None or one.found:
            said = [(one.integration_id, None, said) for said in one.line.said[-20:]]
            results.store_exchange(connection, said)
        database.notify(connection, "outbound-log")


def loops(directory: IntegrationPool) -> tuple[PeriodicTask, ...]:
    """The polling tasks of a worker."""
    return (
        PeriodicTask(
            "outbound look", lambda: poll(directory, clock.now), timedelta(seconds=5), frozenset({"clock", "config"})
        ),
        lookup_before_decide.loop(directory),
    )
