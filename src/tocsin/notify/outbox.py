"""The outbox of one process: claims what is due, sends it from threads, writes down what came of it, keeps its leases.

Sends with no database connection held. What was accepted is written down at once, many in one transaction where many
come together. A process that is killed leaves leases behind, which run out; another takes those rows up.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from uuid import UUID

from psycopg.errors import DataError, IntegrityError

from tocsin.core import clock, database, ids
from tocsin.notify import awaited, health, leases, pause
from tocsin.notify.claim import Claimed, Job, claim
from tocsin.notify.providers import Directory
from tocsin.notify.record import mark_sent, record
from tocsin.notify.sending import Accepted, Result, send

log = logging.getLogger(__name__)

#: So many messages are on their way at a time. They wait for servers, not for the processor.
SLOTS = 96
#: In a storm a turn waits for so many slots, or so many seconds, before it claims again.
ENOUGH = 8
PATIENCE = 0.02


class Outbox:
    """Made once a process; `turn` and `keep_leases` are its loops."""

    def __init__(
        self,
        *,
        slots: int = SLOTS,
        directory: Directory | None = None,
        now: Callable[[], datetime] = clock.now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.node = f"{socket.gethostname()[:60]}/{ids.uuid7()}"
        self.directory = directory or Directory()
        self._slots = slots
        self._now = now
        self._jitter = jitter
        self._senders = ThreadPoolExecutor(slots, thread_name_prefix="outbox")
        self._changed = threading.Condition()
        #: What is on its way, or sent and not yet written down, by the lead's id.
        self._leased: dict[UUID, Job] = {}
        self._results: list[Result] = []
        self._writing = threading.Lock()
        self._silences = awaited.Silences()

    def turn(self) -> bool:
        """Claims and begins to send what is due; True when there may be more at once. Never waits for a send."""
        # What a failed write left behind comes first: a sent message that looks unsent is the worst.
        self._write_down()
        if self._free() <= 0:
            self._wait_for_slots()
            return True
        claimed = database.retry_once(self._claim)
        for job in claimed.jobs:
            self._senders.submit(self._send, job)
        if claimed.is_full:
            self._wait_for_slots()
        return claimed.is_full or claimed.found > 0

    def keep_leases(self) -> bool:
        """Renews the leases of what is on its way here, and takes up rows whose lease ran out elsewhere."""
        with self._changed:
            ours = [row_id for job in self._leased.values() for row_id in job.ids]
        with database.transaction() as connection:
            self.directory.refresh(connection)
            leases.renew(connection, ours, self.node)
        database.retry_once(lambda: self._take_up(ours))
        database.retry_once(self._look_for_receipts)
        return False

    def ask_providers(self) -> bool:
        """Asks providers that failed on end whether they work again, and forgets what is too old to matter."""
        self.directory.ask_again(self._now)
        return False

    def settle(self) -> None:
        """Returns when nothing is on its way any more, and all of it is written down."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._results) == len(self._leased))
        self._write_down()

    def close(self, timeout: float = 20.0) -> None:
        """Lets what is on its way end, for `timeout` seconds at most, writes it down, and closes every connection."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._results) == len(self._leased), timeout)
        self._write_down()
        self._senders.shutdown(wait=False, cancel_futures=True)
        self.directory.close()

    def _free(self) -> int:
        with self._changed:
            return self._slots - len(self._leased)

    def _wait_for_slots(self) -> None:
        """Waits a moment, so that one claim takes several rows where many are sent."""
        with self._changed:
            before = len(self._leased)
            self._changed.wait_for(lambda: len(self._leased) <= max(0, before - ENOUGH), PATIENCE)

    def _claim(self) -> Claimed:
        now = self._now()
        with self._changed:
            busy = Counter(job.provider for job in self._leased.values())
        with database.transaction() as connection:
            self.directory.refresh(connection)
            claimed = claim(
                connection,
                self.directory,
                busy,
                node=self.node,
                slots=self._slots,
                now=now,
                pause=pause.current(connection, now),
            )
        with self._changed:
            self._leased |= {job.bundle.lead.id: job for job in claimed.jobs}
        return claimed

    def _send(self, job: Job) -> None:
        result = send(job, self._now)
        with self._changed:
            self._results.append(result)
            self._changed.notify_all()
        try:
            self._write_down()
        except Exception:  # a thread's edge: the next turn writes it down
            log.exception("What came of %d deliveries could not be written down yet.", len(self._results))

    def _write_down(self) -> None:
        """Writes what has come in. While one thread writes, others wait here and leave theirs to the next write."""
        with self._writing:
            with self._changed:
                results = list(self._results)
            if not results:
                return
            try:
                database.retry_once(lambda: self._record(results))
            except (DataError, IntegrityError):
                # One of them cannot be written: alone, it hurts no other.
                self._write_each(results)
            self._forget(results)

    def _write_each(self, results: list[Result]) -> None:
        for result in results:
            try:
                self._record([result])
            except (DataError, IntegrityError):
                log.exception("What came of the delivery %s cannot be written down.", result.job.bundle.lead.id)
                if isinstance(result.outcome, Accepted):
                    with database.transaction() as connection:
                        mark_sent(connection, result)

    def _record(self, results: list[Result]) -> None:
        with database.transaction() as connection:
            record(connection, self.directory, results, self.node, self._jitter)

    def _forget(self, results: list[Result]) -> None:
        done = {result.job.bundle.lead.id for result in results}
        with self._changed:
            self._results = [result for result in self._results if result.job.bundle.lead.id not in done]
            for row_id in done:
                self._leased.pop(row_id, None)
            self._changed.notify_all()

    def _look_for_receipts(self) -> None:
        now = self._now()
        with database.transaction() as connection:
            late = awaited.overdue(connection, now)
            notes = [
                health.Note(one.provider, now, f"It did not report a message as delivered within {one.waited} seconds.")
                for one in self._silences.counted(late, now)
            ]
            self.directory.note(connection, notes)

    def _take_up(self, ours: list[UUID]) -> None:
        with database.transaction() as connection:
            leases.take_up(connection, self.directory, ours, self.node, self._now(), self._jitter)
