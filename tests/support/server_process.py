"""A `tocsin serve` process on a test database."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tests.support import forked_command
from tests.support.forked_command import Command

START_WITHIN = 180.0

#: Seconds that a test waits for an answer which is not what it times: a busy machine may take longer than httpx waits.
PATIENCE = 30.0


@dataclass
class ServerProcess:
    """A server that is ready."""

    url: str
    process: Command
    lines: list[str] = field(default_factory=list)
    said: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line, of stdout or stderr, in which `pattern` is found."""
        with self.said:
            self.said.wait_for(lambda: self._find_line(pattern) or self.process.poll() is not None, START_WITHIN)
            match = self._find_line(pattern)
        assert match, f"no {pattern!r} in:\n" + "\n".join(self.lines)
        return match

    def _find_line(self, pattern: str) -> re.Match[str] | None:
        return next((match for line in self.lines if (match := re.search(pattern, line))), None)


@contextmanager
def serve(data_dir: Path, database: str, *, port: int = 0, **variables: str) -> Iterator[ServerProcess]:
    """Starts `tocsin serve` by a fork (see `tests.support.forked_command`), on a free port unless one is given, and
    waits until it is ready; ends it with SIGTERM."""
    stored = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    # What the test wrote into the database, the server must be able to read.
    stored["TOCSIN_SECRET_KEY"] = os.environ["TOCSIN_SECRET_KEY"]
    environment = {**stored, "TOCSIN_DATA_DIR": str(data_dir), "TOCSIN_DATABASE_URL": database, **variables}
    with _started(["serve", "--port", str(port)], environment) as running:
        yield running


@contextmanager
def demo(data_dir: Path, *, has_history: bool = False) -> Iterator[ServerProcess]:
    """Starts `tocsin demo`, with a database of its own, and waits until it is ready."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    history = "--history" if has_history else "--no-history"
    arguments = ["demo", "--port", "0", history, "--data-dir", str(data_dir / "demo")]
    with _started(arguments, environment, is_forked=False) as running:
        yield running


@contextmanager
def _started(arguments: list[str], environment: dict[str, str], *, is_forked: bool = True) -> Iterator[ServerProcess]:
    pipes = [os.pipe(), os.pipe()]
    (_, stdout), (_, stderr) = pipes
    process = forked_command.start(
        arguments, environment, cwd=str(Path.cwd()), stdout=stdout, stderr=stderr, is_forked=is_forked
    )
    running = ServerProcess("", process)
    for reading, writing in pipes:
        os.close(writing)
        stream = os.fdopen(reading, buffering=1)
        threading.Thread(target=_read, args=(running, stream), daemon=True).start()
    try:
        running.url = running.wait_for(r"^ready (http://\S+)")[1]
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _read(running: ServerProcess, stream: TextIO) -> None:
    with stream:
        for line in stream:
            with running.said:
                running.lines.append(line.rstrip("\n"))
                running.said.notify_all()
