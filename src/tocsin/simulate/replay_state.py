"""Decides messages in order against an imagined state in which nothing was open at the start. Pure.

Uses the same `prepare` and `decide` as the live path; two such states side by side show an edit's effect.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace as replace_state

from tocsin.alerts.change_handlers import PagingConfig
from tocsin.alerts.new_alert import AlertCreation
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, reason_from_json
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding.batch_view import BatchView
from tocsin.inbound.deciding.decide import decide
from tocsin.inbound.deciding.preprocessing import DeliveryKey, PreprocessedMessage, prepare
from tocsin.inbound.deciding.state import (
    NO_LOCK_SCOPES,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DuplicateDelivery,
    MessageContext,
)
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
    reason: Reason
    alert: int | None = None
    key: str | None = None
    opening: AlertCreation | None = None
    #: The route it took, and why.
    route: Reason = NO_REASON
    mapped: MappedFields | None = None

    @property
    def paging(self) -> PagingConfig | None:
        """How the opened alert pages."""
        return self.opening.paging if self.opening is not None else None


class ReplayState:
    """One compiled integration and the state after its messages so far. A disabled integration is replayed as a dry
    run."""

    def __init__(self, integration: CompiledIntegration) -> None:
        is_disabled = integration.mode is IntegrationMode.DISABLED
        self.integration = replace(integration, mode=IntegrationMode.DRY_RUN) if is_disabled else integration
        self._batch_view = BatchView()
        #: Delayed messages by key, and the keys in due order.
        self._delayed_messages: dict[bytes, list[tuple[ReplayedMessage, PreprocessedMessage]]] = {}
        self._due: list[tuple[datetime, bytes]] = []
        self._deliveries: dict[DeliveryKey, DuplicateDelivery] = {}
        self._next_alert_id = 1

    def process(self, message: ReplayedMessage) -> ReplayOutcome:
        """Decides the next message at its time of arrival."""
        prepared = prepare(self.integration, message.element, message.id)
        assert prepared.key_hash is not None
        return self._process(message, prepared, message.received_at)

    def process_due(self, until: datetime) -> list[tuple[datetime, ReplayOutcome]]:
        """Decides delayed alerts due until then, with their times, using the same code as the live task."""
        outcomes: list[tuple[datetime, ReplayOutcome]] = []
        while self._due and self._due[0][0] <= until:
            at, key = heapq.heappop(self._due)
            state = self._batch_view.get_state(key)
            delayed = state.delayed
            if delayed is None or delayed.due_at != at:
                continue
            self._batch_view.states[key] = replace_state(state, delayed=None)
            for message, prepared in self._delayed_messages.pop(key, ()):
                outcomes.append((at, self._process(message, prepared, at, due_delay=delayed)))
        return outcomes

    def delayed_alerts(self) -> list[DelayedAlertState]:
        """The currently delayed alerts."""
        return [state.delayed for state in self._batch_view.states.values() if state.delayed is not None]

    def _process(
        self,
        message: ReplayedMessage,
        prepared: PreprocessedMessage,
        now: datetime,
        due_delay: DelayedAlertState | None = None,
    ) -> ReplayOutcome:
        assert prepared.key_hash is not None
        event, delivery, view = prepared.outcome, prepared.delivery, self._batch_view
        key = view.get_state(prepared.key_hash)
        context = MessageContext(
            self.integration,
            message.id,
            message.received_at,
            now,
            event,
            prepared.key_hash,
            key,
            self._next_alert_id,
            duplicate=self._deliveries.get(delivery) if delivery is not None else None,
            scopes=prepared.scopes or NO_LOCK_SCOPES,
            noise_state=view.get_noise_state(prepared.scopes),
            element=message.element,
            raw=message.raw,
            due_delay=due_delay,
        )
        decision = decide(context)
        if decision.creation is not None:
            self._next_alert_id += 1
        if delivery is not None and context.duplicate is None and not decision.should_redecide_repeats:
            self._deliveries[delivery] = DuplicateDelivery(message.id, decision.alert_id)
        mapped, dedup_key = None, None
        if isinstance(event, NormalizedEvent):
            mapped, dedup_key = event.mapped, self.integration.dedup_key(event)
        view.apply_decision(prepared.key_hash, key, decision)
        self._track_delayed(message, prepared, prepared.key_hash, key, decision, now)
        return ReplayOutcome(
            decision.status,
            decision.reason,
            decision.alert_id,
            dedup_key.replace("\x1f", " / ") if dedup_key is not None else None,
            decision.creation,
            reason_from_json(decision.verdict.get("route")),
            mapped,
        )

    def _track_delayed(
        self,
        message: ReplayedMessage,
        prepared: PreprocessedMessage,
        key: bytes,
        before: DedupKeyState,
        decision: Decision,
        now: datetime,
    ) -> None:
        """Tracks delayed messages, and makes released ones due."""
        delayed = decision.key_state.delayed
        if delayed is None:
            self._delayed_messages.pop(key, None)
        elif decision.status is MessageStatus.DELAYED:
            self._delayed_messages.setdefault(key, []).append((message, prepared))
            if delayed.due_at is not None and (before.delayed is None or before.delayed.due_at != delayed.due_at):
                heapq.heappush(self._due, (delayed.due_at, key))
        for scope in decision.noise_changes.released_scopes if decision.noise_changes is not None else ():
            for delayed_key in self._delayed_messages:
                state = self._batch_view.states[delayed_key]
                if state.delayed is not None and state.delayed.scope == scope:
                    released = replace_state(state.delayed, due_at=now, is_released=True)
                    self._batch_view.states[delayed_key] = replace_state(state, delayed=released)
                    heapq.heappush(self._due, (now, delayed_key))
