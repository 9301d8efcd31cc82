"""One PostgreSQL server as processes: make its data directory, start it, ask how it is, stop it.

A server started here holds an exclusive `flock` on its `lock` file in every one of its processes. So the kernel itself
says whether it still runs, after any kill -9 and whatever a stale postmaster.pid claims; and nothing else is touched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from tocsin.core.embedded_account import Account, RunAs
from tocsin.core.embedded_binaries import Binaries
from tocsin.core.embedded_settings import HBA, command_line, configuration_text, locale_arguments
from tocsin.core.errors import Permanent, Temporary

SUPERUSER = "tocsin"

#: How long a start may take (after a crash the log is replayed first) and a stop (a checkpoint is written).
START_LIMIT = timedelta(minutes=5)
STOP_LIMIT = timedelta(minutes=1)

_PAUSE = 0.01
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

#: Puts the server into the background of a session of its own and prints its process id. The shell ends at once, so
#: that the server is nobody's child and leaves no zombie behind.
_LAUNCH = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
_LAUNCH_TO_DESCRIPTOR = 'fd=$1; shift; eval "exec 3>&1 1>&$fd 2>&$fd"; "$@" </dev/null 3>&- & echo $! >&3'


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server's parts are, and who it runs as (None: the user of this process)."""

    binaries: Binaries
    data: Path
    run: Path
    lock: Path
    log: Path
    account: Account | None
    settings: Mapping[str, str]

    def url(self, database: str) -> str:
        """libpq's address of one of the server's databases."""
        return f"postgresql:///{quote(database)}?host={quote(str(self.run), safe='')}&port=5432&user={SUPERUSER}"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says of the server: its process id, and its state (starting, ready, stopping, …)."""

    pid: int
    state: str


def create(server: Server, *, sync: bool = True) -> None:
    """Makes the data directory with one superuser and no password. Raises Permanent with initdb's own words.

    An interrupted attempt is never taken for a data directory: it becomes one by a rename.
    """
    draft = server.data.with_name(f"{server.data.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
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


def start(server: Server) -> None:
    """Starts the server in a session of its own. Returns at once; `wait_until_ready` follows.

    Raises Permanent if the server runs already: the caller asks `is_running` first, under a lock.
    """
    _write(server.data / "postgresql.conf", configuration_text(server.settings), server.account)
    _write(server.data / "pg_hba.conf", HBA, server.account)
    _clear_reused_pid(server)
    lock = _open_lock(server)
    log = os.open(server.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Permanent(f"The PostgreSQL of {server.data} runs already.") from None
        subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", '"$@" &', "sh", str(server.binaries.postgres), *command_line(server.data, server.run)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, cwd="/", env=_ENVIRONMENT, umask=0o077,
            pass_fds=(lock,), start_new_session=True, **_run_as(server.account),
        )  # fmt: skip
    finally:
        # The server keeps the lock through the descriptor it inherited.
        os.close(lock)
        os.close(log)


def wait_until_ready(server: Server, limit: timedelta = START_LIMIT) -> None:
    """Returns when the running server says it is ready. Raises Permanent when it ended instead, with its last words,
    and Temporary when it still is not ready after `limit`.
    """
    end = time.monotonic() + limit.total_seconds()
    while True:
        running = is_running(server)
        postmaster = read_postmaster(server)
        if running and postmaster is not None and postmaster.state == "ready":
            return
        if not running:
            raise Permanent(f"PostgreSQL did not start on {server.data}: {words(server)}")
        if time.monotonic() > end:
            raise Temporary(
                f"PostgreSQL on {server.data} is not ready yet ({postmaster.state if postmaster else 'starting'}).",
                retry_after=timedelta(seconds=10),
            )
        time.sleep(_PAUSE)


def stop(server: Server, limit: timedelta = STOP_LIMIT) -> bool:
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


def is_running(server: Server) -> bool:
    """Whether any process of a server that was started here is alive."""
    try:
        lock = _open_lock(server)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def read_postmaster(server: Server) -> Postmaster | None:
    """What postmaster.pid says; None if there is none, or it is being written.

    Its lines: https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h
    """
    try:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
        return Postmaster(pid=int(lines[0]), state=lines[7].strip() if len(lines) > 7 else "starting")
    except (FileNotFoundError, ValueError, IndexError):
        return None


def words(server: Server) -> str:
    """The last thing the server said, from its newest log, for an error's text."""
    logs = [server.log, *(server.data / "log").glob("*.log")]
    texts = [path.read_text(errors="replace") for path in sorted(logs, key=_changed_at) if path.exists()]
    return _last_words("\n".join(texts))
