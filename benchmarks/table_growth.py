"""Table growth: what each table takes on disk for a million alerts, extrapolated from 100,000; and a backup of that.

Each alert has three HaloITSM messages of 1.3 kB (opened, repeated, closed) and one page, accepted at once.
`python -m benchmarks.table_growth 20000` takes fewer.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import psycopg

from benchmarks.harness import (
    SECONDS,
    TOCSIN,
    TOKEN,
    Served,
    database,
    free_port,
    report,
    tocsin,
    variables_of,
)
from benchmarks.storm import Phones

ALERTS = 100_000 if SECONDS > 1 else 200
#: Messages in one request: an array.
ARRAY = 200
MILLION = 1_000_000
#: The description fills a message up to 1.5 kB, with words that differ from ticket to ticket.
_WORDS = ("server", "disk", "backup", "failed", "link", "down", "switch", "printer", "queue", "index", "login", "user")

_SENT = "SELECT count(*) FROM notify_delivery WHERE status IN ('sent', 'delivered')"

CONFIGURATION = """
settings: {{bundle_pages: false, message_size_cap_mb: 1000000}}
users:
  - {{username: phone, email: phone@example.org, contact_methods: [{{label: Phone, channel: ntfy, address: phone}}]}}
groups: [{{name: Phones, members: [{{user: phone, roles: [primary]}}]}}]
providers:
  - {{name: Phones, kind: ntfy, channels: [ntfy], api_base: "http://127.0.0.1:{port}"}}
integrations:
  - name: Growth
    kind: haloitsm
    escalation_policy: Now
    recipients: {{groups: [Phones]}}
    token: {token}growth
"""

#: A partitioned table is the sum of its partitions.
_SIZES = """
SELECT coalesce(parent.relname, c.relname), sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint,
       sum(greatest(c.reltuples, 0))::bigint
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY 1
"""


def message(number: int, status: str) -> dict[str, object]:
    words = " ".join(_WORDS[(number * 7 + index * (number % 13 + 1)) % len(_WORDS)] for index in range(150))
    return {
        "id": number, "summary": f"Ticket {number}: {words[:60]}", "status": status,
        "client_name": f"Client {number % 90}", "priority_id": 2, "team": "Service Desk",
        "details": f"{number} {words}",
    }  # fmt: skip


def arrays(alerts: int, status: str) -> Iterator[list[dict[str, object]]]:
    for begin in range(0, alerts, ARRAY):
        yield [message(number, status) for number in range(begin, min(alerts, begin + ARRAY))]


def wait_for_pages(connection: psycopg.Connection, count: int) -> bool:
    """Waits until that number of pages was sent, or none was for a minute. Returns whether all were sent."""
    last, since = -1, time.monotonic()
    while time.monotonic() < since + 60:
        row = connection.execute(
            "SELECT count(*) FROM notify_delivery WHERE status IN ('sent', 'delivered')"
        ).fetchone()
        assert row is not None
        if row[0] >= count:
            return True
        if row[0] != last:
            last, since = row[0], time.monotonic()
        time.sleep(0.5)
    return False


def measure(served: Served, alerts: int) -> tuple[dict[str, object], bool]:
    """Returns the figures, and whether every alert was paged: otherwise they lack the rows of deliveries."""
    url = f"{served.url}/in/{TOKEN}growth"
    with database(served) as connection:
        before = {name: (table, index) for name, table, index, _ in connection.execute(_SIZES).fetchall()}
        asyncio.run(post(url, alerts, "New"))
        is_paged = wait_for_pages(connection, alerts)
        asyncio.run(post(url, alerts, "New"))
        asyncio.run(post(url, alerts, "Closed"))
        connection.execute("VACUUM ANALYZE")
        figures: dict[str, object] = {"alerts": alerts}
        total = 0.0
        factor = MILLION / alerts / 1e9
        for name, table, index, rows in sorted(connection.execute(_SIZES).fetchall(), key=lambda row: -row[1] - row[2]):
            old = before.get(name, (0, 0))
            grown, grown_index = (table - old[0]) * factor, (index - old[1]) * factor
            total += grown + grown_index
            if grown + grown_index > 0.01:
                figures[f"{name} GB"] = round(grown + grown_index, 2)
                figures[f"{name} indexes GB"] = round(grown_index, 2)
                figures[f"{name} rows per alert"] = round(rows / alerts, 2)
        figures["all GB for a million alerts"] = round(total, 2)
    file = served.data_dir.parent / "backup"
    subprocess.run(
        [TOCSIN, "backup", "--no-passphrase", file],
        env=variables_of(served.data_dir),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    figures["backup GB for a million alerts"] = round(file.stat().st_size * factor, 2)
    return figures, is_paged


async def post(url: str, alerts: int, status: str) -> None:
    async with httpx.AsyncClient(timeout=120) as client:
        for body in arrays(alerts, status):
            (await client.post(url, json=body)).raise_for_status()


def main() -> None:
    alerts = int(sys.argv[1]) if len(sys.argv) > 1 else ALERTS
    provider = Phones(port := free_port(), takes=0.0)
    provider.start()
    configuration = CONFIGURATION.format(port=port, token=TOKEN)
    with tocsin(environment={"TOCSIN_ALLOW_TARGETS": "127.0.0.0/8"}, more=configuration) as served:
        figures, is_paged = measure(served, alerts)
        report("table_growth", figures, {"every alert paged": is_paged})


if __name__ == "__main__":
    main()
