"""Polls the IMAP mailboxes of integrations: each unread e-mail becomes a message, and is marked as read afterwards."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.ids import uuid7
from tocsin.core.net import imap, mailbox_errors
from tocsin.core.net.imap import ImapAccount, ImapMailbox, ImapSecurity
from tocsin.core.net.mailbox_errors import MailboxReader
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.config import imap_url
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.email import messages as mail_taking
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.processing import process_now
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage

log = logging.getLogger(__name__)

#: How often each mailbox is polled.
POLL_INTERVAL = timedelta(minutes=1)

#: E-mails per mailbox and poll, so that a flooded mailbox does not block the others.
_MAX_MAILS_PER_POLL = 50

#: Namespace of the advisory locks that let only one node poll a mailbox.
_LOCK = 0x6D61_696C


def loop(registry: IntegrationRegistry) -> PeriodicTask:
    """Returns the worker's periodic task."""

    def turn() -> bool:
        return read_all(registry)

    return PeriodicTask("inbound mailboxes", turn, POLL_INTERVAL)


def read_all(registry: IntegrationRegistry) -> bool:
    """Polls every mailbox; an error in one does not affect the others. Returns True if there may be more e-mails."""
    registry.refresh()
    more = False
    for door in list(registry.doors().values()):
        if door.credentials.mailbox and door.reader.kind.name == mail_taking.KIND:
            try:
                more = read(door, clock.now()) >= _MAX_MAILS_PER_POLL or more
            except (Temporary, Permanent, ValueError) as error:
                log.warning("The mailbox of %s cannot be read: %s", door.name, error)
                _failed(door, str(error))
            except Exception:  # boundary of one mailbox: the others are still polled
                log.exception("The mailbox of %s cannot be read.", door.name)
                _failed(door, "Something in it could not be understood; the log says what.")
    return more


def _failed(door: CompiledIntegration, said: str) -> None:
    with database.transaction() as connection:
        mailbox_errors.record_failure(connection, MailboxReader.INBOUND, door.id, said, clock.now())


def read(door: CompiledIntegration, now: datetime) -> int:
    """Processes unread e-mails of an integration's mailbox and returns their number. Raises Temporary or Permanent."""
    with database.pool().connection() as connection:
        connection.autocommit = True
        locked = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK, door.id)).fetchone()
        if locked is None or not locked[0]:
            return 0
        try:
            number = _read(door, now)
            mailbox_errors.clear_failure(connection, MailboxReader.INBOUND, door.id)
            return number
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCK, door.id))
            connection.autocommit = False


def check_mailbox(address: str, password: str) -> str:
    """Signs in to a mailbox and returns a sentence about its contents; nothing is read or marked. Raises Rejected,
    Temporary or Permanent."""
    if not address:
        raise Rejected("no_mailbox", "There is no mailbox to sign in to: write its address first.", "imap.mailbox")
    if problem := imap_url.url_problem(address):
        raise Rejected("invalid_mailbox", f"The mailbox {problem}", "imap.mailbox")
    box = ImapMailbox(_account(imap_url.read(address), password))
    try:
        return box.describe()
    finally:
        box.close()


def _account(place: imap_url.MailboxSettings, password: str) -> ImapAccount:
    security = ImapSecurity.TLS if place.is_tls else ImapSecurity.STARTTLS if place.is_starttls else ImapSecurity.NONE
    return ImapAccount(place.host, place.user, password, place.folder, place.port, security)


def _read(door: CompiledIntegration, now: datetime) -> int:
    place = imap_url.read(door.credentials.mailbox)
    box = ImapMailbox(_account(place, door.credentials.mailbox_password))
    number = 0
    try:
        for uid, raw in box.unread(_MAX_MAILS_PER_POLL):
            number += 1
            _take(_incoming(door, raw, place.host, now), now)
            # Only after storing: an e-mail that is not stored stays unread and is polled again.
            box.mark_read(uid)
    finally:
        box.close()
    return number


def _take(incoming: IncomingMessage, now: datetime) -> None:
    """Decides an e-mail. One that cannot be decided is stored as Mapping Failed, or it would be polled forever."""
    try:
        process_now.process_now([incoming], now)
    except (UnknownIntegration, *process_now.CONFLICTS):
        raise
    except Exception as error:  # boundary of one e-mail: the following ones are still processed
        if database.is_unavailable(error):
            raise
        log.exception("The mail %s cannot be decided and is kept as Mapping Failed.", incoming.id)
        process_now.process_now([messages.undecidable(incoming, error)], now)


def _incoming(door: CompiledIntegration, raw: bytes, host: str, now: datetime) -> IncomingMessage:
    number = uuid7()
    try:
        kept = mail_taking.add_received_headers(raw, number, f"from the mailbox at {host}", now) if raw else b""
    except Rejected:
        kept = raw[: mail.MAX_KEPT]
    if not kept:
        problem = Rejected(
            "invalid_mail", f"The mail is over {imap.MAX_MAIL_BYTES // 1024**2} MiB: read it in the mailbox."
        )
        return IncomingMessage(number, door.id, now, b"", problem, mail.MEDIA_TYPE)
    return mail_taking.incoming(door, kept, number, {}, now)
