"""The embedded PostgreSQL as root, under its unprivileged account, and as an ordinary user.

Root's part can only be tested by root: elsewhere these tests are skipped and say so. Those of the lifecycle and the
places run as whoever runs the tests.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.embedded_server import owner_of, postmaster_pid, value, wait_until_ended
from tests.support.embedded_server_process import TocsinProcess
from tocsin.core import embedded_layout, embedded_server
from tocsin.core.embedded_layout import LIBRARIES, PACKAGE, ROOT_DATA_DIR, bundled
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.errors import Permanent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as other users")


@pytest.fixture
def home(folder: Path, ordinary_uid: int) -> Path:
    """A home folder of an ordinary user, closed to everybody else."""
    path = folder / "home"
    path.mkdir(mode=0o700)
    os.chown(path, ordinary_uid, ordinary_uid)
    return path


@pytest.fixture
def closed_home(folder: Path) -> Path:
    """A folder that only root may enter."""
    path = folder / "root"
    path.mkdir(mode=0o700)
    return path


def test_roots_postgresql_runs_under_an_unprivileged_account(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        account = embedded_layout.find()
        assert account is not None
        assert account.uid != 0
        entry = pwd.getpwnam(account.name)
        assert entry.pw_shell.endswith(("nologin", "false"))
        status = Path(f"/proc/{postmaster_pid(data_dir)}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert fields["Uid"].split() == [str(account.uid)] * 4
        assert fields["Gid"].split() == [str(account.gid)] * 4
        assert fields["Groups"].split() == []
        assert int(fields["CapEff"], 16) == 0
        assert {owner_of(embedded.location / part) for part in ("data", "run")} == {account.uid}
        assert {owner_of(path) for path in (data_dir, embedded.location)} == {0}


def test_closed_home_stays_closed_and_data_moves_to_var_lib(
    closed_home: Path, without_trace: Callable[[Path], Path]
) -> None:
    data_dir = without_trace(closed_home / "tocsin")
    before = closed_home.stat()
    with EmbeddedPostgres(data_dir) as embedded:
        assert embedded.is_outside_data_dir
        assert embedded.location.is_relative_to(ROOT_DATA_DIR)
        assert value(embedded.start(), "SELECT current_database()") == "tocsin"
        place = embedded.location
    after = closed_home.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o711
    # It stays there when the home is opened later, and two homes do not share one.
    closed_home.chmod(0o755)
    with EmbeddedPostgres(data_dir) as again:
        assert again.location == place
    assert EmbeddedPostgres(closed_home / "other").location != place
    # Nor does an older version's database there go unnoticed.
    old = place.rename(place.with_name("17"))
    (old / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(Permanent, match=re.escape(f"{old} holds a database of PostgreSQL 17")):
        EmbeddedPostgres(data_dir).start()


@pytest.mark.long
def test_home_closed_later_is_an_error_not_an_empty_database(folder: Path) -> None:
    data_dir = folder / "later" / "tocsin"
    with EmbeddedPostgres(data_dir) as embedded:
        assert not embedded.is_outside_data_dir
    (folder / "later").chmod(0o700)
    with pytest.raises(Permanent, match=r"cannot enter .*chmod o\+x"):
        EmbeddedPostgres(data_dir).start()
    assert stat.S_IMODE((folder / "later").stat().st_mode) == 0o700


@pytest.mark.long
def test_binaries_that_the_account_cannot_reach_are_copied_in_once(folder: Path) -> None:
    closed = folder / "closed"
    _copy_of_the_wheel(closed)
    data_dir = folder / "data"
    with TocsinProcess(data_dir, python_path=closed) as process:
        assert process.answer().startswith("postgresql://")
        binary = Path(f"/proc/{postmaster_pid(data_dir)}/exe").readlink()
        assert binary.is_relative_to(data_dir / "postgres" / "18" / "bin")
        inode = binary.stat().st_ino
    with TocsinProcess(data_dir, python_path=closed) as process:
        assert process.answer().startswith("postgresql://")
        assert binary.stat().st_ino == inode
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.long
def test_interrupted_copy_is_repeated_and_older_version_removed(folder: Path) -> None:
    closed = folder / "closed"
    _copy_of_the_wheel(closed)
    copies = folder / "data" / "postgres" / "18" / "bin"
    for left_over in (f".{bundled().version}.part", "18.0.0"):
        (copies / left_over / PACKAGE).mkdir(parents=True)
    with TocsinProcess(folder / "data", python_path=closed) as process:
        assert process.answer().startswith("postgresql://")
    assert [path.name for path in copies.iterdir()] == [bundled().version]


def test_ordinary_user_runs_server_as_themselves_in_closed_home(home: Path, ordinary_uid: int) -> None:
    data_dir = home / ".local" / "share" / "tocsin"
    with TocsinProcess(data_dir, uid=ordinary_uid) as first, TocsinProcess(data_dir, uid=ordinary_uid) as second:
        url = first.answer()
        assert second.answer() == url
        assert first.send_command("location") == str(data_dir / "postgres" / "18")
        pid = postmaster_pid(data_dir)
        assert owner_of(Path(f"/proc/{pid}")) == ordinary_uid
        assert first.send_command("release") == "released"
        assert value(url, "SELECT 1") == 1
        second.kill()
    # A killed one of his own is taken over and stopped at the end as well.
    with TocsinProcess(data_dir, uid=ordinary_uid) as third:
        assert third.answer() == url
        assert postmaster_pid(data_dir) == pid
    wait_until_ended(pid)
    assert {owner_of(path) for path in [data_dir, *data_dir.rglob("*")]} == {ordinary_uid}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.long
def test_user_without_a_name_gets_one_from_nss_wrapper(folder: Path) -> None:
    if next(Path("/usr/lib").glob("*/libnss_wrapper.so"), None) is None:
        pytest.skip("needs libnss-wrapper")
    data_dir = _nameless_home(folder) / "data"
    with TocsinProcess(data_dir, uid=NAMELESS) as process:
        assert value(process.answer(), "SELECT 1") == 1
        assert owner_of(data_dir / "postgres" / "18" / "data") == NAMELESS


def test_user_without_a_name_is_told_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "NSS_WRAPPER", "libmissing.so")
    home = _nameless_home(folder)
    child = os.fork()
    if child == 0:
        os.setgid(NAMELESS)
        os.setuid(NAMELESS)
        try:
            EmbeddedPostgres(home / "data").start()
        except Permanent as error:
            os._exit(
                7
                if error.remedy_reason.code
                == "The user {user} has no name on this system: run Tocsin as another one, install libnss-wrapper, "
                "or set TOCSIN_DATABASE_URL to a PostgreSQL server."
                else 8
            )
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not (home / "data" / "postgres" / "18" / "data").exists()


#: A user that no system knows.
NAMELESS = 23_456


def _nameless_home(folder: Path) -> Path:
    home = folder / "nameless"
    home.mkdir(mode=0o700)
    os.chown(home, NAMELESS, NAMELESS)
    return home


@pytest.mark.long
def test_ordinary_users_long_path_uses_a_private_socket_folder(
    home: Path, ordinary_uid: int, without_trace: Callable[[Path], Path]
) -> None:
    with TocsinProcess(without_trace(home / ("a" * 100)), uid=ordinary_uid) as process:
        url = process.answer()
        socket_folder = Path(value(url, "SHOW unix_socket_directories").strip('"'))
        assert socket_folder.parent == Path("/tmp")
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert owner_of(socket_folder) == ordinary_uid


def test_foreign_folder_at_socket_path_is_rejected(
    home: Path, ordinary_uid: int, without_trace: Callable[[Path], Path]
) -> None:
    data_dir = without_trace(home / ("a" * 100))
    with TocsinProcess(data_dir, uid=ordinary_uid) as process:
        socket_folder = Path(value(process.answer(), "SHOW unix_socket_directories").strip('"'))
    shutil.rmtree(socket_folder)
    socket_folder.symlink_to(home)
    with TocsinProcess(data_dir, uid=ordinary_uid) as process:
        assert process.answer().startswith(f"Permanent: {socket_folder} is in the way")


@pytest.mark.long
def test_root_shares_an_ordinary_users_server_without_changing_ownership(home: Path, ordinary_uid: int) -> None:
    data_dir = home / "tocsin"
    with TocsinProcess(data_dir, uid=ordinary_uid) as process:
        url = process.answer()
        pid = postmaster_pid(data_dir)
        with EmbeddedPostgres(data_dir) as root:
            assert root.start() == url
        assert postmaster_pid(data_dir) == pid
    with EmbeddedPostgres(data_dir):
        assert owner_of(Path(f"/proc/{postmaster_pid(data_dir)}")) == ordinary_uid
    assert {owner_of(path) for path in [data_dir, *data_dir.rglob("*")]} == {ordinary_uid}
    with TocsinProcess(data_dir, uid=ordinary_uid) as process:
        assert process.answer() == url


def test_account_is_created_without_a_login() -> None:
    name = f"tocsin-test-{secrets.token_hex(3)}"
    account = embedded_layout.find_or_make(name)
    try:
        assert 0 < account.uid < 1000
        assert account.gid != 0
        assert pwd.getpwnam(name).pw_shell.endswith("nologin")
        assert embedded_layout.find_or_make(name) == account
    finally:
        _remove(name)


def test_concurrent_processes_create_one_shared_account() -> None:
    name = f"tocsin-test-{secrets.token_hex(3)}"
    make = f"from tocsin.core import embedded_layout as system_user; print(system_user.find_or_make({name!r}).uid)"
    runs = [subprocess.Popen([sys.executable, "-c", make], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        notices = {run.communicate(timeout=60)[0].strip() for run in runs}
        assert notices == {str(pwd.getpwnam(name).pw_uid)}
    finally:
        _remove(name)


def _remove(name: str) -> None:
    with embedded_layout.exclusive():
        subprocess.run(["/usr/sbin/userdel", name], check=True, capture_output=True)


def test_failed_account_creation_reports_reason_and_remedy() -> None:
    with pytest.raises(Permanent, match=r"could not be made\. useradd: .*useradd --system") as raised:
        embedded_layout.find_or_make("not/a/name")
    assert "TOCSIN_DATABASE_URL" in str(raised.value)


def test_symlink_by_service_account_never_redirects_root(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        data = embedded.location / "data"
    target = data_dir / "roots.txt"
    target.write_text("root's own")
    (data / "postgresql.conf").unlink()
    for name in ("postgresql.conf.part", "pg_hba.conf.part"):
        (data / name).symlink_to(target)
    with EmbeddedPostgres(data_dir) as embedded:
        assert value(embedded.start(), "SELECT 1") == 1
    assert target.read_text() == "root's own"
    assert owner_of(target) == 0


def _copy_of_the_wheel(folder: Path) -> None:
    """The wheel as an installation that only root may enter, such as a tool's environment in root's home."""
    site = bundled().folder.parent.parent.parent
    folder.mkdir(mode=0o700)
    for part in (PACKAGE, LIBRARIES, *(path.name for path in site.glob(f"{PACKAGE}-*.dist-info"))):
        shutil.copytree(site / part, folder / part)
