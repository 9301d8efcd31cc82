"""A PostgreSQL connection that breaks after the commit and before its confirmation."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

#: The server's word for a commit that is done: CommandComplete (protocol 3.0, message C).
_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"


@dataclass
class Wire:
    """Passes everything on. After `cut_at_commit`, the next commit's answer is kept, and the connection ended."""

    place: Path
    target: str
    cuts: int = 0
    _armed: threading.Event = field(default_factory=threading.Event)
    _listening: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    def cut_at_commit(self) -> None:
        self._armed.set()

    def start(self) -> None:
        self._listening.bind(str(self.place))
        self._listening.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.target)
                threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if is_server and self._armed.is_set() and _COMMITTED in data:
                    self._armed.clear()
                    self.cuts += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def wire_to(url: str) -> Iterator[tuple[Wire, str]]:
    """A wire to the server of `url` (one on a Unix socket), and the URL of the same database through it."""
    query = parse_qs(urlsplit(url).query)
    folder, port = query["host"][0], query["port"][0]
    with tempfile.TemporaryDirectory(prefix="wire-") as place:
        wire = Wire(Path(place) / f".s.PGSQL.{port}", f"{folder}/.s.PGSQL.{port}")
        wire.start()
        try:
            yield wire, url.replace(quote(folder, safe=""), quote(place, safe=""))
        finally:
            wire.stop()
