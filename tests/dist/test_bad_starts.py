"""Starts that cannot succeed, of the image and of the .deb: each ends at once with one sentence and touches nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from builders import debian_base
from psycopg.conninfo import conninfo_to_dict

from tests.doubles.pgbouncer import pgbouncer
from tests.prove.bench import short_folder
from tests.support.started_form import DebForm, ImageForm, StartedForm, next_version, small_disk
from tests.support.upgrade_walk import System
from tocsin.core.embedded_server import EmbeddedPostgres

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def debian(artefact: Callable[[str], list[Path]]) -> Iterator[System]:
    """A Debian on which the .deb is installed."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mmdebstrap", "setpriv"))):
        pytest.skip("a system of its own needs root, mmdebstrap and setpriv")
    folder = Path(tempfile.mkdtemp(prefix="tocsin-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        system = System(folder / "debian")
        system.root.mkdir()
        archive = debian_base.make(
            "deb", ("ca-certificates", "libstdc++6", "passwd", "python3", "systemd-standalone-sysusers")
        )
        subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={system.root}"], check=True)
        shutil.copy(artefact("deb")[0], system.root / "tocsin.deb")
        system.run("dpkg", "--install", "/tocsin.deb")
        yield system
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["image", "deb"])
def form(request: pytest.FixtureRequest) -> Iterator[StartedForm]:
    """Each form, with an empty data directory."""
    if request.param == "image":
        volume: Path = request.getfixturevalue("volume")
        yield ImageForm(request.getfixturevalue("podman"), request.getfixturevalue("image"), volume)
        return
    form = DebForm(request.getfixturevalue("debian"))
    yield form
    for path in form.data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.chown(form.data, form.uid, form.uid)


def contents(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Mode, owner, size and time of each file and folder by its path."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        found[str(path)] = (status.st_mode, status.st_uid, size, status.st_mtime_ns)
    return found


def ends_at_once(
    form: StartedForm, *, lines: int = 1, is_read_only: bool = False, status: int = 1, **environment: str
) -> str:
    """What a node that cannot start writes. It ends with that status."""
    ended_with, said = form.end(environment, is_read_only=is_read_only)
    assert ended_with == status, said
    assert len(said.splitlines()) == lines, said
    return said


def touches_nothing(form: StartedForm, *, is_read_only: bool = False, status: int = 1, **environment: str) -> str:
    """What a node that cannot start writes, in one line. Its data directory stays as it was."""
    before = contents(form.data)
    said = ends_at_once(form, is_read_only=is_read_only, status=status, **environment)
    assert contents(form.data) == before
    return said


def test_data_directory_of_another_user_is_left_alone(form: StartedForm) -> None:
    os.chown(form.data, 0, 0)
    said = touches_nothing(form)
    assert f"The data directory {form.shown} belongs to root." in said
    assert f"chown -R {form.uid} {form.shown}" in said


def test_read_only_data_directory_is_named(form: StartedForm) -> None:
    said = touches_nothing(form, is_read_only=True)
    assert f"Tocsin cannot use {form.shown}" in said
    assert "as (part of) its data directory: Read-only file system." in said


def test_unreadable_secret_key_is_named(form: StartedForm) -> None:
    key = form.data / "secret.key"
    key.write_text("k" * 40)
    key.chmod(0o600)
    said = touches_nothing(form)
    assert f"{form.shown}/secret.key cannot be read: Permission denied." in said
    assert f"chown {form.uid} {form.shown}/secret.key" in said


def test_full_disk_is_left_empty(form: StartedForm) -> None:
    with small_disk(form.data, 1200, form.uid):
        said = touches_nothing(form)
        assert list(form.data.iterdir()) == []
    assert f"PostgreSQL needs 128 MB in {form.shown}/postgres/18 to start, and 1 MB are free." in said
    assert "Free up space" in said


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://tocsin@db/tocsin", "TOCSIN_DATABASE_URL must look like postgresql://"),
        ("postgresql://tocsin:p@ss@db/tocsin", "is percent-encoded: @ is %40"),
    ],
)
def test_wrong_database_url_is_explained(form: StartedForm, url: str, problem: str) -> None:
    assert problem in touches_nothing(form, status=78, TOCSIN_DATABASE_URL=url)


def test_data_of_a_newer_postgresql_is_left_alone(form: StartedForm) -> None:
    newer = form.data / "postgres" / "99" / "data"
    newer.mkdir(parents=True)
    (newer / "PG_VERSION").write_text("99\n")
    for path in (newer / "PG_VERSION", newer, newer.parent, newer.parents[1]):
        os.chown(path, form.uid, form.uid)
    said = touches_nothing(form)
    assert "holds a database of PostgreSQL 99" in said
    assert "tocsin restore" in said


def test_half_upgraded_database_names_the_step_and_the_way_on(form: StartedForm) -> None:
    form.use()
    # First comes the warning that names the backup.
    for _ in range(2):
        said = ends_at_once(form, lines=2, **next_version("broken"))
        assert "stopped at operate.0003_broken" in said
        assert "tocsin restore --force FILE" in said
    # This version again.
    said = ends_at_once(form)
    assert "The data directory is a newer Tocsin's: its tables have had operate.0002_next." in said
    assert "tocsin restore --force FILE" in said


def test_upgrade_without_space_for_its_backup_changes_nothing(form: StartedForm) -> None:
    form.use()
    folder = form.data / "backups"
    folder.mkdir(mode=0o700)
    os.chown(folder, form.uid, form.uid)
    with small_disk(folder, 100, form.uid):
        said = ends_at_once(form, **next_version("next"))
        assert list(folder.iterdir()) == []
    assert f"MB in {form.shown}/backups for its backup, and 0 MB are free. Nothing was changed." in said
    assert "TOCSIN_UPGRADE_BACKUP=0" in said
    # This version still starts.
    form.use()


def test_pooler_in_transaction_mode_is_refused_for_migrations(form: StartedForm) -> None:
    with short_folder() as home, EmbeddedPostgres(home / "data") as embedded, pgbouncer(embedded.start()) as pooled:
        parts = conninfo_to_dict(pooled)
        url = f"postgresql://{parts['user']}@127.0.0.1:{parts['port']}/{parts['dbname']}"
        said = ends_at_once(form, TOCSIN_DATABASE_URL=url)
        assert "connection pooler in transaction mode" in said
        assert "Nothing was changed" in said
        with psycopg.connect(embedded.start()) as connection:
            assert connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").fetchall() == []
