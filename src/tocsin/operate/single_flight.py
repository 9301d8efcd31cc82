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

    def __init__(self, name: str, question: Callable[[], T]) -> None:
        self._name = name
        self._question = question
        self._asked: Future[T] | None = None

    async def answer(self, within: float) -> T:
        """The result. Raises TimeoutError after `within` seconds, or the query's own error. For use on the event
        loop."""
        if self._asked is None or self._asked.done():
            self._asked = Future()
            # A daemon thread, because a hanging query must not block shutdown.
            threading.Thread(target=self._ask, args=(self._asked,), name=self._name, daemon=True).start()
        waiting = asyncio.wrap_future(self._asked)
        done, _ = await asyncio.wait({waiting}, timeout=within)
        if not done:
            # A late error is consumed silently; the next caller gets a new result.
            waiting.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise TimeoutError
        return waiting.result()

    def _ask(self, asked: Future[T]) -> None:
        try:
            asked.set_result(self._question())
        except BaseException as error:  # noqa: BLE001 - a thread's edge: whoever waits hears of it
            asked.set_exception(error)
