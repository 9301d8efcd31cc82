"""What is known of the ticket's own system beyond its messages: what Tocsin itself wrote there, and whether a message
must be completed by asking there first. A higher room knows both, and hangs its functions here. Pure but for that list.
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

#: A message that lacks something waits so long for what was asked; then it is decided as it is.
LOOKUP_TIMEOUT = timedelta(seconds=10)

#: In the verdict of a message that waits: that it waits, and then what was found.
REREAD = "reread"
WANTED = "wanted"

#: Beside it, where the other system was not asked or did not say: why, as the end of the decision's reason.
UNASKED = "unasked"
NO_ANSWER = f"decided without its system, which did not answer in {LOOKUP_TIMEOUT.seconds} seconds"

#: What a reading of the ticket itself, made by Tocsin, says in its payload.
FOUND_BY = "found_by"


@dataclass(frozen=True, slots=True)
class RecentWrites:
    """What Tocsin wrote on one ticket lately, or is about to write."""

    #: Agents and statuses (folded) that were written and have not come back yet, each with the write's number.
    agents: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    #: Whether an agent or a status is still on its way there.
    agent_is_coming: bool = False
    status_is_coming: bool = False
    #: When somebody here last did what wrote an agent, or a status: an older message knows nothing of it.
    agent_at: datetime | None = None
    status_at: datetime | None = None
    #: Priorities (by name, and as "priority 4") and teams, both folded, likewise.
    priorities: Mapping[str, int] = field(default_factory=dict)
    teams: Mapping[str, int] = field(default_factory=dict)
    #: The writes of which it is not known yet whether they were made.
    under_way: frozenset[int] = frozenset()
    #: All statuses (folded) that were written lately, also those that came back.
    lately: frozenset[str] = frozenset()
    #: The number of the agent that Tocsin is over there; "" when that is not known.
    me: str = ""

    def echo_of_agent(self, reading: NormalizedEvent) -> int | None:
        """The number of the write that this message's agent is the echo of; 0: Tocsin has, or has on its way, a later
        word than the message; None: somebody else gave the ticket to that agent."""
        if _is_older(reading, self.agent_at):
            return 0
        by = self._by(reading)
        if by is _WriteMatch.SOMEBODY_ELSE:
            return None
        number = "" if reading.mapped.says_nobody("agent") else reading.mapped.text("agent_id") or ""
        found = self.agents.get(number)
        return found if found is not None else 0 if self.agent_is_coming or by is _WriteMatch.TOCSIN else None

    def written(self, reading: NormalizedEvent) -> dict[str, int]:
        """Which columns of a message have just what Tocsin wrote, each with the number of that write: whoever caused
        the message, that is nobody's act. While the write is under way, what somebody else did is theirs."""
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
            # The write is known by something else that came back before.
            found.setdefault("source_status", 0)
        return found

    def overtaken(self) -> tuple[int, ...]:
        """The last write of an agent, once somebody else has given the ticket away after it; none while an earlier
        write of a status is still awaited."""
        last = max(self.agents.values(), default=0)
        return (last,) if last and all(number > last for number in self.statuses.values()) else ()

    def echo_of_status(self, reading: NormalizedEvent) -> int | None:
        """The same for its status."""
        if _is_older(reading, self.status_at):
            return 0
        by = self._by(reading)
        if by is _WriteMatch.SOMEBODY_ELSE:
            return None
        status = reading.mapped.text("source_status")
        found = self.statuses.get(status.casefold()) if status else None
        return found if found is not None else 0 if self.status_is_coming or by is _WriteMatch.TOCSIN else None

    def reopens(self, reading: NormalizedEvent) -> bool:
        """Whether a message may open an alert for a ticket whose last one is over: not when it only tells that Tocsin
        wrote on it. A reading by Tocsin was compared with that alert before."""
        payload = reading.payload
        is_own_reading = isinstance(payload, Mapping) and FOUND_BY in payload
        return is_own_reading or self._by(reading) is _WriteMatch.SOMEBODY_ELSE

    def _by(self, reading: NormalizedEvent) -> _WriteMatch:
        """Who did what the message tells of, where it says so."""
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


#: Given (outbound integration, ticket) of a batch's messages: what Tocsin wrote there.
type LoadRecentWrites = Callable[
    [Connection, Sequence[tuple[int, str]], datetime], Mapping[tuple[int, str], RecentWrites]
]
#: Given numbers of writes that came back: keeps that they did.
type KeepTicketLinks = Callable[[Connection, Sequence[int]], None]

_ask: list[LoadRecentWrites] = []
_keep: list[KeepTicketLinks] = []


def register(ask: LoadRecentWrites, keep: KeepTicketLinks) -> None:
    """Installs what knows of own writes; the last one counts."""
    _ask[:], _keep[:] = [ask], [keep]


def own_writes(
    connection: Connection, tickets: Iterable[tuple[int | None, str | None]], now: datetime
) -> Mapping[tuple[int, str], RecentWrites]:
    """By outbound integration and ticket; one statement, and none where no integration writes back."""
    wanted = sorted({(number, ticket) for number, ticket in tickets if number is not None and ticket})
    return _ask[0](connection, wanted, now) if wanted and _ask else {}


def came_back(connection: Connection, writes: Sequence[int]) -> None:
    """Keeps that these writes came back."""
    if writes and _keep:
        _keep[0](connection, writes)


def must_ask(door: CompiledIntegration, reading: NormalizedEvent) -> bool:
    """Whether the message says too little to be decided on, and its system can be asked: its status, or who has it."""
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
    """Whether a webhook tells of no ticket at all, such as the test that Halo sends when it is set up: kept, and no
    reason to wake anybody."""
    payload = getattr(element, "payload", None)
    if not door.reader.kind.follows_agent or not isinstance(payload, Mapping) or "webhook_id" not in payload:
        return False
    return not payload.get("object_id") and not payload.get("ticket")


#: What an event says that tells of a new ticket.
_NEW = ("new", "created", "logged", "opened", "raised", "triggered")

_MOVED_ON = frozenset({EventAction.UPDATE, EventAction.NONE})

#: What a ticket says of its status: its keys without underscores.
_STATUS = frozenset({"status", "statusid", "statusname", "hasbeenclosed", "dateclosed"})


def completed(reader: Normalizer, element: Element, ticket: Mapping[str, object]) -> Element:
    """A message with what its ticket was found to say, which is newer than the message. A message that opens by what
    it says itself, such as that of a new ticket, does so although the ticket has moved on since, unless it is over."""
    whole = _completed(element, ticket)
    was, now = reader.read(element), reader.read(whole)
    if not isinstance(was, NormalizedEvent) or not isinstance(now, NormalizedEvent):
        return whole
    opens = was.intent is EventAction.OPEN and is_of_new(was)
    return _completed(element, without_status(ticket)) if opens and now.intent in _MOVED_ON else whole


def is_of_new(reading: NormalizedEvent) -> bool:
    """Whether a message tells of a new ticket: by its event, if it has one."""
    event = (reading.mapped.text("event") or "").casefold()
    return not event or any(word in event for word in _NEW)


def without_status(ticket: Mapping[str, object]) -> dict[str, object]:
    """The ticket without what it says of its status."""
    return {key: value for key, value in ticket.items() if key.replace("_", "").casefold() not in _STATUS}


def _completed(element: Element, ticket: Mapping[str, object]) -> Element:
    payload = element.payload or {}
    said = payload.get("ticket")
    whole = {**payload, "ticket": {**(said if isinstance(said, Mapping) else {}), **ticket}}
    return Element(whole, element.raw, (*element.notes, "completed by asking how the ticket stands"))
