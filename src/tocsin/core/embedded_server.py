"""The embedded PostgreSQL: its settings, its server as processes, and its start and stop by those who use it."""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from tocsin.core import embedded_layout
from tocsin.core.embedded_layout import (
    SOCKET_NAME,
    Binaries,
    ClusterPaths,
    RunAs,
    SystemAccount,
    bundled,
    is_locked,
    open_private,
    reachable_by,
    remove_older_copies,
)
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import NO_REASON, Text, sentence

OWN_SETTINGS = "postgresql.local.conf"

#: Only the directory's owner and root can reach the socket, so no password is required.
HBA = (
    "# Written by Tocsin at each start. There is no TCP; the socket's folder is closed to everybody else.\n"
    "local all all trust\n"
)

#: Initial content of the file for the administrator's own settings.
OWN_SETTINGS_TEXT = "# Your own settings for the embedded PostgreSQL. Tocsin never changes this file.\n"


def settings(memory_bytes: int) -> dict[str, str]:
    """Returns PostgreSQL's settings by name for a machine with this much memory. Never trades durability for speed."""
    return {
        "max_connections": "100",
        "superuser_reserved_connections": "3",
        # A batch takes up to 1,000 advisory locks, which share this table: 256 × (100 connections + …).
        "max_locks_per_transaction": "256",
        "shared_buffers": "256MB" if memory_bytes >= 2 * 1024**3 else "128MB",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Full-page images are mostly index pages of hashes, which pglz shrinks by 2 %. With a full log, compression
        # took two fifths of the database's time for a message.
        "wal_compression": "off",
        "wal_buffers": "16MB",
        "min_wal_size": "128MB",
        "max_wal_size": "1GB",
        "checkpoint_timeout": "10min",
        "checkpoint_completion_target": "0.9",
        "commit_delay": "0",
        "jit": "off",
        # The machine is small and the queries are short. A report must not occupy both cores.
        "max_parallel_workers_per_gather": "0",
        "random_page_cost": "1.1",
        # Files, not /dev/shm: systemd removes an ordinary user's shared memory at logout, and containers have only 64
        # MB.
        "dynamic_shared_memory_type": "mmap",
        "min_dynamic_shared_memory": "16MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "datestyle": "ISO, YMD",
        "lc_messages": "C",
        "default_text_search_config": "pg_catalog.simple",
        "logging_collector": "on",
        "log_directory": "log",
        "log_filename": "postgresql-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_file_mode": "0600",
        "log_line_prefix": "%m [%p] %a ",
        "log_checkpoints": "off",
        # Statements and the values of a violated key may contain ticket texts, which must never be logged.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }


def configuration_text(values: Mapping[str, str]) -> str:
    """Returns `postgresql.conf` with these settings. It includes a second file, which Tocsin never overwrites."""
    lines = [
        "# Written by Tocsin at each start: changes here are lost.",
        f"# Your own settings belong into {OWN_SETTINGS} in this folder.",
        *(f"{name} = {_quoted(value)}" for name, value in values.items()),
        f"include = '{OWN_SETTINGS}'",
    ]
    return "\n".join(lines) + "\n"


def command_line(data: Path, run: Path) -> list[str]:
    """Returns the server's arguments. They override every file, and so ensure the socket and the absence of TCP."""
    return [
        "-D", str(data),
        "-c", "listen_addresses=",
        "-c", f"unix_socket_directories={_directory(run)}",
        "-c", "unix_socket_permissions=0700",
        "-c", "port=5432",
    ]  # fmt: skip


def locale_arguments(major: int) -> list[str]:
    """Returns initdb's arguments for UTF-8 sorted by code point, the same on every machine and after every upgrade."""
    if major >= 17:
        return ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    # PostgreSQL before 17 has no built-in provider. The C library's C.UTF-8 is the closest.
    return ["--encoding=UTF8", "--locale=C.UTF-8"]


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _directory(path: Path) -> str:
    """Quotes a path for a list setting, where an unquoted comma or space would separate names."""
    return '"' + str(path).replace('"', '""') + '"'


# ---------- server
# One PostgreSQL server as processes: creates its data directory, starts it, checks its state, stops it.
#
# Every process of a server started here holds an exclusive `flock` on its `lock` file. So the kernel knows whether the
# server runs, even after kill -9 and despite a stale postmaster.pid. No other server is touched.


_NOT_STARTED = Text("PostgreSQL did not start on {folder}: {output}")

SUPERUSER = "tocsin"

#: Limits for a start, which replays the WAL after a crash, and for a stop, which writes a checkpoint.
START_LIMIT = timedelta(minutes=5)
STOP_LIMIT = timedelta(minutes=1)

_PAUSE = 0.01
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

#: Found where the system keeps its libraries.
NSS_WRAPPER = "libnss_wrapper.so"

#: Starts the given command in the background, prints its pid and exits, so that the server is no child of Tocsin's.
_LAUNCH = ("/bin/sh", "-c", '"$@" >&2 & echo $!', "sh")


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The paths of a server, and the account it runs as (None: the user of this process)."""

    binaries: Binaries
    data: Path
    run: Path
    lock: Path
    log: Path
    account: SystemAccount | None
    settings: Mapping[str, str]

    def url(self, database: str) -> str:
        """Returns the libpq URL of one of the server's databases."""
        return f"postgresql:///{quote(database)}?host={quote(str(self.run), safe='')}&port=5432&user={SUPERUSER}"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The content of postmaster.pid: the pid and the state (starting, ready, stopping, …)."""

    pid: int
    state: str


def create(server: PostgresServer, *, sync: bool = True) -> None:
    """Creates the data directory with one superuser and no password. Raises Permanent with initdb's message.

    The data directory is created under a temporary name and renamed, so that an interrupted attempt is never used. If
    Tocsin is killed during this, initdb may run on for a while, but fails in a directory of its own.
    """
    for leftover in server.data.parent.glob(f"{server.data.name}.*part"):
        shutil.rmtree(leftover, ignore_errors=True)
    draft = server.data.with_name(f"{server.data.name}.{secrets.token_hex(4)}.part")
    draft.mkdir(mode=0o700)
    if server.account is not None:
        os.chown(draft, server.account.uid, server.account.gid)
    has_name = server.account is not None or embedded_layout.has_name(os.geteuid())
    naming: AbstractContextManager[dict[str, str]] = nullcontext({}) if has_name else _named()
    with naming as names:
        completed = subprocess.run(  # noqa: S603
            [
                str(server.binaries.initdb), "-D", str(draft), "-U", SUPERUSER, "--auth=trust", "--no-instructions",
                *locale_arguments(server.binaries.major), *([] if sync else ["--no-sync"]),
            ],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/", env=_ENVIRONMENT | names,
            umask=0o077, **_run_as(server.account),
        )  # fmt: skip
    if completed.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        remedy = (
            NO_REASON
            if has_name
            else sentence(
                "The user {user} has no name on this system: run Tocsin as another one, install libnss-wrapper, or set "
                "TOCSIN_DATABASE_URL to a PostgreSQL server.",
                user=str(os.geteuid()),
            )
        )
        raise Permanent(
            sentence(
                "PostgreSQL could not make its data directory {folder}: {output}",
                folder=str(server.data),
                output=_last_lines(completed.stderr),
            ),
            remedy=remedy,
        )
    draft.rename(server.data)
    _sync_folder(server.data.parent)


@contextmanager
def _named() -> Iterator[dict[str, str]]:
    """Gives the variables by which this user has a name for a program: https://cwrap.org/nss_wrapper.html.

    A container may run as a user that its system does not know, as on OpenShift. Only initdb asks for the name.
    """
    with tempfile.TemporaryDirectory() as folder:
        passwd = Path(folder) / "passwd"
        passwd.write_text(f"{SUPERUSER}:x:{os.geteuid()}:{os.getegid()}::/:/usr/sbin/nologin\n")
        yield {"LD_PRELOAD": NSS_WRAPPER, "NSS_WRAPPER_PASSWD": str(passwd), "NSS_WRAPPER_GROUP": "/etc/group"}


def start(server: PostgresServer) -> int:
    """Starts the server in its own session and returns its pid at once. Call `wait_until_ready` next.

    Raises Permanent if a server already runs. The caller checks `is_running` first, under a lock.
    """
    _write(server.data / "postgresql.conf", configuration_text(server.settings), server.account)
    _write(server.data / "pg_hba.conf", HBA, server.account)
    if not (server.data / OWN_SETTINGS).exists():
        _write(server.data / OWN_SETTINGS, OWN_SETTINGS_TEXT, server.account)
    _clear_stale_files(server)
    _reject_foreign_server(server)
    lock = open_private(server.lock)
    log = open_private(server.log, os.O_TRUNC | os.O_APPEND)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Permanent(sentence("The PostgreSQL of {folder} runs already.", folder=str(server.data))) from None
        launched = subprocess.run(  # noqa: S603
            [*_LAUNCH, str(server.binaries.postgres), *command_line(server.data, server.run)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, check=True, cwd="/", env=_ENVIRONMENT,
            umask=0o077, pass_fds=(lock,), start_new_session=True, **_run_as(server.account),
        )  # fmt: skip
    finally:
        # The server keeps the lock through its inherited descriptor.
        os.close(lock)
        os.close(log)
    return int(launched.stdout)


def wait_until_ready(server: PostgresServer, pid: int, limit: timedelta = START_LIMIT) -> None:
    """Waits until the server that `start` returned reports that it is ready.

    Raises Permanent, with its last log lines, if it exited, and Temporary if it is not ready after `limit`.
    """
    end = time.monotonic() + limit.total_seconds()
    while True:
        running = is_running(server)
        postmaster = read_postmaster(server)
        # For a moment, the file may still be that of a killed server.
        if running and postmaster == Postmaster(pid, "ready"):
            return
        if not running:
            raise Permanent(_NOT_STARTED(folder=str(server.data), output=last_log_lines(server)))
        if time.monotonic() > end:
            raise Temporary(
                sentence(
                    "PostgreSQL on {folder} is not ready yet ({state}).",
                    folder=str(server.data),
                    state=postmaster.state if postmaster else "starting",
                ),
                retry_after=timedelta(seconds=10),
            )
        time.sleep(_PAUSE)


def stop(server: PostgresServer, limit: timedelta = STOP_LIMIT) -> bool:
    """Stops a server started here, ending its sessions, and waits. Returns False if it still runs after `limit`."""
    end = time.monotonic() + limit.total_seconds()
    is_signalled = False
    while is_running(server):
        if not is_signalled:
            postmaster = read_postmaster(server)
            # A server that was just started may not have written its pid yet, so this is retried.
            if postmaster is not None and _is_postmaster(server, postmaster.pid):
                os.kill(postmaster.pid, signal.SIGINT)
                is_signalled = True
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True


def is_running(server: PostgresServer) -> bool:
    """Returns whether any process of a server started here is alive."""
    return is_locked(server.lock)


def read_postmaster(server: PostgresServer) -> Postmaster | None:
    """Returns the content of postmaster.pid, or None if it is missing or incomplete.

    Format: https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h
    """
    try:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
        return Postmaster(pid=int(lines[0]), state=lines[7].strip() if len(lines) > 7 else "starting")
    except (FileNotFoundError, ValueError, IndexError):
        return None


def last_log_lines(server: PostgresServer) -> str:
    """Returns the last lines of the server's newest log, for error messages."""
    logs = [server.log, *(server.data / "log").glob("*.log")]
    texts = [
        path.read_text(errors="replace")
        for path in sorted(logs, key=_changed_at)
        if path.is_file() and not path.is_symlink()
    ]
    return _last_lines("\n".join(texts))


def _clear_stale_files(server: PostgresServer) -> None:
    """Deletes the lock files of a server that is certainly dead but that PostgreSQL could consider alive.

    PostgreSQL only checks whether a process with the recorded pid exists. After kill -9 that may be another program of
    the same user, or a zombie that a container's init never reaps. In a container that is started again, every process
    gets about the same pid as before, so that the recorded one may be taken a moment from now. The server's own `flock`
    proves that it is dead. A file that names a live PostgreSQL, which is not Tocsin's then, is left for PostgreSQL to
    judge.
    """
    if is_running(server):
        return
    for path in (server.data / "postmaster.pid", server.run / f"{SOCKET_NAME}.lock"):
        try:
            pid = int(path.read_text().splitlines()[0])
        except (FileNotFoundError, ValueError, IndexError):
            continue
        arguments = _arguments(pid)
        if not (arguments and Path(arguments[0]).name.startswith(("postgres", "postmaster"))):
            path.unlink(missing_ok=True)


def _reject_foreign_server(server: PostgresServer) -> None:
    postmaster = read_postmaster(server)
    if postmaster is not None and not is_running(server) and _is_postmaster(server, postmaster.pid):
        raise Permanent(
            sentence(
                "A PostgreSQL server that Tocsin did not start (process {process}) runs on {folder}.",
                process=str(postmaster.pid),
                folder=str(server.data),
            ),
            remedy=sentence("Stop it (kill -INT {process}), then start Tocsin again.", process=str(postmaster.pid)),
        )


def _is_postmaster(server: PostgresServer, pid: int) -> bool:
    """Returns whether the process is a PostgreSQL on this data directory; without /proc, whether it is alive."""
    if Path("/proc/self/cmdline").exists():
        return str(server.data) in _arguments(pid)
    return _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _write(path: Path, text: str, account: SystemAccount | None) -> None:
    if path.exists() and path.read_text() == text:
        return
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)
    # The directory belongs to the account and this process may be root, so links placed there are not followed.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    if account is not None:
        os.fchown(descriptor, account.uid, account.gid)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _run_as(account: SystemAccount | None) -> RunAs:
    return RunAs() if account is None else account.run_as()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-3:]) or "it said nothing."


