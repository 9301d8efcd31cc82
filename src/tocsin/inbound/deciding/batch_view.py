"""State of dedup keys and shared alerts while the messages of a batch are decided one after the other. Pure.

Used by the committer's batches, tests and backtests alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from tocsin.inbound.deciding.state import (
    ALONE,
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
    """Known state by key hash. `lives` holds shared alerts by id, so that all of their keys see the same state."""

    states: dict[bytes, DedupKeyState] = field(default_factory=dict)
    rate_windows: dict[bytes, RateWindowState] = field(default_factory=dict)
    lives: dict[int, ActiveAlert] = field(default_factory=dict)
    #: Merged alerts whose parent has ended in this batch: their keys are free.
    freed: set[int] = field(default_factory=set)

    def key(self, hashed: bytes) -> DedupKeyState:
        """Returns a key's state after all decisions so far."""
        state = self.states.get(hashed, _NEW)
        if state.live is not None and state.live.parent_id is not None:
            if state.live.state.id in self.freed:
                return replace(state, live=None, shared=None, role=None, parent=None)
            state = replace(state, parent=self.lives.get(state.live.parent_id))
        if state.shared is None:
            return state
        live = self.lives.get(state.shared)
        if live is None or live.state.id in self.freed:
            return replace(state, live=None, shared=None, role=None, parent=None)
        parent = self.lives.get(live.parent_id) if live.parent_id is not None else None
        return replace(state, live=live, parent=parent)

    def standing(self, scopes: LockScopes | None) -> NoiseState:
        """Returns the noise reduction state that a message with these lock scopes may read."""
        if scopes is None:
            return ALONE
        rate_windows = {
            scope: rate_window
            for scope in scopes.rate_windows
            if (rate_window := self.rate_windows.get(scope)) is not None
        }
        named = {rate_window.alert_id for rate_window in rate_windows.values()} - self.freed
        lives = {number: live for number in named if number is not None and (live := self.lives.get(number))}
        parent = self._parent(scopes.parent)
        above = {live.parent_id for live in (*lives.values(), parent) if live is not None}
        lives |= {number: live for number in above if number is not None and (live := self.lives.get(number))}
        return NoiseState(rate_windows, lives, parent)

    def _parent(self, hashed: bytes | None) -> ActiveAlert | None:
        """Returns the active alert of a parent's key, from now on shared by its messages and its children's."""
        if hashed is None:
            return None
        state = self.key(hashed)
        if state.live is not None and state.shared is None:
            number = state.live.state.id
            self.lives.setdefault(number, state.live)
            self.states[hashed] = replace(state, shared=number)
        return state.live

    def put(self, hashed: bytes, before: DedupKeyState, decision: Decision) -> None:
        """Stores the state after a decision; `before` is the state that `key` returned."""
        after = decision.key
        self.states[hashed] = after
        if before.shared is not None and after.live is None:
            self.lives.pop(before.shared, None)
        if after.shared is not None and after.live is not None:
            self.lives[after.shared] = after.live
        if (shaped := decision.shaped) is not None:
            self.lives.update(shaped.lives)
            self.rate_windows.update(shaped.rate_windows)
            self._count_out(before, decision)
            for scope in shaped.released:
                # The delayed alerts of that scope join one by one; none of them counts as waiting any more.
                self.rate_windows[scope] = replace(self.rate_windows[scope], waiting=0)
        elif before.delayed is not None and after.delayed is None:
            self._count_out(before, decision)

    def _count_out(self, before: DedupKeyState, decision: Decision) -> None:
        """Stops counting a key that is no longer delayed among those waiting in its scope."""
        if before.delayed is None or decision.key.delayed is not None or before.delayed.scope is None:
            return
        rate_window = self.rate_windows.get(before.delayed.scope)
        if rate_window is not None and rate_window.waiting:
            self.rate_windows[before.delayed.scope] = replace(rate_window, waiting=rate_window.waiting - 1)
