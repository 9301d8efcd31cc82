"""Starting, sharing and stopping the embedded PostgreSQL, and recovery after `kill -9`."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.support.embedded_server import owner_of, postmaster_pid, run_as_owner, value, wait_until_ended
from tests.support.embedded_server_process import TocsinProcess
from tests.support.installation import until
from tocsin.core import embedded_server
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.errors import Permanent, Temporary


@pytest.fixture
def data_dir(used_data_dir: Path) -> Path:
    return used_data_dir


def test_the_first_start_makes_a_durable_database(folder: Path) -> None:
    data_dir = folder / "data"
    with EmbeddedPostgres(data_dir) as embedded:
        url = embedded.start()
        assert value(url, "SELECT current_database()") == "tocsin"
        assert value(url, "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'tocsin'") == "UTF8"
        assert value(url, "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'tocsin'") == (
            "bC.UTF-8"
        )
        expected = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "max_connections": "100",
            "max_locks_per_transaction": "256",
            "jit": "off",
            "TimeZone": "UTC",
        }
        assert {name: value(url, f"SHOW {name}") for name in expected} == expected


def test_restart_takes_under_a_second_and_keeps_data(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        _keep(embedded.start(), 42)
    took = []
    for _ in range(3):
        begin = time.monotonic()
        with EmbeddedPostgres(data_dir) as embedded:
            took.append(time.monotonic() - begin)
            assert _committed_numbers(embedded.start()) == [42]
    assert min(took) < 1


def test_the_server_listens_in_a_closed_folder_and_nowhere_else(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        pid = postmaster_pid(data_dir)
        run = embedded.location / "run"
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        # What listens to the server's processes, by the kernel's own table of TCP sockets.
        inodes = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]] if Path(table).exists() else []
            assert not [row for row in rows if f"socket:[{row[9]}]" in inodes]


def test_starting_twice_is_one_use_and_releasing_twice_is_harmless(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    embedded.release()
    assert embedded.start() == embedded.start()
    pid = postmaster_pid(data_dir)
    embedded.release()
    wait_until_ended(pid)
    embedded.release()


def test_concurrent_threads_may_start_the_same_object(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    urls: list[str] = []
    threads = [threading.Thread(target=lambda: urls.append(embedded.start())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 8
    assert len(set(urls)) == 1
    embedded.release()


@pytest.mark.long
def test_only_the_last_process_to_leave_stops_the_server(folder: Path) -> None:
    data_dir = folder / "data"
    with TocsinProcess(data_dir) as first, TocsinProcess(data_dir) as second:
        # Both start on an empty folder at the same moment: one makes the database, the other waits for it.
        url = first.answer()
        assert second.answer() == url
        pid = postmaster_pid(data_dir)
        assert first.send_command("release") == "released"
        assert postmaster_pid(data_dir) == pid
        assert value(url, "SELECT 1") == 1
        assert second.send_command("release") == "released"
        wait_until_ended(pid)


def test_killed_process_leaves_server_for_the_next_to_stop(data_dir: Path) -> None:
    with TocsinProcess(data_dir) as process:
        url = process.answer()
        pid = postmaster_pid(data_dir)
        _keep(url, 1)
        process.kill()
    assert _committed_numbers(url) == [1]
    with EmbeddedPostgres(data_dir) as embedded:
        assert postmaster_pid(data_dir) == pid
        assert _committed_numbers(embedded.start()) == [1]
    wait_until_ended(pid)


def test_killed_process_does_not_block_others_from_stopping_server(data_dir: Path) -> None:
    with TocsinProcess(data_dir) as killed, EmbeddedPostgres(data_dir):
        killed.answer()
        pid = postmaster_pid(data_dir)
        killed.kill()
    wait_until_ended(pid)


def test_killed_postgresql_restarts_with_all_committed_data(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    url = embedded.start()
    _keep(url, 7)
    killed = postmaster_pid(data_dir)
    os.kill(killed, signal.SIGKILL)
    # In the same process, as `serve` does when its connections break.
    assert _committed_numbers(embedded.start()) == [7]
    again = postmaster_pid(data_dir)
    assert again != killed
    embedded.release()
    wait_until_ended(again)


def test_when_both_are_killed_the_next_start_recovers(data_dir: Path) -> None:
    with TocsinProcess(data_dir) as process:
        url = process.answer()
        _keep(url, 9)
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        process.kill()
    assert (EmbeddedPostgres(data_dir).location / "data" / "postmaster.pid").exists()
    with EmbeddedPostgres(data_dir) as embedded:
        assert _committed_numbers(embedded.start()) == [9]


@pytest.mark.long
def test_reused_pid_of_another_program_is_never_stopped(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        _keep(embedded.start(), 3)
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
    data = embedded.location / "data"
    # Of the server's own user: PostgreSQL takes any process of its user for a server that still runs.
    with run_as_owner(data, ["sleep", "600"]) as other:
        lines = (data / "postmaster.pid").read_text().splitlines()
        (data / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        with EmbeddedPostgres(data_dir) as again:
            assert _committed_numbers(again.start()) == [3]
        assert other.poll() is None


@pytest.mark.long
def test_lock_files_of_dead_server_are_gone_before_start(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        _keep(embedded.start(), 3)
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
    # In a container that is started again, a process may get the recorded pid while PostgreSQL starts.
    script = f'test -e {embedded.location}/data/postmaster.pid || "$@" >&2 & echo $!'
    monkeypatch.setattr(embedded_server, "_LAUNCH", ("/bin/sh", "-c", script, "sh"))
    with EmbeddedPostgres(data_dir) as again:
        assert _committed_numbers(again.start()) == [3]


def test_foreign_server_is_neither_used_nor_stopped(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        data = embedded.location / "data"
    postgres = str(data_binaries() / "postgres")
    with run_as_owner(data, [postgres, "-D", str(data), "-c", "listen_addresses=", "-k", str(data)]) as foreign:
        until("the foreign server listens", (data / ".s.PGSQL.5432").exists)
        with pytest.raises(Permanent, match="did not start"):
            EmbeddedPostgres(data_dir).start()
        assert foreign.poll() is None
        foreign.send_signal(signal.SIGINT)
        assert foreign.wait() == 0


def test_the_server_lives_in_a_session_of_its_own(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pid = postmaster_pid(data_dir)
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)


def test_an_interrupted_first_start_is_begun_again(folder: Path) -> None:
    data_dir = folder / "data"
    embedded = EmbeddedPostgres(data_dir)
    with TocsinProcess(data_dir) as first:
        until("initdb works", lambda: any(embedded.location.glob("data.*.part/PG_VERSION")))
        first.kill()
        half = next(embedded.location.glob("data.*.part"))
        # Its initdb lives on meanwhile.
        assert value(embedded.start(), "SELECT 1") == 1
    assert not (half / "base").exists()
    embedded.release()


@pytest.mark.long
def test_exit_of_forked_child_keeps_parents_server_use(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        pid = postmaster_pid(data_dir)
        child = os.fork()
        if child == 0:
            embedded.release()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        # Another process comes and goes: it must not find itself the last.
        with TocsinProcess(data_dir) as other:
            other.answer()
        assert postmaster_pid(data_dir) == pid
        assert value(embedded.start(), "SELECT 1") == 1
    wait_until_ended(pid)


@pytest.mark.long
def test_server_with_lost_socket_is_restarted_by_its_only_user(data_dir: Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    url = embedded.start()
    _keep(url, 5)
    before = postmaster_pid(data_dir)
    (embedded.location / "run" / ".s.PGSQL.5432").unlink()
    assert _committed_numbers(embedded.start()) == [5]
    assert postmaster_pid(data_dir) != before
    embedded.release()


@pytest.mark.long
def test_server_with_lost_socket_is_kept_while_others_use_it(data_dir: Path) -> None:
    with TocsinProcess(data_dir) as other, EmbeddedPostgres(data_dir) as embedded:
        other.answer()
        pid = postmaster_pid(data_dir)
        (embedded.location / "run" / ".s.PGSQL.5432").unlink()
        with pytest.raises(Temporary, match="does not answer"):
            embedded.start()
        assert postmaster_pid(data_dir) == pid


def test_an_administrators_own_settings_are_used_and_kept(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        own = embedded.location / "data" / "postgresql.local.conf"
        own.write_text("work_mem = '9MB'\nlisten_addresses = '*'\n")
    with EmbeddedPostgres(data_dir) as embedded:
        assert value(embedded.start(), "SHOW work_mem") == "9MB"
        assert value(embedded.start(), "SHOW listen_addresses") == ""
    assert "9MB" in own.read_text()


def test_the_servers_log_holds_neither_statements_nor_values(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        url = embedded.start()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE once (text text PRIMARY KEY)")
            connection.execute("INSERT INTO once VALUES ('a private word')")
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO once VALUES ('a private word')")
        data = embedded.location / "data"
    logs = [path.read_text() for path in (data / "log").iterdir()]
    assert any("duplicate key" in text for text in logs)
    assert not any("private" in text for text in logs)
    assert owner_of(data / "log") == owner_of(data)


def data_binaries() -> Path:
    from tocsin.core.embedded_layout import bundled

    return bundled().folder


def _keep(url: str, number: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        connection.execute("INSERT INTO kept VALUES (%s)", (number,))


def _committed_numbers(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM kept ORDER BY number")]
