"""Which providers fail from this process only, because its network does not reach them, while other nodes send through
them. A message that this process claims again and again would use up its quick retries."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

#: From this many failures in a row on, this process leaves the provider's messages to others.
MIN_FAILURES = 3

#: In seconds: how soon after a failure this process tries one message.
TRIAL_AFTER = 10.0


@dataclass(frozen=True, slots=True)
class _Streak:
    """Failures in a row; `last` by the monotonic clock."""

    count: int
    first_at: datetime
    last: float


class LocalFailures:
    """Counts failures in a row by provider. One per process; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streaks: dict[str, _Streak] = {}

    def record(self, provider: str, at: datetime, elapsed: float, *, is_failure: bool) -> None:
        """Records the outcome of one send. `elapsed` is the monotonic clock's time in seconds."""
        with self._lock:
            streak = self._streaks.pop(provider, None)
            if is_failure:
                count, first_at = (streak.count, streak.first_at) if streak else (0, at)
                self._streaks[provider] = _Streak(count + 1, first_at, elapsed)

    def suspects(self) -> list[str]:
        """Returns the providers that may fail from this process only."""
        with self._lock:
            return [name for name, streak in self._streaks.items() if streak.count >= MIN_FAILURES]

    def max_sends(self, worked_at: Mapping[str, datetime], elapsed: float) -> dict[str, int]:
        """Returns how many concurrent sends this process may have with each provider that worked elsewhere since it
        began to fail here: none for a while, then one. `worked_at` is when a provider last accepted a message."""
        with self._lock:
            return {
                name: int(elapsed >= streak.last + TRIAL_AFTER)
                for name, streak in self._streaks.items()
                if streak.count >= MIN_FAILURES and name in worked_at and worked_at[name] > streak.first_at
            }
