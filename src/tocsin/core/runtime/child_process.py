"""Supervises a child process of a node: starts it, watches it, and restarts it after it exits.

The first child is forked while the node has no threads, so that modules are loaded once and their memory is shared.
Every later child is a fresh interpreter. A child runs `main()` of one module, which calls `begun`. A child exits when
its standard input closes, and so always with its parent.

The child accepts connections on a socket owned by the parent, so that clients wait through a restart.
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

#: Maximum number of connections waiting to be accepted.
BACKLOG = 500

#: Seconds after which a start that has not finished is reported as a problem.
START_WITHIN = 60.0

#: Seconds that a process may take to finish its work when it stops.
GRACE = 10

#: Seconds between the exit of a process and the start of the next.
PAUSE = 1.0


#: The socket's file name, in a directory that only this user may enter.
_SOCKET = "socket"


class ChildConfig(msgspec.Struct, frozen=True):
    """The configuration that a parent passes to its child. File descriptors have the same numbers in both."""

    database_url: str
    listens_at: str
    socket: int
    #: Descriptor of a pipe: the child writes "ready" to it once. It closes when the child exits.
    says_ready: int


class SupervisedProcess:
    """The process that runs `module`. `what` completes the phrase "the process that …" in messages ("makes
    the pages")."""

    def __init__(self, module: str, what: str, database_url: str) -> None:
        self._module = module
        self._what = what
        self._database_url = database_url
        prefix = f"tocsin-{module.split('.')[1]}-"
        _clear_away(Path(tempfile.gettempdir()), prefix)
        self._folder = Path(tempfile.mkdtemp(prefix=prefix))
        #: Path of the Unix socket to connect to.
        self.path = str(self._folder / _SOCKET)
        self._socket = socket.socket(socket.AF_UNIX)
        # The socket gets its final name only once it listens. A socket under that name without a listener therefore
        # belongs to a node that was killed.
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
        """Forks the first process, if this process has no other threads. No database connection may be open, because a
        connection cannot be shared."""
        if threading.active_count() > 1:
            return
        try:
            self._begun = _begin(self._module, self._socket.fileno(), fork=True)
        except OSError as error:
            log.warning("The process that %s cannot be forked, and is started by itself: %s", self._what, error)

    def start(self) -> None:
        """Starts the supervisor, which starts the process unless it was forked. Does not wait until it is ready."""
        self._watcher.start()

    def wait(self) -> None:
        """Waits until the process is ready, for at most START_WITHIN seconds."""
        self.ready.wait(START_WITHIN)

    def kill(self) -> None:
        """Kills the process at once. The supervisor restarts it."""
        if (begun := self._begun) is not None:
            begun.kill()

    def stop(self) -> None:
        """Stops the process after it has finished its work, and kills it if it does not stop in time."""
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
        """Returns a sentence if the process has not been ready for START_WITHIN seconds, else None."""
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
        """Supervises one process from start to exit."""
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
    """Removes directories left by killed nodes: those that this user owns and whose socket has no listener."""
    for folder in place.glob(f"{prefix}*"):
        with suppress(OSError):
            held = folder.lstat()
            if stat.S_ISDIR(held.st_mode) and held.st_uid == os.geteuid() and _is_deserted(folder / _SOCKET):
                (folder / _SOCKET).unlink()
                folder.rmdir()


def _is_deserted(path: Path) -> bool:
    """Returns whether an existing socket has no listener. Raises OSError if that cannot be determined."""
    with socket.socket(socket.AF_UNIX) as caller:
        # A busy listener must not block this check.
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


class _ForkedProcess:
    """A forked process with the part of the `subprocess.Popen` interface used here. Only one thread may call `wait`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        self._is_over = False

    def kill(self) -> None:
        with self._lock:
            if not self._is_over:
                os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Waits for the process and returns its exit status, which is negative for the signal that ended it."""
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            # `kill` must not hit another process that has reused this pid.
            self._is_over = True
            return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


type Process = _ForkedProcess | subprocess.Popen[bytes]


class _StartedChild:
    """A started process, its standard input, and the pipe by which it reports that it is ready."""

    def __init__(
        self, process: _ForkedProcess | subprocess.Popen[bytes], told: IO[bytes], heard: IO[bytes], says: int
    ) -> None:
        self.heard = heard
        #: The child's descriptor for writing to its parent.
        self.says = says
        self.kill = process.kill
        self.wait: Callable[[], int] = process.wait
        self._told = told
        self._lock = threading.Lock()

    def tell(self, line: bytes) -> None:
        """Writes to the child's standard input, unless `end` has closed it. Raises OSError if the child has exited."""
        with self._lock:
            if not self._told.closed:
                self._told.write(line)

    def end(self) -> None:
        """Closes the child's standard input. The child exits after finishing its work."""
        with self._lock:
            self._told.close()


def _begin(module: str, listening: int, *, fork: bool = False) -> _StartedChild:
    """Starts a process that runs `main()` of `module`. Raises OSError."""
    hears, says = os.pipe()
    reads, tells = os.pipe()
    try:
        if fork:
            # Garbage left now would be collected in both processes.
            gc.collect()
            gc.freeze()
            if (number := os.fork()) == 0:
                _be(module, reads, (listening, says))
            process: Process = _ForkedProcess(number)
        else:
            # The child gets its own session, so that only the parent receives signals from a terminal.
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
    """Runs the forked process. Never returns into the parent's code."""
    status = 1
    try:
        os.setsid()
        os.dup2(reads, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for path in list(Path("/dev/fd").iterdir()):
            # Redirect to /dev/null instead of closing: an object of the parent may still close this number later.
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
        return  # the listing of open files was itself an open file
    os.dup2(nothing, number)


def child_setup() -> ChildConfig:
    """Initializes a child process: reads its configuration, and sets up logging, the database and Django."""
    # A service manager signals all processes at once. The child keeps running while its parent still serves requests.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    told = sys.stdin.buffer.readline()
    if not told:
        # The parent exited before it could send the configuration, so there is nothing to do.
        os._exit(0)
    orders = msgspec.json.decode(told, type=ChildConfig)
    logs.set_up(environment.current().log_format)
    environment.listen_address(orders.listens_at)
    database.use(orders.database_url)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    import django

    django.setup()
    return orders


def is_ready(orders: ChildConfig) -> None:
    """Reports to the parent that this process is ready."""
    os.write(orders.says_ready, b"ready\n")


def exit_with_parent(end: Callable[[], object]) -> None:
    """Calls `end` on a separate thread once the parent closes the pipe or has exited. Exits the process if it still
    runs after GRACE seconds."""
    threading.Thread(target=_follow_the_parent, args=(end,), name="parent", daemon=True).start()


def _follow_the_parent(end: Callable[[], object]) -> None:
    sys.stdin.buffer.read()
    end()
    time.sleep(GRACE + 1)
    os._exit(1)
