"""Decides which Halo is polled when, and stores the result of each poll (`poll_run`).

Polls every few minutes, in pull mode every half minute, and immediately after an outage. Also detects deleted or merged
tickets, and webhooks that are silent or disabled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, BaseCommand, Cancel
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE, ActorKind, CommandChannel
from tocsin.alerts.store import active_source_ids, join_alert
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.core.delivery.circuit_breaker import NeedsAttention, RateLimit, Throttled
from tocsin.core.delivery.job_pool import LeaseLost
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.ids import key_hash, uuid7
from tocsin.core.reasons import NO_REASON, Reason, joined, reason_from_json
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.processing.drain import process_now
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.outbound import commands, states
from tocsin.outbound.connectors.haloitsm.client import MAX_LIST_PAGES, PAGE_SIZE, HaloSession, TicketNotFound, id_text
from tocsin.outbound.connectors.haloitsm.connector import HaloSender, read_lists
from tocsin.outbound.connectors.interfaces import CallDone, RecordedClient
from tocsin.outbound.delivery import results
from tocsin.outbound.delivery.results import IntegrationPool
from tocsin.outbound.halo_sync import ticket_messages, webhook_setup
from tocsin.outbound.halo_sync.ticket_messages import KnownTicket, Poll
from tocsin.outbound.models import OutboundIntegration

# ---------- poll lease
# Leases for polling a Halo, by the database's clock and renewed during the poll.
#
# So a long poll is not duplicated by another process, and a killed process's poll is soon taken over.


#: How long a poll may go without renewal before another process takes over. Longer than a request can take.
LEASE = timedelta(minutes=1)


@dataclass(slots=True)
class PollLease:
    """This process's lease on polling one Halo, and the integration's status before it."""

    integration_id: int
    until: datetime
    status: Mapping[str, Any]

    @property
    def was_blocked(self) -> bool:
        """Whether the previous poll found that nothing works until a person acts."""
        problem = reason_from_json(self.status["problem"])
        return bool(problem) and problem == reason_from_json(self.status["poll_error"])

    def renew(self) -> None:
        """Extends the lease. Raises LeaseLost."""
        with database.transaction() as connection:
            parameters = {"id": self.integration_id, "until": self.until, "lease": LEASE}
            row = connection.execute(_RENEW, parameters).fetchone()
        if row is None:
            raise LeaseLost
        self.until = row[0]

    def end(self, connection: Connection) -> None:
        """Releases the lease in the transaction that writes the poll's results. Raises LeaseLost."""
        parameters = {"id": self.integration_id, "until": self.until}
        if connection.execute(_END, parameters).fetchone() is None:
            raise LeaseLost


#: No poll is planned further ahead; a later time was planned before a clock rollback. A rate limit imposed by Halo has
#: its own column.
MAX_POLL_AHEAD = timedelta(minutes=10)

_CLAIM = """
UPDATE outbound_integrationstatus s SET poll_lease_until = clock_timestamp() + %(lease)s
WHERE s.integration_id = (
  SELECT t.integration_id FROM outbound_integrationstatus t
  JOIN outbound_outboundintegration o ON o.id = t.integration_id
  WHERE o.is_enabled AND o.kind = ANY(%(kinds)s) AND (t.next_poll_at <= %(now)s OR t.next_poll_at > %(furthest)s)
    AND (t.poll_lease_until IS NULL OR t.poll_lease_until < clock_timestamp()
         OR t.poll_lease_until > clock_timestamp() + 2 * %(lease)s)
    AND (t.blocked_until IS NULL OR t.blocked_until <= %(now)s OR o.settings ->> 'pull' = 'true')
    AND (t.not_before IS NULL OR t.not_before <= %(now)s)
  ORDER BY t.next_poll_at LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED)
RETURNING s.integration_id, s.poll_lease_until, s.polled_until, s.last_polled_at, s.poll_state, s.granted_to,
          s.problem, s.poll_error
"""

_RENEW = """
UPDATE outbound_integrationstatus SET poll_lease_until = clock_timestamp() + %(lease)s
WHERE integration_id = %(id)s AND poll_lease_until = %(until)s RETURNING poll_lease_until
"""

