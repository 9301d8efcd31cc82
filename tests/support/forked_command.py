"""`tocsin` commands by a fork of a process that has loaded their modules, which is most of the work of a start.

For tests of what a running command does. `make test-all` starts every command as users do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, Protocol

#: Starts every command by the installed program.
NEW_PROCESSES_VARIABLE = "TOCSIN_TEST_NEW_PROCESSES"

PROGRAM = Path(sys.executable).with_name("tocsin")


class Command(Protocol):
    """A running command: what `subprocess.Popen` and `ForkedCommand` have in common."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class ForkedCommand:
    """A command in a process that was forked. Descriptor 0 is /dev/null."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: str, stdout: int, stderr: int
    ) -> None:
        # It ends with the tests at the latest.
        self._process = _context().Process(
            target=_run, args=(list(arguments), dict(environment), cwd, _Descriptors(stdout, stderr)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for the signal that ended it. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("tocsin", timeout or 0)
        return status

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: str,
    stdout: int,
    stderr: int,
    within: Sequence[str] = (),
    is_forked: bool = True,
) -> Command:
    """Starts `tocsin` with these arguments and variables, and no input. `within` is the beginning of a command that
    runs another one; such a command is not forked."""
    if is_forked and not within and NEW_PROCESSES_VARIABLE not in os.environ and not _is_other_program(environment):
        return ForkedCommand(arguments, environment, cwd, stdout, stderr)
    return subprocess.Popen(
        [*within, PROGRAM, *arguments], env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
    )


def _is_other_program(environment: Mapping[str, str]) -> bool:
    """Whether a variable means something to Python or Django as they start."""
    names = {name for name in {*environment, *os.environ} if name.startswith(("PYTHON", "DJANGO_SETTINGS_MODULE"))}
    return any(environment.get(name) not in (None, os.environ.get(name)) for name in names)


class _Descriptors:
    """Descriptors as the forked process gets them."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors

    def __reduce__(self) -> tuple[Any, ...]:
        return _Received, tuple(DupFd(descriptor) for descriptor in self._descriptors)


class _Received:
    def __init__(self, *copies: Any) -> None:
        self.numbers = [copy.detach() for copy in copies]


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preloaded"])
    return context


def _run(arguments: list[str], environment: dict[str, str], cwd: str, outputs: _Received) -> None:
    """Runs the command in the process that was forked for it."""
    for standard, number in enumerate(outputs.numbers, start=1):
        os.dup2(number, standard)
        os.close(number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    from tests.support import preloaded

    sys.exit(preloaded.run(arguments))
