"""E-mail ingestion: an SMTP listener, IMAP polling, and conversion of e-mails to messages."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg

from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.ids import token_hash, uuid7
from tocsin.core.net import imap
from tocsin.core.net.imap import ImapMailbox, MailboxReader
from tocsin.core.reasons import NO_REASON, Reason, Text, as_reason, joined, sentence
from tocsin.core.runtime import clock
from tocsin.inbound.admin import secrets
from tocsin.inbound.config.compiled_integration import ADDRESS, CompiledIntegration, Credentials, CredentialStatus
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.deciding.decide import prepare
from tocsin.inbound.ingest_service import ADDRESS_NOT_ALLOWED, HttpError, IngestService
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.processing import drain
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage

# ---------- messages
# Converts e-mails to messages: finds the integrations addressed, and builds the stored form.

#: The integration kind that receives e-mails.
KIND: Final = "email"


def integrations_for(registry: IntegrationRegistry, address: str, now: datetime) -> list[CompiledIntegration]:
    """Returns the integrations that an e-mail to `address` is for. The local part (up to a +) is a token, or a mailbox
    name that several integrations may share."""
    local = address.rpartition("@")[0].strip().strip('"').partition("+")[0]
    if not local or len(local) > 200 or not local.isascii():
        return []
    lookup = registry.find(token_hash(local), now) or registry.find(token_hash(local.lower()), now)
    if lookup is not None:
        if lookup.is_expired:
            registry.count_expired(lookup.integration.id)
            return []
        return [lookup.integration] if lookup.integration.normalizer.kind.name == KIND else []
    name = local.casefold()
    return [
        integration
        for integration in registry.get_all().values()
        if integration.normalizer.kind.name == KIND
        and str(integration.settings.get("mailbox") or "").casefold() == name
    ]


def add_received_headers(raw: bytes, message_id: UUID, received_from: str, now: datetime) -> bytes:
    """Returns the e-mail as stored, with headers for how it arrived and where its attachments are served. An oversized
    e-mail is stored without attachments. Raises Rejected("invalid_mail") if it is still too large."""
    if len(raw) > mail.MAX_STORED_BYTES:
        raw = mail.without_attachments(raw)
        if len(raw) > mail.MAX_STORED_BYTES:
            raise Rejected("invalid_mail", sentence("The email is too large, even without its attachments."))
    attachments_url = f"{environment.current().public_url}/inbound-log/{message_id}/attachments/"
    header_lines = f"Received: {received_from} by Tocsin; {format_datetime(now)}\r\n"
    header_lines += f"{mail.ATTACHMENTS_HEADER}: {attachments_url}\r\n"
    return header_lines.encode("ascii", "replace") + raw.lstrip(b"\r\n")


def element(raw: bytes) -> Element | Rejected:
    """Parses the e-mail to an element, or returns why it cannot be parsed."""
    try:
        return Element(mail.read(raw), raw)
    except Rejected as problem:
        return problem


def incoming(
    integration: CompiledIntegration, raw: bytes, message_id: UUID, headers: Mapping[str, str], now: datetime
) -> IncomingMessage:
    """Returns a stored-form e-mail as an incoming message for an integration."""
    parsed = element(raw)
    return IncomingMessage(
        message_id,
        integration.id,
        now,
        raw,
        parsed,
        mail.MEDIA_TYPE,
        headers,
        preprocessed=prepare(integration, parsed, message_id),
    )


# ---------- imap poller
# Polls the IMAP mailboxes of integrations: each unread e-mail becomes a message, and is marked as read afterwards.

log = logging.getLogger(__name__)

_INVALID_MAILBOX = Text("The mailbox {problem}")

#: How often each mailbox is polled.
POLL_INTERVAL = timedelta(minutes=1)

#: E-mails per mailbox and poll, so that a flooded mailbox does not block the others.
_MAX_MAILS_PER_POLL = 50

#: Lets the transaction that holds a mailbox's lock be idle while its mails are read.
_WAIT_FOR_SERVERS = "SET LOCAL idle_in_transaction_session_timeout = '10min'"

#: Namespace of the advisory locks that let only one node poll a mailbox.
_LOCK = 0x6D61_696C


def poll_all(registry: IntegrationRegistry) -> bool:
    """Polls every mailbox; an error in one does not affect the others. Returns True if there may be more e-mails."""
    registry.refresh()
    may_have_more = False
    for integration in list(registry.get_all().values()):
        if integration.credentials.mailbox and integration.normalizer.kind.name == KIND:
            try:
                may_have_more = poll(integration, clock.now()) >= _MAX_MAILS_PER_POLL or may_have_more
            except (Temporary, Permanent) as error:
                log.warning("The mailbox of %s cannot be read: %s", integration.name, error)
                remedy = error.remedy_reason if isinstance(error, Permanent) else NO_REASON
                _record_failure(integration, joined(error.reason, remedy, separator=" "))
            except Rejected as error:
                log.warning("The mailbox of %s cannot be read: %s", integration.name, error)
                _record_failure(integration, _INVALID_MAILBOX(problem=error.reason))
            except Exception:  # boundary of one mailbox: the others are still polled
                log.exception("The mailbox of %s cannot be read.", integration.name)
                _record_failure(integration, sentence("An unexpected error occurred; see the log for details."))
    return may_have_more


def _record_failure(integration: CompiledIntegration, error: Reason) -> None:
    with database.transaction() as connection:
        imap.record_failure(connection, MailboxReader.INBOUND, integration.id, error, clock.now())


def poll(integration: CompiledIntegration, now: datetime) -> int:
    """Processes unread e-mails of an integration's mailbox and returns their number. Raises Temporary or Permanent."""
    # A transaction's lock: behind a pooler in transaction mode, a session's lock would stay with the pooler's session,
    # and no node would poll the mailbox again.
    with database.transaction() as connection:
        connection.execute(_WAIT_FOR_SERVERS)
        locked = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (_LOCK, integration.id)).fetchone()
        if locked is None or not locked[0]:
            return 0
        count = _process_unread(integration, now)
        imap.clear_failure(connection, MailboxReader.INBOUND, integration.id)
        return count