_END = """
UPDATE outbound_integrationstatus SET poll_lease_until = NULL
WHERE integration_id = %(id)s AND poll_lease_until = %(until)s RETURNING 1
"""


def claim(connection: Connection, now: datetime) -> PollLease | None:
    """Claims the Halo whose poll is due next, or returns None."""
    row = database.row(connection, _CLAIM, {
        "now": now, "lease": LEASE, "furthest": now + MAX_POLL_AHEAD,
        "kinds": [kind.name for kind in results.KINDS.values() if kind.list_names],
    })  # fmt: skip
    return PollLease(row["integration_id"], row["poll_lease_until"], row) if row is not None else None


# ---------- poll run
# One poll of one Halo: reads the changed tickets, ingests what is new, and checks active tickets individually.


log = logging.getLogger(__name__)

#: The interval for rereading Halo's lists.
LISTS_TTL = timedelta(hours=12)
#: The first poll only finds the starting point; Halo's dates may be this far behind UTC.
_BEHIND = timedelta(hours=15)

#: Messages ingested at a time, and active tickets checked individually per poll.
_CHUNK, _MAX_INDIVIDUAL_CHECKS = 50, 10
#: Invisible tickets that a problem names.
_MAX_NAMED = 10


#: An integration that would have received a ticket, and how it reads it.
type Candidate = tuple[CompiledIntegration, NormalizedEvent]


