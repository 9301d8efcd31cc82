"""A question to the database that is answered in bounded time, also while PostgreSQL hangs.

One thread asks at a time: whoever asks meanwhile waits for the same answer, so that probes of a database that hangs
never pile up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future


class SingleFlight[T]:
    """A question, asked in a thread that ends with it."""

    def __init__(self, name: str, question: Callable[[], T]) -> None:
        self._name = name
        self._question = question
        self._asked: Future[T] | None = None

    async def answer(self, within: float) -> T:
        """The answer. Raises TimeoutError after `within` seconds, and what the question raises. Of the event loop."""
        if self._asked is None or self._asked.done():
            self._asked = Future()
            # A daemon: one that hangs must not hold up the end of the process.
            threading.Thread(target=self._ask, args=(self._asked,), name=self._name, daemon=True).start()
        waiting = asyncio.wrap_future(self._asked)
        done, _ = await asyncio.wait({waiting}, timeout=within)
        if not done:
            # Its error, should there be one, is the next one's to hear.
            waiting.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise TimeoutError
        return waiting.result()

    def _ask(self, asked: Future[T]) -> None:
        try:
            asked.set_result(self._question())
        except BaseException as error:  # noqa: BLE001 - a thread's edge: whoever waits hears of it
            asked.set_exception(error)
