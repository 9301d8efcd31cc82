"""Keeps two threads that take turns at the interpreter on one processor while both are busy.

Only one thread of a process runs Python at any time. Spread over two processors, each turn wakes the other one and
finds its caches cold, and the database is crowded out of what it could have had for itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: For how many seconds two threads stay on one processor before the system places them anew.
MIN_STAY_SECONDS = 10.0
#: How many seconds the system has to place them.
PLACING = 0.05

#: Where this process may run, as whoever started it wanted it. Empty where a system knows no such thing.
_ANYWHERE = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset[int]()


def roam(thread: int = 0) -> None:
    """Lets a thread of this process run anywhere: the calling one, or the one of that native id. A thread begins where
    the one that starts it may run."""
    _keep(thread, _ANYWHERE)


class SharedCpu:
    """Has one thread, which calls it, share the processor of another: the leader.

    The system chooses the processor. Now and then both roam for a moment, and then stay where the leader is: should
    that processor have become crowded, the system moves it away meanwhile.
    """

    def __init__(self, leader: int, now: Callable[[], float] = time.monotonic) -> None:
        """`leader` is the native id of a thread of this process; `now` counts seconds."""
        self._leader = leader
        self._now = now
        self._is_bound = False
        #: When something is to be changed again.
        self._due = 0.0

    def share(self) -> None:
        """Has the threads stay together. To be called often while both are busy."""
        now = self._now()
        if now < self._due or len(_ANYWHERE) < 2:
            return
        if self._due and not self._is_bound:
            self._is_bound = True
            where = {_processor_of(self._leader)} & _ANYWHERE or _ANYWHERE
            _keep(self._leader, where)
            _keep(0, where)
            self._due = now + MIN_STAY_SECONDS
        else:
            self.part()
            self._due = now + PLACING

    def part(self) -> None:
        """Lets both roam: one of them has nothing to do."""
        self._due = 0.0
        if self._is_bound:
            self._is_bound = False
            roam(self._leader)
            roam()


def _keep(thread: int, processors: frozenset[int] | set[int]) -> None:
    # A thread that has ended is kept nowhere, and a system that forbids it goes on as it would without.
    if processors:
        with suppress(OSError):
            os.sched_setaffinity(thread, processors)


def _processor_of(thread: int) -> int:
    """Where a thread of this process ran last (proc_pid_stat(5), field 39); -1 where that is not to be had."""
    try:
        return int(Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return -1