class PollRun(Poll):
    """One poll of one Halo."""

    def run(self) -> None:
        """Runs all parts of the poll in order. Raises Temporary or Permanent; completed parts remain done."""
        self._read_lists()
        if not self.polled_until:
            self._set_starting_point()
            return
        changed_tickets = self._read_changed()
        if changed_tickets:
            merge_targets = {
                id_text(ticket["id"]): parent
                for ticket, _at in changed_tickets
                if (parent := ticket_messages.merged_into(ticket))
            }
            self._ingest([(ticket, at) for ticket, at in changed_tickets if id_text(ticket["id"]) not in merge_targets])
            # Handled after the ingestion, because a merged ticket's parent may only just have become known.
            for ticket, alert_id in (self._active_alerts(list(merge_targets)) if merge_targets else {}).items():
                self._merge(alert_id, ticket, merge_targets[ticket])
        if self.settings.get("read_notes", True):
            # Tickets whose notes could not be read before come first.
            ticket_ids = [
                *self.poll_state.get("unread", ()),
                *(id_text(ticket["id"]) for ticket, _at in changed_tickets),
            ]
            ticket_messages.import_notes_as_replies(self, self._active_alerts(ticket_ids))
        self._advance([ticket for ticket, _at in changed_tickets])
        self._check_individually([ticket for ticket, _at in changed_tickets])
        if not self.settings.get("pull"):
            self.webhook_problem = webhook_setup.find_webhook_problems(self)

    def _read_lists(self) -> None:
        at = self.poll_state.get("lists_at")
        if at and datetime.fromisoformat(at) > self.now - LISTS_TTL:
            return
        refresh_lists(self.integration_id, self.halo, self.poll_state)

    def _set_starting_point(self) -> None:
        """Sets the starting point; older changes are not read."""
        newest = ""
        start = (self.now - _BEHIND).replace(tzinfo=None).isoformat(timespec="seconds")
        for rows, _at in self.halo.iter_ticket_pages({"lastupdatefromdate": start, "order": "id"}):
            newest = ticket_messages.newest_change(rows, newest, self.now)
            ticket_messages.remember(self.poll_state, rows, is_complete=len(rows) < PAGE_SIZE)
        self.polled_until = newest or start

    def _read_changed(self) -> list[tuple[dict[str, Any], datetime]]:
        """The tickets changed since the last poll, each with the time of the response by Halo's clock."""
        start = ticket_messages.overlap_start(self.polled_until, self._time_zone())
        earliest = ticket_messages.parse_date(start)
        changed_tickets = []
        first_page = int(self.poll_state.get("page", 1))
        pages, is_last_full = 0, False
        query = {"lastupdatefromdate": start, "order": "id"}
        for rows, at in self.halo.iter_ticket_pages(query, first_page):
            pages, is_last_full = pages + 1, len(rows) == PAGE_SIZE
            if first_page == pages == 1:
                self.poll_state["begun"] = at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
            for ticket in rows:
                changed_at = ticket_messages.parse_date(ticket.get("last_update"))
                # Halo ignores a filter that its version does not know.
                if id_text(ticket.get("id")).isdecimal() and not (changed_at and earliest and changed_at < earliest):
                    changed_tickets.append((ticket, at))
        # There were more changes than one poll reads; the next poll continues with this page.
        self.next_page = first_page + pages if pages == MAX_LIST_PAGES and is_last_full else 0
        return changed_tickets

    def _time_zone(self) -> str:
        """The zone of Halo's dates, which carry no offset."""
        return str(self.settings.get("time_zone") or settings_store.get(settings_store.TIME_ZONE))

    def _advance(self, tickets: Sequence[dict[str, Any]]) -> None:
        """Sets where the next poll starts: at the newest change, once all pages were read.

        If that took several polls, then no later than the start of the first, because a later change may be on a page
        that was read before.
        """
        newest = ticket_messages.newest_change(tickets, self.poll_state.get("newest") or self.polled_until, self.now)
        ticket_messages.remember(self.poll_state, tickets, is_complete=not self.next_page)
        if self.next_page:
            self.poll_state |= {"page": self.next_page, "newest": newest}
            return
        first_started_at = ticket_messages.parse_date(self.poll_state.pop("begun", None))
        newest_at = ticket_messages.parse_date(newest)
        if self.poll_state.pop("page", None) and first_started_at and newest_at and first_started_at < newest_at:
            newest = first_started_at.isoformat(timespec="seconds")
        self.polled_until = newest
        self.poll_state.pop("newest", None)

    def _ingest(self, tickets: Sequence[tuple[dict[str, Any], datetime]]) -> None:
        """Ingests what is new through the integration that would have received it."""
        messages: list[IncomingMessage] = []
        for element, integration in self._select_news(tickets):
            at, headers = self.now, ticket_messages.HEADERS
            messages.append(
                IncomingMessage(uuid7(), integration.id, at, element.raw, element, "application/json", headers)
            )
            self.ingested_by_integration[integration.id] = self.ingested_by_integration.get(integration.id, 0) + 1
        for start in range(0, len(messages), _CHUNK):
            process_now(messages[start : start + _CHUNK], self.now)
        self.ingested_count += len(messages)
        ticket_messages.mark_ingested(self.poll_state, self.new_ticket_ids)

    def _select_news(
        self, tickets: Sequence[tuple[dict[str, Any], datetime]]
    ) -> Iterable[tuple[Element, CompiledIntegration]]:
        parsed: list[tuple[Element, list[Candidate]]] = []
        for ticket, at in tickets:
            element = ticket_messages.ticket_message(ticket, at)
            candidates = [
                (integration, event)
                for integration in self.inbound_integrations
                if isinstance(event := integration.normalizer.normalize(element), NormalizedEvent)
            ]
            parsed.append((element, candidates))
        keys = {_key(integration, event) for _element, candidates in parsed for integration, event in candidates}
        alerts_by_key, delayed = last_alerts(keys), delayed_keys(keys)
        new_candidates: list[tuple[dict[str, Any], datetime, list[Candidate]]] = []
        for (ticket, at), (element, candidates) in zip(tickets, parsed, strict=True):
            integration = _select_receiver(candidates, alerts_by_key, delayed)
            if integration is not None:
                yield element, integration
                continue
            is_known = any(_key(*candidate) in alerts_by_key or _key(*candidate) in delayed for candidate in candidates)
            if not is_known and ticket_messages.is_new(ticket, self.poll_state, self.polled_until):
                new_candidates.append((ticket, at, candidates))
        yield from self._new_ticket_messages(new_candidates)

    def _new_ticket_messages(
        self, tickets: Sequence[tuple[dict[str, Any], datetime, list[Candidate]]]
    ) -> Iterable[tuple[Element, CompiledIntegration]]:
        """The messages for tickets that were created since the last poll and open nothing in their current state."""
        is_pulled = bool(self.settings.get("pull"))
        ticket_ids = [id_text(ticket["id"]) for ticket, _at, _candidates in tickets]
        reported = (
            ticket_messages.find_reported(self.inbound_integrations, ticket_ids, self.last_polled_at, self.now)
            if ticket_ids and not is_pulled
            else set()
        )
        for ticket, at, candidates in tickets:
            if id_text(ticket["id"]) not in reported:
                yield from ticket_messages.messages(ticket, at, candidates, is_pulled=is_pulled)
        self.new_ticket_ids = ticket_ids

    def _active_alerts(
        self, ticket_ids: Sequence[str] | None = None, after_id: int = 0, limit: int = 1000
    ) -> dict[str, int]:
        """Active alerts of these integrations by ticket number, oldest first."""
        with database.transaction() as connection:
            integration_ids = [integration.id for integration in self.inbound_integrations]
            return active_source_ids(connection, integration_ids, source_ids=ticket_ids, after_id=after_id, limit=limit)

    def _check_individually(self, changed_tickets: Sequence[Mapping[str, Any]]) -> None:
        """Checks a few active alerts' tickets individually: deleted or merged tickets do not show up as changed."""
        changed_ids = {id_text(ticket["id"]) for ticket in changed_tickets}
        after_id = int(self.poll_state.get("looked_singly_to", 0))
        active = self._active_alerts(after_id=after_id, limit=_MAX_INDIVIDUAL_CHECKS)
        self.poll_state["looked_singly_to"] = (
            max(active.values(), default=0) if len(active) == _MAX_INDIVIDUAL_CHECKS else 0
        )
        missing_counts: dict[str, int] = self.poll_state.setdefault("gone", {})
        self._remember_read(changed_tickets)
        read_tickets: list[tuple[dict[str, Any], datetime]] = []
        # A second look at those missing once comes at once; those not visible since then are looked at in turn.
        missing_once = [ticket for ticket, count in missing_counts.items() if count == 1][:_MAX_INDIVIDUAL_CHECKS]
        missing_before = self._active_alerts(missing_once) if missing_once else {}
        for ticket, alert_id in {**active, **missing_before}.items():
            if ticket in changed_ids or not ticket.isdecimal():
                continue
            try:
                details, at = self.halo.get_ticket(ticket)
            except TicketNotFound as error:
                self._handle_missing(ticket, alert_id, error, missing_counts)
                continue
            except NeedsAttention:
                raise
            except Permanent as error:
                self.remarks.append(error.full_reason)
                continue
            self._remember_read([details])
            if parent := ticket_messages.merged_into(details):
                self._merge(alert_id, ticket, parent)
            else:
                read_tickets.append((details, at))
        self._ingest(read_tickets)
        self._report_invisible(missing_counts)

    def _remember_read(self, tickets: Sequence[Mapping[str, Any]]) -> None:
        """Records the client and type of tickets that Tocsin has read and that have an active alert."""
        missing_counts: dict[str, int] = self.poll_state.get("gone", {})
        kinds: dict[str, list[str]] = self.poll_state.setdefault("read", {})
        for ticket in tickets:
            kinds[id_text(ticket["id"])] = _client_and_type(ticket)
            missing_counts.pop(id_text(ticket["id"]), None)
        active = self._active_alerts(list(kinds)) if kinds else {}
        self.poll_state["read"] = {ticket: kind for ticket, kind in kinds.items() if ticket in active}

    def _handle_missing(
        self, ticket: str, alert_id: int, error: TicketNotFound, missing_counts: dict[str, int]
    ) -> None:
        """Cancels the alert of a deleted ticket: one that Tocsin has read before, that is unknown to Halo (404) in two
        polls, and beside which others of its client and type are visible.

        Any other may only be hidden from Tocsin and still need somebody, so its alert stays and pages.
        """
        # A refusal says that the ticket is hidden, and needs no second look.
        missing_counts[ticket] = min(missing_counts.get(ticket, 0) + 1, 2) if error.is_deleted else 2
        kind = self.poll_state["read"].get(ticket)
        if missing_counts[ticket] < 2 or not error.is_deleted or kind is None or not self._sees_others(ticket, kind):
            return
        missing_counts.pop(ticket)
        integration = self.inbound_integrations[0]
        note = ticket_messages.TICKET_DELETED(ticket=ticket)
        self._apply(alert_id, Cancel(actor=_actor(integration), via=CommandChannel.HALO, note=note))

    def _sees_others(self, ticket: str, kind: list[str]) -> bool:
        """Whether Halo still shows Tocsin another ticket of the same client and type."""
        if "" in kind:
            return False
        client_id, type_id = kind
        # Halo ignores a filter that its version does not know.
        query = {"client_id": client_id, "requesttype_id": type_id, "order": "id", "orderdesc": True}
        rows, _at = next(self.halo.iter_ticket_pages(query))
        return any(id_text(row.get("id")) != ticket and _client_and_type(row) == kind for row in rows)

    def _report_invisible(self, missing_counts: Mapping[str, int]) -> None:
        """Remarks which tickets of active alerts Tocsin cannot see, and forgets the others."""
        active = self._active_alerts(list(missing_counts)) if missing_counts else {}
        self.poll_state["gone"] = {ticket: count for ticket, count in missing_counts.items() if ticket in active}
        hidden = [ticket for ticket, count in self.poll_state["gone"].items() if count > 1]
        if hidden:
            self.remarks.append(
                ticket_messages.TICKETS_NOT_VISIBLE(count=len(hidden), tickets=tuple(hidden[:_MAX_NAMED]))
            )

    def _merge(self, alert_id: int, ticket: str, parent: str) -> None:
        integration = self.inbound_integrations[0]
        note = ticket_messages.TICKET_MERGED(ticket=ticket, parent=parent)
        command = BaseCommand(actor=_actor(integration), via=CommandChannel.HALO, note=note)
        parent_alert_id = self._active_alerts([parent]).get(parent)
        if parent_alert_id is not None and parent_alert_id != alert_id:
            self._apply(alert_id, alerts.merge_into(FoundAlert.by_tocsin(parent_alert_id), command))
        else:
            self._apply(alert_id, Cancel(actor=command.actor, via=command.via, note=note))

    def _apply(self, alert_id: int, command: Any) -> None:
        try:
            alerts.apply_command(FoundAlert.by_tocsin(alert_id), command, now=self.now)
        except Rejected as rejected:
            log.info(
                "What Halo says of alert %s does not fit: %s", alert_id, rejected.detail, extra={"alert_id": alert_id}
            )


