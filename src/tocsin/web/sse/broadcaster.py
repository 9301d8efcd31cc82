"""Passes change hints to the open event streams of this process, and keeps them for two minutes for reconnects.

Thread-safe: a listener thread publishes, streams wait on their event loops. It never accesses the database.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from tocsin.core.runtime import clock

#: How long hints are kept for streams that open or reconnect shortly afterwards.
HINT_RETENTION = timedelta(minutes=2)

#: Maximum number of hints kept. A stream that reconnects after older hints were dropped reloads everything.
MAX_HINTS = 5_000

#: A stream with more undelivered topics than this gets a single "anything may have changed" event.
MAX_TOPICS_BEHIND = 200


@dataclass(eq=False)
class EventStream:
    """One open stream and its undelivered topics. Belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    topics: set[str] = field(default_factory=set)
    everything: bool = False
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, topics: frozenset[str]) -> None:
        """Add topics. Must be called on the stream's own loop."""
        self.topics |= topics
        if len(self.topics) > MAX_TOPICS_BEHIND:
            self.topics.clear()
            self.everything = True
        self._woken.set()

    async def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for something to deliver. Return whether there is something."""
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def pop_topics(self) -> tuple[frozenset[str], bool]:
        """Take the undelivered topics, and whether anything may have changed."""
        pending = frozenset(self.topics), self.everything
        self.topics.clear()
        self.everything = False
        return pending


class Broadcaster:
    """All open streams of this process, and the recently published hints."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: set[EventStream] = set()
        self._past: deque[tuple[datetime, frozenset[str]]] = deque()
        #: `_past` contains everything published since this moment.
        self._known_since = datetime.max.replace(tzinfo=clock.now().tzinfo)

    def start(self) -> None:
        """Start a gapless record of hints. Call it when listening starts, and again after a gap in the
        notifications."""
        with self._lock:
            self._past.clear()
            self._known_since = clock.now()
            streams = list(self._streams)
        for stream in streams:
            _call(stream, partial(_miss, stream))

    def publish(self, topics: Iterable[str]) -> None:
        """Notify every open stream that `topics` changed. May be called from any thread."""
        changed = frozenset(topics)
        if not changed:
            return
        now = clock.now()
        with self._lock:
            self._past.append((now, changed))
            while self._past and (self._past[0][0] < now - HINT_RETENTION or len(self._past) > MAX_HINTS):
                self._known_since = self._past.popleft()[0]
            streams = list(self._streams)
        for stream in streams:
            _call(stream, partial(stream.add, changed))

    def open(self, since: datetime | None) -> EventStream:
        """Open a stream on the running loop. It starts with the topics that changed after `since`, or with "anything
        may have"."""
        stream = EventStream(asyncio.get_running_loop())
        with self._lock:
            self._streams.add(stream)
            missed = [topics for at, topics in self._past if since is not None and at > since]
            if since is not None and since < self._known_since:
                stream.everything = True
        if stream.everything or missed:
            stream.add(frozenset().union(*missed))
        return stream

    def close(self, stream: EventStream) -> None:
        """Remove a stream that ended."""
        with self._lock:
            self._streams.discard(stream)

    def __len__(self) -> int:
        return len(self._streams)


def _miss(stream: EventStream) -> None:
    stream.everything = True
    stream.add(frozenset())


def _call(stream: EventStream, callback: Callable[[], None]) -> None:
    try:
        stream.loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The event loop is closed: the process is stopping, and the stream with it.
        return


#: The broadcaster of this process.
process_broadcaster = Broadcaster()


def publish(topics: Iterable[str]) -> None:
    """Notify every open stream of this process that `topics` changed."""
    process_broadcaster.publish(topics)
