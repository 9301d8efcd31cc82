"""Processes a mail reply exactly once: finds its user and alert by the signed reference, carries out the command and
records the outcome. Unknown senders get no answer; refused mails are kept with the reason.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import psycopg

from tocsin.alerts import service
from tocsin.alerts.states import CommandChannel, CommandKind
from tocsin.alerts.store import load_alerts
from tocsin.core.config import crypto, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import imap
from tocsin.core.net.imap import ImapAccount, ImapMailbox, MailboxReader
from tocsin.core.reasons import (
    NO_REASON,
    AlertRef,
    Person,
    Reason,
    Text,
    reason_from,
    reason_from_json,
    sentence,
)
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify.inbound import mail_parser, responder_actions
from tocsin.notify.inbound.mail_parser import Bounce, ParsedReply
from tocsin.notify.inbound.responder_actions import Responder
from tocsin.notify.integrations.mail_replies import MailRepliesKind, mailbox_of
from tocsin.notify.notices import Notice, queue_notice
from tocsin.notify.providers import pool
from tocsin.notify.rules.page_planner import REPLIED_BY_EMAIL
from tocsin.notify.text import formatting, signed_links
from tocsin.people.sql import own_addresses

log = logging.getLogger(__name__)

#: How long the outcomes of mails are kept.
_RETENTION = timedelta(days=90)

_NO_TEXT = Text("It has no text of its own.")


class ReplyResult(StrEnum):
    ACTED = "acted"
    REFUSED = "refused"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class ReplyOutcome:
    """The outcome of a mail: the reason, and the answer to the sender if there is one."""

    result: ReplyResult
    reason: Reason
    answer: Reason = NO_REASON
    user_id: int | None = None
    alert_id: int | None = None


def process_mail(provider: str, raw: bytes, now: datetime) -> ReplyOutcome:
    """Processes a mail in one transaction. Returns the stored outcome if that was done before."""
    reply = mail_parser.parse_in_subprocess(raw)
    return service.run_in_transaction(lambda connection: _process_once(connection, provider, reply, now))


def _process_once(connection: Connection, provider: str, reply: ParsedReply, now: datetime) -> ReplyOutcome:
    connection.execute(
        "DELETE FROM notify_mailreply WHERE id IN (SELECT id FROM notify_mailreply WHERE received_at < %s "
        "ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)",
        (now - _RETENTION,),
    )
    # Waits for a transaction that is handling the same mail.
    is_new = connection.execute(
        "INSERT INTO notify_mailreply (mail_hash, received_at, provider_name, sender, subject) "
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (mail_hash) DO NOTHING",
        (reply.hash, now, provider, reply.sender[:254], reply.subject),
    ).rowcount
    if not is_new:
        query = "SELECT outcome, reason FROM notify_mailreply WHERE mail_hash = %s"
        (row,) = database.rows(connection, query, (reply.hash,))
        return ReplyOutcome(ReplyResult(row["outcome"]), reason_from_json(row["reason"]))
    outcome = _outcome(connection, reply, now)
    # The number is the sender's.
    alert_id = next(iter(load_alerts(connection, () if outcome.alert_id is None else [outcome.alert_id])), None)
    connection.execute(
        "UPDATE notify_mailreply SET outcome = %s, reason = %s, user_id = %s, alert_id = %s WHERE mail_hash = %s",
        (str(outcome.result), outcome.reason, outcome.user_id, alert_id, reply.hash),
    )
    if outcome.answer and outcome.user_id is not None:
        _queue_answer(connection, outcome, now)
    if outcome.result is ReplyResult.REFUSED:
        log.warning("A mail to %s from %s was refused: %s", provider, reply.sender or "nobody", outcome.reason)
    return outcome


def _outcome(connection: Connection, reply: ParsedReply, now: datetime) -> ReplyOutcome:
    if reply.bounce is not None and (bounce_outcome := _process_bounce(connection, reply.bounce, now)) is not None:
        return bounce_outcome
    if reply.automatic:
        return ReplyOutcome(ReplyResult.IGNORED, reason_from(*reply.automatic))
    if not reply.sender:
        return ReplyOutcome(ReplyResult.REFUSED, sentence("It does not have exactly one sender."))
    if not reply.references:
        return ReplyOutcome(
            ReplyResult.REFUSED,
            sentence("It is not a reply to an email that Tocsin sent to a user: it has no signed reference."),
        )
    try:
        alert_id, user_id = _verified(reply, now)
    except Rejected as rejected:
        return ReplyOutcome(ReplyResult.REFUSED, rejected.reason)
    responder = responder_actions.load_responder(connection, user_id)
    if responder is None:
        return ReplyOutcome(ReplyResult.REFUSED, sentence("The user whom the email was for is disabled or deleted."))
    if reply.sender not in own_addresses(connection, user_id):
        reason = sentence(
            "{sender} is not an address of {user}.", sender=reply.sender, user=Person(responder.name, responder.id)
        )
        return ReplyOutcome(ReplyResult.REFUSED, reason, alert_id=alert_id)
    return _execute(connection, responder, alert_id, reply, now)


def _process_bounce(connection: Connection, bounce: Bounce, now: datetime) -> ReplyOutcome | None:
    """Records a bounce: the user's next contact method is used. Returns None if it is not of one of Tocsin's mails."""
    try:
        alert_id, user_id = signed_links.verify_reference(bounce.token, now)
    except Rejected:
        return None
    reason = responder_actions.record_bounce(connection, bounce.notification, user_id, bounce.reason, now)
    return None if reason is None else ReplyOutcome(ReplyResult.ACTED, reason, user_id=user_id, alert_id=alert_id)


def _verified(reply: ParsedReply, now: datetime) -> tuple[int, int]:
    """Returns alert id and user id of the first valid reference. Raises Rejected with the first one's problem."""
    first: Rejected | None = None
    for reference in reply.references:
        try:
            return signed_links.verify_reference(reference.token, now)
        except Rejected as rejected:
            first = first or rejected
    if first is not None and first.code == "expired_link":
        raise Rejected("expired", sentence("It replies to an email that is more than seven days old."))
    raise Rejected("invalid", sentence("Its reference is incomplete or was not created by this installation."))


