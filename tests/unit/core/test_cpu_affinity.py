"""Two threads share a processor while both are busy and are unpinned otherwise."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from tocsin.core.runtime import periodic_tasks
from tocsin.core.runtime.periodic_tasks import MIN_STAY_SECONDS, PLACEMENT_SECONDS, SharedCpu, allow_all_cpus

ANYWHERE = os.sched_getaffinity(0)

pytestmark = pytest.mark.skipif(len(ANYWHERE) < 2, reason="one processor is always the same one")


@pytest.fixture
def leader() -> Iterator[int]:
    """A thread that waits; this one may be kept anywhere meanwhile."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    assert thread.native_id is not None
    yield thread.native_id
    ended.set()
    thread.join(5)
    os.sched_setaffinity(0, ANYWHERE)


class Seconds:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_kernel_chooses_the_processor_which_is_kept_for_a_while(leader: int) -> None:
    seconds = Seconds()
    together = SharedCpu(leader, seconds)
    for _ in range(3):
        together.share()
        assert os.sched_getaffinity(0) == os.sched_getaffinity(leader) == ANYWHERE
        seconds.now += PLACEMENT_SECONDS
        together.share()
        assert len(os.sched_getaffinity(0)) == 1
        assert os.sched_getaffinity(0) == os.sched_getaffinity(leader)
        seconds.now += MIN_STAY_SECONDS - 0.1
        together.share()
        assert len(os.sched_getaffinity(leader)) == 1
        seconds.now += 0.1


def test_they_roam_as_soon_as_one_has_nothing_to_do(leader: int) -> None:
    seconds = Seconds()
    together = SharedCpu(leader, seconds)
    together.share()
    seconds.now += PLACEMENT_SECONDS
    together.share()
    together.release()
    assert os.sched_getaffinity(0) == os.sched_getaffinity(leader) == ANYWHERE
    together.share()
    assert os.sched_getaffinity(0) == ANYWHERE  # placed anew first


def test_child_thread_of_pinned_thread_may_be_unpinned() -> None:
    os.sched_setaffinity(0, {min(ANYWHERE)})
    affinities: list[set[int]] = []

    def look() -> None:
        affinities.append(os.sched_getaffinity(0))
        allow_all_cpus()
        affinities.append(os.sched_getaffinity(0))

    try:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(5)
    finally:
        os.sched_setaffinity(0, ANYWHERE)
    assert affinities == [{min(ANYWHERE)}, ANYWHERE]


def test_ended_leader_and_forbidden_affinity_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = Seconds()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join(5)
    together = SharedCpu(thread.native_id or 0, seconds)

    def forbid(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    for _ in range(3):
        together.share()
        seconds.now += PLACEMENT_SECONDS
    together.release()
    assert os.sched_getaffinity(0) == ANYWHERE


def test_where_there_is_only_one_processor_nothing_is_done(leader: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_tasks, "_ALLOWED_CPUS", frozenset({min(ANYWHERE)}))
    seconds = Seconds()
    together = SharedCpu(leader, seconds)
    together.share()
    seconds.now += PLACEMENT_SECONDS
    together.share()
    together.release()
    assert os.sched_getaffinity(leader) == ANYWHERE
