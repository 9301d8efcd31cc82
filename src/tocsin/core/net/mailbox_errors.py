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
    REPLIES = "answers"


@dataclass(frozen=True, slots=True)
class MailboxError:
    """`owner_id` is the id of the integration or provider, which may have been deleted in the meantime."""

    purpose: MailboxReader
    owner_id: int
    since: datetime
    error: str


def record_failure(connection: Connection, purpose: MailboxReader, owner_id: int, error: str, now: datetime) -> None:
    """Records that a mailbox cannot be read. `since` keeps the time of the first consecutive failure."""
    connection.execute(
        "INSERT INTO core_mailboxtrouble (reads, number, since, error) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (reads, number) DO UPDATE SET error = EXCLUDED.error",
        (purpose, owner_id, now, error[:_MAX_ERROR_CHARS]),
    )


def clear_failure(connection: Connection, purpose: MailboxReader, owner_id: int) -> None:
    """Records that a mailbox was read, which clears its error."""
    connection.execute("DELETE FROM core_mailboxtrouble WHERE reads = %s AND number = %s", (purpose, owner_id))


def current_errors(connection: Connection, purpose: MailboxReader) -> list[MailboxError]:
    """Returns the mailboxes that cannot be read, longest-failing first."""
    rows = database.rows(
        connection,
        "SELECT number, since, error FROM core_mailboxtrouble WHERE reads = %s ORDER BY since, number",
        (purpose,),
    )
    return [MailboxError(purpose, row["number"], row["since"], row["error"]) for row in rows]
