"""Polls the reply mailboxes over IMAP every few seconds. Each unread mail is processed once and then marked as read."""

from __future__ import annotations

import logging
from datetime import timedelta

import psycopg

from tocsin.core.config import config_version, secret_bundle
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import imap, mailbox_errors
from tocsin.core.net.imap import ImapAccount, ImapMailbox
from tocsin.core.net.mailbox_errors import MailboxReader
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify.integrations.mail_replies import MailRepliesKind, mailbox_of
from tocsin.notify.mail_replies import process
from tocsin.notify.providers import pool

log = logging.getLogger(__name__)

POLL_INTERVAL = timedelta(seconds=10)
#: The maximum number of mails per mailbox and poll. The rest follows at once in the next poll.
MAX_MAILS_PER_POLL = 50
#: How many polls to skip after a mailbox could not be read: servers block clients that reconnect too often.
_SKIPPED_POLLS_AFTER_ERROR = 6


class ReplyPoller:
    """The open mailboxes of one process. Several processes may poll the same mailbox: each mail is processed once."""

    def __init__(self) -> None:
        self._version = -1
        self._accounts: dict[str, ImapAccount] = {}
        self._provider_ids: dict[str, int] = {}
        self._open: dict[str, tuple[ImapAccount, ImapMailbox]] = {}
        self._polls_to_skip: dict[str, int] = {}
        #: The last recorded error of each mailbox by provider name; "" after a successful poll. Only changes are
        #: recorded.
        self._recorded_errors: dict[str, str] = {}

    def poll(self) -> bool:
        """Polls every mailbox once. Returns True if there may be more mails."""
        self._refresh()
        # A list, not any() over a generator: a mailbox with more mails must not keep the others from being polled.
        results = [self._read(name, account) for name, account in self._accounts.items()]
        return any(results)

    def close(self) -> None:
        """Closes all connections."""
        for _account, mailbox in self._open.values():
            mailbox.close()
        self._open = {}

    def _read(self, name: str, account: ImapAccount) -> bool:
        if self._polls_to_skip.get(name, 0) > 0:
            self._polls_to_skip[name] -= 1
            return False
        try:
            processed = self._process_unread(name, self._open_mailbox(name, account))
        except (Temporary, Permanent) as error:
            self._close_mailbox(name)
            self._polls_to_skip[name] = _SKIPPED_POLLS_AFTER_ERROR
            self._record_error(name, str(error))
            return False
        self._record_error(name, "")
        return processed >= MAX_MAILS_PER_POLL

    def _record_error(self, name: str, error: str) -> None:
        if self._recorded_errors.get(name) == error:
            return  # recorded once, not on every poll
        with database.transaction() as connection:
            if error:
                log.warning("The mailbox for answers %s: %s", name, error)
                mailbox_errors.record_failure(
                    connection, MailboxReader.REPLIES, self._provider_ids[name], error, clock.now()
                )
            else:
                mailbox_errors.clear_failure(connection, MailboxReader.REPLIES, self._provider_ids[name])
        self._recorded_errors[name] = error

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
            process.process_mail(name, raw, clock.now())
        except Exception as error:  # one bad mail must not block the mails behind it
            if database.is_unavailable(error):
                raise
            log.exception("A mail in the mailbox for answers %s could not be processed.", name)
            # A lock conflict or a timeout passes: the mail is left unread, for the next poll.
            return not isinstance(error, psycopg.OperationalError)
        return True

    def _open_mailbox(self, name: str, account: ImapAccount) -> ImapMailbox:
        entry = self._open.get(name)
        if entry is not None and entry[0] == account:
            return entry[1]
        self._close_mailbox(name)
        mailbox = imap.ImapMailbox(account)
        self._open[name] = (account, mailbox)
        return mailbox

    def _close_mailbox(self, name: str) -> None:
        entry = self._open.pop(name, None)
        if entry is not None:
            entry[1].close()

    def _refresh(self) -> None:
        """Reloads the configuration if it has changed."""
        with database.transaction() as connection:
            version = config_version.current_version(connection)
            if version == self._version:
                return
            rows = database.rows(
                connection,
                "SELECT id, name, settings, secrets FROM notify_provider WHERE kind = %s AND is_enabled ORDER BY name",
                (MailRepliesKind.name,),
            )
        accounts = {}
        for row in rows:
            try:
                secrets = secret_bundle.decrypt_bundle(row["secrets"])
            except Permanent as problem:
                log.error("The mailbox for answers %s cannot be used: %s", row["name"], problem.detail)
                continue
            account = mailbox_of(pool.account_of(row["name"], row["id"], _KIND, row["settings"], secrets))
            if account is not None:
                accounts[row["name"]] = account
                self._provider_ids[row["name"]] = row["id"]
        for name in set(self._open) - set(accounts):
            self._close_mailbox(name)
        self._accounts, self._version, self._polls_to_skip, self._recorded_errors = accounts, version, {}, {}


_KIND = MailRepliesKind()


def loop(poller: ReplyPoller | None = None) -> PeriodicTask:
    """Returns the periodic task of one process."""
    # It waits for mail servers, but like every periodic task it has its own thread.
    return PeriodicTask("mail replies", (poller or ReplyPoller()).poll, POLL_INTERVAL, frozenset({"config"}))
