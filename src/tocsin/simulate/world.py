"""Messages decided in order against a state that is only imagined: nothing was open when it begins. Pure.

By the same `prepare`, `decide` and `fail_open` as the live path; two worlds side by side tell what an edit changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from uuid import UUID

from tocsin.alerts.openings import Opening
from tocsin.alerts.reactors import Paging
from tocsin.core.errors import Rejected
from tocsin.inbound import unreadable
from tocsin.inbound.decide import Arrival, Decision, KeyState, Seen, decide, failed
from tocsin.inbound.decode import Element
from tocsin.inbound.door import Door
from tocsin.inbound.mapped import Mapped
from tocsin.inbound.outcomes import IntegrationMode, MessageStatus
from tocsin.inbound.prepared import DeliveryKey, Prepared, prepare
from tocsin.inbound.reading import Reading


@dataclass(frozen=True, slots=True)
class Arrived:
    """A stored message, decoded: a message of its own, whatever body it came in."""

    id: UUID
    received_at: datetime
    raw: bytes
    element: Element | Rejected


@dataclass(frozen=True, slots=True)
class Came:
    """What one message came to. `alert` is the number of an alert in this world; `key` the text of its dedup key."""

    status: MessageStatus
    reason: str
    alert: int | None = None
    key: str | None = None
    opening: Opening | None = None
    #: The sentence of the route that it took.
    route: str = ""
    mapped: Mapped | None = None

    @property
    def paging(self) -> Paging | None:
        """How the alert that it opened pages."""
        return self.opening.paging if self.opening is not None else None


class World:
    """One door, and what its messages have left so far. A door that is switched off is tried as if it watched."""

    def __init__(self, door: Door) -> None:
        is_off = door.mode is IntegrationMode.DISABLED
        self.door = replace(door, mode=IntegrationMode.WATCH) if is_off else door
        self._states: dict[bytes, KeyState] = {}
        self._seen: dict[DeliveryKey, Seen] = {}
        self._numbers = count(1)

    def take(self, arrived: Arrived) -> Came:
        """Decides the next message, as of its arrival."""
        prepared = prepare(self.door, arrived.element, arrived.id)
        assert prepared.key is not None
        arrival = Arrival(arrived.id, arrived.received_at)
        key = self._states.get(prepared.key, KeyState())
        if isinstance(prepared.outcome, Reading):
            decision = self._decide(arrival, prepared, prepared.outcome, key)
            mapped: Mapped | None = prepared.outcome.mapped
            text = self.door.dedup_key(prepared.outcome)
        else:
            assert prepared.outcome is not None
            decision = self._failed(arrival, prepared.key, prepared.outcome, arrived.raw, key)
            mapped = text = None
        self._states[prepared.key] = decision.key
        return Came(
            decision.status,
            decision.reason,
            decision.alert_id,
            text.replace("\x1f", " / ") if text is not None else None,
            decision.opening,
            str(decision.verdict.get("route", "")),
            mapped,
        )

    def _decide(self, arrival: Arrival, prepared: Prepared, reading: Reading, key: KeyState) -> Decision:
        assert prepared.key is not None
        seen = self._seen.get(prepared.delivery) if prepared.delivery is not None else None
        decision = decide(self.door, arrival, reading, key, seen, prepared.key, self._number, arrival.received_at)
        if prepared.delivery is not None and seen is None:
            self._seen[prepared.delivery] = Seen(arrival.message_id, decision.alert_id)
        return decision

    def _failed(self, arrival: Arrival, hashed: bytes, problem: Rejected, raw: bytes, key: KeyState) -> Decision:
        at = arrival.received_at
        return unreadable.fail_open(self.door, arrival, failed(problem), problem, raw, key, hashed, self._number, at)

    def _number(self) -> int:
        return next(self._numbers)