# ---------- lifecycle
# Starts the embedded PostgreSQL for the first process that uses a data directory, and stops it after the last.
#
# Users are counted by a shared `flock`, which the kernel releases when a process is killed. Only a process that gets
# it exclusively stops the server. A second lock serializes starts and stops. A server that Tocsin did not start is
# never touched.


_LOCKED = Text("Another process has been starting or stopping PostgreSQL for too long ({lock} is held).")

DATABASE = "tocsin"

#: How long a running server may refuse connections before its socket counts as lost.
UNREACHABLE_LIMIT = timedelta(seconds=5)

_LIFECYCLE_PAUSE = 0.02

log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """One use of the embedded PostgreSQL of a data directory. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = embedded_layout.resolve_path(data_dir)
        self._mutex = threading.Lock()
        self._server: PostgresServer | None = None
        self._shared_lock: _SharedLock | None = None
        self._keeps_recovering = False

    @property
    def location(self) -> Path:
        """PostgreSQL's directory, determined without starting anything. It need not exist yet."""
        return embedded_layout.locate(self._data_dir, bundled().major)

    @property
    def is_outside_data_dir(self) -> bool:
        """Whether that directory is outside the data directory, because root's account cannot enter a parent."""
        return not self.location.is_relative_to(self._data_dir)

    def check(self) -> None:
        """Raises Permanent if a start cannot succeed. Changes nothing."""
        embedded_layout.check(self._data_dir, bundled().major)

    def start(self) -> str:
        """Uses the server, starting it if necessary, and returns the URL of the database `tocsin`.

        May be called again at any time, and then restarts a server that was killed. Raises Permanent if a person must
        act, and Temporary if the server needs longer, for example to replay its WAL.
        """
        with self._mutex:
            self.check()
            binaries = bundled()
            paths = embedded_layout.prepare(self._data_dir, binaries.major)
            with _exclusive(paths.change_lock):
                self._server = server = _server(paths, reachable_by(paths.account, binaries, paths.copies))
                if self._shared_lock is None or not self._shared_lock.is_mine():
                    if self._shared_lock is not None:
                        self._shared_lock.close()
                    self._shared_lock = _SharedLock(paths)
                    atexit.register(self.release)
                if not _is_usable(server, self._shared_lock):
                    remove_older_copies(binaries, paths.copies)
                    _start(server)
                return server.url(DATABASE)

    def keep_if_recovering(self) -> None:
        """Lets a server that is still replaying its WAL run on after `release`, for the next user: it would have to
        start over. For a start that failed; one that was told to end leaves nothing behind."""
        self._keeps_recovering = True

    def release(self) -> None:
        """Ends this use of the server, and stops the server if nobody else uses it. Does nothing before `start`."""
        with self._mutex:
            shared_lock, server = self._shared_lock, self._server
            if shared_lock is None or server is None or not shared_lock.is_mine():
                return
            atexit.unregister(self.release)
            self._shared_lock = self._server = None
            try:
                # If the data directory was deleted, the server notices and exits by itself.
                if shared_lock.paths.location.exists():
                    with _exclusive(shared_lock.paths.change_lock):
                        _stop_after_last(server, shared_lock, keeps_recovering=self._keeps_recovering)
            finally:
                shared_lock.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Temporary):
            self.keep_if_recovering()
        self.release()


