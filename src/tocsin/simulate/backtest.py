"""Replays an integration's last messages with another version of its mapping, rules or routes and lists the
differences; and previews what a maintenance window would have suppressed.

Uses the stored bytes and the live decision code, in order. Stores and sends nothing. Alerts opened before the first of
these messages, and responses of people, are unknown to both versions.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec.structs import replace as replace_state

from tocsin.alerts.commands import AlertCreation, PagingConfig, PagingMode
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import (
    NO_REASON,
    Param,
    Reason,
    Term,
    Text,
    as_reason,
    reason_from_json,
    sentence,
    show_fields,
    show_reason,
)
from tocsin.core.runtime import clock
from tocsin.inbound.admin import commands, specs
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
from tocsin.inbound.maintenance import CompiledWindow
from tocsin.inbound.models import Integration, decompress
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.storage.messages import MessageBudget, element_of

_OWN_KEY = Text("own")

# ---------- replay state
# Decides messages in order against an imagined state in which nothing was open at the start. Pure.
# Uses the same `prepare` and `decide` as the live path; two such states side by side show an edit's effect.


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


class DifferenceKind(StrEnum):
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
    PagingEffect.NO_LONGER_OPENS: Text(
        "{count} message would no longer open an alert", "{count} messages would no longer open an alert"
    ),
    PagingEffect.OPENS: Text("{count} more message would open an alert", "{count} more messages would open an alert"),
    PagingEffect.DELAYS: Text(
        "{count} message would open its alert after a delay", "{count} messages would open their alerts after a delay"
    ),
    PagingEffect.NO_LONGER_PAGES: Text(
        "{count} alert would no longer page anyone", "{count} alerts would no longer page anyone"
    ),
    PagingEffect.PAGES_OTHERS: Text("{count} alert would page differently", "{count} alerts would page differently"),
    PagingEffect.OTHER: Text(
        "{count} message would have another outcome", "{count} messages would have another outcome"
    ),
}


@dataclass(frozen=True, slots=True)
class DecisionDifference:
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
        if not paging.version_id:
            return sentence("no policy")
        return as_reason(self.policies[paging.version_id])

    def recipients(self, paging: PagingConfig) -> Param:
        """The recipients who are paged, or in whose groups roles are looked up."""
        groups = [self.names.groups.get(object_id, f"group {object_id}") for object_id in paging.recipient_groups]
        users = [self.names.users.get(object_id, f"user {object_id}") for object_id in paging.recipient_users]
        return (*groups, *users) or sentence("no one")


def changes(before: ReplayOutcome, after: ReplayOutcome, labels: ReferenceLabels) -> tuple[DecisionDifference, ...]:
    """All differences between two outcomes, the most important first."""
    differences: list[DecisionDifference] = []
    if before.status is not after.status:
        outcome = sentence(
            "{after} instead of {before}: {reason}",
            after=Term(after.status),
            before=Term(before.status),
            reason=after.reason,
        )
        differences.append(DecisionDifference(DifferenceKind.OUTCOME, outcome))
    if before.key != after.key:
        key = sentence(
            "another key: {after} instead of {before}", after=after.key or _OWN_KEY(), before=before.key or _OWN_KEY()
        )
        differences.append(DecisionDifference(DifferenceKind.KEY, key))
    if before.opening is not None and after.opening is not None:
        differences += [DecisionDifference(DifferenceKind.PAGING, reason) for reason in _paging(before, after, labels)]
    if names := _fields(before.mapped, after.mapped):
        fields = tuple(Term(name) for name in names)
        differences.append(
            DecisionDifference(DifferenceKind.FIELDS, sentence("different fields: {fields}", fields=fields))
        )
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
        differences.append(sentence("{after} instead of {before}", after=_mode(new_paging), before=_mode(old_paging)))
    is_paging = new_paging.mode is not PagingMode.LOG_ONLY
    if is_paging and old_paging.version_id != new_paging.version_id:
        differences.append(
            sentence(
                "by {after} instead of {before}", after=labels.policy(new_paging), before=labels.policy(old_paging)
            )
        )
    if is_paging and (old_paging.recipient_groups, old_paging.recipient_users) != (
        new_paging.recipient_groups,
        new_paging.recipient_users,
    ):
        after_names, before_names = labels.recipients(new_paging), labels.recipients(old_paging)
        differences.append(sentence("pages {after} instead of {before}", after=after_names, before=before_names))
    new_priority, old_priority = after.opening.alert.priority, before.opening.alert.priority
    if old_priority is not new_priority:
        differences.append(sentence("{after} instead of {before}", after=Term(new_priority), before=Term(old_priority)))
    return differences


def _mode(paging: PagingConfig) -> Reason:
    match paging.mode:
        case PagingMode.PAGE:
            return sentence("pages")
        case PagingMode.DRY_RUN:
            return sentence("would page, but is a dry run")
        case PagingMode.LOG_ONLY:
            return sentence("log only")


def _fields(before: MappedFields | None, after: MappedFields | None) -> list[str]:
    if before is None or after is None or before == after:
        return []
    field_labels = [FIELDS[n].label for n in FIELDS if before.values.get(n) != after.values.get(n)]
    for old_values, new_values in ((before.tags, after.tags), (before.custom, after.custom)):
        field_labels += [name for name in {**old_values, **new_values} if old_values.get(name) != new_values.get(name)]
    return field_labels


#: The default and maximum number of messages.
DEFAULT_MESSAGES, MAX_MESSAGES = 1_000, 10_000

#: Differences kept; further ones are only counted.
MAX_DIFFERENCES = 500

_CHUNK = 100

#: Called after each chunk with the number of messages done and the total.
type BacktestProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BacktestDifference:
    """One message with a different outcome."""

    message_id: UUID
    received_at: datetime
    subject: str
    source_id: str
    before: ReplayOutcome
    after: ReplayOutcome
    changes: tuple[DecisionDifference, ...]


#: Whether it is night where the recipients are.
type IsNight = Callable[[datetime], bool]


@dataclass(slots=True)
class Backtest:
    """The differences, newest first, and the totals of both versions."""

    is_night: IsNight
    before: BacktestTotals = field(default_factory=BacktestTotals)
    after: BacktestTotals = field(default_factory=BacktestTotals)
    differences: list[BacktestDifference] = field(default_factory=list)
    #: The number of differing messages by kind, which may exceed `differences`.
    counts: dict[DifferenceKind, int] = field(default_factory=dict)
    differing_count: int = 0
    #: The number of messages by how they change who is paged.
    effects: Counter[PagingEffect] = field(default_factory=Counter)
    message_count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    #: In seconds.
    duration_seconds: float = 0.0
    #: The messages left out.
    budget: MessageBudget = field(default_factory=MessageBudget)
    #: Why there is nothing to compare with: the current version is unusable.
    problem: Reason = NO_REASON

    @property
    def effect_reasons(self) -> tuple[Reason, ...]:
        return describe_effects(self.effects)


def backtest(
    integration: Integration,
    parts: Mapping[str, Any],
    *,
    limit: int = DEFAULT_MESSAGES,
    since: datetime | None = None,
    progress: BacktestProgress | None = None,
) -> Backtest:
    """Replays the last `limit` messages (those after `since`) with the current version and with the edited `parts`.

    Raises Rejected or RejectedAll for parts that could not be saved.
    """
    names = specs.load_reference_names()
    after = commands.compile_draft(integration, parts, names)
    return compare(
        integration, commands.compile_stored(integration), after, limit=limit, since=since, progress=progress
    )


def compare(
    integration: Integration,
    before: CompiledIntegration,
    after: CompiledIntegration,
    *,
    limit: int = DEFAULT_MESSAGES,
    since: datetime | None = None,
    progress: BacktestProgress | None = None,
) -> Backtest:
    """Like `backtest`, for two compiled integrations."""
    started = time.monotonic()
    labels = ReferenceLabels.for_directories(specs.load_reference_names(), before.directory, after.directory)
    result = Backtest(night_of(integration), problem=before.problem.reason if before.problem else NO_REASON)
    states = ReplayState(before), ReplayState(after)
    ids = _ids(integration.pk, min(max(limit, 0), MAX_MESSAGES), since)
    for message, subject, source_id in _load_chunks(ids, after, result.budget):
        _compare_message(result, states, labels, message, subject, source_id)
        if progress is not None and result.message_count % _CHUNK == 0:
            progress(result.message_count, len(ids))
    if progress is not None and result.message_count % _CHUNK:
        progress(result.message_count, len(ids))
    for state, totals in zip(states, (result.before, result.after), strict=True):
        _count_due_alerts(state, totals, clock.now(), result.is_night)
    result.differences.reverse()
    del result.differences[MAX_DIFFERENCES:]
    result.duration_seconds = time.monotonic() - started
    return result


def count_totals(
    integration: Integration,
    versions: Sequence[CompiledIntegration],
    since: datetime,
    budget: MessageBudget,
    *,
    limit: int = MAX_MESSAGES,
) -> list[BacktestTotals]:
    """The totals of the messages after `since`, for each of the compiled integrations, within the budget."""
    is_night = night_of(integration)
    states = [ReplayState(version) for version in versions]
    totals_by_version = [BacktestTotals() for _ in versions]
    for message, _subject, _source_id in _load_chunks(_ids(integration.pk, limit, since), versions[0], budget):
        for state, totals in zip(states, totals_by_version, strict=True):
            _process(state, totals, message, is_night)
    for state, totals in zip(states, totals_by_version, strict=True):
        _count_due_alerts(state, totals, clock.now(), is_night)
    return totals_by_version


def _process(state: ReplayState, totals: BacktestTotals, message: ReplayedMessage, is_night: IsNight) -> ReplayOutcome:
    """Decides the next message, after what was due until then, and counts both."""
    _count_due_alerts(state, totals, message.received_at, is_night)
    outcome = state.process(message)
    totals.add(outcome, is_night=is_night(message.received_at))
    return outcome


def _count_due_alerts(state: ReplayState, totals: BacktestTotals, until: datetime, is_night: IsNight) -> None:
    """Counts delayed alerts that opened by `until`."""
    for opened_at, outcome in state.process_due(until):
        totals.add_opening(outcome, is_night=is_night(opened_at))


def has_more_than(limit: int, integration: Integration, since: datetime) -> bool:
    """Whether more than `limit` messages came after `since`, so that counting them takes a while."""
    return len(_ids(integration.pk, limit + 1, since)) > limit


def night_of(integration: Integration) -> IsNight:
    """The night hours in the time zone of the first recipient group."""
    group = integration.recipient_groups.order_by("pk").first()
    hours, zone = settings_store.night_hours(), ZoneInfo(group.time_zone) if group is not None else UTC
    return lambda at: hours.includes(at, zone)


def load_messages(
    integration: Integration,
    compiled: CompiledIntegration,
    since: datetime,
    budget: MessageBudget,
    *,
    limit: int = MAX_MESSAGES,
) -> Iterator[ReplayedMessage]:
    """The decoded messages after `since`, oldest first, without samples and replays, within the budget."""
    for message, _subject, _source_id in _load_chunks(_ids(integration.pk, limit, since), compiled, budget):
        yield message


def _compare_message(
    result: Backtest,
    states: tuple[ReplayState, ReplayState],
    labels: ReferenceLabels,
    message: ReplayedMessage,
    subject: str,
    source_id: str,
) -> None:
    at = message.received_at
    before, after = (
        _process(state, totals, message, result.is_night)
        for state, totals in zip(states, (result.before, result.after), strict=True)
    )
    result.message_count += 1
    result.first_at, result.last_at = result.first_at or at, at
    differences = changes(before, after, labels)
    if not differences:
        return
    result.differing_count += 1
    for kind in {difference.kind for difference in differences}:
        result.counts[kind] = result.counts.get(kind, 0) + 1
    if (effect := paging_effect(before, after, differences)) is not None:
        result.effects[effect] += 1
    result.differences.append(BacktestDifference(message.id, at, subject, source_id, before, after, differences))
    if len(result.differences) > 2 * MAX_DIFFERENCES:
        # The newest are shown, so the oldest are dropped.
        del result.differences[:MAX_DIFFERENCES]


_IDS = """
SELECT id FROM inbound_inboundmessage
WHERE integration_id = %(integration)s AND id >= %(since)s AND NOT test AND replay_of IS NULL
ORDER BY id DESC LIMIT %(limit)s
"""

_RAW = """
SELECT id, received_at, raw, content_type, subject, source_id FROM inbound_inboundmessage
WHERE id = ANY(%s) ORDER BY id
"""

_NIL = UUID(int=0)


def _ids(integration_id: int, limit: int, since: datetime | None) -> list[UUID]:
    """The ids of the newest messages, oldest first."""
    parameters = {
        "integration": integration_id,
        "since": first_uuid7(since) if since is not None else _NIL,
        "limit": limit,
    }
    with database.transaction() as connection:
        return [row["id"] for row in database.rows(connection, _IDS, parameters)][::-1]


def _load_chunks(
    ids: Sequence[UUID], integration: CompiledIntegration, budget: MessageBudget
) -> Iterator[tuple[ReplayedMessage, str, str]]:
    """The messages with the subject and source id of their rows, within the budget. Loads only a chunk at a time."""
    lenient = integration.normalizer.kind.lenient
    for start in range(0, len(ids), _CHUNK):
        if budget.is_over():
            budget.left_out += len(ids) - start
            return
        with database.transaction() as connection:
            rows = database.rows(connection, _RAW, (list(ids[start : start + _CHUNK]),))
        for row in rows:
            if budget.is_over():
                budget.left_out += 1
                continue
            raw = decompress(row["raw"])
            element = element_of(raw, row["content_type"], lenient=lenient)
            if budget.admits(element):
                message = ReplayedMessage(row["id"], row["received_at"], raw, element)
                yield message, row["subject"], row["source_id"]


# ---------- backtest report


def as_json(result: Backtest) -> dict[str, Any]:
    """The backtest as plain values; `differences` are newest first, those not listed are counted in `more`."""
    return {
        "looked_at": result.message_count,
        "from": _iso(result.first_at),
        "to": _iso(result.last_at),
        "milliseconds": round(result.duration_seconds * 1000),
        "before": _totals(result.before),
        "after": _totals(result.after),
        "differing": result.differing_count,
        "counts": {str(kind): count for kind, count in sorted(result.counts.items())},
        "effects": [show_reason(reason) for reason in result.effect_reasons],
        "differences": [_difference(difference) for difference in result.differences],
        "more": result.differing_count - len(result.differences),
        "left_out": result.budget.left_out,
        "partial": show_reason(result.budget.reason),
    }


def _totals(totals: BacktestTotals) -> dict[str, Any]:
    statuses = {str(status): count for status, count in sorted(totals.statuses.items())}
    return {"statuses": statuses, **show_fields(totals, "opened", "pages", "at_night")}


def _difference(difference: BacktestDifference) -> dict[str, Any]:
    return {
        "message_id": str(difference.message_id),
        "received_at": _iso(difference.received_at),
        **show_fields(difference, "subject", "source_id"),
        "changes": [{"kind": str(change.kind), "says": show_reason(change.reason)} for change in difference.changes],
        "before": _outcome(difference.before),
        "after": _outcome(difference.after),
    }


def _outcome(outcome: ReplayOutcome) -> dict[str, Any]:
    paging = outcome.paging
    return {
        "status": str(outcome.status),
        **show_fields(outcome, "reason", "key", "route"),
        "mode": str(paging.mode) if paging is not None else None,
        "why": show_reason(as_reason(paging.reason) if paging is not None else NO_REASON),
        "priority": str(outcome.opening.alert.priority) if outcome.opening is not None else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None


# ---------- maintenance preview
# Previews a maintenance window: which alerts of the last day it would have suppressed.
# Replays stored messages with the live code. The window's times are ignored; its integrations, groups, tags and
# condition are tested. Sends and stores nothing.


DAY = timedelta(days=1)

#: Limits: messages per integration, integrations, and listed alerts.
MAX_MESSAGES_PER_INTEGRATION = 1_000
_MAX_INTEGRATIONS = 20
MAX_ALERTS_LISTED = 20


@dataclass(frozen=True, slots=True)
class AffectedAlert:
    message_id: UUID
    received_at: datetime
    integration: str
    subject: str


@dataclass(frozen=True, slots=True)
class MaintenancePreview:
    """`opened`: alerts opened in that time; `count`: how many of them the window applies to."""

    opened: int
    count: int
    alerts: tuple[AffectedAlert, ...]
    #: The number of integrations not examined.
    skipped_integrations: int = 0
    #: Why messages were left out; `NO_REASON` if none was.
    partial: Reason = NO_REASON


def suppressed_alerts(window: CompiledWindow, now: datetime) -> MaintenancePreview:
    """The affected alerts of the day before `now`, newest first."""
    rows = Integration.objects.exclude(mode="disabled").order_by("pk")
    if window.integrations:
        rows = rows.filter(pk__in=window.integrations)
    integrations = list(rows)
    opened, affected, budget = 0, [], MessageBudget()
    for integration in integrations[:_MAX_INTEGRATIONS]:
        opened_count, alerts = _affected_alerts(integration, window, now, budget)
        opened += opened_count
        affected += alerts
    affected.sort(key=lambda alert: alert.received_at, reverse=True)
    return MaintenancePreview(
        opened,
        len(affected),
        tuple(affected[:MAX_ALERTS_LISTED]),
        max(0, len(integrations) - _MAX_INTEGRATIONS),
        budget.reason,
    )


def _affected_alerts(
    integration: Integration, window: CompiledWindow, now: datetime, budget: MessageBudget
) -> tuple[int, list[AffectedAlert]]:
    compiled = commands.compile_stored(integration)
    integration_window = window.for_integration(compiled.id, integration.group_id, compiled.normalizer.mapping.names)
    if integration_window is None or compiled.problem is not None:
        return 0, []
    state, opened, affected = ReplayState(replace(compiled, windows=())), 0, []
    for message in load_messages(integration, compiled, now - DAY, budget, limit=MAX_MESSAGES_PER_INTEGRATION):
        outcome = state.process(message)
        if outcome.opening is None or outcome.mapped is None or isinstance(message.element, Rejected):
            continue
        opened += 1
        if integration_window.applies_to(
            message.element.payload, outcome.mapped, outcome.opening.paging.recipient_groups
        ):
            subject = outcome.opening.alert.subject
            affected.append(AffectedAlert(message.id, message.received_at, integration.name, subject))
    return opened, affected
