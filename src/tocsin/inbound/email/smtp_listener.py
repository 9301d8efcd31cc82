"""SMTP listener (RFC 5321): e-mails to an integration's address become messages, handled like those of webhooks.

Disabled until the setting `mail_listen` contains an address. Replies 250 once an e-mail is stored and decided, 451 for
"try again later", and 550 for an address without an integration. Never relays.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg

from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.runtime import clock
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import ADDRESS, Credentials, CredentialSource
from tocsin.inbound.email import messages as mail_taking
from tocsin.inbound.http.ingest_service import HttpError, IngestService
from tocsin.inbound.parsing import mime_parser as mail

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope, Session

log = logging.getLogger(__name__)

#: The maximum number of connections; further ones are asked to retry later.
MAX_CONNECTIONS = 50
#: The maximum number of e-mails parsed concurrently, because parsing takes memory and time.
MAX_CONCURRENT_PARSES = 4
MAX_RECIPIENTS = 50

#: Seconds of inactivity after which a connection is closed.
_TIMEOUT = 60.0
#: How often the setting is polled, in seconds.
_LOOK = 2.0

_AGAIN = "451 4.3.0 It is not stored. Send it again."


class SmtpListener:
    """Listens for e-mails in a thread with its own event loop, at the address in the settings."""

    def __init__(self, reception: IngestService, listen: Callable[[], str] | None = None) -> None:
        self._reception = reception
        self._listen = listen or _setting
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail door", daemon=True)
        self._at_once: asyncio.Semaphore | None = None
        self._connections = 0
        #: The host and port that it listens on now; None while it does not listen.
        self.address: tuple[str, int] | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stops accepting e-mails and waits up to `timeout` seconds for those in progress."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        """Opens and closes the listener as the setting changes."""
        self._at_once = asyncio.Semaphore(MAX_CONCURRENT_PARSES)
        server: asyncio.Server | None = None
        opened = wanted = ""
        while not self._stopping.is_set():
            try:
                wanted = await asyncio.to_thread(self._listen)
                if wanted != opened:
                    if server is not None:
                        server.close()
                        server, self.address, opened = None, None, ""
                    server = await self._open(wanted) if wanted else None
                    opened = wanted
            except psycopg.Error:
                # Keep the listener as it is: without the database, e-mails are answered with 451.
                pass
            except (OSError, ValueError) as error:
                log.error("Mails cannot be taken at %s: %s", wanted, error)
            await asyncio.to_thread(self._stopping.wait, _LOOK)
        if server is not None:
            server.close()
            self.address = None

    async def _open(self, where: str) -> asyncio.Server:
        # Imported here to keep it out of Tocsin's start.
        from aiosmtpd.smtp import SMTP

        # aiosmtpd would log each address, and with it the integration's token.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        door = self

        class Listener(SMTP):
            line_length_limit = 64 * 1024

            def connection_made(self, transport: Any) -> None:
                door._connections += 1
                if door._connections > MAX_CONNECTIONS:
                    transport.write(b"421 4.3.2 Too many connections. Come again.\r\n")
                    transport.close()
                    return
                super().connection_made(transport)

            def connection_lost(self, error: Exception | None) -> None:
                door._connections -= 1
                if self.transport is not None:
                    super().connection_lost(error)

        def make() -> SMTP:
            return Listener(
                self, data_size_limit=mail.MAX_BYTES, enable_SMTPUTF8=True, hostname="tocsin", ident="Tocsin",
                timeout=_TIMEOUT, loop=asyncio.get_running_loop(), command_call_limit={"*": 1000},
            )  # fmt: skip

        host, _, port = where.rpartition(":")
        server = await asyncio.get_running_loop().create_server(make, host.strip("[]"), int(port))
        place = server.sockets[0].getsockname()
        self.address = (place[0], place[1])
        log.info("Mails are taken at %s port %s.", place[0], place[1])
        return server

    async def handle_RCPT(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accepts the recipient if it addresses an integration that may receive from this client."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        found = self._doors(address)
        if not found:
            await asyncio.to_thread(self._refresh)
            found = self._doors(address)
        if not found:
            return "550 5.1.1 No integration has this address"
        if not any(_may_send(door, session) for door in found):
            return "550 5.7.1 This integration takes no mails from your address"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        """Has the e-mail decided for each integration addressed."""
        raw = envelope.original_content or b""
        doors = {door.id: door for address in envelope.rcpt_tos for door in self._doors(address)}
        wanted = [door for door in doors.values() if _may_send(door, session)]
        assert self._at_once is not None
        try:
            async with self._at_once:
                for door in wanted:
                    await self._take(door, raw, session)
        except (HttpError, psycopg.Error) as error:
            log.warning("A mail is not stored: %s", error)
            return _AGAIN
        except Exception:  # boundary of one e-mail: the sender retries, and other e-mails are unaffected
            log.exception("A mail cannot be taken.")
            return _AGAIN
        return "250 2.0.0 Stored" if wanted else "550 5.1.1 No integration has this address"

    async def _take(self, door: CompiledIntegration, raw: bytes, session: Session) -> None:
        now, number = clock.now(), uuid7()
        came = f"from {_peer(session)}"
        try:
            kept = await asyncio.to_thread(mail_taking.add_received_headers, raw, number, came, now)
            read = await asyncio.to_thread(mail_taking.element, kept)
        except Rejected as problem:
            kept, read = raw[: mail.MAX_KEPT], problem
        proofs = {ADDRESS: CredentialSource.VALID.value} if door.credentials.networks else {}
        elements = read if isinstance(read, Rejected) else [read]
        await self._reception.take(door, elements, kept, proofs, content_type=mail.MEDIA_TYPE, ids=[number])

    def _doors(self, address: str) -> list[CompiledIntegration]:
        return mail_taking.integrations_for(self._reception.registry, address, clock.now())

    def _refresh(self) -> None:
        try:
            self._reception.registry.refresh()
        except psycopg.Error as error:
            log.warning("The database does not say whose address it is: %s", error)


def _may_send(door: CompiledIntegration, session: Session) -> bool:
    """Returns whether the client's address may send to the integration."""
    if not door.credentials.networks:
        return True
    only = Credentials(networks=door.credentials.networks)
    return only.check({}, b"", address=_peer(session))[ADDRESS] is CredentialSource.VALID


def _peer(session: Session) -> str:
    return str(session.peer[0]) if session.peer else "unknown"


def _setting() -> str:
    with database.transaction() as connection:
        return str(settings_store.load(connection)[settings_store.MAIL_LISTEN.name])
