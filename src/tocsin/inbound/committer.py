"""The committer: takes what the doors put in, has it decided in batches, and answers each when its batch has committed.

It has lanes, so that the database works for one while the other decides. A dedup key is always of the same lane: its
messages are decided in the order in which they came.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tocsin.core import metrics
from tocsin.inbound.lane import Lane, NotStored, Ticket
from tocsin.inbound.messages import Incoming, Stored
from tocsin.inbound.outcomes import MessageStatus
from tocsin.inbound.registry import Registry

__all__ = ["LANES", "MAX_WAIT", "MAX_WAITING", "MAX_WAITING_BYTES", "Committer", "NotStored", "Ticket", "is_pending"]

#: Limits of what waits: messages, bytes, and seconds of waiting. Beyond them senders are told to come again.
MAX_WAITING = 5_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_WAIT = 5.0

#: More would only have their threads fight for the one interpreter.
LANES = 2


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits to be decided: messages, their bytes, and for how many seconds the first of them has."""

    messages: int
    size: int
    seconds: float


class Committer:
    """Takes tickets from the event loop and answers each when its transaction has committed."""

    def __init__(self, registry: Registry, max_wait: float = MAX_WAIT) -> None:
        """`max_wait` is how many seconds a message may wait, and a database may not answer."""
        self._max_wait = max_wait
        self._lock = threading.Lock()
        self._lanes = tuple(Lane(registry, self._lock, max_wait) for _ in range(LANES))
        self._stopping = False

    def start(self) -> None:
        """Starts the threads."""
        for lane in self._lanes:
            lane.start()

    def stop(self, timeout: float) -> None:
        """Finishes what waits, for `timeout` seconds at most, and takes nothing more."""
        with self._lock:
            self._stopping = True
            for lane in self._lanes:
                lane.end()
        give_up_at = time.monotonic() + timeout
        for lane in self._lanes:
            lane.join(max(0.0, give_up_at - time.monotonic()))

    def is_alive(self) -> bool:
        """Whether all of its threads run."""
        return all(lane.is_alive() for lane in self._lanes)

    def waiting(self) -> Waiting:
        """What waits now."""
        with self._lock:
            return self._standing(time.monotonic())

    def put(self, ticket: Ticket) -> bool:
        """Has a ticket decided; False when there is no room, or its turn would come too late."""
        with self._lock:
            now = time.monotonic()
            waiting = self._standing(now)
            is_too_many = waiting.messages + len(ticket.incoming) > MAX_WAITING
            is_too_much = waiting.size + ticket.size > MAX_WAITING_BYTES
            # One is always taken, however large it is.
            is_full = (is_too_many or is_too_much) and bool(waiting.messages or waiting.size)
            if self._stopping or is_full or waiting.seconds > self._max_wait:
                metrics.count_refused(len(ticket.incoming))
                return False
            ticket.put_at = now
            if len(ticket.incoming) == 1:
                self._lanes[_lane_of(ticket.incoming[0])].add(ticket)
            else:
                self._put_array(ticket)
            return True

    def _put_array(self, ticket: Ticket) -> None:
        """Puts each message of an array into the lane of its key."""
        places: dict[int, list[int]] = {}
        for place, one in enumerate(ticket.incoming):
            places.setdefault(_lane_of(one), []).append(place)
        if len(places) <= 1:
            self._lanes[next(iter(places), 0)].add(ticket)
            return
        joined = _Joined(ticket, len(places))
        for lane, mine in places.items():
            incoming = [ticket.incoming[place] for place in mine]
            size = sum(len(one.raw) for one in incoming)
            self._lanes[lane].add(Ticket(incoming, size, joined.answer_for(mine), ticket.loop, ticket.put_at))

    def _standing(self, now: float) -> Waiting:
        messages = size = 0
        oldest = None
        for lane in self._lanes:
            messages += lane.count
            size += lane.size
            began = lane.oldest()
            if began is not None and (oldest is None or began < oldest):
                oldest = began
        return Waiting(messages, size, 0.0 if oldest is None else now - oldest)


class _Joined:
    """The answer to an array whose messages are decided in several lanes: given once, when all are."""

    def __init__(self, ticket: Ticket, parts: int) -> None:
        self._ticket = ticket
        self._left = parts
        self._stored: list[Stored | None] = [None] * len(ticket.incoming)
        self._refused: Exception | None = None
        self._lock = threading.Lock()

    def answer_for(self, places: Sequence[int]) -> Callable[[list[Stored] | Exception], None]:
        """What is called with what became of the messages at `places` of the array."""

        def answer(result: list[Stored] | Exception) -> None:
            with self._lock:
                if isinstance(result, Exception):
                    self._refused = result
                else:
                    for place, one in zip(places, result, strict=True):
                        self._stored[place] = one
                self._left -= 1
                if self._left:
                    return
            self._ticket.answer(self._refused or [one for one in self._stored if one is not None])

        return answer


def _lane_of(incoming: Incoming) -> int:
    """The lane of a message's key. One that could not be read where it arrived has no key yet."""
    key = incoming.prepared.key if incoming.prepared is not None else None
    return key[-1] % LANES if key is not None else 0


def is_pending(stored: Sequence[Stored]) -> bool:
    """Whether any of a request's messages waits to be decided."""
    return any(one.status is MessageStatus.PENDING for one in stored)
