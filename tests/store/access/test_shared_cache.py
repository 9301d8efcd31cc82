"""The cache shared by all nodes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connections

from tocsin.access import shared_cache
from tocsin.access.models import SharedCacheEntry
from tocsin.core.runtime import clock


@pytest.fixture(autouse=True)
def _database(database: str) -> None:
    pass


def test_value_is_kept_until_it_expires() -> None:
    cache.set("attempts", [2.5, 1.25], 60)
    assert cache.get("attempts") == [2.5, 1.25]
    SharedCacheEntry.objects.update(expires_at=clock.now())
    assert cache.get("attempts", "none") == "none"
    assert cache.add("attempts", [3.5], 60)
    assert not cache.add("attempts", [4.5], 60)
    assert cache.get("attempts") == [3.5]
    cache.delete("attempts")
    assert cache.get("attempts") is None


def test_one_of_several_processes_adds_a_key() -> None:
    def add(_number: int) -> bool:
        try:
            return cache.add("lock", True, 10)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(add, range(6))) == [False] * 5 + [True]


def test_expired_entries_are_removed_and_the_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.set("old", 1, 60)
    SharedCacheEntry.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    monkeypatch.setattr(shared_cache, "MAX_ENTRIES", 10)
    for number in range(20):
        cache.set(f"key {number}", number, 60 + number)
    assert SharedCacheEntry.objects.count() == 10
    assert cache.get("key 19") == 19
    assert cache.get("old") is None
