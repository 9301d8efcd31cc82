"""How many sends one provider may have in progress at a time, so that a slow one leaves senders for the others."""

from __future__ import annotations

import threading

#: In seconds. A provider that takes longer for a message is slow.
MAX_LATENCY = 2.0

#: A slow provider keeps this number of concurrent sends, which show when it is fast again.
MIN_CONCURRENT_SENDS = 4

#: The weight of the newest send in the average.
_WEIGHT = 0.3


class Latencies:
    """The exponentially weighted average duration of sends, by provider. One per process; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    def record(self, provider: str, seconds: float) -> None:
        """Records the duration of one send."""
        with self._lock:
            average = self._seconds.get(provider, seconds)
            self._seconds[provider] = average + _WEIGHT * (seconds - average)

    def averages(self) -> dict[str, float]:
        """Returns the averages in seconds, by provider. A provider without sends is absent."""
        with self._lock:
            return dict(self._seconds)


def fair_concurrency(maximum: int, latency: float) -> int:
    """Returns how many concurrent sends a provider may have while another one can take the rest. A slow provider holds
    fewer senders, in proportion to its latency in seconds.
    """
    if latency <= MAX_LATENCY:
        return maximum
    return min(maximum, max(MIN_CONCURRENT_SENDS, int(maximum * MAX_LATENCY / latency)))


def count_allowed(held: int, free_slots: int) -> int:
    """Returns how many more sends may go to a provider that has `held` in progress: as long as it holds fewer than four
    times the free slots. One alone gets four fifths of all slots; the more providers are slow, the less each gets
    (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).
    """
    return max(0, -(-(4 * free_slots - held) // 5))
