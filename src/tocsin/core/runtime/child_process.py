"""Supervises a child process of a node: starts it, watches it, and restarts it after it exits.

The first child is forked while the node has no threads, so that modules are loaded once and their memory is shared.
Every later child is a fresh interpreter. A child runs `main()` of one module, which calls `child_setup`. A child exits
when its standard input closes, and so always with its parent.

The child accepts connections on a socket owned by the parent, so that clients wait through a restart.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import resource
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
from tocsin.core.runtime import telemetry

log = logging.getLogger(__name__)

#: Maximum number of connections waiting to be accepted.
BACKLOG = 500

#: Seconds after which a start that has not finished is reported as a problem.
MAX_START_SECONDS = 60.0

#: Seconds that a process may take to finish its work when it stops.
STOP_GRACE_SECONDS = 10

#: Seconds between the exit of a process and the start of the next.
RESTART_DELAY_SECONDS = 1.0


#: The socket's file name, in a directory that only this user may enter.
_SOCKET = "socket"


class ChildConfig(msgspec.Struct, frozen=True):
    """The configuration that a parent passes to its child. File descriptors have the same numbers in both."""

    database_url: str
    listen_url: str
    socket_fd: int
    #: Descriptor of a pipe: the child writes "ready" to it once. It closes when the child exits.
    ready_fd: int


class SupervisedProcess:
    """The process that runs `module`. `description` completes the phrase "the process that …" in messages ("makes
    the pages")."""

    def __init__(self, module: str, description: str, database_url: str) -> None:
        self._module = module
        self._description = description
        self._database_url = database_url
        prefix = f"tocsin-{module.split('.')[1]}-"
        _remove_stale_directories(Path(tempfile.gettempdir()), prefix)
        self._folder = Path(tempfile.mkdtemp(prefix=prefix))
        #: Path of the Unix socket to connect to.
        self.path = str(self._folder / _SOCKET)
        self._socket = socket.socket(socket.AF_UNIX)
        # The socket gets its final name only once it listens. A socket under that name without a listener therefore
        # belongs to a node that was killed.
        initial_path = self._folder / "starting"
        self._socket.bind(str(initial_path))
        self._socket.listen(BACKLOG)
        initial_path.rename(self.path)
        self.ready = threading.Event()
        self._stopping = threading.Event()
        self._missing_since = time.monotonic()
        self._child: _StartedChild | None = None
        self._watcher = threading.Thread(target=self._watch, name=module.split(".")[1], daemon=True)

    def fork(self) -> None:
        """Forks the first process, if this process has no other threads. No database connection may be open, because a
        connection cannot be shared."""
        if threading.active_count() > 1:
            return
        try:
            self._child = _start_child(self._module, self._socket.fileno(), fork=True)
        except OSError as error:
            log.warning("The process that %s cannot be forked, and is started by itself: %s", self._description, error)

    def start(self) -> None:
        """Starts the supervisor, which starts the process unless it was forked. Does not wait until it is ready."""
        self._watcher.start()

    def wait(self) -> None:
        """Waits until the process is ready, for at most START_WITHIN seconds."""
        self.ready.wait(MAX_START_SECONDS)

    def kill(self) -> None:
        """Kills the process at once. The supervisor restarts it."""
        if (child := self._child) is not None:
            child.kill()

    def stop(self) -> None:
        """Stops the process after it has finished its work, and kills it if it does not stop in time."""
        self._stopping.set()
        if (child := self._child) is not None:
            child.close_stdin()
        if self._watcher.is_alive():
            self._watcher.join(STOP_GRACE_SECONDS + 2)
            if self._watcher.is_alive():
                self.kill()
                self._watcher.join(RESTART_DELAY_SECONDS + 1)
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def problem(self) -> str | None:
        """Returns a sentence if the process has not been ready for START_WITHIN seconds, else None."""
        if self.ready.is_set() or time.monotonic() - self._missing_since < MAX_START_SECONDS:
            return None
        return f"The process that {self._description} does not start."

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._child is None:
                    self._child = _start_child(self._module, self._socket.fileno())
                self._supervise(self._child)
            except OSError as error:
                log.error("The process that %s cannot be started: %s", self._description, error)
            self._child = None
            self._stopping.wait(RESTART_DELAY_SECONDS)

    def _supervise(self, child: _StartedChild) -> None:
        """Supervises one process from start to exit."""
        config = ChildConfig(
            self._database_url, environment.current().public_url, self._socket.fileno(), child.ready_fd
        )
        with child.ready_pipe:
            with suppress(BrokenPipeError):
                child.send(msgspec.json.encode(config) + b"\n")
            if child.ready_pipe.readline():
                self.ready.set()
                child.ready_pipe.read()
            self.ready.clear()
            self._missing_since = time.monotonic()
            child.close_stdin()
            exit_code = child.wait()
        if not self._stopping.is_set():
            log.error("The process that %s ended with %d, and is started again.", self._description, exit_code)


def _remove_stale_directories(parent: Path, prefix: str) -> None:
    """Removes directories left by killed nodes: those that this user owns and whose socket has no listener."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and _is_deserted(folder / _SOCKET):
                (folder / _SOCKET).unlink()
                folder.rmdir()


def _is_deserted(path: Path) -> bool:
    """Returns whether an existing socket has no listener. Raises OSError if that cannot be determined."""
    with socket.socket(socket.AF_UNIX) as client:
        # A busy listener must not block this check.
        client.setblocking(False)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


class _ForkedProcess:
    """A forked process with the part of the `subprocess.Popen` interface used here. Only one thread may call `wait`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        self._has_exited = False

    def kill(self) -> None:
        with self._lock:
            if not self._has_exited:
                os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Waits for the process and returns its exit status, which is negative for the signal that ended it."""
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            # `kill` must not hit another process that has reused this pid.
            self._has_exited = True
            return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


type Process = _ForkedProcess | subprocess.Popen[bytes]


class _StartedChild:
    """A started process, its standard input, and the pipe by which it reports that it is ready."""

    def __init__(
        self, process: _ForkedProcess | subprocess.Popen[bytes], stdin: IO[bytes], ready_pipe: IO[bytes], ready_fd: int
    ) -> None:
        self.ready_pipe = ready_pipe
        #: The child's descriptor for writing to its parent.
        self.ready_fd = ready_fd
        self.kill = process.kill
        self.wait: Callable[[], int] = process.wait
        self._stdin = stdin
        self._lock = threading.Lock()

    def send(self, line: bytes) -> None:
        """Writes to the child's standard input, unless `close_stdin` has closed it. Raises OSError if the child has
        exited."""
        with self._lock:
            if not self._stdin.closed:
                self._stdin.write(line)

    def close_stdin(self) -> None:
        """Closes the child's standard input. The child exits after finishing its work."""
        with self._lock:
            self._stdin.close()


def _start_child(module: str, socket_fd: int, *, fork: bool = False) -> _StartedChild:
    """Starts a process that runs `main()` of `module`. Raises OSError."""
    ready_read_fd, ready_write_fd = os.pipe()
    stdin_read_fd, stdin_write_fd = os.pipe()
    try:
        if fork:
            # Garbage left now would be collected in both processes.
            gc.collect()
            gc.freeze()
            if (pid := os.fork()) == 0:
                _child_main(module, stdin_read_fd, (socket_fd, ready_write_fd))
            process: Process = _ForkedProcess(pid)
        else:
            # The child gets its own session, so that only the parent receives signals from a terminal.
            process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", module],
                stdin=stdin_read_fd,
                pass_fds=[socket_fd, ready_write_fd],
                start_new_session=True,
            )
    except BaseException:
        os.close(ready_read_fd)
        os.close(stdin_write_fd)
        raise
    finally:
        os.close(stdin_read_fd)
        os.close(ready_write_fd)
    return _StartedChild(
        process, os.fdopen(stdin_write_fd, "wb", buffering=0), os.fdopen(ready_read_fd, "rb"), ready_write_fd
    )


