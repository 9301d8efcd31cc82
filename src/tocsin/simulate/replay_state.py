"""Decides messages in order against an imagined state in which nothing was open at the start. Pure.

Uses the same `prepare` and `decide` as the live path; two such states side by side show an edit's effect.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec.structs import replace as replace_state

from tocsin.alerts.commands import AlertCreation, PagingConfig, PagingMode
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Param, Reason, Term, as_reason, reason_from_json
from tocsin.inbound.config.compiled_integration import CompiledIntegration, ReferenceDirectory, ReferenceNames
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding.decide import DeliveryKey, PreprocessedMessage, decide, prepare
from tocsin.inbound.deciding.state import (
    NO_LOCK_SCOPES,
    BatchView,
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DuplicateDelivery,
    MessageContext,
)
from tocsin.inbound.enums import IntegrationMode, MessageStatus
from tocsin.inbound.fields import FIELDS, MappedFields
from tocsin.inbound.parsing.decode import Element
from tocsin.simulate import reasons


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


# ---------- backtest diff
# Describes how a message's outcome differs between two versions, and totals of a run. Pure.


class DifferenceKind(StrEnum):
    """What differs."""

    OUTCOME = "outcome"  # opened instead of ignored
    KEY = "key"  # belongs to another alert
    PAGING = "paging"  # pages somebody else, or with another priority
    FIELDS = "fields"  # the alert has other contents


class PagingEffect(StrEnum):
    """How a difference changes who is paged, the most important first."""

    NO_LONGER_OPENS = "no_longer_opens"
    OPENS = "opens"
    DELAYS = "delays"
    NO_LONGER_PAGES = "no_longer_pages"
    PAGES_OTHERS = "pages_others"
    OTHER = "other"  # closes or updates another alert, or none


_EFFECT_REASONS = {
    PagingEffect.NO_LONGER_OPENS: reasons.NO_LONGER_OPEN,
    PagingEffect.OPENS: reasons.NEWLY_OPEN,
    PagingEffect.DELAYS: reasons.NEWLY_DELAYED,
    PagingEffect.NO_LONGER_PAGES: reasons.NO_LONGER_PAGES,
    PagingEffect.PAGES_OTHERS: reasons.PAGES_OTHERS,
    PagingEffect.OTHER: reasons.OTHER_EFFECT,
}


@dataclass(frozen=True, slots=True)
class DecisionDifference:
    """One difference: its kind, and a description."""

    kind: DifferenceKind
    reason: Reason


@dataclass(slots=True)
class BacktestTotals:
    """The totals of a run. `pages` counts alerts that page somebody, or would without dry run."""

    statuses: Counter[MessageStatus] = field(default_factory=Counter)
    opened: int = 0
    pages: int = 0
    at_night: int = 0

    def add(self, outcome: ReplayOutcome, *, is_night: bool) -> None:
        """Counts one message."""
        self.statuses[outcome.status] += 1
        self.add_opening(outcome, is_night=is_night)

    def add_opening(self, outcome: ReplayOutcome, *, is_night: bool) -> None:
        """Counts the alert that a message opened, if any, immediately or after a delay."""
        if outcome.opening is None:
            return
        self.opened += 1
        if outcome.opening.paging.mode is not PagingMode.LOG_ONLY:
            self.pages += 1
            self.at_night += is_night


@dataclass(frozen=True, slots=True)
class ReferenceLabels:
    """The names of the objects to which decisions refer by id."""

    names: ReferenceNames
    #: Policies by the id of their current version.
    policies: Mapping[int, str]

    @classmethod
    def for_directories(cls, names: ReferenceNames, *directories: ReferenceDirectory) -> ReferenceLabels:
        """The labels of what these configurations refer to."""
        policies = [entry for directory in directories for entry in directory.policies.values()]
        return cls(names, {entry.version_id: entry.name for entry in policies})

    def policy(self, paging: PagingConfig) -> Reason:
        """The policy's name."""
        if not paging.version_id:
            return reasons.NO_POLICY()
        return as_reason(self.policies[paging.version_id])

    def recipients(self, paging: PagingConfig) -> Param:
        """The recipients who are paged, or in whose groups roles are looked up."""
        groups = [self.names.groups.get(object_id, f"group {object_id}") for object_id in paging.recipient_groups]
        users = [self.names.users.get(object_id, f"user {object_id}") for object_id in paging.recipient_users]
        return (*groups, *users) or reasons.NOBODY()