def _client_and_type(ticket: Mapping[str, Any]) -> list[str]:
    return [id_text(ticket.get("client_id")), id_text(ticket.get("tickettype_id"))]


def _actor(integration: CompiledIntegration) -> Actor:
    return Actor(ActorKind.INTEGRATION, integration.display_source)


def _select_receiver(
    candidates: Sequence[Candidate],
    alerts_by_key: Mapping[bytes, KnownTicket],
    delayed: set[bytes],
) -> CompiledIntegration | None:
    """The integration that would have received the ticket and for which it is news, or None."""
    for integration, event in candidates:
        alert = alerts_by_key.get(_key(integration, event))
        if alert is not None and alert.integration_id not in (None, integration.id) and len(candidates) > 1:
            continue
        if event.action is EventAction.OPEN and _key(integration, event) in delayed:
            # Its alert is delayed: ingesting the ticket again would count it twice.
            return None
        if ticket_messages.is_news(integration, event, alert):
            return integration
    return None


def _key(integration: CompiledIntegration, event: NormalizedEvent) -> bytes:
    text = integration.dedup_key(event)
    return key_hash(text) if text is not None else b""


_LAST_ALERTS = f"""
SELECT k.key_hash, a.id, a.integration_id, a.status, a.source_status, a.subject, a.client, a.team, a.source_priority,
       coalesce(a.custom ->> 'agent_id', '') AS agent_id
FROM inbound_dedupkey k {join_alert("k.last_alert")} WHERE k.key_hash = ANY(%s)
"""


