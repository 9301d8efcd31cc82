"""Suppresses echoes of Tocsin's own writes to the ticket system, and tells which messages need a ticket fetch first.

`tocsin.outbound` knows both and registers its functions here, because `inbound` must not import it. Pure except for
that registration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from tocsin.core.db.database import Connection
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.parsing.decode import Element

#: How long an incomplete message waits for its ticket to be fetched; then it is decided as it is.
LOOKUP_TIMEOUT = timedelta(seconds=10)

#: In a message's verdict, `REREAD` maps to `WANTED` while the message waits, and then to the fetched ticket.
REREAD = "reread"
WANTED = "wanted"

#: Key beside it if the ticket system was not asked or did not answer: why, as the end of the decision's reason.
UNASKED = "unasked"
NO_ANSWER = f"decided without its system, which did not answer in {LOOKUP_TIMEOUT.seconds} seconds"

#: Key in the payload of a message that Tocsin created from a fetched ticket.
FOUND_BY = "found_by"


@dataclass(frozen=True, slots=True)
class RecentWrites:
    """What Tocsin wrote to one ticket recently, or is about to write."""

    #: Written agents and statuses (casefolded) whose echo has not arrived yet, with the number of the write.
    agents: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    #: Whether a write of an agent or status is still queued.
    agent_is_coming: bool = False
    status_is_coming: bool = False
    #: When a user last caused a write of an agent or status: older messages do not know about it.
    agent_at: datetime | None = None
    status_at: datetime | None = None
    #: The same for priorities (by name, and as "priority 4") and teams, casefolded.
    priorities: Mapping[str, int] = field(default_factory=dict)
    teams: Mapping[str, int] = field(default_factory=dict)
    #: Writes whose outcome is not known yet.
    under_way: frozenset[int] = frozenset()
    #: All recently written statuses (casefolded), including those whose echo arrived.
    lately: frozenset[str] = frozenset()
    #: The number of Tocsin's own agent in the ticket system; "" if unknown.
    me: str = ""

    def echo_of_agent(self, reading: NormalizedEvent) -> int | None:
        """Returns the number of the write that the message's agent echoes; 0 if Tocsin wrote, or will write, later than
        the message; None if somebody else assigned the ticket."""
        if _is_older(reading, self.agent_at):
            return 0
        by = self._by(reading)
        if by is _WriteMatch.SOMEBODY_ELSE:
            return None
        number = "" if reading.mapped.says_nobody("agent") else reading.mapped.text("agent_id") or ""
        found = self.agents.get(number)
        return found if found is not None else 0 if self.agent_is_coming or by is _WriteMatch.TOCSIN else None

    def written(self, reading: NormalizedEvent) -> dict[str, int]:
        """Returns the columns whose values equal what Tocsin wrote, with the number of each write.

        Such a value is nobody's action, regardless of the message's author. While the write is under way, however, a
        value set by somebody else is that person's action.
        """
        text, by_whom = reading.mapped.text, self._by(reading)
        known = (
            ("source_status", text("source_status"), self.statuses),
            ("source_priority", text("severity") or text("priority"), self.priorities),
            ("team", text("team"), self.teams),
        )
        found = {name: number for name, said, by in known if said and (number := by.get(said.casefold())) is not None}
        if by_whom is _WriteMatch.SOMEBODY_ELSE:
            found = {name: number for name, number in found.items() if number not in self.under_way}
        status = text("source_status")
        if status and by_whom is _WriteMatch.TOCSIN and status.casefold() in self.lately:
            # The pending write was already matched by an earlier echo.
            found.setdefault("source_status", 0)
        return found

    def overtaken(self) -> tuple[int, ...]:
        """Returns the last write of an agent, after somebody else has reassigned the ticket; nothing while the echo of
        an earlier status write is still awaited."""
        last = max(self.agents.values(), default=0)
        return (last,) if last and all(number > last for number in self.statuses.values()) else ()

    def echo_of_status(self, reading: NormalizedEvent) -> int | None:
        """Returns the number of the write that the message's status echoes; 0 and None as in `echo_of_agent`."""
        if _is_older(reading, self.status_at):
            return 0
        by = self._by(reading)
        if by is _WriteMatch.SOMEBODY_ELSE:
            return None
        status = reading.mapped.text("source_status")
        found = self.statuses.get(status.casefold()) if status else None
        return found if found is not None else 0 if self.status_is_coming or by is _WriteMatch.TOCSIN else None

    def reopens(self, reading: NormalizedEvent) -> bool:
        """Returns whether a message may open an alert for a ticket whose last alert has ended: not if it only reports
        Tocsin's own write. A message from a fetched ticket may, because it was compared with that alert before."""
        payload = reading.payload
        is_own_reading = isinstance(payload, Mapping) and FOUND_BY in payload
        return is_own_reading or self._by(reading) is _WriteMatch.SOMEBODY_ELSE

    def _by(self, reading: NormalizedEvent) -> _WriteMatch:
        """Returns who caused the message, if it says so."""
        payload = reading.payload
        if not self.me or not isinstance(payload, Mapping) or "webhook_id" not in payload:
            return _WriteMatch.NOT_SAID
        by = payload.get("agent_id")
        if by is None:
            return _WriteMatch.NOT_SAID
        return _WriteMatch.TOCSIN if str(by) == self.me else _WriteMatch.SOMEBODY_ELSE


