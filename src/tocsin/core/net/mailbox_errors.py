"""The mailboxes that could not be read at the last poll: since when, and why. Written by the polling tasks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json
from tocsin.core.reasons import Reason, as_reason, reason_from
from tocsin.core.stored_reason import reason_columns


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
    error: Reason


def record_failure(
    connection: Connection, purpose: MailboxReader, owner_id: int, error: Reason | str, now: datetime
) -> None:
    """Records that a mailbox cannot be read. `since` keeps the time of the first consecutive failure."""
    code, data = reason_columns(as_reason(error))
    connection.execute(
        "INSERT INTO core_mailboxtrouble (reads, number, since, reason_code, reason_data) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (reads, number) DO UPDATE SET reason_code = EXCLUDED.reason_code, "
        "reason_data = EXCLUDED.reason_data",
        (purpose, owner_id, now, code, as_json(data)),
    )


def clear_failure(connection: Connection, purpose: MailboxReader, owner_id: int) -> None:
    """Records that a mailbox was read, which clears its error."""
    connection.execute("DELETE FROM core_mailboxtrouble WHERE reads = %s AND number = %s", (purpose, owner_id))


def current_errors(connection: Connection, purpose: MailboxReader) -> list[MailboxError]:
    """Returns the mailboxes that cannot be read, longest-failing first."""
    rows = database.rows(
        connection,
        "SELECT number, since, reason_code, reason_data FROM core_mailboxtrouble WHERE reads = %s "
        "ORDER BY since, number",
        (purpose,),
    )
    return [
        MailboxError(purpose, row["number"], row["since"], reason_from(row["reason_code"], row["reason_data"]))
        for row in rows
    ]
