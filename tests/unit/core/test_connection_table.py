"""Admission and eviction of connections, as pure decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tocsin.core.net.asgi import ClientLimit, client_key
from tocsin.core.net.http_server import ConnectionLimits, ConnectionTable, Entry


@dataclass(eq=False)
class Connections:
    """A table, and the names of the connections that it closed."""

    table: ConnectionTable
    closed: list[str] = field(default_factory=list)

    def open(self, name: str, key: str, *, is_proxy: bool = False) -> Entry | None:
        return self.table.admit(_Named(name, self.closed), key, is_proxy=is_proxy)


@dataclass(eq=False)
class _Named:
    name: str
    closed: list[str]

    def close_idle(self) -> None:
        self.closed.append(self.name)


def connections(total: int = 100, idle: int = 100, busy: int = 100) -> Connections:
    return Connections(ConnectionTable(ConnectionLimits(total, idle, busy)))


def test_the_oldest_connection_of_the_client_with_most_is_closed() -> None:
    many = connections(total=4)
    many.open("honest", "192.0.2.1")
    for name in ("a", "b", "c"):
        many.open(name, "192.0.2.9")
    many.open("new", "192.0.2.2")
    assert many.closed == ["a"]
    many.open("newer", "192.0.2.3")
    assert many.closed == ["a", "b"]
    assert len(many.table) == 4


def test_a_connection_that_was_used_is_the_newest() -> None:
    many = connections(total=2)
    first = many.open("first", "192.0.2.1")
    many.open("second", "192.0.2.1")
    assert first is not None
    many.table.begin_request(first, "192.0.2.1")
    many.table.end_request(first)
    many.open("third", "192.0.2.1")
    assert many.closed == ["second"]


def test_proxy_loses_connections_only_after_other_clients_idle_ones() -> None:
    many = connections(total=3)
    many.open("proxy 1", "10.0.0.1", is_proxy=True)
    many.open("proxy 2", "10.0.0.1", is_proxy=True)
    many.open("direct", "192.0.2.1")
    many.open("new", "192.0.2.2")
    many.open("newer", "192.0.2.3")
    assert many.closed == ["direct", "new"]


def test_a_busy_proxy_connection_is_idle_again_after_the_answer() -> None:
    many = connections(total=1)
    entry = many.open("proxy", "10.0.0.1", is_proxy=True)
    assert entry is not None
    assert many.table.begin_request(entry, "192.0.2.1")
    assert many.open("new", "192.0.2.2") is None
    many.table.end_request(entry)
    assert many.open("new", "192.0.2.2") is not None
    assert many.closed == ["proxy"]


def test_nothing_is_kept_of_clients_that_left() -> None:
    many = connections()
    for number in range(50):
        entry = many.open("one", "10.0.0.1", is_proxy=True)
        assert entry is not None
        assert many.table.begin_request(entry, f"192.0.2.{number}")
        if number % 2:
            many.table.end_request(entry)
        many.table.remove(entry)
        many.table.remove(entry)
    assert len(many.table) == 0
    assert many.table._clients == {}


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (None, ""),
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_addresses_of_one_subscriber_have_one_key(address: str | None, key: str) -> None:
    assert client_key(address) == key


def test_a_client_limit_counts_each_client_and_all_of_them() -> None:
    limit = ClientLimit(per_client=1, total=2)
    with limit.acquire("a") as first, limit.acquire("a") as same, limit.acquire("b") as other:
        assert (first, same, other) == (True, False, True)
        with limit.acquire(None) as unknown:
            assert not unknown
    with limit.acquire(None) as first, limit.acquire(None) as second, limit.acquire("a") as third:
        assert (first, second, third) == (True, True, False)
