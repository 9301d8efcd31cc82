"""The mailboxes that could not be read when they were last looked at: since when, and why. Written by the loops."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tocsin.core.db import database
from tocsin.core.db.database import Connection

_MAX_ERROR_CHARS = 500


class MailboxReader(StrEnum):
    """Who reads a mailbox."""

    #: An inbound integration: its mails become alerts.
    INBOUND = "inbound"
    #: A provider: its mails are answers to pages.
    ANSWERS = "answers"


@dataclass(frozen=True, slots=True)
class MailboxError:
    """`number`: of the integration or provider, which may be gone meanwhile."""

    reads: MailboxReader
    number: int
    since: datetime
    error: str


def failed(connection: Connection, reads: MailboxReader, number: int, error: str, now: datetime) -> None:
    """Notes that a mailbox cannot be read; it began with the first of several failures."""
    connection.execute(
        "INSERT INTO core_mailboxtrouble (reads, number, since, error) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (reads, number) DO UPDATE SET error = EXCLUDED.error",
        (reads, number, now, error[:_MAX_ERROR_CHARS]),
    )


def works(connection: Connection, reads: MailboxReader, number: int) -> None:
    """Notes that a mailbox was read."""
    connection.execute("DELETE FROM core_mailboxtrouble WHERE reads = %s AND number = %s", (reads, number))


def known(connection: Connection, reads: MailboxReader) -> list[MailboxError]:
    """Every mailbox of those that cannot be read, the oldest trouble first."""
    found = database.rows(
        connection,
        "SELECT number, since, error FROM core_mailboxtrouble WHERE reads = %s ORDER BY since, number",
        (reads,),
    )
    return [MailboxError(reads, row["number"], row["since"], row["error"]) for row in found]
