"""A process of a node's own, beside it: begun, watched, and begun again when it ended.

The first is forked from the node, as long as that has no threads: what is loaded then is loaded once, and in memory
once. Every later one is an interpreter of its own. Either way it runs `main()` of one module, which calls `begun`, and
ends when its standard input does: with its parent, in any case.

What it listens at is a socket of its parent's, so that whoever connects while it is begun again waits for it.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.runtime import logs

log = logging.getLogger(__name__)

#: So many connections may wait to be taken.
BACKLOG = 500

#: A start may take so many seconds until something is wrong.
START_WITHIN = 60.0

#: Seconds that a process may take at the end for what it is at.
GRACE = 10

#: Seconds between the end of a process and the start of the next.
PAUSE = 1.0


#: The socket's name, in a folder that nobody else may enter.
_SOCKET = "socket"


class ChildConfig(msgspec.Struct, frozen=True):
    """What the parent knows and its child does not. File descriptors have the same numbers in both."""

    database_url: str
    listens_at: str
    socket: int
    #: Told "ready" once; it is closed when this process ends.
    says_ready: int


class SupervisedProcess:
    """The process that runs `module`; `what` says in a sentence what that does ("makes the pages")."""

    def __init__(self, module: str, what: str, database_url: str) -> None:
        self._module = module
        self._what = what
        self._database_url = database_url
        prefix = f"tocsin-{module.split('.')[1]}-"
        _clear_away(Path(tempfile.gettempdir()), prefix)
        self._folder = Path(tempfile.mkdtemp(prefix=prefix))
        #: Where to connect to it.
        self.path = str(self._folder / _SOCKET)
        self._socket = socket.socket(socket.AF_UNIX)
        # It has its name once it listens, so that one at which nobody does is one of a node that was killed.
        begun_as = self._folder / "begun"
        self._socket.bind(str(begun_as))
        self._socket.listen(BACKLOG)
        begun_as.rename(self.path)
        self.ready = threading.Event()
        self._stopping = threading.Event()
        self._missing_since = time.monotonic()
        self._begun: _StartedChild | None = None
        self._watcher = threading.Thread(target=self._watch, name=module.split(".")[1], daemon=True)

    def fork(self) -> None:
        """Forks the first process, if that can be done: in a process without threads. Nothing may be connected to the
        database: a connection cannot be shared."""
        if threading.active_count() > 1:
            return
        try:
            self._begun = _begin(self._module, self._socket.fileno(), fork=True)
        except OSError as error:
            log.warning("The process that %s cannot be forked, and is started by itself: %s", self._what, error)

    def start(self) -> None:
        """Watches over the process, and starts it where it was not forked; it gets ready meanwhile."""
        self._watcher.start()

    def wait(self) -> None:
        """Waits until the process is ready, or START_WITHIN has passed."""
        self.ready.wait(START_WITHIN)

    def kill(self) -> None:
        """Ends the process at once; the next is begun."""
        if (begun := self._begun) is not None:
            begun.kill()

    def stop(self) -> None:
        """Ends the process, once what it is at is done."""
        self._stopping.set()
        if (begun := self._begun) is not None:
            begun.end()
        if self._watcher.is_alive():
            self._watcher.join(GRACE + 2)
            if self._watcher.is_alive():
                self.kill()
                self._watcher.join(PAUSE + 1)
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def problem(self) -> str | None:
        """Why there is no such process, as a sentence; None while there is, or soon will be."""
        if self.ready.is_set() or time.monotonic() - self._missing_since < START_WITHIN:
            return None
        return f"The process that {self._what} does not start."

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._begun is None:
                    self._begun = _begin(self._module, self._socket.fileno())
                self._follow(self._begun)
            except OSError as error:
                log.error("The process that %s cannot be started: %s", self._what, error)
            self._begun = None
            self._stopping.wait(PAUSE)

    def _follow(self, begun: _StartedChild) -> None:
        """One process, from its start to its end."""
        orders = ChildConfig(self._database_url, environment.current().public_url, self._socket.fileno(), begun.says)
        with begun.heard:
            with suppress(BrokenPipeError):
                begun.tell(msgspec.json.encode(orders) + b"\n")
            if begun.heard.readline():
                self.ready.set()
                begun.heard.read()
            self.ready.clear()
            self._missing_since = time.monotonic()
            begun.end()
            code = begun.wait()
        if not self._stopping.is_set():
            log.error("The process that %s ended with %d, and is started again.", self._what, code)


def _clear_away(place: Path, prefix: str) -> None:
    """Removes the folders that nodes left which were killed: this user's own, at whose socket no process listens."""
    for folder in place.glob(f"{prefix}*"):
        with suppress(OSError):
            held = folder.lstat()
            if stat.S_ISDIR(held.st_mode) and held.st_uid == os.geteuid() and _is_deserted(folder / _SOCKET):
                (folder / _SOCKET).unlink()
                folder.rmdir()


