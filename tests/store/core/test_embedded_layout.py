"""The location of the embedded PostgreSQL, and unusable data directories."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.embedded_server import value
from tests.support.embedded_server_process import TocsinProcess
from tocsin.core import embedded_layout
from tocsin.core.embedded_layout import MAX_SOCKET_PATH_BYTES, locate
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.errors import Permanent


def test_the_layout_is_by_major_version_inside_the_data_directory(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        assert embedded.location == data_dir / "postgres" / "18"
        assert not embedded.is_outside_data_dir
        assert (data_dir / "postgres" / "18" / "data" / "PG_VERSION").read_text() == "18\n"


def test_permissions_are_set_inside_data_directory_only(folder: Path) -> None:
    parent = folder / "srv"
    parent.mkdir(mode=0o755)
    parent.chmod(0o755)
    above = [parent, *parent.parents]
    before = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in above]
    data_dir = parent / "tocsin"
    data_dir.mkdir(mode=0o777)
    with EmbeddedPostgres(data_dir) as embedded:
        assert [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in above] == before
        location = embedded.location
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (data_dir, data_dir / "postgres", location)}
        assert set(modes.values()) == {0o711}
        assert stat.S_IMODE((location / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((location / "run").stat().st_mode) == 0o700
        files = [path for path in location.iterdir() if path.is_file()]
        assert {path.name for path in files} == {"users.lock", "change.lock", "server.lock", "start.log"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.long
def test_a_data_directory_by_another_name_is_the_same_one(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real")
    with EmbeddedPostgres(folder / "real") as first, EmbeddedPostgres(folder / "link" / "..") as above:
        assert above.location.parent.parent == folder
        assert EmbeddedPostgres(folder / "link").location == first.location
        assert EmbeddedPostgres(folder / "link" / ".").start() == first.start()


@pytest.mark.long
def test_long_data_path_moves_the_socket_elsewhere(folder: Path, without_trace: Callable[[Path], Path]) -> None:
    data_dir = without_trace(folder / ("a" * 60) / ("b" * 60))
    with EmbeddedPostgres(data_dir) as embedded:
        url = embedded.start()
        socket_folder = Path(value(url, "SHOW unix_socket_directories").strip('"'))
        assert len(str(socket_folder / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH_BYTES
        assert not socket_folder.is_relative_to(data_dir)
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert (data_dir / "postgres" / "18" / "data").is_dir()


@pytest.mark.long
def test_any_name_that_a_folder_can_have_works(folder: Path, without_trace: Callable[[Path], Path]) -> None:
    with EmbeddedPostgres(without_trace(folder / "a space,'\"\\ü100%+&=?#")) as embedded:
        assert value(embedded.start(), "SELECT current_database()") == "tocsin"


def test_looking_for_the_place_makes_nothing(folder: Path) -> None:
    assert locate(folder / "data", 18) == folder / "data" / "postgres" / "18"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("shared", ["/", "/tmp"])
def test_a_folder_of_the_whole_system_is_refused_and_unchanged(shared: str) -> None:
    before = Path(shared).stat()
    with pytest.raises(Permanent, match=re.escape(f"{shared} is shared by the whole system")):
        EmbeddedPostgres(Path(shared)).start()
    after = Path(shared).stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


def test_file_at_data_directory_path_is_reported_by_name(folder: Path) -> None:
    (folder / "data").write_text("precious")
    with pytest.raises(Permanent, match="data is not a folder"):
        EmbeddedPostgres(folder / "data").start()
    with pytest.raises(Permanent, match="data"):
        EmbeddedPostgres(folder / "data" / "below").start()
    assert (folder / "data").read_text() == "precious"


def test_newer_major_version_data_is_kept_with_upgrade_instructions(used_data_dir: Path) -> None:
    with EmbeddedPostgres(used_data_dir) as embedded:
        version = embedded.location / "data" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(Permanent, match=r"PostgreSQL 17, and this Tocsin brings PostgreSQL 18") as raised:
        EmbeddedPostgres(used_data_dir).start()
    assert "tocsin backup" in str(raised.value)
    assert "tocsin restore" in str(raised.value)
    assert version.read_text() == "17\n"


@pytest.mark.long
def test_older_major_version_data_is_never_silently_ignored(data_dir: Path) -> None:
    old = data_dir / "postgres" / "17" / "data"
    old.mkdir(parents=True)
    (old / "PG_VERSION").write_text("17\n")
    with pytest.raises(Permanent, match=re.escape(f"{old.parent} holds a database of PostgreSQL 17")):
        EmbeddedPostgres(data_dir).start()
    assert not (data_dir / "postgres" / "18").exists()
    # Once it was moved away, an empty database is made and restored into.
    old.parent.rename(data_dir.parent / "old")
    with EmbeddedPostgres(data_dir) as embedded:
        assert value(embedded.start(), "SELECT 1") == 1


def test_folder_without_a_database_is_left_unchanged(data_dir: Path) -> None:
    precious = data_dir / "postgres" / "18" / "data" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("…")
    with pytest.raises(Permanent, match="has no PG_VERSION"):
        EmbeddedPostgres(data_dir).start()
    assert precious.read_text() == "…"


def _without_space(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1_200_000))


def test_too_little_space_is_named_before_anything_is_made(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_space(monkeypatch)
    with pytest.raises(Permanent) as refused:
        EmbeddedPostgres(data_dir).start()
    assert (refused.value.reason.code, refused.value.reason["free"]) == (
        "PostgreSQL needs {needed} MB in {folder} to start, and {free} MB are free. Nothing was changed.",
        1,
    )
    assert refused.value.reason["needed"] == embedded_layout.NEEDED_TO_CREATE
    assert not data_dir.exists()


def test_running_server_is_shared_on_a_full_disk(used_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres(used_data_dir) as embedded:
        _without_space(monkeypatch)
        with EmbeddedPostgres(used_data_dir) as other:
            assert other.start() == embedded.start()
    with pytest.raises(Permanent) as refused:
        EmbeddedPostgres(used_data_dir).start()
    assert refused.value.reason["needed"] == embedded_layout.NEEDED_TO_START


def test_setting_rejected_by_postgresql_shows_its_message(used_data_dir: Path) -> None:
    with EmbeddedPostgres(used_data_dir) as embedded:
        own = embedded.location / "data" / "postgresql.local.conf"
    own.write_text("work_mem = 'a lot'\n")
    with pytest.raises(Permanent, match=r'(?s)did not start.*"work_mem"'):
        EmbeddedPostgres(used_data_dir).start()


def test_removed_data_directory_does_not_block_exit(used_data_dir: Path) -> None:
    embedded = EmbeddedPostgres(used_data_dir)
    embedded.start()
    # Moved first: the server may be writing a file of it.
    shutil.rmtree(used_data_dir.rename(used_data_dir.with_name("removed")), ignore_errors=True)
    embedded.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: tested as an ordinary user below")
def test_unwritable_folder_is_reported_by_name(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(Permanent, match=re.escape(str(closed))):
        EmbeddedPostgres(closed / "data").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_an_ordinary_user_gets_clear_errors_for_folders_of_others(folder: Path, ordinary_uid: int) -> None:
    roots = folder / "roots"
    roots.mkdir(mode=0o700)
    with TocsinProcess(roots, uid=ordinary_uid) as process:
        assert process.answer() == (
            f"Permanent: The data directory {roots} belongs to root. "
            f"Give it to the user that runs Tocsin (chown -R {ordinary_uid} {roots}), run Tocsin as root, or choose "
            "another with --data-dir."
        )
    with TocsinProcess(roots / "below", uid=ordinary_uid) as process:
        assert process.answer().startswith(f"Permanent: Tocsin cannot use {roots / 'below'}")
    assert stat.S_IMODE(roots.stat().st_mode) == 0o700


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_database_that_a_mount_opened_to_the_group_starts(folder: Path, ordinary_uid: int) -> None:
    """Kubernetes may do that to a volume, and PostgreSQL refuses such a directory."""
    volume = folder / "volume"
    volume.mkdir()
    os.chown(volume, ordinary_uid, ordinary_uid)
    for _ in range(2):
        with TocsinProcess(volume, uid=ordinary_uid) as process:
            assert process.answer().startswith("postgresql://")
            data = Path(process.send_command("location")) / "data"
            assert stat.S_IMODE(data.stat().st_mode) == 0o700
        data.chmod(0o2770)
