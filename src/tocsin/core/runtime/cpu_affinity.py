"""Keeps two threads that alternate in holding the interpreter on one CPU while both are busy.

Only one thread of a process runs Python at a time. On two CPUs, each switch wakes the other CPU with cold caches, and
takes CPU time from the database.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Seconds for which two threads stay on one CPU before the kernel places them again.
MIN_STAY_SECONDS = 10.0
#: Seconds that the kernel has to place them.
PLACEMENT_SECONDS = 0.05

#: The CPUs this process may use, as set when it was started. Empty on systems without CPU affinity.
_ALLOWED_CPUS = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset[int]()


def allow_all_cpus(thread: int = 0) -> None:
    """Lets a thread of this process run on every allowed CPU: the calling one, or the one with this native id. A new
    thread inherits the CPUs of the thread that starts it."""
    _pin(thread, _ALLOWED_CPUS)


class SharedCpu:
    """Makes the calling thread share the CPU of another thread, the leader.

    The kernel chooses the CPU. From time to time both threads are released for a moment and then pinned to the leader's
    CPU again, so that the kernel can move the leader away from a CPU that has become busy.
    """

    def __init__(self, leader: int, now: Callable[[], float] = time.monotonic) -> None:
        """`leader` is the native id of a thread of this process; `now` returns monotonic seconds."""
        self._leader = leader
        self._now = now
        self._is_pinned = False
        #: When the placement is next changed.
        self._due = 0.0

    def share(self) -> None:
        """Keeps both threads on one CPU. Call it often while both are busy."""
        now = self._now()
        if now < self._due or len(_ALLOWED_CPUS) < 2:
            return
        if self._due and not self._is_pinned:
            self._is_pinned = True
            cpus = {_current_cpu(self._leader)} & _ALLOWED_CPUS or _ALLOWED_CPUS
            _pin(self._leader, cpus)
            _pin(0, cpus)
            self._due = now + MIN_STAY_SECONDS
        else:
            self.release()
            self._due = now + PLACEMENT_SECONDS

    def release(self) -> None:
        """Releases both threads, because one of them is idle."""
        self._due = 0.0
        if self._is_pinned:
            self._is_pinned = False
            allow_all_cpus(self._leader)
            allow_all_cpus()


def _pin(thread: int, cpus: frozenset[int] | set[int]) -> None:
    # The thread may have ended, and the system may forbid pinning. Both are harmless.
    if cpus:
        with suppress(OSError):
            os.sched_setaffinity(thread, cpus)


def _current_cpu(thread: int) -> int:
    """Returns the CPU on which a thread of this process last ran (proc_pid_stat(5), field 39); -1 if unavailable."""
    try:
        return int(Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return -1
