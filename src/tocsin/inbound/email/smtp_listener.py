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
from tocsin.inbound.config.credentials import ADDRESS, Credentials, CredentialStatus
from tocsin.inbound.email import messages as email_messages
from tocsin.inbound.http.ingest_service import HttpError, IngestService
from tocsin.inbound.http.reasons import ADDRESS_NOT_ALLOWED
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
_IDLE_SECONDS = 60.0
#: How often the setting is polled, in seconds.
_SETTING_POLL_SECONDS = 2.0

_TRY_AGAIN = "451 4.3.0 It is not stored. Send it again."


class SmtpListener:
    """Listens for e-mails in a thread with its own event loop, at the address in the settings."""

    def __init__(self, ingest_service: IngestService, load_address: Callable[[], str] | None = None) -> None:
        self._ingest_service = ingest_service
        self._load_address = load_address or _load_listen_address
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="smtp-listener", daemon=True)
        self._parse_slots: asyncio.Semaphore | None = None
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
        asyncio.run(self._watch_setting())

    async def _watch_setting(self) -> None:
        """Opens and closes the listener as the setting changes."""
        self._parse_slots = asyncio.Semaphore(MAX_CONCURRENT_PARSES)
        server: asyncio.Server | None = None
        current_address = configured_address = ""
        while not self._stopping.is_set():
            try:
                configured_address = await asyncio.to_thread(self._load_address)
                if configured_address != current_address:
                    if server is not None:
                        server.close()
                        server, self.address, current_address = None, None, ""
                    server = await self._open(configured_address) if configured_address else None
                    current_address = configured_address
            except psycopg.Error:
                # Keep the listener as it is: without the database, e-mails are answered with 451.
                pass
            except (OSError, ValueError) as error:
                log.error("Mails cannot be taken at %s: %s", configured_address, error)
            await asyncio.to_thread(self._stopping.wait, _SETTING_POLL_SECONDS)
        if server is not None:
            server.close()
            self.address = None

    async def _open(self, listen_address: str) -> asyncio.Server:
        # Imported here to keep it out of Tocsin's start.
        from aiosmtpd.smtp import SMTP

        # aiosmtpd would log each address, and with it the integration's token.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        listener = self

        class Listener(SMTP):
            line_length_limit = 64 * 1024

            def connection_made(self, transport: Any) -> None:
                listener._connections += 1
                if listener._connections > MAX_CONNECTIONS:
                    transport.write(b"421 4.3.2 Too many connections. Come again.\r\n")
                    transport.close()
                    return
                super().connection_made(transport)

            def connection_lost(self, error: Exception | None) -> None:
                listener._connections -= 1
                if self.transport is not None:
                    super().connection_lost(error)

        def create_protocol() -> SMTP:
            return Listener(
                self, data_size_limit=mail.MAX_BYTES, enable_SMTPUTF8=True, hostname="tocsin", ident="Tocsin",
                timeout=_IDLE_SECONDS, loop=asyncio.get_running_loop(), command_call_limit={"*": 1000},
            )  # fmt: skip

        host, _, port = listen_address.rpartition(":")
        server = await asyncio.get_running_loop().create_server(create_protocol, host.strip("[]"), int(port))
        socket_name = server.sockets[0].getsockname()
        self.address = (socket_name[0], socket_name[1])
        log.info("Mails are taken at %s port %s.", socket_name[0], socket_name[1])
        return server

    async def handle_RCPT(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accepts the recipient if it addresses an integration that may receive from this client."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        integrations = self._integrations_at(address)
        if not integrations:
            await asyncio.to_thread(self._refresh)
            integrations = self._integrations_at(address)
        if not integrations:
            return "550 5.1.1 No integration has this address"
        if not any(_may_send(integration, session) for integration in integrations):
            peer, refused_requests = _peer(session), self._ingest_service.refused_requests
            for integration in integrations:
                refused_requests.count_refused(integration.id, peer, ADDRESS_NOT_ALLOWED(address=peer), clock.now())
            return "550 5.7.1 This integration takes no mails from your address"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        """Has the e-mail decided for each integration addressed."""
        raw = envelope.original_content or b""
        integrations = {
            integration.id: integration
            for address in envelope.rcpt_tos
            for integration in self._integrations_at(address)
        }
        allowed = [integration for integration in integrations.values() if _may_send(integration, session)]
        assert self._parse_slots is not None
        try:
            async with self._parse_slots:
                for integration in allowed:
                    await self._ingest(integration, raw, session)
        except (HttpError, psycopg.Error) as error:
            log.warning("A mail is not stored: %s", error)
            return _TRY_AGAIN
        except Exception:  # boundary of one e-mail: the sender retries, and other e-mails are unaffected
            log.exception("A mail cannot be taken.")
            return _TRY_AGAIN
        return "250 2.0.0 Stored" if allowed else "550 5.1.1 No integration has this address"

    async def _ingest(self, integration: CompiledIntegration, raw: bytes, session: Session) -> None:
        now, message_id = clock.now(), uuid7()
        received_from = f"from {_peer(session)}"
        try:
            stored_bytes = await asyncio.to_thread(
                email_messages.add_received_headers, raw, message_id, received_from, now
            )
            parsed = await asyncio.to_thread(email_messages.element, stored_bytes)
        except Rejected as problem:
            stored_bytes, parsed = raw[: mail.MAX_STORED_BYTES], problem
        credential_results = {ADDRESS: CredentialStatus.VALID.value} if integration.credentials.networks else {}
        elements = parsed if isinstance(parsed, Rejected) else [parsed]
        await self._ingest_service.ingest(
            integration, elements, stored_bytes, credential_results, content_type=mail.MEDIA_TYPE, ids=[message_id]
        )

    def _integrations_at(self, address: str) -> list[CompiledIntegration]:
        return email_messages.integrations_for(self._ingest_service.registry, address, clock.now())

    def _refresh(self) -> None:
        try:
            self._ingest_service.registry.refresh()
        except psycopg.Error as error:
            log.warning("The database does not say whose address it is: %s", error)


def _may_send(integration: CompiledIntegration, session: Session) -> bool:
    """Returns whether the client's address may send to the integration."""
    if not integration.credentials.networks:
        return True
    network_check = Credentials(networks=integration.credentials.networks)
    return network_check.check({}, b"", address=_peer(session))[ADDRESS] is CredentialStatus.VALID


def _peer(session: Session) -> str:
    return str(session.peer[0]) if session.peer else "unknown"


def _load_listen_address() -> str:
    with database.transaction() as connection:
        return str(settings_store.load(connection)[settings_store.MAIL_LISTEN.name])