def _child_main(module: str, stdin_fd: int, inherited_fds: Sequence[int]) -> None:
    """Runs the forked process. Never returns into the parent's code."""
    status = 1
    try:
        _ignore_stop_signals()
        os.setsid()
        os.dup2(stdin_fd, 0)
        null_fd = os.open(os.devnull, os.O_RDWR)
        for path in list(Path("/dev/fd").iterdir()):
            # Redirect to /dev/null instead of closing: an object of the parent may still close this number later.
            if (fd := int(path.name)) > 2 and fd not in (null_fd, *inherited_fds):
                _redirect_to_null(fd, null_fd)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it is open for as long as the process lives
        importlib.import_module(module).main()
        status = 0
    except BaseException:  # noqa: BLE001 - the edge of a process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _redirect_to_null(fd: int, null_fd: int) -> None:
    try:
        os.fstat(fd)
    except OSError:
        return  # the listing of open files was itself an open file
    os.dup2(null_fd, fd)


def child_setup() -> ChildConfig:
    """Initializes a child process: reads its configuration, and sets up logging, the database and Django."""
    _ignore_stop_signals()
    line = sys.stdin.buffer.readline()
    if not line:
        # The parent exited before it could send the configuration, so there is nothing to do.
        os._exit(0)
    config = msgspec.json.decode(line, type=ChildConfig)
    telemetry.set_up_logs(environment.current().log_format)
    environment.listen_address(config.listen_url)
    database.use(config.database_url)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    import django

    django.setup()
    return config


