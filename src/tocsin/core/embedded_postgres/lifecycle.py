"""Starts the embedded PostgreSQL for the first process that uses a data directory, and stops it after the last.

Users are counted by a shared `flock`, which the kernel releases when a process is killed. Only a process that gets it
exclusively stops the server. A second lock serializes starts and stops. A server that Tocsin did not start is never
touched.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from tocsin.core.embedded_postgres import layout, preconditions
from tocsin.core.embedded_postgres import server as embedded_server
from tocsin.core.embedded_postgres.binaries import Binaries, bundled, reachable_by, remove_older_copies
from tocsin.core.embedded_postgres.layout import SOCKET_NAME, ClusterPaths, open_private
from tocsin.core.embedded_postgres.server import START_LIMIT, PostgresServer
from tocsin.core.embedded_postgres.settings import settings
from tocsin.core.errors import Temporary
from tocsin.core.reasons import ReasonType

_LOCKED = ReasonType(
    "postgres.locked", "Another process has been starting or stopping PostgreSQL for too long ({lock} is held)."
)
_UNRESPONSIVE = ReasonType("postgres.unresponsive", "PostgreSQL on {folder} runs ({state}) and does not answer.")
_LOGIN_FAILED = ReasonType("postgres.login_failed", "PostgreSQL in {folder} rejects Tocsin's connection: {error}")

DATABASE = "tocsin"

#: How long a running server may refuse connections before its socket counts as lost.
UNREACHABLE_LIMIT = timedelta(seconds=5)

_PAUSE = 0.02

log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """One use of the embedded PostgreSQL of a data directory. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = layout.resolve_path(data_dir)
        self._mutex = threading.Lock()
        self._server: PostgresServer | None = None
        self._shared_lock: _SharedLock | None = None
        self._keeps_recovering = False

    @property
    def location(self) -> Path:
        """PostgreSQL's directory, determined without starting anything. It need not exist yet."""
        return layout.locate(self._data_dir, bundled().major)

    @property
    def is_outside_data_dir(self) -> bool:
        """Whether that directory is outside the data directory, because root's account cannot enter a parent."""
        return not self.location.is_relative_to(self._data_dir)

    def check(self) -> None:
        """Raises Permanent if a start cannot succeed. Changes nothing."""
        preconditions.check(self._data_dir, bundled().major)

    def start(self) -> str:
        """Uses the server, starting it if necessary, and returns the URL of the database `tocsin`.

        May be called again at any time, and then restarts a server that was killed. Raises Permanent if a person must
        act, and Temporary if the server needs longer, for example to replay its WAL.
        """
        with self._mutex:
            self.check()
            binaries = bundled()
            paths = layout.prepare(self._data_dir, binaries.major)
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
                    raise Temporary(
                        _LOCKED(lock=str(lock)),
                        retry_after=timedelta(seconds=10),
                    ) from None
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _start(server: PostgresServer) -> None:
    if not server.data.exists():
        embedded_server.create(server)
    embedded_server.wait_until_ready(server, embedded_server.start(server))
    _make_database(server)


def _is_usable(server: PostgresServer, shared_lock: _SharedLock) -> bool:
    """Returns whether a running server accepts connections, waiting while it starts.

    A server that is stopping, or whose socket was lost, is stopped if no other process uses it. Raises Temporary if
    only waiting helps.
    """
    started_at = time.monotonic()
    while embedded_server.is_running(server):
        waited = time.monotonic() - started_at
        postmaster = embedded_server.read_postmaster(server)
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
        has_ended = is_lost and shared_lock.is_only_user() and embedded_server.stop(server)
        if not has_ended and waited > (UNREACHABLE_LIMIT if is_lost else START_LIMIT).total_seconds():
            raise Temporary(_UNRESPONSIVE(folder=str(server.data), state=state), retry_after=timedelta(seconds=10))
        time.sleep(_PAUSE)
    return False


def _stop_after_last(server: PostgresServer, shared_lock: _SharedLock, *, keeps_recovering: bool) -> None:
    if not shared_lock.try_exclusive() or (keeps_recovering and _is_recovering(server)):
        return
    if not embedded_server.stop(server):
        log.warning("PostgreSQL on %s has not stopped yet. It ends by itself.", server.data)


def _is_recovering(server: PostgresServer) -> bool:
    postmaster = embedded_server.read_postmaster(server)
    return embedded_server.is_running(server) and postmaster is not None and postmaster.state == "starting"


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
        raise Temporary(_LOGIN_FAILED(folder=str(server.data), error=str(error))) from error