def last_alerts(keys: set[bytes]) -> dict[bytes, KnownTicket]:
    """The last alert of each dedup key."""
    with database.transaction() as connection:
        rows = database.rows(connection, _LAST_ALERTS, (sorted(keys),))
    return {
        bytes(row["key_hash"]): KnownTicket(
            row["id"], row["integration_id"], row["status"] in ACTIVE, row, row["agent_id"]
        )
        for row in rows
    }


def delayed_keys(keys: set[bytes]) -> set[bytes]:
    """The dedup keys with a delayed alert."""
    with database.transaction() as connection:
        cursor = connection.execute(
            "SELECT key_hash FROM inbound_delayedalert WHERE key_hash = ANY(%s)", (sorted(keys),)
        )
        return {bytes(row[0]) for row in cursor}


def refresh_lists(integration_id: int, halo: HaloSession, poll_state: dict[str, Any]) -> list[Reason]:
    """Reads and stores Halo's lists and Tocsin's own agent, and updates the inbound integrations.

    Returns the errors of unreadable lists.
    """
    now = halo.now
    agent = halo.current_agent()
    lists, problems = read_lists(halo)
    commands.store_lists(integration_id, lists, now)
    with database.transaction() as connection:
        poll_state["me"], poll_state["lists_at"] = id_text(agent.get("id")), now.isoformat()
        connection.execute(
            "UPDATE outbound_integrationstatus SET poll_state = poll_state || %s WHERE integration_id = %s",
            (as_json({"me": poll_state["me"], "lists_at": poll_state["lists_at"]}), integration_id),
        )
    return list(problems.values())


