"""One PostgreSQL server as processes: make its data directory, start it, ask how it is, stop it.

A server started here holds an exclusive `flock` on its `lock` file in every one of its processes. So the kernel itself
says whether it still runs, after any kill -9 and whatever a stale postmaster.pid claims; and nothing else is touched.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from tocsin.core.embedded_postgres.binaries import Binaries
from tocsin.core.embedded_postgres.layout import SOCKET_NAME, open_private
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

SUPERUSER = "tocsin"

#: How long a start may take (after a crash the log is replayed first) and a stop (a checkpoint is written).
START_LIMIT = timedelta(minutes=5)
STOP_LIMIT = timedelta(minutes=1)

_PAUSE = 0.01
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

#: Starts what follows in the background, prints its process id and ends: the server is no child of Tocsin's.
_LAUNCH = ("/bin/sh", "-c", '"$@" >&2 & echo $!', "sh")


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Where a server's parts are, and who it runs as (None: the user of this process)."""

    binaries: Binaries
    data: Path
    run: Path
    lock: Path
    log: Path
    account: SystemAccount | None
    settings: Mapping[str, str]

    def url(self, database: str) -> str:
        """libpq's address of one of the server's databases."""
        return f"postgresql:///{quote(database)}?host={quote(str(self.run), safe='')}&port=5432&user={SUPERUSER}"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says of the server: its process id, and its state (starting, ready, stopping, …)."""

    pid: int
    state: str


def create(server: PostgresServer, *, sync: bool = True) -> None:
    """Makes the data directory with one superuser and no password. Raises Permanent with initdb's own words.

    An interrupted attempt is never taken for a data directory: it becomes one by a rename. Where Tocsin was killed in
    the middle of it, initdb may live on for a while: it fails in a folder of its own, and is in nobody's way.
    """
    for left in server.data.parent.glob(f"{server.data.name}.*part"):
        shutil.rmtree(left, ignore_errors=True)
    draft = server.data.with_name(f"{server.data.name}.{secrets.token_hex(4)}.part")
    draft.mkdir(mode=0o700)
    _give(draft, server.account)
    done = subprocess.run(  # noqa: S603
        [
            str(server.binaries.initdb), "-D", str(draft), "-U", SUPERUSER, "--auth=trust", "--no-instructions",
            *locale_arguments(server.binaries.major), *([] if sync else ["--no-sync"]),
        ],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/", env=_ENVIRONMENT,
        umask=0o077, **_run_as(server.account),
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        raise Permanent(f"PostgreSQL could not make its data directory {server.data}: {_last_words(done.stderr)}")
    draft.rename(server.data)
    _sync_folder(server.data.parent)


def start(server: PostgresServer) -> int:
    """Starts the server in a session of its own. Returns its process id at once; `wait_until_ready` follows.

    Raises Permanent if a server runs already: the caller asks `is_running` first, under a lock.
    """
    _write(server.data / "postgresql.conf", configuration_text(server.settings), server.account)
    _write(server.data / "pg_hba.conf", HBA, server.account)
    if not (server.data / OWN_SETTINGS).exists():
        _write(server.data / OWN_SETTINGS, OWN_SETTINGS_TEXT, server.account)
    _clear_stale_files(server)
    _refuse_foreign_server(server)
    lock = open_private(server.lock)
    log = open_private(server.log, os.O_TRUNC | os.O_APPEND)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Permanent(f"The PostgreSQL of {server.data} runs already.") from None
        launched = subprocess.run(  # noqa: S603
            [*_LAUNCH, str(server.binaries.postgres), *command_line(server.data, server.run)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, check=True, cwd="/", env=_ENVIRONMENT,
            umask=0o077, pass_fds=(lock,), start_new_session=True, **_run_as(server.account),
        )  # fmt: skip
    finally:
        # The server keeps the lock through the descriptor it inherited.
        os.close(lock)
        os.close(log)
    return int(launched.stdout)


def wait_until_ready(server: PostgresServer, pid: int, limit: timedelta = START_LIMIT) -> None:
    """Returns when the server that `start` has just started says it is ready.

    Raises Permanent, with its last words, when it ended instead, and Temporary when it is not ready after `limit`.
    """
    end = time.monotonic() + limit.total_seconds()
    while True:
        running = is_running(server)
        postmaster = read_postmaster(server)
        # For a moment the file may still be that of a server which was killed.
        if running and postmaster == Postmaster(pid, "ready"):
            return
        if not running:
            raise Permanent(f"PostgreSQL did not start on {server.data}: {words(server)}")
        if time.monotonic() > end:
            raise Temporary(
                f"PostgreSQL on {server.data} is not ready yet ({postmaster.state if postmaster else 'starting'}).",
                retry_after=timedelta(seconds=10),
            )
        time.sleep(_PAUSE)


def stop(server: PostgresServer, limit: timedelta = STOP_LIMIT) -> bool:
    """Stops a server that was started here, ending its sessions, and waits. False if it still runs after `limit`."""
    end = time.monotonic() + limit.total_seconds()
    asked = False
    while is_running(server):
        if not asked:
            postmaster = read_postmaster(server)
            # A server that has just been launched has not written its number yet: ask again.
            if postmaster is not None and _is_postmaster(server, postmaster.pid):
                os.kill(postmaster.pid, signal.SIGINT)
                asked = True
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True


def is_running(server: PostgresServer) -> bool:
    """Whether any process of a server that was started here is alive."""
    try:
        lock = os.open(server.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def read_postmaster(server: PostgresServer) -> Postmaster | None:
    """What postmaster.pid says; None if there is none, or it is being written.

    Its lines: https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h
    """
    try:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
        return Postmaster(pid=int(lines[0]), state=lines[7].strip() if len(lines) > 7 else "starting")
    except (FileNotFoundError, ValueError, IndexError):
        return None


def words(server: PostgresServer) -> str:
    """The last thing the server said, from its newest log, for an error's text."""
    logs = [server.log, *(server.data / "log").glob("*.log")]
    texts = [
        path.read_text(errors="replace")
        for path in sorted(logs, key=_changed_at)
        if path.is_file() and not path.is_symlink()
    ]
    return _last_words("\n".join(texts))


