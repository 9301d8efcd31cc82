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
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, as_reason, joined
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.config import imap_url
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.email import messages as email_messages
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.processing import process_now
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import IncomingMessage

log = logging.getLogger(__name__)

_UNEXPECTED_ERROR = ReasonType("mailbox.unexpected_error", "An unexpected error occurred; see the log for details.")
_NO_MAILBOX = ReasonType("mailbox.not_configured", "No mailbox configured. Enter its address first.")
_INVALID_MAILBOX = ReasonType("mailbox.invalid_address", "The mailbox {problem}")
_TOO_LARGE = ReasonType("mailbox.mail_too_large", "The email is over {maximum} MiB: read it in the mailbox.")

#: How often each mailbox is polled.
POLL_INTERVAL = timedelta(minutes=1)

#: E-mails per mailbox and poll, so that a flooded mailbox does not block the others.
_MAX_MAILS_PER_POLL = 50

#: Lets the transaction that holds a mailbox's lock be idle while its mails are read.
_WAIT_FOR_SERVERS = "SET LOCAL idle_in_transaction_session_timeout = '10min'"

#: Namespace of the advisory locks that let only one node poll a mailbox.
_LOCK = 0x6D61_696C


def mailbox_polling_task(registry: IntegrationRegistry) -> PeriodicTask:
    """Returns the worker's periodic task."""

    def run_once() -> bool:
        return poll_all(registry)

    return PeriodicTask("inbound mailboxes", run_once, POLL_INTERVAL)


def poll_all(registry: IntegrationRegistry) -> bool:
    """Polls every mailbox; an error in one does not affect the others. Returns True if there may be more e-mails."""
    registry.refresh()
    may_have_more = False
    for integration in list(registry.get_all().values()):
        if integration.credentials.mailbox and integration.normalizer.kind.name == email_messages.KIND:
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
                _record_failure(integration, _UNEXPECTED_ERROR())
    return may_have_more


def _record_failure(integration: CompiledIntegration, error: Reason) -> None:
    with database.transaction() as connection:
        mailbox_errors.record_failure(connection, MailboxReader.INBOUND, integration.id, error, clock.now())


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
        mailbox_errors.clear_failure(connection, MailboxReader.INBOUND, integration.id)
        return count


def check_mailbox(address: str, password: str) -> Reason:
    """Signs in to a mailbox and describes its contents; nothing is read or marked. Raises Rejected, Temporary or
    Permanent."""
    if not address:
        raise Rejected("no_mailbox", _NO_MAILBOX(), "imap.mailbox")
    if problem := imap_url.url_problem(address):
        raise Rejected("invalid_mailbox", _INVALID_MAILBOX(problem=problem), "imap.mailbox")
    mailbox = ImapMailbox(_account(imap_url.read(address), password))
    try:
        return as_reason(mailbox.describe())
    finally:
        mailbox.close()


def _account(settings: imap_url.MailboxSettings, password: str) -> ImapAccount:
    security = (
        ImapSecurity.TLS if settings.is_tls else ImapSecurity.STARTTLS if settings.is_starttls else ImapSecurity.NONE
    )
    return ImapAccount(settings.host, settings.user, password, settings.folder, settings.port, security)


def _process_unread(integration: CompiledIntegration, now: datetime) -> int:
    settings = imap_url.read(integration.credentials.mailbox)
    mailbox = ImapMailbox(_account(settings, integration.credentials.mailbox_password))
    count = 0
    try:
        for uid, raw in mailbox.unread(_MAX_MAILS_PER_POLL):
            count += 1
            _process(_incoming_message(integration, raw, settings.host, now), now)
            # Only after storing: an e-mail that is not stored stays unread and is polled again.
            mailbox.mark_read(uid)
    finally:
        mailbox.close()
    return count


def _process(incoming: IncomingMessage, now: datetime) -> None:
    """Decides an e-mail. One that cannot be decided is stored as Mapping Failed, or it would be polled forever."""
    try:
        process_now.process_now([incoming], now)
    except (UnknownIntegration, *process_now.CONFLICTS):
        raise
    except Exception as error:  # boundary of one e-mail: the following ones are still processed
        if database.is_unavailable(error):
            raise
        log.exception("The mail %s cannot be decided and is kept as Mapping Failed.", incoming.id)
        process_now.process_now([messages.mark_undecidable(incoming, error)], now)


def _incoming_message(integration: CompiledIntegration, raw: bytes, host: str, now: datetime) -> IncomingMessage:
    message_id = uuid7()
    try:
        stored_bytes = (
            email_messages.add_received_headers(raw, message_id, f"from the mailbox at {host}", now) if raw else b""
        )
    except Rejected:
        stored_bytes = raw[: mail.MAX_STORED_BYTES]
    if not stored_bytes:
        problem = Rejected("invalid_mail", _TOO_LARGE(maximum=imap.MAX_MAIL_BYTES // 1024**2))
        return IncomingMessage(message_id, integration.id, now, b"", problem, mail.MEDIA_TYPE)
    return email_messages.incoming(integration, stored_bytes, message_id, {}, now)