def changes(before: ReplayOutcome, after: ReplayOutcome, labels: ReferenceLabels) -> tuple[DecisionDifference, ...]:
    """All differences between two outcomes, the most important first."""
    differences: list[DecisionDifference] = []
    if before.status is not after.status:
        outcome = reasons.OTHER_OUTCOME(after=Term(after.status), before=Term(before.status), reason=after.reason)
        differences.append(DecisionDifference(DifferenceKind.OUTCOME, outcome))
    if before.key != after.key:
        key = reasons.OTHER_KEY(after=after.key or reasons.OWN_KEY(), before=before.key or reasons.OWN_KEY())
        differences.append(DecisionDifference(DifferenceKind.KEY, key))
    if before.opening is not None and after.opening is not None:
        differences += [DecisionDifference(DifferenceKind.PAGING, reason) for reason in _paging(before, after, labels)]
    if names := _fields(before.mapped, after.mapped):
        fields = tuple(Term(name) for name in names)
        differences.append(DecisionDifference(DifferenceKind.FIELDS, reasons.OTHER_FIELDS(fields=fields)))
    return tuple(differences)


def paging_effect(
    before: ReplayOutcome, after: ReplayOutcome, differences: Iterable[DecisionDifference]
) -> PagingEffect | None:
    """How the differences between two outcomes change who is paged; None if only an alert's fields or key change.

    A key that changes which alert a message belongs to also changes outcomes.
    """
    kinds = {difference.kind for difference in differences}
    if kinds.isdisjoint({DifferenceKind.OUTCOME, DifferenceKind.PAGING}):
        return None
    if after.status is MessageStatus.DELAYED and before.status is not MessageStatus.DELAYED:
        return PagingEffect.DELAYS
    if before.opening is not None and after.opening is None:
        return PagingEffect.NO_LONGER_OPENS
    if before.opening is None and after.opening is not None:
        return PagingEffect.OPENS
    if _pages(before) and not _pages(after):
        return PagingEffect.NO_LONGER_PAGES
    return PagingEffect.PAGES_OTHERS if DifferenceKind.PAGING in kinds else PagingEffect.OTHER


def _pages(outcome: ReplayOutcome) -> bool:
    paging = outcome.paging
    return paging is not None and paging.mode is not PagingMode.LOG_ONLY


def describe_effects(counts: Mapping[PagingEffect, int]) -> tuple[Reason, ...]:
    """A sentence for each effect with its number of messages, the most important first."""
    return tuple(reason(count=counts[effect]) for effect, reason in _EFFECT_REASONS.items() if counts.get(effect))


def _paging(before: ReplayOutcome, after: ReplayOutcome, labels: ReferenceLabels) -> list[Reason]:
    assert before.opening is not None
    assert after.opening is not None
    old_paging, new_paging = before.opening.paging, after.opening.paging
    differences = []
    if old_paging.mode is not new_paging.mode:
        differences.append(reasons.OTHER_MODE(after=_mode(new_paging), before=_mode(old_paging)))
    is_paging = new_paging.mode is not PagingMode.LOG_ONLY
    if is_paging and old_paging.version_id != new_paging.version_id:
        differences.append(reasons.OTHER_POLICY(after=labels.policy(new_paging), before=labels.policy(old_paging)))
    if is_paging and (old_paging.recipient_groups, old_paging.recipient_users) != (
        new_paging.recipient_groups,
        new_paging.recipient_users,
    ):
        after_names, before_names = labels.recipients(new_paging), labels.recipients(old_paging)
        differences.append(reasons.OTHER_RECIPIENTS(after=after_names, before=before_names))
    new_priority, old_priority = after.opening.alert.priority, before.opening.alert.priority
    if old_priority is not new_priority:
        differences.append(reasons.OTHER_PRIORITY(after=Term(new_priority), before=Term(old_priority)))
    return differences


def _mode(paging: PagingConfig) -> Reason:
    match paging.mode:
        case PagingMode.PAGE:
            return reasons.PAGES()
        case PagingMode.DRY_RUN:
            return reasons.DRY_RUN_MODE()
        case PagingMode.LOG_ONLY:
            return reasons.LOG_ONLY()


def _fields(before: MappedFields | None, after: MappedFields | None) -> list[str]:
    if before is None or after is None or before == after:
        return []
    field_labels = [FIELDS[n].label for n in FIELDS if before.values.get(n) != after.values.get(n)]
    for old_values, new_values in ((before.tags, after.tags), (before.custom, after.custom)):
        field_labels += [name for name in {**old_values, **new_values} if old_values.get(name) != new_values.get(name)]
    return field_labels
