"""The mailboxes that could not be read at the last poll: since when, and why. Written by the polling tasks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tocsin.core.db import database
from tocsin.core.db.database import Connection

_MAX_ERROR_CHARS = 500


class MailboxReader(StrEnum):
    """The purpose for which a mailbox is read."""

    #: An inbound integration: its mails become alerts.
    INBOUND = "inbound"
    #: A provider: its mails are replies to pages.
    ANSWERS = "answers"


@dataclass(frozen=True, slots=True)
class MailboxError:
    """`number` is the id of the integration or provider, which may have been deleted in the meantime."""

    reads: MailboxReader
    number: int
    since: datetime
    error: str


def record_failure(connection: Connection, reads: MailboxReader, number: int, error: str, now: datetime) -> None:
    """Records that a mailbox cannot be read. `since` keeps the time of the first consecutive failure."""
    connection.execute(
        "INSERT INTO core_mailboxtrouble (reads, number, since, error) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (reads, number) DO UPDATE SET error = EXCLUDED.error",
        (reads, number, now, error[:_MAX_ERROR_CHARS]),
    )


def clear_failure(connection: Connection, reads: MailboxReader, number: int) -> None:
    """Records that a mailbox was read, which clears its error."""
    connection.execute("DELETE FROM core_mailboxtrouble WHERE reads = %s AND number = %s", (reads, number))


def current_errors(connection: Connection, reads: MailboxReader) -> list[MailboxError]:
    """Returns the mailboxes that cannot be read, longest-failing first."""
    found = database.rows(
        connection,
        "SELECT number, since, error FROM core_mailboxtrouble WHERE reads = %s ORDER BY since, number",
        (reads,),
    )
    return [MailboxError(reads, row["number"], row["since"], row["error"]) for row in found]
