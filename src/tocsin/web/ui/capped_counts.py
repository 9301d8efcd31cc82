"""Counts for people: exact as far as anybody reads them, and never as dear as the tables are long. Reads only.

A page says "10,000+" from there on. Counting everything, a page took as much of the database as hundreds of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db.models import Model, QuerySet
from django.utils.formats import number_format

from tocsin.core.db import database
from tocsin.core.ids import first_uuid7
from tocsin.inbound.enums import MessageStatus

#: Messages are counted so far; one more stands for all that there are beyond.
MAX_COUNTED_MESSAGES = 10_000
#: And alerts: nobody tells a thousand that need somebody from more.
MAX_COUNTED_ALERTS = 1_000

DAY = timedelta(hours=24)


def up_to[Row: Model](rows: QuerySet[Row], most: int) -> int:
    """How many rows there are, and `most` where there are more."""
    return rows.order_by()[:most].count()


def counted(number: int, most: int) -> str:
    """The number for people, with the separators of their language: "10,000+" for more than `most`."""
    text = number_format(min(number, most), force_grouping=True)
    return f"{text}+" if number > most else text


def outcomes(now: datetime, integration: int | None = None) -> list[tuple[str, int]]:
    """The outcomes of the messages of the last 24 hours with their counts, of all integrations or of one.

    Counts the newest MAX_COUNTED_MESSAGES; `is_cut` tells whether there may be more. Failed and pending messages are
    counted beyond them, so that a flood hides neither.
    """
    of_one = "AND integration_id = %(integration)s" if integration is not None else ""
    statement = f"""
        SELECT status, count(*) AS number FROM (
            SELECT status FROM inbound_inboundmessage WHERE id >= %(since)s {of_one} ORDER BY id DESC LIMIT %(most)s
        ) AS newest GROUP BY status
    """
    # The partial index on what failed and what waits answers this.
    rare = f"""
        SELECT status, count(*) AS number FROM (
            SELECT status FROM inbound_inboundmessage
            WHERE status IN ('Mapping Failed', 'Pending') AND id >= %(since)s {of_one} LIMIT %(most)s
        ) AS found GROUP BY status
    """
    values: dict[str, object] = {
        "since": first_uuid7(now - DAY),
        "integration": integration,
        "most": MAX_COUNTED_MESSAGES,
    }
    with database.pool().connection() as connection:
        counts = {
            row["status"]: row["number"] for row in database.rows(connection, database.literal(statement), values)
        }
        if is_cut(counts.items()):
            found = database.rows(connection, database.literal(rare), values)
            counts |= {row["status"]: row["number"] for row in found}
    return [(str(status), counts[status]) for status in MessageStatus if status in counts]


def is_cut(found: Iterable[tuple[str, int]]) -> bool:
    """Whether there are probably more than these: only the newest were looked at."""
    return sum(number for _status, number in found) >= MAX_COUNTED_MESSAGES


def messages_today(now: datetime, integrations: Sequence[int]) -> dict[int, tuple[int, datetime]]:
    """By integration: its messages of the last 24 hours, at most MAX_COUNTED_MESSAGES + 1, and the newest time."""
    # In this order only the index on (integration_id, id) can be walked. Asked for equality, the database guesses that
    # most rows are an integration's, and reads all of them for one that has none.
    statement = """
        SELECT wanted.id, today.number, newest.received_at AS newest
        FROM unnest(%(integrations)s::bigint[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT count(*) AS number, (array_agg(id))[1] AS newest FROM (
                SELECT id FROM inbound_inboundmessage
                WHERE (integration_id, id) >= (wanted.id, %(since)s) AND integration_id <= wanted.id
                ORDER BY integration_id DESC, id DESC LIMIT %(most)s
            ) AS newest_ones
        ) AS today JOIN inbound_inboundmessage newest ON newest.id = today.newest
    """
    values = {"integrations": list(integrations), "since": first_uuid7(now - DAY), "most": MAX_COUNTED_MESSAGES + 1}
    with database.pool().connection() as connection:
        return {row["id"]: (row["number"], row["newest"]) for row in database.rows(connection, statement, values)}


def with_messages(integrations: Sequence[int]) -> set[int]:
    """Those of the integrations that ever got a message, as far as messages are kept."""
    # As in messages_today: in this order only the index on (integration_id, id) can be walked.
    statement = """
        SELECT wanted.id FROM unnest(%(integrations)s::bigint[]) AS wanted (id) CROSS JOIN LATERAL (
            SELECT integration_id FROM inbound_inboundmessage
            WHERE integration_id >= wanted.id ORDER BY integration_id, id LIMIT 1
        ) AS nearest WHERE nearest.integration_id = wanted.id
    """
    if not integrations:
        return set()
    with database.pool().connection() as connection:
        rows = database.rows(connection, statement, {"integrations": list(integrations)})
    return {row["id"] for row in rows}
