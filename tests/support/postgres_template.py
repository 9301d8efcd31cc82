"""A PostgreSQL data directory with the migrated template: created once and copied by each test process.

It is kept between runs in the folder for temporary files, under a hash of its sources.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tocsin.core.embedded_server import PostgresServer

ROOT = Path(__file__).resolve().parents[2]

#: How many directories stay: several checkouts and two servers may be at work.
_KEPT = 6

#: The files that determine the content of the template.
_SOURCES = (
    "src/tocsin/**/*.py",
    "requirements/*.txt",
    "tests/support/postgres.py",
    "tests/support/postgres_template.py",
)


def copy_data(server: PostgresServer, make: Callable[[PostgresServer], None]) -> None:
    """Gives the server its data directory. `make` makes one, and leaves it with the server stopped, where none of the
    same key is kept."""
    folder = Path(tempfile.gettempdir()) / f"tocsin-ready-{os.getuid()}"
    folder.mkdir(mode=0o711, exist_ok=True)
    path = folder / _key(server)
    with _locked(folder):
        if not path.exists():
            _remove_old(folder)
            with tempfile.TemporaryDirectory(prefix="draft-", dir=folder) as draft:
                Path(draft).chmod(0o711)
                making = replace(server, data=Path(draft) / "data")
                make(making)
                making.data.rename(path)
        os.utime(path)
        # `cp` keeps the owner, who is another account than root.
        subprocess.run(["cp", "-a", path, server.data], check=True)


def _key(server: PostgresServer) -> str:
    shown_hash = hashlib.sha256(
        f"{server.binaries.version} {server.account} {sorted(server.settings.items())}".encode()
    )
    for pattern in _SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            shown_hash.update(f"{path.relative_to(ROOT)}\0".encode())
            shown_hash.update(path.read_bytes())
    return shown_hash.hexdigest()[:24]


def _remove_old(folder: Path) -> None:
    """Removes the directories that were used longest ago, and what a killed process left."""
    newest = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    drafts = [path for path in newest if path.name.startswith("draft-")]
    for path in [*drafts, *[path for path in newest if path not in drafts][: -(_KEPT - 1)]]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
