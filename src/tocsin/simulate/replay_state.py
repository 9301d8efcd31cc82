"""Decides messages in order against an imagined state in which nothing was open at the start. Pure.

Uses the same `prepare`, `decide` and `fail_open` as the live path; two such states side by side show an edit's effect.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from uuid import UUID

from msgspec.structs import replace as replace_state

from tocsin.alerts.change_handlers import PagingConfig
from tocsin.alerts.new_alert import AlertCreation
from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding import fail_open
from tocsin.inbound.deciding.batch_view import BatchView
from tocsin.inbound.deciding.decide import decide, decide_failed
from tocsin.inbound.deciding.preprocessing import DeliveryKey, PreprocessedMessage, prepare
from tocsin.inbound.deciding.state import Decision, DedupKeyState, DelayedAlertState, DuplicateDelivery, MessageContext
from tocsin.inbound.enums import IntegrationMode, MessageStatus
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.parsing.decode import Element


@dataclass(frozen=True, slots=True)
class ReplayedMessage:
    """A stored message, decoded, as if it had arrived in a request of its own."""

    id: UUID
    received_at: datetime
    raw: bytes
    element: Element | Rejected


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """A message's outcome. `alert` is an alert id within this state; `key` is the text of its dedup key."""

    status: MessageStatus
    reason: str
    alert: int | None = None
    key: str | None = None
    opening: AlertCreation | None = None
    #: The route it took, as a sentence.
    route: str = ""
    mapped: MappedFields | None = None

    @property
    def paging(self) -> PagingConfig | None:
        """How the opened alert pages."""
        return self.opening.paging if self.opening is not None else None


class ReplayState:
    """One compiled integration and the state after its messages so far. A disabled integration is replayed as a dry
    run."""

    def __init__(self, door: CompiledIntegration) -> None:
        is_off = door.mode is IntegrationMode.DISABLED
        self.door = replace(door, mode=IntegrationMode.DRY_RUN) if is_off else door
        self._board = BatchView()
        #: Delayed messages by key, and the keys in due order.
        self._waiting: dict[bytes, list[tuple[ReplayedMessage, PreprocessedMessage]]] = {}
        self._due: list[tuple[datetime, bytes]] = []
        self._seen: dict[DeliveryKey, DuplicateDelivery] = {}
        self._numbers = count(1)

    def take(self, arrived: ReplayedMessage) -> ReplayOutcome:
        """Decides the next message at its time of arrival."""
        prepared = prepare(self.door, arrived.element, arrived.id)
        assert prepared.key is not None
        return self._take(arrived, prepared, MessageContext(arrived.id, arrived.received_at), arrived.received_at)

    def due(self, until: datetime) -> list[tuple[datetime, ReplayOutcome]]:
        """Decides delayed alerts due until then, with their times, using the same code as the live task."""
        found: list[tuple[datetime, ReplayOutcome]] = []
        while self._due and self._due[0][0] <= until:
            at, key = heapq.heappop(self._due)
            state = self._board.key(key)
            waited = state.delayed
            if waited is None or waited.due_at != at:
                continue
            self._board.states[key] = replace_state(state, delayed=None)
            for arrived, prepared in self._waiting.pop(key, ()):
                arrival = MessageContext(arrived.id, arrived.received_at, waited=waited)
                found.append((at, self._take(arrived, prepared, arrival, at)))
        return found

    def waiting(self) -> list[DelayedAlertState]:
        """The currently delayed alerts."""
        return [state.delayed for state in self._board.states.values() if state.delayed is not None]

    def _take(
        self, arrived: ReplayedMessage, prepared: PreprocessedMessage, arrival: MessageContext, now: datetime
    ) -> ReplayOutcome:
        assert prepared.key is not None
        key = self._board.key(prepared.key)
        if isinstance(prepared.outcome, NormalizedEvent):
            decision = self._decide(arrival, prepared, prepared.outcome, key, now)
            mapped: MappedFields | None = prepared.outcome.mapped
            text = self.door.dedup_key(prepared.outcome)
        else:
            assert prepared.outcome is not None
            decision = self._failed(arrival, prepared.key, prepared.outcome, arrived.raw, key)
            mapped = text = None
        self._board.put(prepared.key, key, decision)
        self._follow(arrived, prepared, prepared.key, key, decision, now)
        return ReplayOutcome(
            decision.status,
            decision.reason,
            decision.alert_id,
            text.replace("\x1f", " / ") if text is not None else None,
            decision.opening,
            str(decision.verdict.get("route", "")),
            mapped,
        )

    def _follow(
        self,
        arrived: ReplayedMessage,
        prepared: PreprocessedMessage,
        key: bytes,
        before: DedupKeyState,
        decision: Decision,
        now: datetime,
    ) -> None:
        """Tracks delayed messages, and makes released ones due."""
        delayed = decision.key.delayed
        if delayed is None:
            self._waiting.pop(key, None)
        elif decision.status is MessageStatus.DELAYED:
            self._waiting.setdefault(key, []).append((arrived, prepared))
            if delayed.due_at is not None and (before.delayed is None or before.delayed.due_at != delayed.due_at):
                heapq.heappush(self._due, (delayed.due_at, key))
        for scope in decision.shaped.released if decision.shaped is not None else ():
            for other in self._waiting:
                state = self._board.states[other]
                if state.delayed is not None and state.delayed.scope == scope:
                    waits = replace_state(state.delayed, due_at=now, is_released=True)
                    self._board.states[other] = replace_state(state, delayed=waits)
                    heapq.heappush(self._due, (now, other))

    def _decide(
        self,
        arrival: MessageContext,
        prepared: PreprocessedMessage,
        reading: NormalizedEvent,
        key: DedupKeyState,
        now: datetime,
    ) -> Decision:
        assert prepared.key is not None
        seen = self._seen.get(prepared.delivery) if prepared.delivery is not None else None
        scopes, standing = prepared.scopes, self._board.standing(prepared.scopes)
        decision = decide(self.door, arrival, reading, key, seen, prepared.key, self._number, now, scopes, standing)
        if prepared.delivery is not None and seen is None and not decision.may_come_again:
            self._seen[prepared.delivery] = DuplicateDelivery(arrival.message_id, decision.alert_id)
        return decision

    def _failed(
        self, arrival: MessageContext, hashed: bytes, problem: Rejected, raw: bytes, key: DedupKeyState
    ) -> Decision:
        at = arrival.received_at
        return fail_open.fail_open(
            self.door, arrival, decide_failed(problem), problem, raw, key, hashed, self._number, at
        )

    def _number(self) -> int:
        return next(self._numbers)
