"""Suppresses echoes of Tocsin's own writes to the ticket system, and tells which messages need a ticket fetch first.

`tocsin.outbound` knows both and registers its functions here, because `inbound` must not import it. Pure except for
that registration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from tocsin.core.db.database import Connection
from tocsin.core.reasons import ReasonType
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.parsing.decode import Element

#: How long an incomplete message waits for its ticket to be fetched; then it is decided as it is.
LOOKUP_TIMEOUT = timedelta(seconds=10)

#: In a message's verdict, `TICKET_FETCH` maps to `FETCH_REQUESTED` while the message waits, and then to the fetched
#: ticket.
TICKET_FETCH = "reread"
FETCH_REQUESTED = "wanted"

#: Key beside it if the ticket system was not asked or did not answer: why, as a reason that ends the decision's.
FETCH_SKIPPED = "fetch_skipped"
NO_ANSWER = ReasonType(
    "message.ticket_system_did_not_answer", "decided without the ticket, whose system did not answer within {timeout}"
)

_TICKET_FETCHED = ReasonType("message.ticket_fetched", "completed with the ticket fetched from its system")

#: Key in the payload of a message that Tocsin created from a fetched ticket.
CREATED_BY_FETCH = "found_by"


@dataclass(frozen=True, slots=True)
class RecentWrites:
    """What Tocsin wrote to one ticket recently, or is about to write."""

    #: Written agents and statuses (casefolded) whose echo has not arrived yet, with the number of the write.
    agents: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    #: Whether a write of an agent or status is still queued.
    is_agent_queued: bool = False
    is_status_queued: bool = False
    #: When a user last caused a write of an agent or status: older messages do not know about it.
    agent_written_at: datetime | None = None
    status_written_at: datetime | None = None
    #: The same for priorities (by name, and as "priority 4") and teams, casefolded.
    priorities: Mapping[str, int] = field(default_factory=dict)
    teams: Mapping[str, int] = field(default_factory=dict)
    #: Writes whose outcome is not known yet.
    in_flight: frozenset[int] = frozenset()
    #: All recently written statuses (casefolded), including those whose echo arrived.
    recent_statuses: frozenset[str] = frozenset()
    #: The number of Tocsin's own agent in the ticket system; "" if unknown.
    own_agent_id: str = ""

    def echo_of_agent(self, event: NormalizedEvent) -> int | None:
        """Returns the number of the write that the message's agent echoes; 0 if Tocsin wrote, or will write, later than
        the message; None if somebody else assigned the ticket."""
        if _is_older(event, self.agent_written_at):
            return 0
        author = self._find_author(event)
        if author is _Author.OTHER:
            return None
        agent_id = "" if event.mapped.is_nobody("agent") else event.mapped.text("agent_id") or ""
        write_id = self.agents.get(agent_id)
        return write_id if write_id is not None else 0 if self.is_agent_queued or author is _Author.TOCSIN else None

    def match_written_fields(self, event: NormalizedEvent) -> dict[str, int]:
        """Returns the columns whose values equal what Tocsin wrote, with the number of each write.

        Such a value is nobody's action, regardless of the message's author. While the write is under way, however, a
        value set by somebody else is that person's action.
        """
        text, author = event.mapped.text, self._find_author(event)
        candidates = (
            ("source_status", text("source_status"), self.statuses),
            ("source_priority", text("severity") or text("priority"), self.priorities),
            ("team", text("team"), self.teams),
        )
        matches = {
            name: write_id
            for name, value, write_ids in candidates
            if value and (write_id := write_ids.get(value.casefold())) is not None
        }
        if author is _Author.OTHER:
            matches = {name: write_id for name, write_id in matches.items() if write_id not in self.in_flight}
        status = text("source_status")
        if status and author is _Author.TOCSIN and status.casefold() in self.recent_statuses:
            # The pending write was already matched by an earlier echo.
            matches.setdefault("source_status", 0)
        return matches

    def superseded_writes(self) -> tuple[int, ...]:
        """Returns the last write of an agent, after somebody else has reassigned the ticket; nothing while the echo of
        an earlier status write is still awaited."""
        last_write_id = max(self.agents.values(), default=0)
        return (
            (last_write_id,)
            if last_write_id and all(write_id > last_write_id for write_id in self.statuses.values())
            else ()
        )

    def echo_of_status(self, event: NormalizedEvent) -> int | None:
        """Returns the number of the write that the message's status echoes; 0 and None as in `echo_of_agent`."""
        if _is_older(event, self.status_written_at):
            return 0
        author = self._find_author(event)
        if author is _Author.OTHER:
            return None
        status = event.mapped.text("source_status")
        write_id = self.statuses.get(status.casefold()) if status else None
        return write_id if write_id is not None else 0 if self.is_status_queued or author is _Author.TOCSIN else None

    def echoed_status_writes(self, event: NormalizedEvent) -> tuple[int, ...] | None:
        """Returns the writes whose echo the message's status is; None if the status is somebody's action."""
        if event.action not in (EventAction.OPEN, EventAction.CLOSE):
            return None
        write_id = self.echo_of_status(event)
        return None if write_id is None else (write_id,) if write_id else ()

    def may_reopen(self, event: NormalizedEvent) -> bool:
        """Returns whether a message may open an alert for a ticket whose last alert has ended: not if it only reports
        Tocsin's own write. A message from a fetched ticket may, because it was compared with that alert before."""
        payload = event.payload
        is_from_ticket_fetch = isinstance(payload, Mapping) and CREATED_BY_FETCH in payload
        return is_from_ticket_fetch or self._find_author(event) is _Author.OTHER

    def _find_author(self, event: NormalizedEvent) -> _Author:
        """Returns who caused the message, if it says so."""
        payload = event.payload
        if not self.own_agent_id or not isinstance(payload, Mapping) or "webhook_id" not in payload:
            return _Author.UNKNOWN
        agent_id = payload.get("agent_id")
        if agent_id is None:
            return _Author.UNKNOWN
        return _Author.TOCSIN if str(agent_id) == self.own_agent_id else _Author.OTHER


