"""A start that cannot succeed ends with one sentence, before anything is made or changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.installation import PROGRAM
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
