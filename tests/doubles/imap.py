"""An IMAP server on loopback: signing in, SELECT, UID SEARCH, FETCH and STORE, NOOP and LOGOUT, as much of RFC 3501
as a reader of mails needs. It keeps what it has in memory, and can refuse or hang up."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class MailboxMessage:
    """One mail, and whether it was read."""

    data: bytes
    is_read: bool = False
    #: It was found, and is deleted before it is read.
    is_gone: bool = False


@dataclass
class ImapDouble:
    """`hangs_up` ends the next connections when they select a folder; from the command `drips_at` on (or GREETING) what
    it says never comes to an end; `keeps_flags` lets nobody mark a mail."""

    username: str = "tocsin@example.org"
    password: str = "s3cret-Of-The-Mailbox"
    folder: str = "INBOX"
    port: int = 0
    mails: list[MailboxMessage] = field(default_factory=list)
    hangs_up: int = 0
    drips_at: str = ""
    keeps_flags: bool = False
    logins: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def receive(self, data: bytes) -> MailboxMessage:
        """A mail arrives."""
        with self.lock:
            self.mails.append(MailboxMessage(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")))
            return self.mails[-1]


class _Session(socketserver.StreamRequestHandler):
    double: ImapDouble

    def handle(self) -> None:
        if self._drips("GREETING"):
            return
        self._send_line("* OK ready")
        while line := self._line():
            tag, _, rest = line.partition(" ")
            if not self._do(tag, rest):
                return

    def _do(self, tag: str, rest: str) -> bool:
        """One command; False ends the connection."""
        name, _, arguments = rest.partition(" ")
        if self._drips(*rest.upper().split(" ")[:4]):
            return False
        match name.upper():
            case "CAPABILITY":
                self._send_line("* CAPABILITY IMAP4rev1 AUTH=PLAIN")
            case "AUTHENTICATE":
                return self._authenticate(tag)
            case "LOGIN":
                if arguments.replace('"', "").split() != [self.double.username, self.double.password]:
                    self._send_line(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials")
                    return True
                self.double.logins += 1
            case "SELECT":
                return self._select(tag, arguments.strip('"'))
            case "UID" if self.double.keeps_flags and arguments.upper().startswith("STORE"):
                self._send_line(f"{tag} NO [NOPERM] You may not change flags here")
                return True
            case "UID":
                self._uid(arguments)
            case "LOGOUT":
                self._send_line("* BYE")
                self._send_line(f"{tag} OK bye")
                return False
            case "NOOP":
                pass
            case _:
                self._send_line(f"{tag} BAD unknown command")
                return True
        self._send_line(f"{tag} OK done")
        return True

    def _drips(self, *words: str) -> bool:
        """Says something now and then, until the other side goes."""
        if not self.double.drips_at or self.double.drips_at not in words:
            return False
        with suppress(OSError):
            while not self.double.ended.wait(0.01):
                self.wfile.write(b"* OK ")
        return True

    def _authenticate(self, tag: str) -> bool:
        import base64

        self._send_line("+ ")
        _, name, password = base64.b64decode(self._line()).decode().split("\0")
        if (name, password) != (self.double.username, self.double.password):
            self._send_line(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials")
            return True
        self.double.logins += 1
        self._send_line(f"{tag} OK signed in")
        return True

    def _select(self, tag: str, folder: str) -> bool:
        if self.double.hangs_up:
            self.double.hangs_up -= 1
            return False
        if folder.upper() != self.double.folder.upper():
            self._send_line(f"{tag} NO [NONEXISTENT] Unknown Mailbox: {folder}")
            return True
        self._send_line(f"* {len(self.double.mails)} EXISTS")
        self._send_line("* OK [UIDVALIDITY 3857529045] UIDs valid")
        self._send_line(f"{tag} OK [READ-WRITE] selected")
        return True

    def _uid(self, arguments: str) -> None:
        command, _, rest = arguments.partition(" ")
        match command.upper():
            case "SEARCH":
                results = [str(number) for number, mail in enumerate(self.double.mails, 1) if not mail.is_read]
                self._send_line(f"* SEARCH {' '.join(results)}".rstrip())
            case "FETCH":
                self._fetch(rest)
            case "STORE":
                number = int(rest.split()[0])
                self.double.mails[number - 1].is_read = r"\Seen" in rest
                self._send_line(f"* {number} FETCH (UID {number} FLAGS (\\Seen))")

    def _fetch(self, rest: str) -> None:
        expected = re.match(r"(\d+) \((.+)\)", rest)
        assert expected, rest
        number, data = int(expected[1]), self.double.mails[int(expected[1]) - 1].data
        if self.double.mails[number - 1].is_gone:
            return
        if "SIZE" in expected[2]:
            self._send_line(f"* {number} FETCH (UID {number} RFC822.SIZE {len(data)})")
        else:
            self._send_line(f"* {number} FETCH (UID {number} BODY[] {{{len(data)}}}")
            self.wfile.write(data)
            self._send_line(")")

    def _line(self) -> str:
        return self.rfile.readline().decode().rstrip("\r\n")

    def _send_line(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def imap_double() -> Iterator[ImapDouble]:
    """A running server with one mailbox."""
    double = ImapDouble()
    session = type("Session", (_Session,), {"double": double})
    with _Server(("127.0.0.1", 0), session) as server:
        double.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield double
        finally:
            double.ended.set()
            server.shutdown()
            thread.join(5)