_WRITE_LISTS = """
UPDATE outbound_integrationstatus SET next_poll_at = %(next)s,
       poll_error = CASE WHEN %(is_due)s THEN %(problem)s ELSE poll_error END,
       poll_state = poll_state || jsonb_build_object('lists_at', %(at)s::text)
WHERE integration_id = %(id)s
"""

POLL_INTERVAL = timedelta(minutes=3)
PULL_INTERVAL = timedelta(seconds=30)
#: In pull mode polling is the only source of tickets, so a rejection that lasted only a minute must not block for long.
BLOCKED_INTERVAL = timedelta(minutes=5)

_WRITE = """
UPDATE outbound_integrationstatus SET next_poll_at = %(next)s,
       last_polled_at = coalesce(%(last_polled_at)s, last_polled_at), polled_until = %(polled_until)s,
       poll_state = %(poll_state)s,
       poll_error = %(problem)s, ingested_count = ingested_count + %(ingested)s,
       webhook_problem = %(webhook)s, granted_to = %(granted)s
WHERE integration_id = %(id)s
"""

_BLOCK = """
UPDATE outbound_integrationstatus SET problem = %(problem)s, blocked_until = %(until)s,
       problem_at = CASE WHEN problem = %(problem)s THEN problem_at ELSE %(now)s END
WHERE integration_id = %(id)s
"""


_DEFER = """
UPDATE outbound_integrationstatus SET not_before = greatest(not_before, %(until)s),
       next_poll_at = greatest(next_poll_at, %(until)s)
WHERE integration_id = %(id)s
"""


def poll(pool: IntegrationPool, now: Callable[[], datetime]) -> bool:
    """Polls the Halo that is due next. Returns whether there was one."""
    started_at = now()
    with database.transaction() as connection:
        pool.refresh(connection)
        lease = claim(connection, started_at)
    if lease is None:
        return False
    status = lease.status
    integration = pool.get(lease.integration_id)
    if integration is None:
        return False
    if not isinstance(integration.sender, HaloSender):
        _read_desk_lists(lease, pool, started_at)
        return True
    http_client = RecordedClient(pool.client, now, integration.secrets, before_request=lease.renew)
    run = PollRun(
        lease.integration_id, integration.sender.client.session(http_client, started_at), integration.account.settings,
        status["polled_until"], dict(status["poll_state"]), _inbound_integrations(lease.integration_id), started_at,
        status["last_polled_at"],
    )  # fmt: skip
    problem: Temporary | Permanent | None = None
    try:
        run.run()
    except LeaseLost:
        log.warning("The look at outbound integration %s took too long: another process goes on.", run.integration_id)
        return True
    except (Temporary, Permanent) as error:
        problem = error
    except Exception as error:  # one Halo's edge: show the error to users, and poll again at the next interval
        if database.is_unavailable(error):
            raise
        log.exception("The tickets of outbound integration %s cannot be read.", run.integration_id)
        problem = Permanent(ticket_messages.NOT_UNDERSTOOD())
    try:
        _write(run, pool, integration.sender.rate, lease, problem)
    except LeaseLost:
        log.warning("The look at outbound integration %s took too long: another process goes on.", run.integration_id)
    return True


