"""A start that cannot succeed ends with one sentence, before anything is made or changed."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.installation import PROGRAM, Installation
from tocsin.core.config.crypto import KEY_FILE


def _newer_postgresql(data: Path) -> None:
    newer = data / "postgres" / "99" / "data"
    newer.mkdir(parents=True)
    (newer / "PG_VERSION").write_text("99\n")


def _unreadable_key(data: Path) -> None:
    (data / KEY_FILE).mkdir()


def _damaged_key(data: Path) -> None:
    (data / KEY_FILE).write_text("short")


def _state(data: Path) -> dict[Path, tuple[int, bytes]]:
    """Mode and content by path."""
    return {path: (path.stat().st_mode, path.read_bytes() if path.is_file() else b"") for path in data.rglob("*")}


@pytest.mark.parametrize(
    ("prepare", "problem", "way_on"),
    [
        (_newer_postgresql, "99 holds a database of PostgreSQL 99", "`tocsin restore FILE`"),
        (_unreadable_key, f"{KEY_FILE} cannot be read", "Give it to the user that runs Tocsin"),
        (_damaged_key, f"{KEY_FILE} does not hold a secret key", "Restore it from a backup"),
    ],
)
def test_refused_start_changes_nothing(
    tmp_path: Path, prepare: Callable[[Path], None], problem: str, way_on: str
) -> None:
    prepare(tmp_path)
    before = tmp_path.stat().st_mode, _state(tmp_path)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    done = subprocess.run(
        [PROGRAM, "serve", "--port", "0", "--data-dir", tmp_path],
        env=variables, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert problem in done.stderr
    assert way_on in done.stderr
    assert (tmp_path.stat().st_mode, _state(tmp_path)) == before


@pytest.fixture
def service_manager(home: Path) -> Iterator[tuple[Path, Callable[[], str]]]:
    """The socket of a service manager, and what it has been told since it was last asked."""
    path = home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(20)
        yield path, lambda: server.recv(10_000).decode()


def test_service_manager_is_told_when_it_serves_and_ends(
    tocsin: Installation, service_manager: tuple[Path, Callable[[], str]]
) -> None:
    path, told = service_manager
    node = tocsin.serve(NOTIFY_SOCKET=str(path))
    assert told() == f"READY=1\nSTATUS=Serving at {node.url}"
    assert node.terminate() == 0
    assert told() == "STOPPING=1"


@pytest.mark.parametrize(
    ("variable", "value", "status", "problem"),
    [
        ("TOCSIN_SMPT_URL", "smtp://localhost", 78, "TOCSIN_SMPT_URL is not a variable that Tocsin knows."),
        ("TOCSIN_SECRET_KEY", "x", 78, "TOCSIN_SECRET_KEY: a key needs at least 32 characters"),
        # It may be there later, when its file system is mounted.
        ("TOCSIN_SMTP_URL_FILE", "/nowhere", 1, "TOCSIN_SMTP_URL_FILE: cannot read /nowhere"),
    ],
)
def test_service_manager_is_told_why_a_start_fails(
    home: Path, service_manager: tuple[Path, Callable[[], str]], variable: str, value: str, status: int, problem: str
) -> None:
    path, told = service_manager
    done = Installation(home).run("serve", "--port", "0", NOTIFY_SOCKET=str(path), **{variable: value})
    assert (done.returncode, done.stdout) == (status, "")
    assert told().startswith(f"STATUS={problem}")
    assert not (home / "data").exists()
