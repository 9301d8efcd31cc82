"""Senders that report new tickets at a steady rate, and each again until it is answered, as a service desk does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Self

from tests.prove.ledger import Ticket
from tests.support.installation import HALO_TOKEN, ask, ticket, until

_THREADS = 16
#: Seconds that a sender waits for an answer, and until it tries again.
_PATIENCE = 5.0
_PAUSE = 0.2


class Senders:
    """Sends `rate` tickets a second to the address that `url` returns, from several threads, unless paused."""

    def __init__(self, url: Callable[[], str], rate: float) -> None:
        self.rate = rate
        #: Which run the next tickets belong to.
        self.run = 0
        self.tickets: dict[int, Ticket] = {}
        self.answered: dict[int, float] = {}
        self.url = url
        self._lock = threading.Lock()
        self._next_at = time.monotonic()
        self._sending = threading.Event()
        self._stopped = threading.Event()
        self._busy = 0
        self._number = 0
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._sending.set()
        for thread in self._threads:
            thread.join(2 * _PATIENCE)

    def resume(self) -> None:
        """Sends new tickets from now on."""
        self._next_at = time.monotonic()
        self._sending.set()

    def pause(self, seconds: float = 120.0) -> None:
        """Sends no new ticket, and waits until every one that was sent is answered."""
        self._sending.clear()
        until("every message is answered", lambda: self._busy == 0, seconds)

    def of_run(self, run: int) -> list[Ticket]:
        """The tickets that were first sent during this run."""
        with self._lock:
            return [ticket for ticket in self.tickets.values() if ticket.run == run]

    def forget(self, run: int) -> None:
        """Drops a run's tickets, once they are counted."""
        with self._lock:
            for number in [number for number, ticket in self.tickets.items() if ticket.run == run]:
                del self.tickets[number]
                self.answered.pop(number, None)

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._sending.wait()
            if (made := self._take()) is None:
                continue
            try:
                self._report(made)
            finally:
                with self._lock:
                    self._busy -= 1

    def _take(self) -> Ticket | None:
        with self._lock:
            wait = self._next_at - time.monotonic()
            if wait <= 0 and self._sending.is_set() and not self._stopped.is_set():
                # Time in which all threads waited for answers is not made up for.
                self._next_at = max(self._next_at, time.monotonic() - 0.5) + 1 / self.rate
                self._busy += 1
                self._number += 1
                made = self.tickets[self._number] = Ticket(self._number, self.run)
                return made
        time.sleep(min(max(wait, 0.001), 0.05))
        return None

    def _report(self, made: Ticket) -> None:
        while not self._stopped.is_set():
            try:
                answer = ask("POST", f"{self.url()}/in/{HALO_TOKEN}", ticket(made.number), seconds=_PATIENCE)
            except (OSError, HTTPException) as error:
                made.problems.append(repr(error))
            else:
                if answer.status in (200, 202):
                    made.message_id = answer.json()["message_id"]
                    made.answered_at = time.monotonic()
                    with self._lock:
                        self.answered[made.number] = made.answered_at
                    return
                made.problems.append(f"{answer.status} {answer.text[:200]}")
            self._stopped.wait(_PAUSE)