class _WriteMatch(Enum):
    TOCSIN = auto()
    SOMEBODY_ELSE = auto()
    NOT_SAID = auto()


def _is_older(reading: NormalizedEvent, at: datetime | None) -> bool:
    return at is not None and reading.source_time is not None and reading.source_time < at


#: Loads Tocsin's writes for the (outbound integration, ticket) pairs of a batch.
type LoadRecentWrites = Callable[
    [Connection, Sequence[tuple[int, str]], datetime], Mapping[tuple[int, str], RecentWrites]
]
#: Records that the echoes of these writes arrived.
type KeepTicketLinks = Callable[[Connection, Sequence[int]], None]

_ask: list[LoadRecentWrites] = []
_keep: list[KeepTicketLinks] = []


def register(ask: LoadRecentWrites, keep: KeepTicketLinks) -> None:
    """Registers the functions that know Tocsin's own writes; the last registration counts."""
    _ask[:], _keep[:] = [ask], [keep]


def load_recent_writes(
    connection: Connection, tickets: Iterable[tuple[int | None, str | None]], now: datetime
) -> Mapping[tuple[int, str], RecentWrites]:
    """Loads own writes by outbound integration and ticket, in one query; no query if no integration writes back."""
    wanted = sorted({(number, ticket) for number, ticket in tickets if number is not None and ticket})
    return _ask[0](connection, wanted, now) if wanted and _ask else {}


def record_echoes(connection: Connection, writes: Sequence[int]) -> None:
    """Records that the echoes of these writes arrived."""
    if writes and _keep:
        _keep[0](connection, writes)


def needs_ticket_fetch(door: CompiledIntegration, reading: NormalizedEvent) -> bool:
    """Returns whether the message lacks the status or agent needed to decide, and its ticket can be fetched."""
    if door.outbound_id is None or not door.reader.kind.follows_agent or reading.source_id is None or not _ask:
        return False
    values = reading.mapped.values
    match reading.intent:
        case EventAction.OPEN | EventAction.UPDATE:
            return "source_status" not in values or "agent" not in values
        case EventAction.NONE:
            return "source_status" not in values
        case EventAction.CLOSE | EventAction.CANCEL:
            return False


def is_about_no_ticket(door: CompiledIntegration, element: object) -> bool:
    """Returns whether a webhook call contains no ticket, such as Halo's test when a webhook is set up. It is stored but
    pages nobody."""
    payload = getattr(element, "payload", None)
    if not door.reader.kind.follows_agent or not isinstance(payload, Mapping) or "webhook_id" not in payload:
        return False
    return not payload.get("object_id") and not payload.get("ticket")


#: Words in the event of a message about a new ticket.
_NEW = ("new", "created", "logged", "opened", "raised", "triggered")

_MOVED_ON = frozenset({EventAction.UPDATE, EventAction.NONE})

#: A ticket's keys that contain its status, without underscores.
_STATUS = frozenset({"status", "statusid", "statusname", "hasbeenclosed", "dateclosed"})


def merge_fetched_ticket(reader: Normalizer, element: Element, ticket: Mapping[str, object]) -> Element:
    """Returns a message completed with its fetched ticket, which is newer than the message.

    A message that opens by its own content, such as that of a new ticket, still opens although the ticket has moved on
    since, unless the ticket is closed.
    """
    whole = _completed(element, ticket)
    was, now = reader.read(element), reader.read(whole)
    if not isinstance(was, NormalizedEvent) or not isinstance(now, NormalizedEvent):
        return whole
    opens = was.intent is EventAction.OPEN and is_of_new(was)
    return _completed(element, without_status(ticket)) if opens and now.intent in _MOVED_ON else whole


def is_of_new(reading: NormalizedEvent) -> bool:
    """Returns whether a message is about a new ticket, according to its event if it has one."""
    event = (reading.mapped.text("event") or "").casefold()
    return not event or any(word in event for word in _NEW)


def without_status(ticket: Mapping[str, object]) -> dict[str, object]:
    """Returns the ticket without its status."""
    return {key: value for key, value in ticket.items() if key.replace("_", "").casefold() not in _STATUS}


def _completed(element: Element, ticket: Mapping[str, object]) -> Element:
    payload = element.payload or {}
    said = payload.get("ticket")
    whole = {**payload, "ticket": {**(said if isinstance(said, Mapping) else {}), **ticket}}
    return Element(whole, element.raw, (*element.notes, "completed by asking how the ticket stands"))