class _Author(Enum):
    TOCSIN = auto()
    OTHER = auto()
    UNKNOWN = auto()


def _is_older(event: NormalizedEvent, at: datetime | None) -> bool:
    return at is not None and event.source_time is not None and event.source_time < at


#: Loads Tocsin's writes for the (outbound integration, ticket) pairs of a batch.
type LoadRecentWrites = Callable[
    [Connection, Sequence[tuple[int, str]], datetime], Mapping[tuple[int, str], RecentWrites]
]
#: Records that the echoes of these writes arrived.
type RecordEchoes = Callable[[Connection, Sequence[int]], None]

_loaders: list[LoadRecentWrites] = []
_recorders: list[RecordEchoes] = []


def register(load: LoadRecentWrites, record: RecordEchoes) -> None:
    """Registers the functions that know Tocsin's own writes; the last registration counts."""
    _loaders[:], _recorders[:] = [load], [record]


def load_recent_writes(
    connection: Connection, tickets: Collection[tuple[int, str]], now: datetime
) -> Mapping[tuple[int, str], RecentWrites]:
    """Loads own writes by outbound integration and ticket, in one query; no query if no integration writes back."""
    return _loaders[0](connection, sorted(tickets), now) if tickets and _loaders else {}


def record_echoes(connection: Connection, writes: Sequence[int]) -> None:
    """Records that the echoes of these writes arrived."""
    if writes and _recorders:
        _recorders[0](connection, writes)


def needs_ticket_fetch(integration: CompiledIntegration, event: NormalizedEvent) -> bool:
    """Returns whether the message lacks the status or agent needed to decide, and its ticket can be fetched."""
    if (
        integration.outbound_id is None
        or not integration.normalizer.kind.assigns_source_agent
        or event.source_id is None
        or not _loaders
    ):
        return False
    values = event.mapped.values
    match event.action:
        case EventAction.OPEN | EventAction.UPDATE:
            return "source_status" not in values or "agent" not in values
        case EventAction.NONE:
            return "source_status" not in values
        case EventAction.CLOSE | EventAction.CANCEL:
            return False


def has_no_ticket(integration: CompiledIntegration, element: object) -> bool:
    """Returns whether a webhook call contains no ticket, such as Halo's test when a webhook is set up. It is stored but
    pages nobody."""
    payload = getattr(element, "payload", None)
    if (
        not integration.normalizer.kind.assigns_source_agent
        or not isinstance(payload, Mapping)
        or "webhook_id" not in payload
    ):
        return False
    return not payload.get("object_id") and not payload.get("ticket")


#: Words in the event of a message about a new ticket.
_NEW = ("new", "created", "logged", "opened", "raised", "triggered")

_NON_OPENING_ACTIONS = frozenset({EventAction.UPDATE, EventAction.NONE})

#: A ticket's keys that contain its status, without underscores.
_STATUS = frozenset({"status", "statusid", "statusname", "hasbeenclosed", "dateclosed"})


def merge_fetched_ticket(normalizer: Normalizer, element: Element, ticket: Mapping[str, object]) -> Element:
    """Returns a message completed with its fetched ticket, which is newer than the message.

    A message that opens by its own content, such as that of a new ticket, still opens although the ticket has moved on
    since, unless the ticket is closed.
    """
    completed = _merge_ticket(element, ticket)
    original_event, completed_event = normalizer.normalize(element), normalizer.normalize(completed)
    if not isinstance(original_event, NormalizedEvent) or not isinstance(completed_event, NormalizedEvent):
        return completed
    is_opening = original_event.action is EventAction.OPEN and is_new_ticket_event(original_event)
    return (
        _merge_ticket(element, without_status(ticket))
        if is_opening and completed_event.action in _NON_OPENING_ACTIONS
        else completed
    )


def is_new_ticket_event(event: NormalizedEvent) -> bool:
    """Returns whether a message is about a new ticket, according to its event if it has one."""
    event_name = (event.mapped.text("event") or "").casefold()
    return not event_name or any(keyword in event_name for keyword in _NEW)


def without_status(ticket: Mapping[str, object]) -> dict[str, object]:
    """Returns the ticket without its status."""
    return {key: value for key, value in ticket.items() if key.replace("_", "").casefold() not in _STATUS}


def _merge_ticket(element: Element, ticket: Mapping[str, object]) -> Element:
    payload = element.payload or {}
    message_ticket = payload.get("ticket")
    merged_payload = {
        **payload,
        "ticket": {**(message_ticket if isinstance(message_ticket, Mapping) else {}), **ticket},
    }
    return Element(merged_payload, element.raw, (*element.notes, _TICKET_FETCHED()))