def _is_deserted(path: Path) -> bool:
    """Whether nobody listens at a socket that is there. Raises OSError where that cannot be told."""
    with socket.socket(socket.AF_UNIX) as caller:
        # Whoever is busy is not waited for.
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


class _ForkedProcess:
    """A forked process, with as much of `subprocess.Popen` as is needed. `wait` is called by one thread only."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        self._is_over = False

    def kill(self) -> None:
        with self._lock:
            if not self._is_over:
                os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit status, negative for the signal that ended it."""
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            # Whoever kills must not meet another process of the same number.
            self._is_over = True
            return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


type Process = _ForkedProcess | subprocess.Popen[bytes]


class _StartedChild:
    """A process that was begun, its standard input, and what it says."""

    def __init__(
        self, process: _ForkedProcess | subprocess.Popen[bytes], told: IO[bytes], heard: IO[bytes], says: int
    ) -> None:
        self.heard = heard
        #: The number of the file by which it says something, in that process.
        self.says = says
        self.kill = process.kill
        self.wait: Callable[[], int] = process.wait
        self._told = told
        self._lock = threading.Lock()

    def tell(self, line: bytes) -> None:
        """Writes to its standard input, unless that has ended. Raises OSError where it has ended itself."""
        with self._lock:
            if not self._told.closed:
                self._told.write(line)

    def end(self) -> None:
        """Ends its standard input, and so the process, once it has done what it is at."""
        with self._lock:
            self._told.close()


def _begin(module: str, listening: int, *, fork: bool = False) -> _StartedChild:
    """Begins a process that runs `main()` of `module`. Raises OSError."""
    hears, says = os.pipe()
    reads, tells = os.pipe()
    try:
        if fork:
            # What is garbage now would be collected in both.
            gc.collect()
            gc.freeze()
            if (number := os.fork()) == 0:
                _be(module, reads, (listening, says))
            process: Process = _ForkedProcess(number)
        else:
            # A session of its own: what a terminal sends to all is its parent's to pass on.
            process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", module], stdin=reads, pass_fds=[listening, says], start_new_session=True
            )
    except BaseException:
        os.close(hears)
        os.close(tells)
        raise
    finally:
        os.close(reads)
        os.close(says)
    return _StartedChild(process, os.fdopen(tells, "wb", buffering=0), os.fdopen(hears, "rb"), says)


def _be(module: str, reads: int, kept: Sequence[int]) -> None:
    """The life of a forked process, which never returns into its parent's code."""
    status = 1
    try:
        os.setsid()
        os.dup2(reads, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for path in list(Path("/dev/fd").iterdir()):
            # Pointed at nothing, not closed: an object of the parent's may still close its number some day.
            if (number := int(path.name)) > 2 and number not in (nothing, *kept):
                _let_go(number, nothing)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it is open for as long as the process lives
        importlib.import_module(module).main()
        status = 0
    except BaseException:  # noqa: BLE001 - the edge of a process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _let_go(number: int, nothing: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        return  # the list of open files was itself an open file
    os.dup2(nothing, number)


def begun() -> ChildConfig:
    """What a process does first: it reads its orders, and has settings, a database to use, and Django's models."""
    # A service manager tells all processes at once: this one goes on for what its parent still has to answer.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    told = sys.stdin.buffer.readline()
    if not told:
        # The parent ended before it could say anything: there is nothing to do, and nobody to tell.
        os._exit(0)
    orders = msgspec.json.decode(told, type=ChildConfig)
    logs.set_up(environment.current().log_format)
    environment.listens_at(orders.listens_at)
    database.use(orders.database_url)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    import django

    django.setup()
    return orders


def is_ready(orders: ChildConfig) -> None:
    """Tells the parent that this process is ready."""
    os.write(orders.says_ready, b"ready\n")


def end_with_the_parent(end: Callable[[], object]) -> None:
    """Calls `end`, on a thread of its own, when the parent ends it or has ended; a process that is still there after
    GRACE seconds ends all the same."""
    threading.Thread(target=_follow_the_parent, args=(end,), name="parent", daemon=True).start()


def _follow_the_parent(end: Callable[[], object]) -> None:
    sys.stdin.buffer.read()
    end()
    time.sleep(GRACE + 1)
    os._exit(1)