def _clear_stale_files(server: PostgresServer) -> None:
    """Removes the lock files of a server that is dead for sure, where PostgreSQL would take it for alive.

    PostgreSQL only asks whether a process of the noted number exists. After a kill -9 that may be another program of
    the same user, or a zombie that a container's first process never collects. The server's own lock says that it is
    dead; a file that names a living PostgreSQL, which then is not ours, is left for PostgreSQL to judge.
    """
    if is_running(server):
        return
    for path in (server.data / "postmaster.pid", server.run / f"{SOCKET_NAME}.lock"):
        try:
            pid = int(path.read_text().splitlines()[0])
        except (FileNotFoundError, ValueError, IndexError):
            continue
        arguments = _arguments(pid)
        if _exists(pid) and not (arguments and Path(arguments[0]).name.startswith(("postgres", "postmaster"))):
            path.unlink(missing_ok=True)


def _refuse_foreign_server(server: PostgresServer) -> None:
    postmaster = read_postmaster(server)
    if postmaster is not None and not is_running(server) and _is_postmaster(server, postmaster.pid):
        raise Permanent(
            f"A PostgreSQL server that Tocsin did not start (process {postmaster.pid}) runs on {server.data}.",
            remedy=f"Stop it (kill -INT {postmaster.pid}), then start Tocsin again.",
        )


def _is_postmaster(server: PostgresServer, pid: int) -> bool:
    """Whether that process is a PostgreSQL on this data directory; where there is no /proc, whether it lives."""
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
    # The folder is the account's and this process may be root's: a link that was put there is not followed.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    if account is not None:
        os.fchown(descriptor, account.uid, account.gid)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _give(path: Path, account: SystemAccount | None) -> None:
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


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-3:]) or "it said nothing."