def check_mailbox(address: str, password: str) -> Reason:
    """Signs in to a mailbox and describes its contents; nothing is read or marked. Raises Rejected, Temporary or
    Permanent."""
    if not address:
        raise Rejected("no_mailbox", sentence("No mailbox configured. Enter its address first."), "imap.mailbox")
    try:
        account = secrets.mailbox_account(address, password)
    except Rejected as problem:
        raise Rejected("invalid_mailbox", _INVALID_MAILBOX(problem=problem.reason), "imap.mailbox") from None
    mailbox = ImapMailbox(account)
    try:
        return as_reason(mailbox.describe())
    finally:
        mailbox.close()


def _process_unread(integration: CompiledIntegration, now: datetime) -> int:
    account = secrets.mailbox_account(integration.credentials.mailbox, integration.credentials.mailbox_password)
    mailbox = ImapMailbox(account)
    count = 0
    try:
        for uid, raw in mailbox.unread(_MAX_MAILS_PER_POLL):
            count += 1
            _process(_incoming_message(integration, raw, account.host, now), now)
            # Only after storing: an e-mail that is not stored stays unread and is polled again.
            mailbox.mark_read(uid)
    finally:
        mailbox.close()
    return count


def _process(incoming: IncomingMessage, now: datetime) -> None:
    """Decides an e-mail. One that cannot be decided is stored as Mapping Failed, or it would be polled forever."""
    try:
        drain.process_now([incoming], now)
    except (UnknownIntegration, *drain.CONFLICTS):
        raise
    except Exception as error:  # boundary of one e-mail: the following ones are still processed
        if database.is_unavailable(error):
            raise
        log.exception("The mail %s cannot be decided and is kept as Mapping Failed.", incoming.id)
        drain.process_now([messages.mark_undecidable(incoming, error)], now)


def _incoming_message(integration: CompiledIntegration, raw: bytes, host: str, now: datetime) -> IncomingMessage:
    message_id = uuid7()
    try:
        stored_bytes = add_received_headers(raw, message_id, f"from the mailbox at {host}", now) if raw else b""
    except Rejected:
        stored_bytes = raw[: mail.MAX_STORED_BYTES]
    if not stored_bytes:
        problem = Rejected(
            "invalid_mail",
            sentence(
                "The email is over {maximum} MiB: read it in the mailbox.", maximum=imap.MAX_MAIL_BYTES // 1024**2
            ),
        )
        return IncomingMessage(message_id, integration.id, now, b"", problem, mail.MEDIA_TYPE)
    return incoming(integration, stored_bytes, message_id, {}, now)


# ---------- smtp listener
# SMTP listener (RFC 5321): e-mails to an integration's address become messages, handled like those of webhooks.
# Disabled until the setting `mail_listen` contains an address. Replies 250 once an e-mail is stored and decided, 451
# for "try again later", and 550 for an address without an integration. Never relays.

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope, Session


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
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._watch_setting()), name="smtp-listener", daemon=True
        )
        self._parse_slots: asyncio.Semaphore | None = None
        self._connections = 0
        #: The host and port that it listens on now; None while it does not listen.
        self.address: tuple[str, int] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stops accepting e-mails and waits up to `timeout` seconds for those in progress."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

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
            try:
                await asyncio.to_thread(self._ingest_service.registry.refresh)
            except psycopg.Error as error:
                log.warning("The database does not say whose address it is: %s", error)
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
            stored_bytes = await asyncio.to_thread(add_received_headers, raw, message_id, received_from, now)
            parsed = await asyncio.to_thread(element, stored_bytes)
        except Rejected as problem:
            stored_bytes, parsed = raw[: mail.MAX_STORED_BYTES], problem
        credential_results = {ADDRESS: CredentialStatus.VALID.value} if integration.credentials.networks else {}
        elements = parsed if isinstance(parsed, Rejected) else [parsed]
        await self._ingest_service.ingest(
            integration, elements, stored_bytes, credential_results, content_type=mail.MEDIA_TYPE, ids=[message_id]
        )

    def _integrations_at(self, address: str) -> list[CompiledIntegration]:
        return integrations_for(self._ingest_service.registry, address, clock.now())


def _may_send(integration: CompiledIntegration, session: Session) -> bool:
    """Returns whether the client's address may send to the integration."""
    if not integration.credentials.networks:
        return True
    network_check = Credentials(networks=integration.credentials.networks)
    return network_check.check({}, b"", address=_peer(session))[ADDRESS] is CredentialStatus.VALID


def _peer(session: Session) -> str:
    return str(session.peer[0]) if session.peer else "unknown"


def _load_listen_address() -> str:
    with database.connection() as connection:
        return str(settings_store.load(connection)[settings_store.MAIL_LISTEN.name])
