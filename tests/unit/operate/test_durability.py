"""When a commit does not guarantee that data survives."""

from __future__ import annotations

import pytest

from tocsin.operate.readiness import ServerDurability, durability_weaknesses, risk_at_failover


def ids(server: ServerDurability) -> list[str]:
    return [weakness.id.removeprefix("database.") for weakness in durability_weaknesses(server)]


def test_postgresqls_defaults_are_durable() -> None:
    assert ids(ServerDurability()) == []


@pytest.mark.parametrize(
    ("server", "wrong"),
    [
        (ServerDurability(fsync="off"), ["fsync"]),
        (ServerDurability(full_page_writes="off"), ["full_page_writes"]),
        (ServerDurability(synchronous_commit="off"), ["synchronous_commit"]),
        (ServerDurability(is_standby=True, is_read_only=True), ["standby"]),
        (ServerDurability(is_read_only=True), ["read_only"]),
        (ServerDurability(fsync="off", synchronous_commit="off"), ["fsync", "synchronous_commit"]),
    ],
)
def test_what_loses_answered_messages_is_named(server: ServerDurability, wrong: list[str]) -> None:
    assert ids(server) == wrong


def test_local_commits_risk_loss_only_with_intended_synchronous_standby() -> None:
    assert ids(ServerDurability(synchronous_commit="local")) == []
    with_standby = ServerDurability(synchronous_commit="local", standby_names="replica", standbys=1, synchronous=1)
    assert ids(with_standby) == ["standby_not_waited_for"]


@pytest.mark.parametrize("synchronous_commit", ["on", "remote_write", "remote_apply"])
def test_a_standby_that_is_waited_for_must_be_there(synchronous_commit: str) -> None:
    server = ServerDurability(synchronous_commit=synchronous_commit, standby_names="replica", standbys=1, synchronous=1)
    assert ids(server) == []
    assert ids(ServerDurability(synchronous_commit=synchronous_commit, standby_names="replica")) == ["standby_missing"]
    asynchronous = ServerDurability(
        synchronous_commit=synchronous_commit, standby_names="replica", standbys=1, synchronous=0
    )
    assert ids(asynchronous) == ["standby_missing"]


def test_standbys_with_hidden_state_are_assumed_healthy() -> None:
    assert ids(ServerDurability(standby_names="replica", standbys=1, synchronous=None)) == []


def test_asynchronous_standby_is_a_warning_and_messages_are_accepted() -> None:
    server = ServerDurability(standbys=1)
    assert ids(server) == []
    risk = risk_at_failover(server)
    assert risk is not None
    assert risk.id == "database.standby_asynchronous"
    assert risk_at_failover(ServerDurability()) is None
    assert risk_at_failover(ServerDurability(standby_names="replica", standbys=1, synchronous=1)) is None
