"""One PostgreSQL server as processes: creates its data directory, starts it, checks its state, stops it.

Every process of a server started here holds an exclusive `flock` on its `lock` file. So the kernel knows whether the
server runs, even after kill -9 and despite a stale postmaster.pid. No other server is touched.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from tocsin.core.embedded_postgres import system_user
from tocsin.core.embedded_postgres.binaries import Binaries
from tocsin.core.embedded_postgres.layout import SOCKET_NAME, is_locked, open_private
from tocsin.core.embedded_postgres.settings import (
    HBA,
    OWN_SETTINGS,
    OWN_SETTINGS_TEXT,
    command_line,
    configuration_text,
    locale_arguments,
)
from tocsin.core.embedded_postgres.system_user import RunAs, SystemAccount
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import NO_REASON, ReasonType

_NOT_CREATED = ReasonType("postgres.not_created", "PostgreSQL could not make its data directory {folder}: {output}")
_NAME_USER = ReasonType(
    "postgres.name_user",
    "The user {user} has no name on this system: run Tocsin as another one, install libnss-wrapper, or set "
    "TOCSIN_DATABASE_URL to a PostgreSQL server.",
)
_ALREADY_RUNNING = ReasonType("postgres.already_running", "The PostgreSQL of {folder} runs already.")
_NOT_STARTED = ReasonType("postgres.not_started", "PostgreSQL did not start on {folder}: {output}")
_NOT_READY = ReasonType("postgres.not_ready", "PostgreSQL on {folder} is not ready yet ({state}).")
_FOREIGN_SERVER = ReasonType(
    "postgres.foreign_server", "A PostgreSQL server that Tocsin did not start (process {process}) runs on {folder}."
)
_STOP_FOREIGN = ReasonType("postgres.stop_foreign_server", "Stop it (kill -INT {process}), then start Tocsin again.")

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
    _chown(draft, server.account)
    has_name = server.account is not None or system_user.has_name(os.geteuid())
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
        remedy = NO_REASON if has_name else _NAME_USER(user=str(os.geteuid()))
        raise Permanent(_NOT_CREATED(folder=str(server.data), output=_last_lines(completed.stderr)), remedy=remedy)
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
            raise Permanent(_ALREADY_RUNNING(folder=str(server.data))) from None
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
                _NOT_READY(folder=str(server.data), state=postmaster.state if postmaster else "starting"),
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
            _FOREIGN_SERVER(process=str(postmaster.pid), folder=str(server.data)),
            remedy=_STOP_FOREIGN(process=str(postmaster.pid)),
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


def _chown(path: Path, account: SystemAccount | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


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