def _execute(
    connection: Connection, responder: Responder, alert_id: int, reply: ParsedReply, now: datetime
) -> ReplyOutcome:
    command = mail_parser.parse_command(reply.text)
    if not isinstance(command.action, CommandKind):
        requested = sentence("It requested help.")
        return ReplyOutcome(ReplyResult.ACTED, requested, formatting.HELP, responder.id, alert_id)
    if command.action is CommandKind.REPLY and not command.text:
        nothing_done = sentence("Your email has no text of its own above the quoted one, so nothing was done.")
        return ReplyOutcome(ReplyResult.REFUSED, _NO_TEXT(), nothing_done, responder.id, alert_id)
    # A mail about several alerts says only by a number which of them is meant.
    own_alert_id = alert_id if reply.references[0].alert_count == 1 else None
    result = responder_actions.run_command(
        connection, responder, command, command.action, CommandChannel.EMAIL, now, own_alert_id
    )
    # A reply to the other responders gets no confirmation.
    is_unanswered = command.action is CommandKind.REPLY and result.done_count
    answer = NO_REASON if is_unanswered else result.answer
    outcome = ReplyResult.ACTED if result.done_count else ReplyResult.REFUSED
    return ReplyOutcome(outcome, result.answer, answer, responder.id, result.alert_id or alert_id)


def _queue_answer(connection: Connection, outcome: ReplyOutcome, now: datetime) -> None:
    assert outcome.user_id is not None
    assert outcome.alert_id is not None, "a reply that is answered refers to an alert"
    title = sentence("Your reply about alert {alert}", alert=AlertRef(outcome.alert_id))
    notice = Notice(title, outcome.answer, "mail reply", REPLIED_BY_EMAIL(), outcome.alert_id)
    queue_notice(connection, notice, now, user_ids=[outcome.user_id])


# ---------- poller
# Polls the reply mailboxes over IMAP every few seconds. Each unread mail is processed once and then marked as read.


POLL_INTERVAL = timedelta(seconds=10)
#: The maximum number of mails per mailbox and poll. The rest follows at once in the next poll.
MAX_MAILS_PER_POLL = 50
#: How many polls to skip after a mailbox could not be read: servers block clients that reconnect too often.
_SKIPPED_POLLS_AFTER_ERROR = 6


