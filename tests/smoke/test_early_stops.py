"""A signal to end before Tocsin is ready: nothing that it started runs on, and the next start is like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.smoke.test_upgrade import NEXT
from tests.support import stopped_at
from tests.support.installation import Installation, until
from tocsin.core import embedded_layout
from tocsin.core.embedded_server import EmbeddedPostgres

_SERVER = "tocsin.core.embedded_server"

#: Of a first start, on an empty folder.
FIRST = (
    "program:/initdb",
    "program:/bin/sh",
    f"{_SERVER}:wait_until_ready",
    "tocsin.core.embedded_server:_make_database",
    "tocsin.cli.session:_use_in_django",
    "tocsin.core.db.migrate:_apply",
    "tocsin.core.db.partitions:create_current",
)
#: Of a start with data that are there.
LATER = (
    "tocsin.node:preload",
    "tocsin.node:NodeProcess._load",
    "tocsin.node:Worker.start",
    "tocsin.node:NodeProcess.wait",
    "tocsin.cli.serve:_print_setup_link",
)
#: Of the first start of a next version.
UPGRADE = ("tocsin.operate.backup.writing:back_up", "tocsin.core.db.migrate:_apply")
RESTORE = (
    "tocsin.operate.backup.restoring:_restore_rows",
    "tocsin.operate.backup.restoring:_end_access",
    "tocsin.operate.backup.archive:missing",
)


def _few(moments: tuple[str, ...], usual: int) -> list[object]:
    """The first ones, and the others for `make test-all`."""
    return [
        pytest.param(moment, marks=[] if number < usual else pytest.mark.long) for number, moment in enumerate(moments)
    ]


def _stopped(tocsin: Installation, moment: str, *arguments: str, signal: str = "SIGTERM", **environment: str) -> int:
    """Runs `tocsin`, which gets the signal at that moment, and makes sure that nothing is left. Its exit status."""
    done = subprocess.run(
        [sys.executable, stopped_at.__file__, signal, moment, *arguments],
        env=tocsin._environment(environment), cwd="/", capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "ready" not in done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    until("nothing of it runs", lambda: not _processes(tocsin.data_dir), 30)
    assert not embedded_layout.is_locked(EmbeddedPostgres(tocsin.data_dir).location / embedded_layout.SERVER_LOCK)
    return done.returncode


def _processes(data_dir: Path) -> list[str]:
    """The command lines that name the folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().decode(errors="replace").replace("\0", " "))
        except OSError:
            continue
    return [line for line in lines if str(data_dir) in line]


@pytest.mark.parametrize("moment", _few(FIRST, 3))
def test_early_sigterm_of_a_first_start_leaves_no_postgresql(home: Path, moment: str) -> None:
    tocsin = Installation(home)
    assert _stopped(tocsin, moment, "serve", "--port", "0") == 0
    node = tocsin.serve()
    assert node.url
    assert node.terminate() == 0


@pytest.mark.parametrize("moment", _few(LATER, 2))
def test_early_sigterm_of_a_later_start_leaves_no_postgresql(single: Installation, moment: str) -> None:
    assert _stopped(single, moment, "serve", "--port", "0") == 0


@pytest.mark.long
@pytest.mark.parametrize("moment", UPGRADE)
def test_sigterm_in_an_upgrade_leaves_no_postgresql(single: Installation, moment: str) -> None:
    assert _stopped(single, moment, "serve", "--port", "0", **NEXT) == 0
    node = single.serve(**NEXT)
    assert node.url
    assert node.terminate() == 0


@pytest.mark.parametrize("moment", _few(RESTORE, 1))
def test_sigterm_in_a_restore_is_no_success_and_leaves_nothing(single: Installation, moment: str) -> None:
    file = str(single.home / "backup")
    assert single.run("backup", "--no-passphrase", file).returncode == 0
    assert _stopped(single, moment, "restore", "--force", file) == 143
    assert single.run("restore", "--force", file).returncode == 0


def test_closed_terminal_stops_the_demos_postgresql(home: Path) -> None:
    tocsin = Installation(home)
    assert _stopped(tocsin, "tocsin.core.db.partitions:create_current", "demo", "--port", "0", signal="SIGHUP") != 0
