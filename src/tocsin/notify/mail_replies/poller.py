"""Reads the mailboxes for answers: every few seconds what is unread, each mail acted on once, then marked as read."""

from __future__ import annotations

import logging
from datetime import timedelta

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
from tocsin.notify.mail_replies.process import AlreadyInProgress
from tocsin.notify.providers import pool

log = logging.getLogger(__name__)

POLL_INTERVAL = timedelta(seconds=10)
#: So many mails of one mailbox in a turn; the rest in the next, at once.
MAX_MAILS_PER_POLL = 50
#: A mailbox that cannot be read is tried again after so many turns: servers shut out who knocks too often.
_SKIPPED_POLLS_AFTER_ERROR = 6


class ReplyPoller:
    """The mailboxes of one process, kept open. Several processes may read one: a mail acts once."""

    def __init__(self) -> None:
        self._version = -1
        self._accounts: dict[str, ImapAccount] = {}
        self._numbers: dict[str, int] = {}
        self._open: dict[str, tuple[ImapAccount, ImapMailbox]] = {}
        self._rests: dict[str, int] = {}
        #: What is wrong with a mailbox, by its provider's name; "" where it was read. Each change is noted for Home.
        self._noted: dict[str, str] = {}

    def turn(self) -> bool:
        """Reads every mailbox once; True when there may be more at once."""
        self._refresh()
        # All of them: one that has more does not keep the next from its turn.
        more = [self._read(name, account) for name, account in self._accounts.items()]
        return any(more)

    def close(self) -> None:
        """Signs out everywhere."""
        for _account, box in self._open.values():
            box.close()
        self._open = {}

    def _read(self, name: str, account: ImapAccount) -> bool:
        if self._rests.get(name, 0) > 0:
            self._rests[name] -= 1
            return False
        try:
            found = self._take(name, self._box(name, account))
        except (Temporary, Permanent) as error:
            self._forget(name)
            self._rests[name] = _SKIPPED_POLLS_AFTER_ERROR
            self._note(name, str(error))
            return False
        self._note(name, "")
        return found >= MAX_MAILS_PER_POLL

    def _note(self, name: str, error: str) -> None:
        if self._noted.get(name) == error:
            return  # said once, not every minute
        with database.transaction() as connection:
            if error:
                log.warning("The mailbox for answers %s: %s", name, error)
                mailbox_errors.failed(connection, MailboxReader.ANSWERS, self._numbers[name], error, clock.now())
            else:
                mailbox_errors.works(connection, MailboxReader.ANSWERS, self._numbers[name])
        self._noted[name] = error

    def _take(self, name: str, box: ImapMailbox) -> int:
        found = 0
        for uid, raw in box.unread(MAX_MAILS_PER_POLL):
            if not raw:
                log.warning("A mail in the mailbox for answers %s is too large to be an answer.", name)
            elif not self._act(name, raw):
                continue
            box.mark_read(uid)
            found += 1
        return found

    def _act(self, name: str, raw: bytes) -> bool:
        """Whether the mail is done with."""
        try:
            process.take(name, raw, clock.now())
        except AlreadyInProgress:
            # Whoever is at it may be stopped: it is left unread until it is done.
            return False
        except Exception as error:  # one mail's edge: those behind it are answers of people who wait
            if database.is_unavailable(error):
                raise
            log.exception("A mail in the mailbox for answers %s could not be understood; it is left there, read.", name)
        return True

    def _box(self, name: str, account: ImapAccount) -> ImapMailbox:
        known = self._open.get(name)
        if known is not None and known[0] == account:
            return known[1]
        self._forget(name)
        box = imap.ImapMailbox(account)
        self._open[name] = (account, box)
        return box

    def _forget(self, name: str) -> None:
        known = self._open.pop(name, None)
        if known is not None:
            known[1].close()

    def _refresh(self) -> None:
        """Reads the configuration again if it has changed."""
        with database.transaction() as connection:
            version = config_version.version(connection)
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
                secrets = secret_bundle.opened(row["secrets"])
            except Permanent as problem:
                log.error("The mailbox for answers %s cannot be used: %s", row["name"], problem.detail)
                continue
            account = mailbox_of(pool.account_of(row["name"], row["id"], _KIND, row["settings"], secrets))
            if account is not None:
                accounts[row["name"]] = account
                self._numbers[row["name"]] = row["id"]
        for name in set(self._open) - set(accounts):
            self._forget(name)
        self._accounts, self._version, self._rests, self._noted = accounts, version, {}, {}


_KIND = MailRepliesKind()


def loop(reader: ReplyPoller | None = None) -> PeriodicTask:
    """The loop of one process."""
    # It waits for servers, so it has a thread of its own, as every loop.
    return PeriodicTask("mail replies", (reader or ReplyPoller()).turn, POLL_INTERVAL, frozenset({"config"}))
