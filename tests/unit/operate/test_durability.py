"""When a commit does not mean that the data survives."""

from __future__ import annotations

import pytest

from tocsin.operate.durability import Server, risk_at_failover, weaknesses


def ids(server: Server) -> list[str]:
    return [weakness.id for weakness in weaknesses(server)]


def test_postgresqls_defaults_are_durable() -> None:
    assert ids(Server()) == []


@pytest.mark.parametrize(
    ("server", "wrong"),
    [
        (Server(fsync="off"), ["fsync"]),
        (Server(full_page_writes="off"), ["full_page_writes"]),
        (Server(synchronous_commit="off"), ["synchronous_commit"]),
        (Server(is_standby=True, is_read_only=True), ["standby"]),
        (Server(is_read_only=True), ["read_only"]),
        (Server(fsync="off", synchronous_commit="off"), ["fsync", "synchronous_commit"]),
    ],
)
def test_what_loses_answered_messages_is_named(server: Server, wrong: list[str]) -> None:
    assert ids(server) == wrong


def test_local_commits_break_the_promise_only_where_a_standby_is_meant_to_have_them() -> None:
    assert ids(Server(synchronous_commit="local")) == []
    with_standby = Server(synchronous_commit="local", standby_names="replica", standbys=1, synchronous=1)
    assert ids(with_standby) == ["standby_not_waited_for"]


@pytest.mark.parametrize("synchronous_commit", ["on", "remote_write", "remote_apply"])
def test_a_standby_that_is_waited_for_must_be_there(synchronous_commit: str) -> None:
    server = Server(synchronous_commit=synchronous_commit, standby_names="replica", standbys=1, synchronous=1)
    assert ids(server) == []
    assert ids(Server(synchronous_commit=synchronous_commit, standby_names="replica")) == ["standby_missing"]
    asynchronous = Server(synchronous_commit=synchronous_commit, standby_names="replica", standbys=1, synchronous=0)
    assert ids(asynchronous) == ["standby_missing"]


def test_standbys_whose_state_may_not_be_seen_get_the_benefit_of_the_doubt() -> None:
    assert ids(Server(standby_names="replica", standbys=1, synchronous=None)) == []


def test_an_asynchronous_standby_is_a_risk_at_failover_and_no_reason_to_refuse_messages() -> None:
    server = Server(standbys=1)
    assert ids(server) == []
    risk = risk_at_failover(server)
    assert risk is not None
    assert risk.id == "standby_asynchronous"
    assert risk_at_failover(Server()) is None
    assert risk_at_failover(Server(standby_names="replica", standbys=1, synchronous=1)) is None
