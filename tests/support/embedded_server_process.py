"""A process that uses the embedded PostgreSQL as Tocsin does, for tests of several, of killed ones, of other users.

Run as a program it starts the server, prints the URL, and releases it when it is told to. Everything is imported before
the user changes, since an ordinary user may not be able to read this Python.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self


class TocsinProcess:
    """The other side of that program. Ended at the end of its `with` block, whatever happened to it before."""

    def __init__(self, data_dir: Path, *, uid: int | None = None, python_path: Path | None = None) -> None:
        environment = dict(os.environ)
        if python_path is not None:
            environment["PYTHONPATH"] = str(python_path)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(data_dir), str(os.geteuid() if uid is None else uid)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.pid = self._process.pid

    def answer(self) -> str:
        """The next line the process says: the URL, or its error's kind and text."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def send_command(self, word: str) -> str:
        """Has it `start` again, `release`, or say the `location`; returns what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self.answer()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait()
        self._process.stdout.close()


def _main(data_dir: str, uid: int) -> None:
    from tocsin.core.embedded_server import EmbeddedPostgres
    from tocsin.core.errors import TocsinError

    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    embedded = EmbeddedPostgres(Path(data_dir))
    word = "start"
    while word:
        try:
            match word:
                case "start":
                    text = embedded.start()
                case "release":
                    embedded.release()
                    text = "released"
                case "location":
                    text = str(embedded.location)
                case _:
                    text = f"unknown word {word}"
        except TocsinError as error:
            text = f"{type(error).__name__}: {error}"
        sys.stdout.write(text.replace("\n", " ") + "\n")
        sys.stdout.flush()
        word = sys.stdin.readline().strip()
    embedded.release()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