def _read_desk_lists(lease: PollLease, pool: IntegrationPool, now: datetime) -> None:
    """Reads the lists of a ticket system that a file describes, and plans the next time."""
    at, next_at, problem = lease.status["poll_state"].get("lists_at"), now + MAX_POLL_AHEAD, NO_REASON
    is_due = not at or datetime.fromisoformat(at) <= now - LISTS_TTL
    try:
        if is_due:
            integration = OutboundIntegration.objects.get(pk=lease.integration_id)
            problem = joined(*commands.read_lists(integration, now, client=pool.client), separator=" ")
            at = now.isoformat()
    except (Temporary, Permanent) as error:
        problem, next_at = error.full_reason, now + BLOCKED_INTERVAL
    with database.transaction() as connection:
        lease.end(connection)
        written = {"id": lease.integration_id, "next": next_at, "problem": problem, "at": at, "is_due": is_due}
        connection.execute(_WRITE_LISTS, written)


def _inbound_integrations(integration_id: int) -> list[CompiledIntegration]:
    inbound_registry = registry.shared_registry()
    inbound_registry.refresh()
    pollable = [
        one
        for one in inbound_registry.get_all().values()
        if one.outbound_id == integration_id
        and one.mode is not IntegrationMode.DISABLED
        and one.normalizer.kind.assigns_source_agent
    ]
    return sorted(pollable, key=lambda integration: integration.id)


def _write(
    run: PollRun,
    pool: IntegrationPool,
    rate: RateLimit,
    lease: PollLease,
    problem: Temporary | Permanent | None,
) -> None:
    interval = PULL_INTERVAL if run.settings.get("pull") else POLL_INTERVAL
    if isinstance(problem, NeedsAttention):
        interval = BLOCKED_INTERVAL
    # Why the poll failed, or what it could not read.
    remarks = joined(*dict.fromkeys(run.remarks), separator=" ")
    found = run.halo.http_client.mask_reason(remarks if problem is None else problem.full_reason)
    throttle_count = int(run.poll_state.pop("throttled", 0)) + 1
    if isinstance(problem, Throttled):
        run.poll_state["throttled"] = throttle_count
    with database.transaction() as connection:
        lease.end(connection)
        if problem is None and lease.was_blocked:
            # Clears the problem found by polling; its requests are charged below.
            results.update_status(connection, pool, run.integration_id, [(CallDone(), run.now)], 0)
        connection.execute(
            _WRITE,
            {
                "next": run.now + interval,
                "last_polled_at": run.now if problem is None else None,
                "polled_until": run.polled_until,
                "poll_state": as_json(run.poll_state),
                "problem": found,
                "ingested": run.ingested_count,
                "webhook": run.halo.http_client.mask_reason(run.webhook_problem),
                "granted": rate.used_until(lease.status["granted_to"])
                .charge(run.halo.http_client.requests, run.now)
                .free_at,
                "id": run.integration_id,
            },
        )
        if isinstance(problem, NeedsAttention):
            until = run.now + states.BLOCKED_INTERVAL
            blocked = {"problem": found, "until": until, "now": run.now, "id": run.integration_id}
            connection.execute(_BLOCK, blocked)
        if isinstance(problem, Throttled):
            until = run.now + states.throttle_wait(throttle_count, problem.retry_after)
            connection.execute(_DEFER, {"until": until, "id": run.integration_id})
        # Successful polls are logged only if they found changes.
        if problem is not None or run.ingested_count:
            recorded = [(run.integration_id, None, recorded) for recorded in run.halo.http_client.exchanges[-20:]]
            results.store_exchange(connection, recorded)
        database.notify(connection, "outbound-log")


def polling_tasks(pool: IntegrationPool) -> tuple[PeriodicTask, ...]:
    """The polling tasks of a worker."""
    return (
        PeriodicTask(
            "outbound look", lambda: poll(pool, clock.now), timedelta(seconds=5), frozenset({"clock", "config"})
        ),
        ticket_messages.lookup_task(pool),
    )