class _SharedLock:
    """One holder of the shared lock. Acquired and released only under the second lock, to exclude races."""

    def __init__(self, paths: ClusterPaths) -> None:
        self.paths = paths
        self._process = os.getpid()
        self._descriptor = open_private(paths.users_lock)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def is_mine(self) -> bool:
        """Returns False in a forked child: the lock belongs to its parent and must outlive the child."""
        return self._process == os.getpid()

    def is_only_user(self) -> bool:
        """Returns whether no other process uses the server."""
        is_exclusive = self.try_exclusive()
        # Shared again, whether the exclusive lock was acquired or, as flock(2) warns for a failed conversion, lost.
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        return is_exclusive

    def close(self) -> None:
        os.close(self._descriptor)

    def try_exclusive(self) -> bool:
        """Acquires the lock exclusively, before the use ends. Returns False if another process uses the server."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _server(paths: ClusterPaths, binaries: Binaries) -> PostgresServer:
    return PostgresServer(
        binaries=binaries,
        data=paths.data,
        run=paths.run,
        lock=paths.server_lock,
        log=paths.log,
        account=paths.account,
        settings=settings(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    )


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Holds the second lock. Its current owner may be creating the data directory or replaying the WAL, so this waits.
    Raises Temporary after START_LIMIT."""
    end = time.monotonic() + START_LIMIT.total_seconds()
    descriptor = open_private(lock)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Temporary(_LOCKED(lock=str(lock)), retry_after=timedelta(seconds=10)) from None
                time.sleep(_LIFECYCLE_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _start(server: PostgresServer) -> None:
    if not server.data.exists():
        create(server)
    wait_until_ready(server, start(server))
    _make_database(server)


def _is_usable(server: PostgresServer, shared_lock: _SharedLock) -> bool:
    """Returns whether a running server accepts connections, waiting while it starts.

    A server that is stopping, or whose socket was lost, is stopped if no other process uses it. Raises Temporary if
    only waiting helps.
    """
    started_at = time.monotonic()
    while is_running(server):
        waited = time.monotonic() - started_at
        postmaster = read_postmaster(server)
        state = postmaster.state if postmaster else "starting"
        if state == "ready" and _is_listening(server):
            try:
                _make_database(server)
                return True
            except Temporary:
                # The server may have died between the two checks.
                if waited > UNREACHABLE_LIMIT.total_seconds():
                    raise
        is_lost = state == "stopping" or (state == "ready" and waited > UNREACHABLE_LIMIT.total_seconds())
        has_ended = is_lost and shared_lock.is_only_user() and stop(server)
        if not has_ended and waited > (UNREACHABLE_LIMIT if is_lost else START_LIMIT).total_seconds():
            raise Temporary(
                sentence(
                    "PostgreSQL on {folder} runs ({state}) and does not answer.", folder=str(server.data), state=state
                ),
                retry_after=timedelta(seconds=10),
            )
        time.sleep(_LIFECYCLE_PAUSE)
    return False


def _stop_after_last(server: PostgresServer, shared_lock: _SharedLock, *, keeps_recovering: bool) -> None:
    if not shared_lock.try_exclusive():
        return
    postmaster = read_postmaster(server)
    is_recovering = is_running(server) and postmaster is not None and postmaster.state == "starting"
    if not (keeps_recovering and is_recovering) and not stop(server):
        log.warning("PostgreSQL on %s has not stopped yet. It ends by itself.", server.data)


def _is_listening(server: PostgresServer) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(os.fspath(server.run / SOCKET_NAME))
        except OSError:
            return False
    return True


def _make_database(server: PostgresServer) -> None:
    """Creates the database `tocsin` if it is missing. Raises Temporary if PostgreSQL rejects the connection."""
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True, connect_timeout=10) as connection:
            row = connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if row is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.OperationalError as error:
        raise Temporary(
            sentence(
                "PostgreSQL in {folder} rejects Tocsin's connection: {error}", folder=str(server.data), error=str(error)
            )
        ) from error