@dataclass(slots=True)
class _Mailbox:
    """A mailbox of the configuration, and its connection once it was opened."""

    name: str
    provider_id: int
    account: ImapAccount
    connection: ImapMailbox | None = None
    polls_to_skip: int = 0
    #: "" after a successful poll. Only changes are recorded.
    recorded_error: str | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class ReplyPoller:
    """The mailboxes of one process. Several processes may poll the same mailbox: each mail is processed once."""

    def __init__(self) -> None:
        self._version = -1
        self._mailboxes: dict[str, _Mailbox] = {}

    def poll(self) -> bool:
        """Polls every mailbox once. Returns True if there may be more mails."""
        self._refresh()
        # A list, not any() over a generator: a mailbox with more mails must not keep the others from being polled.
        results = [self._read(mailbox) for mailbox in self._mailboxes.values()]
        return any(results)

    def close(self) -> None:
        """Closes all connections."""
        for mailbox in self._mailboxes.values():
            mailbox.close()

    def _read(self, mailbox: _Mailbox) -> bool:
        if mailbox.polls_to_skip > 0:
            mailbox.polls_to_skip -= 1
            return False
        try:
            if mailbox.connection is None:
                mailbox.connection = imap.ImapMailbox(mailbox.account)
            processed = self._process_unread(mailbox.name, mailbox.connection)
        except (Temporary, Permanent) as error:
            mailbox.close()
            mailbox.polls_to_skip = _SKIPPED_POLLS_AFTER_ERROR
            self._record_error(mailbox, str(error))
            return False
        self._record_error(mailbox, "")
        return processed >= MAX_MAILS_PER_POLL

    def _record_error(self, mailbox: _Mailbox, error: str) -> None:
        if mailbox.recorded_error == error:
            return
        with database.transaction() as connection:
            if error:
                log.warning("The mailbox for answers %s: %s", mailbox.name, error)
                imap.record_failure(connection, MailboxReader.REPLIES, mailbox.provider_id, error, clock.now())
            else:
                imap.clear_failure(connection, MailboxReader.REPLIES, mailbox.provider_id)
        mailbox.recorded_error = error

    def _process_unread(self, name: str, mailbox: ImapMailbox) -> int:
        processed = 0
        for uid, raw in mailbox.unread(MAX_MAILS_PER_POLL):
            if not raw:
                log.warning("A mail in the mailbox for answers %s is too large to be an answer.", name)
            elif not self._process(name, raw):
                continue
            mailbox.mark_read(uid)
            processed += 1
        return processed

    def _process(self, name: str, raw: bytes) -> bool:
        """Processes a mail. Returns whether it is finished and can be marked as read."""
        try:
            process_mail(name, raw, clock.now())
        except Exception as error:  # one bad mail must not block the mails behind it
            if database.is_unavailable(error):
                raise
            log.exception("A mail in the mailbox for answers %s could not be processed.", name)
            # A lock conflict or a timeout passes: the mail is left unread, for the next poll.
            return not isinstance(error, psycopg.OperationalError)
        return True

    def _refresh(self) -> None:
        """Reloads the configuration if it has changed. The connection to an unchanged account is kept."""
        with database.transaction() as connection:
            version = settings_store.current_version(connection)
            if version == self._version:
                return
            rows = database.rows(
                connection,
                "SELECT id, name, settings, secrets FROM notify_provider WHERE kind = %s AND is_enabled ORDER BY name",
                (MailRepliesKind.name,),
            )
        old, self._mailboxes, self._version = self._mailboxes, {}, version
        for row in rows:
            try:
                secrets = crypto.decrypt_bundle(row["secrets"])
            except Permanent as problem:
                log.error("The mailbox for answers %s cannot be used: %s", row["name"], problem.detail)
                continue
            account = mailbox_of(pool.account_of(row["name"], row["id"], _KIND, row["settings"], secrets))
            if account is not None:
                mailbox = self._mailboxes[row["name"]] = _Mailbox(row["name"], row["id"], account)
                if row["name"] in old and old[row["name"]].account == account:
                    mailbox.connection = old.pop(row["name"]).connection
        for mailbox in old.values():
            mailbox.close()


_KIND = MailRepliesKind()


def loop() -> PeriodicTask:
    """Returns the periodic task of one process."""
    # It waits for mail servers, but like every periodic task it has its own thread.
    return PeriodicTask("mail replies", ReplyPoller().poll, POLL_INTERVAL, frozenset({"config"}))
