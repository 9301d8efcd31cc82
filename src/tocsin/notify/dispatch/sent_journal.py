"""A file of the messages that providers have accepted, until the database has recorded them.

If a process is killed between a provider's answer and the commit, the message stays recorded as unsent, and is sent
twice. So each process appends what was accepted to a file of its own, on which it holds a lock. Once the lock is free,
the process has ended, and another one on this machine records what the file says. The file is not flushed to disk,
which would delay every page: after a failure of the machine these messages are sent again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from tocsin.core import ids

log = logging.getLogger(__name__)

#: In the data directory.
FOLDER = "sent"
#: A file that grew beyond this is written anew, without what has been recorded since.
MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class SentDelivery:
    """A delivery that a provider, or the sandbox, has accepted."""

    id: UUID
    external_id: str
    at: datetime
    #: Within how many seconds the provider must report that it was delivered; None for never.
    receipt_timeout: int | None = None

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Raises ValueError for a line that was not written to its end."""
        match json.loads(line):
            case [str(id_), str(external_id), str(at), int() | None as receipt_timeout]:
                return cls(UUID(id_), external_id, datetime.fromisoformat(at), receipt_timeout)
        raise ValueError(line)

    def line(self) -> str:
        return json.dumps([str(self.id), self.external_id, self.at.isoformat(), self.receipt_timeout])


class SentJournal:
    """The file of one process. Used by many threads. A file that cannot be written is logged, and no send fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._unrecorded: dict[UUID, SentDelivery] = {}
        self._file: int | None = None
        self._path = folder / f"{ids.uuid7()}.jsonl"
        #: Files of other processes that cannot be opened.
        self._unusable: set[Path] = set()

    def note(self, sent: Sequence[SentDelivery]) -> None:
        """Appends deliveries. Called as soon as the provider has answered."""
        with self._lock:
            self._unrecorded |= {one.id: one for one in sent}
            self._append(sent)

    def forget(self, delivery_ids: Iterable[UUID]) -> None:
        """Drops deliveries whose results the database has recorded."""
        with self._lock:
            for delivery_id in delivery_ids:
                self._unrecorded.pop(delivery_id, None)
            if self._file is None:
                return
            size = os.fstat(self._file).st_size
            if (size and not self._unrecorded) or size > MAX_BYTES:
                os.ftruncate(self._file, 0)
                self._append(self._unrecorded.values())

    def recover(self, record: Callable[[Sequence[SentDelivery]], None]) -> None:
        """Hands what ended processes left unrecorded to `record`, and then removes their files."""
        for path in self._folder.glob("*.jsonl"):
            if path == self._path or path in self._unusable:
                continue
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:  # another process was quicker
                continue
            except OSError:
                self._unusable.add(path)
                log.warning("%s cannot be opened: what it says may be sent twice.", path, exc_info=True)
                continue
            # After a failure of the machine, a file may hold anything.
            with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # its process lives
                    continue
                if sent := _read(file):
                    record(sent)
                    log.info("%d deliveries that an ended process had sent are recorded.", len(sent))
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file, and removes it if everything in it is recorded."""
        with self._lock:
            if self._file is None:
                return
            if not self._unrecorded:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _append(self, sent: Collection[SentDelivery]) -> None:
        if not sent:
            return
        try:
            if self._file is None:
                self._file = self._open()
            os.write(self._file, "".join(f"{one.line()}\n" for one in sent).encode())
        except OSError:
            log.warning("%s cannot be written.", self._path, exc_info=True)

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        return file


def _read(lines: Iterable[str]) -> list[SentDelivery]:
    sent = []
    for line in lines:
        try:
            sent.append(SentDelivery.from_line(line))
        except ValueError:
            log.warning("A line of a journal of sent messages cannot be read: %.200s", line)
    return sent