def _ignore_stop_signals() -> None:
    """Keep running while the parent still serves requests: a service manager signals all processes at once."""
    for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)


def report_ready(config: ChildConfig) -> None:
    """Reports to the parent that this process is ready."""
    os.write(config.ready_fd, b"ready\n")


def exit_with_parent(shutdown: Callable[[], object]) -> None:
    """Calls `shutdown` on a separate thread once the parent closes the pipe or has exited. Exits the process if it
    still runs after GRACE seconds."""
    threading.Thread(target=_wait_for_parent_exit, args=(shutdown,), name="parent", daemon=True).start()


def _wait_for_parent_exit(shutdown: Callable[[], object]) -> None:
    sys.stdin.buffer.read()
    shutdown()
    time.sleep(STOP_GRACE_SECONDS + 1)
    os._exit(1)


# ---------- sandboxed process
# Runs work on untrusted input in a separate process with limits on CPU time and memory.
#
# Python's regular expressions, for one, block every thread of a process. In a process of its own, such work delays no
# page, and exceeding a limit ends only that process.


MAX_MEMORY_BYTES = 1024 * 1024 * 1024


class ResourceLimitExceeded(Exception):
    """The process exceeded its time or memory limit."""


def run(module: str, input_bytes: bytes, *, seconds: int, memory: int = MAX_MEMORY_BYTES) -> bytes:
    """Runs `module` as a program with `input_bytes` on standard input, and returns its standard output.

    The program must call `limit_resources` first. `seconds` limits its CPU time, `memory` its address space in bytes.
    Raises ResourceLimitExceeded at a limit, and RuntimeError if the program fails.
    """
    try:
        completed = subprocess.run(  # noqa: S603 - this very program
            [sys.executable, "-m", module, str(seconds), str(memory)],
            input=input_bytes, capture_output=True, check=False, timeout=max(2.0 * seconds, 10.0 + seconds), cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ResourceLimitExceeded from None
    if completed.returncode < 0:
        # The kernel killed it.
        raise ResourceLimitExceeded
    if completed.returncode:
        raise RuntimeError(completed.stderr.decode("utf-8", "replace")[-2000:])
    return completed.stdout


def limit_resources() -> None:
    """Applies the limits from the command line to this process, and lowers its priority."""
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.nice(10)
