"""What the store tests may ask for besides a database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder at a short path which every user may pass through; pytest's own is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="tocsin-embedded-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def data_dir(folder: Path) -> Path:
    """A data directory that does not exist yet, for the embedded PostgreSQL."""
    return folder / "data"
