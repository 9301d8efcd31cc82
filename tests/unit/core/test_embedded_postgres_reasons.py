"""Why the built-in PostgreSQL does not start, and what a person can do about it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import server_in
from tocsin.core import embedded_layout, embedded_server
from tocsin.core.embedded_layout import Binaries, SystemAccount
from tocsin.core.embedded_server import PostgresServer
from tocsin.core.errors import Permanent, Temporary

NOBODY = SystemAccount(name="nobody", uid=65534, gid=65534)


@pytest.fixture
def stopped(tmp_path: Path) -> PostgresServer:
    """A server that nobody started, of the user who runs the tests."""
    made = replace(server_in(tmp_path), account=None)
    made.data.mkdir(parents=True)
    made.run.mkdir(parents=True, exist_ok=True)
    made.log.parent.mkdir(parents=True, exist_ok=True)
    return made


def codes_of(use: Callable[[], Any]) -> list[str]:
    """The code of the reason for which `use` fails, and that of its remedy."""
    with pytest.raises((Permanent, Temporary)) as raised:
        use()
    remedy = getattr(raised.value, "remedy_reason", None)
    return [reason.code for reason in (raised.value.reason, remedy) if reason]


def test_missing_wheel_is_to_be_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_layout, "INSTALLATION", "nowhere")
    assert codes_of(embedded_layout.bundled)[0] == "PostgreSQL's program {program} is missing or cannot be run."
    monkeypatch.setattr(embedded_layout, "PACKAGE", "no_such_package_of_tocsin")
    assert codes_of(embedded_layout.bundled)[0] == "The package {package}, which brings PostgreSQL, is not installed."


def test_programs_that_the_account_cannot_run_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_layout, "_is_usable", lambda account, programs: False)
    (tmp_path / "1.0").mkdir()
    found = codes_of(lambda: embedded_layout.reachable_by(NOBODY, Binaries(tmp_path, "1.0"), tmp_path))
    assert found == [
        "The account {account} cannot run PostgreSQL's programs in {folder}.",
        "Let it enter that folder and its parents, or choose another data directory.",
    ]


def test_system_without_useradd_is_told_to_make_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_layout, "_SEARCH_PATH", "/nowhere")
    with pytest.raises(Permanent) as raised:
        embedded_layout.find_or_make("no-such-account-of-tocsin")
    assert raised.value.reason.data["problems"]["code"] == "useradd is not installed."


@pytest.mark.parametrize(
    ("has_name", "remedy"),
    [
        (True, ""),
        (
            False,
            "The user {user} has no name on this system: run Tocsin as another one, install libnss-wrapper, or set "
            "TOCSIN_DATABASE_URL to a PostgreSQL server.",
        ),
    ],
)
def test_failing_initdb_shows_its_last_lines(
    stopped: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_name: bool, remedy: str
) -> None:
    monkeypatch.setattr(embedded_layout, "has_name", lambda uid: has_name)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "initdb").write_text("#!/bin/sh\necho 'no locale' >&2\nexit 1\n")
    (programs / "initdb").chmod(0o755)
    broken = replace(stopped, binaries=Binaries(folder=programs, version="17.0"), data=stopped.data / "new")
    with pytest.raises(Permanent) as raised:
        embedded_server.create(broken, sync=False)
    assert (raised.value.reason.code, raised.value.reason["output"]) == (
        "PostgreSQL could not make its data directory {folder}: {output}",
        "no locale",
    )
    assert raised.value.remedy_reason.code == remedy


def test_locked_data_is_of_a_running_server(stopped: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "_reject_foreign_server", lambda _server: None)
    with stopped.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert codes_of(lambda: embedded_server.start(stopped)) == ["The PostgreSQL of {folder} runs already."]


def test_slow_server_is_waited_for_again(stopped: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "is_running", lambda _server: True)
    monkeypatch.setattr(embedded_server, "read_postmaster", lambda _server: None)
    assert codes_of(lambda: embedded_server.wait_until_ready(stopped, 1, timedelta())) == [
        "PostgreSQL on {folder} is not ready yet ({state})."
    ]


def test_lock_of_another_process_is_waited_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "START_LIMIT", timedelta())
    path = tmp_path / "lock"
    with path.open("w") as lock, ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert codes_of(lambda: stack.enter_context(embedded_server._exclusive(path))) == [
            "Another process has been starting or stopping PostgreSQL for too long ({lock} is held)."
        ]


def test_rejected_connection_is_tried_again(stopped: PostgresServer) -> None:
    assert codes_of(lambda: embedded_server._make_database(stopped)) == [
        "PostgreSQL in {folder} rejects Tocsin's connection: {error}"
    ]


def test_file_in_place_of_a_folder_must_be_moved(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert codes_of(lambda: embedded_layout._make_private(tmp_path / "data", None)) == [
        "{folder} is in the way: it is not a folder of {owner}.", "Move it away.",
    ]  # fmt: skip


def test_data_directory_of_another_user_names_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert codes_of(lambda: embedded_layout.reject_shared_folder(tmp_path)) == [
        "The data directory {folder} belongs to {owner}.", "Give it to the user that runs Tocsin (chown -R {user} "
        "{folder}), run Tocsin as {owner}, or choose another with --data-dir.",
    ]  # fmt: skip
