"""Counts for display that stop at a cap, so that their cost does not grow with the tables. Reads only.

Above the cap the interface shows "10,000+". An uncapped count cost the database as much as hundreds of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db.models import Model, QuerySet
from django.utils.formats import number_format

from tocsin.access import boundary
from tocsin.core.db import database
from tocsin.core.db.row_security import viewer_transaction
from tocsin.core.ids import first_uuid7
from tocsin.inbound.enums import MessageStatus

#: Cap for messages. A count of one more means "more than the cap".
MAX_COUNTED_MESSAGES = 10_000
#: Cap for alerts. Above a thousand open alerts the exact number no longer matters.
MAX_COUNTED_ALERTS = 1_000

DAY = timedelta(hours=24)


def capped_count[Row: Model](rows: QuerySet[Row], limit: int) -> int:
    """Return the number of rows, at most `limit`."""
    return rows.order_by()[:limit].count()


def counted(number: int, limit: int) -> str:
    """Return the number formatted for the user's language, or for example "10,000+" above `limit`."""
    text = number_format(min(number, limit), force_grouping=True)
    return f"{text}+" if number > limit else text


def outcomes(now: datetime, integration: int | None = None) -> list[tuple[str, int]]:
    """Return (outcome, count) of the last 24 hours' messages, of one integration or of all that the viewer sees.

    Counts the newest MAX_COUNTED_MESSAGES; `is_cut` reports whether there may be more. Failed and pending messages are
    counted beyond that limit, so that a flood of messages cannot hide them.
    """
    limit = boundary.current()
    integrations = [integration] if integration is not None else limit and sorted(limit.integrations)
    integration_filter = "AND integration_id = ANY(%(integrations)s)" if integrations is not None else ""
    statement = f"""
        SELECT status, count(*) AS number FROM (
            SELECT status FROM inbound_inboundmessage WHERE id >= %(since)s {integration_filter} ORDER BY id DESC
            LIMIT %(limit)s
        ) AS newest GROUP BY status
    """
    # The partial index on failed and pending messages serves this query.
    rare = f"""
        SELECT status, count(*) AS number FROM (
            SELECT status FROM inbound_inboundmessage
            WHERE status IN ('Mapping Failed', 'Pending') AND id >= %(since)s {integration_filter} LIMIT %(limit)s
        ) AS rare GROUP BY status
    """
    values: dict[str, object] = {
        "since": first_uuid7(now - DAY),
        "integrations": integrations,
        "limit": MAX_COUNTED_MESSAGES,
    }
    with viewer_transaction() as connection:
        counts = {
            row["status"]: row["number"] for row in database.rows(connection, database.literal(statement), values)
        }
        if is_cut(counts.items()):
            rare_counts = database.rows(connection, database.literal(rare), values)
            counts |= {row["status"]: row["number"] for row in rare_counts}
    return [(str(status), counts[status]) for status in MessageStatus if status in counts]


def is_cut(counts: Iterable[tuple[str, int]]) -> bool:
    """Return whether the counts are probably incomplete, because only the newest messages were counted."""
    return sum(number for _status, number in counts) >= MAX_COUNTED_MESSAGES


def messages_today(now: datetime, integrations: Sequence[int]) -> dict[int, tuple[int, datetime]]:
    """Return {integration: (messages in 24 h, newest receive time)}. The number is at most MAX_COUNTED_MESSAGES + 1."""
    # This ORDER BY forces the index on (integration_id, id). With an equality condition the planner assumes that most
    # rows belong to the integration and scans all rows for an integration that has none.
    statement = """
        SELECT requested.id, today.number, newest.received_at AS newest
        FROM unnest(%(integrations)s::bigint[]) AS requested (id) CROSS JOIN LATERAL (
            SELECT count(*) AS number, (array_agg(id))[1] AS newest FROM (
                SELECT id FROM inbound_inboundmessage
                WHERE (integration_id, id) >= (requested.id, %(since)s) AND integration_id <= requested.id
                ORDER BY integration_id DESC, id DESC LIMIT %(limit)s
            ) AS newest_ones
        ) AS today JOIN inbound_inboundmessage newest ON newest.id = today.newest
    """
    values = {"integrations": list(integrations), "since": first_uuid7(now - DAY), "limit": MAX_COUNTED_MESSAGES + 1}
    with viewer_transaction() as connection:
        return {row["id"]: (row["number"], row["newest"]) for row in database.rows(connection, statement, values)}


def integrations_with_messages(integrations: Sequence[int]) -> set[int]:
    """Return the integrations that have at least one message within the retention period."""
    # The ORDER BY forces the index on (integration_id, id), as in messages_today.
    statement = """
        SELECT requested.id FROM unnest(%(integrations)s::bigint[]) AS requested (id) CROSS JOIN LATERAL (
            SELECT integration_id FROM inbound_inboundmessage
            WHERE integration_id >= requested.id ORDER BY integration_id, id LIMIT 1
        ) AS nearest WHERE nearest.integration_id = requested.id
    """
    if not integrations:
        return set()
    with viewer_transaction() as connection:
        rows = database.rows(connection, statement, {"integrations": list(integrations)})
    return {row["id"] for row in rows}
