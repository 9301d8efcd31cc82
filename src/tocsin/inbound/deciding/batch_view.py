"""State of dedup keys and shared alerts while the messages of a batch are decided one after the other. Pure.

Used by the committer's batches, tests and backtests alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from tocsin.inbound.deciding.state import (
    EMPTY_NOISE_STATE,
    ActiveAlert,
    Decision,
    DedupKeyState,
    LockScopes,
    NoiseState,
    RateWindowState,
)

_NEW = DedupKeyState()


@dataclass(slots=True)
class BatchView:
    """Known state by key hash. `active_alerts` holds shared alerts by id, so that all of their keys see the same
    state."""

    states: dict[bytes, DedupKeyState] = field(default_factory=dict)
    rate_windows: dict[bytes, RateWindowState] = field(default_factory=dict)
    active_alerts: dict[int, ActiveAlert] = field(default_factory=dict)
    #: Merged alerts whose parent has ended in this batch: their keys are free.
    freed_alert_ids: set[int] = field(default_factory=set)

    def get_state(self, key_hash: bytes) -> DedupKeyState:
        """Returns a key's state after all decisions so far."""
        state = self.states.get(key_hash, _NEW)
        if state.active_alert is not None and state.active_alert.parent_id is not None:
            if state.active_alert.state.id in self.freed_alert_ids:
                return replace(state, active_alert=None, shared_alert_id=None, role=None, parent=None)
            state = replace(state, parent=self.active_alerts.get(state.active_alert.parent_id))
        if state.shared_alert_id is None:
            return state
        active_alert = self.active_alerts.get(state.shared_alert_id)
        if active_alert is None or active_alert.state.id in self.freed_alert_ids:
            return replace(state, active_alert=None, shared_alert_id=None, role=None, parent=None)
        parent = self.active_alerts.get(active_alert.parent_id) if active_alert.parent_id is not None else None
        return replace(state, active_alert=active_alert, parent=parent)

    def get_noise_state(self, scopes: LockScopes | None) -> NoiseState:
        """Returns the noise reduction state that a message with these lock scopes may read."""
        if scopes is None:
            return EMPTY_NOISE_STATE
        rate_windows = {
            scope: rate_window
            for scope in scopes.rate_window_scopes
            if (rate_window := self.rate_windows.get(scope)) is not None
        }
        alert_ids = {rate_window.alert_id for rate_window in rate_windows.values()} - self.freed_alert_ids
        active_alerts = {
            alert_id: active_alert
            for alert_id in alert_ids
            if alert_id is not None and (active_alert := self.active_alerts.get(alert_id))
        }
        parent = self._share_parent(scopes.parent)
        parent_ids = {
            active_alert.parent_id for active_alert in (*active_alerts.values(), parent) if active_alert is not None
        }
        active_alerts |= {
            alert_id: active_alert
            for alert_id in parent_ids
            if alert_id is not None and (active_alert := self.active_alerts.get(alert_id))
        }
        return NoiseState(rate_windows, active_alerts, parent)

    def _share_parent(self, key_hash: bytes | None) -> ActiveAlert | None:
        """Returns the active alert of a parent's key, from now on shared by its messages and its children's."""
        if key_hash is None:
            return None
        state = self.get_state(key_hash)
        if state.active_alert is not None and state.shared_alert_id is None:
            alert_id = state.active_alert.state.id
            self.active_alerts.setdefault(alert_id, state.active_alert)
            self.states[key_hash] = replace(state, shared_alert_id=alert_id)
        return state.active_alert

    def apply_decision(self, key_hash: bytes, previous_state: DedupKeyState, decision: Decision) -> None:
        """Stores the state after a decision; `previous_state` is the state that `key` returned."""
        new_state = decision.key_state
        self.states[key_hash] = new_state
        if previous_state.shared_alert_id is not None and new_state.active_alert is None:
            self.active_alerts.pop(previous_state.shared_alert_id, None)
        if new_state.shared_alert_id is not None and new_state.active_alert is not None:
            self.active_alerts[new_state.shared_alert_id] = new_state.active_alert
        if (noise_changes := decision.noise_changes) is not None:
            self.active_alerts.update(noise_changes.active_alerts)
            self.rate_windows.update(noise_changes.rate_windows)
            self._decrement_waiting(previous_state, decision)
            for scope in noise_changes.released_scopes:
                # The delayed alerts of that scope join one by one; none of them counts as waiting any more.
                self.rate_windows[scope] = replace(self.rate_windows[scope], waiting_count=0)
        elif previous_state.delayed is not None and new_state.delayed is None:
            self._decrement_waiting(previous_state, decision)

    def _decrement_waiting(self, previous_state: DedupKeyState, decision: Decision) -> None:
        """Stops counting a key that is no longer delayed among those waiting in its scope."""
        if (
            previous_state.delayed is None
            or decision.key_state.delayed is not None
            or previous_state.delayed.scope is None
        ):
            return
        rate_window = self.rate_windows.get(previous_state.delayed.scope)
        if rate_window is not None and rate_window.waiting_count:
            self.rate_windows[previous_state.delayed.scope] = replace(
                rate_window, waiting_count=rate_window.waiting_count - 1
            )
