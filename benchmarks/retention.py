"""Retention: what it costs to remove a month of messages, as a whole and row by row.

Both on one PostgreSQL, with the same rows in all indexes: seconds, and the write-ahead log, which standbys receive.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
os.environ.setdefault("TOCSIN_SECRET_KEY", "a-key-for-benchmarks-0123456789abcdef")
django.setup()

from benchmarks.harness import SECONDS, report  # noqa: E402
from tests.support.ingest import make_integration  # noqa: E402
from tests.support.postgres import TEMPLATE, in_use, running  # noqa: E402
from tocsin.core.db import database, partitions  # noqa: E402
from tocsin.core.ids import first_uuid7  # noqa: E402
from tocsin.inbound.storage.retention import MESSAGES, RetentionTask  # noqa: E402

ROWS = 20_000 * SECONDS if SECONDS > 1 else 500
NOW = datetime(2026, 11, 24, tzinfo=UTC)
OLD = datetime(2026, 5, 10, tzinfo=UTC)

_FILL = """
INSERT INTO inbound_inboundmessage (id, integration_id, received_at, status, subject, source_id, raw, alert_id)
SELECT overlay(%s::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, %s, %s, 'Mapped Updated', 'VPN down ' || n,
       n::text, sha256(n::text::bytea) || convert_to(repeat(md5(n::text), 45), 'UTF8'), n
FROM generate_series(1, %s) AS n
"""


def measured(is_partitioned: bool) -> tuple[float, float]:
    """Removes ROWS messages. Returns seconds, and megabytes of write-ahead log."""
    if is_partitioned:
        partitions.maintain(MESSAGES, OLD, OLD, "false")
    integration = make_integration()
    with database.transaction() as connection:
        connection.execute(_FILL, (first_uuid7(OLD), integration.pk, OLD, ROWS))
    with database.connection() as connection:
        connection.execute("VACUUM (ANALYZE) inbound_inboundmessage")
    # The current months are there before.
    partitions.maintain(MESSAGES, NOW, NOW - timedelta(days=36_500), "false")
    task = RetentionTask()
    before, begun = wal_bytes(), time.perf_counter()
    while remaining():
        task.run_once(NOW)
    taken = time.perf_counter() - begun
    with database.connection() as connection:
        connection.execute("VACUUM inbound_inboundmessage")
    return taken, (wal_bytes() - before) / 1024 / 1024


def wal_bytes() -> int:
    with database.transaction() as connection:
        row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])


def remaining() -> bool:
    with database.transaction() as connection:
        return connection.execute("SELECT FROM inbound_inboundmessage LIMIT 1").fetchone() is not None


def main() -> None:
    """Removes 20,000 messages for each second that is measured, in both ways."""
    results = {}
    with running() as server:
        for name, is_partitioned in (("by month", True), ("row by row", False)):
            with in_use(server.make(f"retention_{is_partitioned}".lower(), TEMPLATE)):
                results[name] = measured(is_partitioned)
    report(
        "retention",
        {"messages": ROWS}
        | {f"{name}, seconds": seconds for name, (seconds, _) in results.items()}
        | {f"{name}, MB of write-ahead log": megabytes for name, (_, megabytes) in results.items()},
        {"a month goes at once": results["by month"][0] < results["row by row"][0]},
    )


if __name__ == "__main__":
    main()
