"""The changes of a batch, collected in arrival order and written together, inside the batch's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from tocsin.alerts import service, store
from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.new_alert import AlertCreation, RepeatedMessages
from tocsin.core.db.database import Connection
from tocsin.inbound.deciding import echo_suppression
from tocsin.inbound.deciding.batch_view import BatchView
from tocsin.inbound.deciding.preprocessing import DeliveryKey
from tocsin.inbound.deciding.state import (
    Decision,
    DedupKeyState,
    DelayedAlertState,
    DuplicateDelivery,
    GroupJoin,
    WaitOutcome,
)
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.processing.batch_item import BatchItem
from tocsin.inbound.storage import dedup_key_store, noise_store


@dataclass(slots=True)
class BatchChanges:
    """What the decisions of a batch change, beyond the state in `view`."""

    view: BatchView
    stored_keys: frozenset[bytes]
    new_deliveries: dict[DeliveryKey, DuplicateDelivery] = field(default_factory=dict)
    updated_keys: set[bytes] = field(default_factory=set)
    creations: list[AlertCreation] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)
    repeated_messages: dict[int, RepeatedMessages] = field(default_factory=dict)
    echoed_write_ids: list[int] = field(default_factory=list)
    #: Alerts that are delayed, or are no longer (None), with their integration.
    delayed: dict[bytes, tuple[int, DelayedAlertState | None]] = field(default_factory=dict)
    #: This batch's delayed messages by key.
    delayed_items: dict[bytes, list[BatchItem]] = field(default_factory=dict)
    wait_outcomes: dict[bytes, WaitOutcome] = field(default_factory=dict)
    group_joins: dict[bytes, GroupJoin] = field(default_factory=dict)
    changed_rate_windows: set[bytes] = field(default_factory=set)
    released_scopes: set[bytes] = field(default_factory=set)

    def apply(self, item: BatchItem, previous_state: DedupKeyState, decision: Decision) -> None:
        """Stores the decision on the message, the state of its key for the next one, and what is to be written."""
        item.decision = decision
        key_hash = item.key_hash
        if key_hash is None:
            return
        if (
            decision.noise_changes is None
            and previous_state.delayed is None
            and previous_state.shared_alert_id is None
            and decision.key_state.delayed is None
        ):
            # Most messages do not involve noise reduction.
            self.view.states[key_hash] = decision.key_state
        else:
            self._apply_noise_changes(item, key_hash, previous_state, decision)
        if decision.updates_key:
            self.updated_keys.add(key_hash)
        if decision.creation is not None:
            self.creations.append(decision.creation)
        self.echoed_write_ids.extend(decision.echoed_write_ids)
        for change in decision.changes:
            self.changes.append(change)
            if change.before is not None and change.before.holds_key and not change.after.holds_key:
                self.view.freed_alert_ids.add(change.alert_id)
        if decision.repeated_messages is not None:
            self._count(decision.repeated_messages)

    def _apply_noise_changes(
        self, item: BatchItem, key_hash: bytes, previous_state: DedupKeyState, decision: Decision
    ) -> None:
        self.view.apply_decision(key_hash, previous_state, decision)
        if decision.key_state.delayed is not previous_state.delayed:
            self.delayed[key_hash] = (item.integration.id, decision.key_state.delayed)
        if decision.status is MessageStatus.DELAYED:
            self.delayed_items.setdefault(key_hash, []).append(item)
        noise_changes = decision.noise_changes
        if noise_changes is None:
            return
        self.changed_rate_windows.update(noise_changes.rate_windows)
        self.released_scopes.update(noise_changes.released_scopes)
        if noise_changes.group_join is not None:
            self.group_joins[key_hash] = noise_changes.group_join
        if (outcome := noise_changes.wait_outcome) is not None:
            self.wait_outcomes[key_hash] = outcome
            for delayed_item in self.delayed_items.pop(key_hash, ()):
                assert delayed_item.decision is not None
                delayed_item.decision = replace(
                    delayed_item.decision, status=outcome.status, reason=outcome.reason, alert_id=outcome.alert_id
                )

    def _count(self, repeated_messages: RepeatedMessages) -> None:
        previous = self.repeated_messages.get(repeated_messages.alert_id)
        if previous is not None:
            changes = {**(previous.changes or {}), **(repeated_messages.changes or {})}
            repeated_messages = replace(
                repeated_messages,
                count=previous.count + repeated_messages.count,
                last_message_at=max(previous.last_message_at, repeated_messages.last_message_at),
                changes=changes or None,
            )
        self.repeated_messages[repeated_messages.alert_id] = repeated_messages

    def write(self, connection: Connection, now: datetime) -> None:
        """Writes the changes, and calls the handlers of alert changes."""
        new_alert_ids = {creation.alert.id for creation in self.creations}
        # Existing alerts free their keys before new alerts of this batch take them.
        service.write(connection, [change for change in self.changes if change.alert_id not in new_alert_ids], now)
        if self.creations:
            ended_alert_ids = frozenset(change.alert_id for change in self.changes if not change.after.holds_key)
            service.create_alerts(connection, self.creations, now, ended_ids=ended_alert_ids)
            service.write(connection, [change for change in self.changes if change.alert_id in new_alert_ids], now)
        store.count_messages(connection, list(self.repeated_messages.values()))
        states: Mapping[bytes, DedupKeyState] = {key: self.view.states[key] for key in self.updated_keys}
        dedup_key_store.write_keys(connection, states, self.stored_keys, now)
        dedup_key_store.write_deliveries(connection, self.new_deliveries)
        echo_suppression.record_echoes(connection, self.echoed_write_ids)
        if self.delayed or self.group_joins or self.changed_rate_windows:
            self._write_noise_changes(connection, now)

    def _write_noise_changes(self, connection: Connection, now: datetime) -> None:
        noise_store.write_wait_outcomes(connection, self.wait_outcomes)
        noise_store.write_delayed(connection, self.delayed)
        noise_store.write_joins(connection, self.group_joins, now)
        windows = {scope: self.view.rate_windows[scope] for scope in self.changed_rate_windows}
        noise_store.write_rate_windows(connection, windows, now)
        noise_store.release(connection, sorted(self.released_scopes), now)
