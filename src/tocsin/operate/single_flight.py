"""Runs a database query in bounded time, even while PostgreSQL hangs.

Only one thread runs it at a time and concurrent callers share its result, so that probes of a hanging database do not
pile up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future


class SingleFlight[T]:
    """A query that runs in a thread of its own."""

    def __init__(self, name: str, query: Callable[[], T]) -> None:
        self._name = name
        self._query = query
        self._future: Future[T] | None = None

    async def result(self, within: float) -> T:
        """The result. Raises TimeoutError after `within` seconds, or the query's own error. For use on the event
        loop."""
        if self._future is None or self._future.done():
            self._future = Future()
            # A daemon thread, because a hanging query must not block shutdown.
            threading.Thread(target=self._run, args=(self._future,), name=self._name, daemon=True).start()
        wrapped = asyncio.wrap_future(self._future)
        done, _ = await asyncio.wait({wrapped}, timeout=within)
        if not done:
            # A late error is consumed silently; the next caller gets a new result.
            wrapped.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise TimeoutError
        return wrapped.result()

    def _run(self, future: Future[T]) -> None:
        try:
            future.set_result(self._query())
        except BaseException as error:  # noqa: BLE001 - a thread's edge: whoever waits hears of it
            future.set_exception(error)
