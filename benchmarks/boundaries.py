"""The alert list with boundaries: its p95 for a responder of one of ten groups, beside the p95 where everyone sees all.

In one process, on a database of its own. Requests of both kinds alternate, so that a busy machine slows both. All
alerts are some days old: seconds and minutes would take longer to write in the list that reaches back further.
"""

from __future__ import annotations

import os as os_module
import statistics
import time

os_module.environ["DJANGO_SETTINGS_MODULE"] = "tocsin.settings"
os_module.environ["TOCSIN_SECRET_KEY"] = "a-key-for-benchmarks-0123456789abcdef"
# Replaced by that of the benchmark's own server.
os_module.environ["TOCSIN_DATABASE_URL"] = "postgresql:///none?host=/nonexistent"

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.test import Client  # noqa: E402

from benchmarks.harness import SECONDS, report  # noqa: E402
from tests.support import postgres  # noqa: E402
from tests.support.walls import Side, build_side  # noqa: E402
from tocsin.core.config import settings_store  # noqa: E402
from tocsin.core.db import database  # noqa: E402
from tocsin.core.runtime import clock  # noqa: E402

SIZES = tuple(map(int, os_module.environ.get("BENCH_ALERTS", "200000 1000000").split())) if SECONDS > 1 else (2_000,)
ROUNDS, WARM_UP = (60, 5) if SECONDS > 1 else (2, 0)
PATHS = ("/alerts/", "/alerts/?tab=closed", "/alerts/?tab=closed&q=disk", "/")
PROMISED = 1.2

_FILL = """
INSERT INTO alerts_alert (id, status, priority, subject, source, client, integration_id, group_ids, opened_at,
                          last_message_at, closed_at)
SELECT n, CASE WHEN n %% 999 = 0 THEN 'open' ELSE 'closed' END, 'high', 'Disk full on host ' || n, 'bench',
       'Client ' || n %% 50, CASE WHEN n %% 10 = 0 THEN %(own)s ELSE %(other)s END,
       ARRAY[CASE WHEN n %% 10 = 0 THEN %(group)s ELSE %(foreign)s END]::bigint[],
       now() - interval '3 days' - (%(end)s::int - n) * interval '1 second',
       now() - interval '3 days', now() - interval '3 days'
FROM generate_series(%(begin)s::int, %(end)s::int) n
"""
_INDEX_TEXTS = """
INSERT INTO alerts_alerttext (alert_id, subject, client, source_id, tags)
SELECT id, upper(subject), upper(client), '', '{}' FROM alerts_alert
WHERE status = 'closed' AND id >= %s ON CONFLICT DO NOTHING
"""


def main() -> None:
    """Measures a database that grows to each size in turn."""
    figures: dict[str, object] = {}
    promises: dict[str, bool] = {}
    settings.ALLOWED_HOSTS = ["testserver"]
    with postgres.running() as server, postgres.in_use(server.make("bench", postgres.TEMPLATE)):
        now = clock.now()
        ours, theirs = build_side("ours", now), build_side("theirs", now)
        client = Client()
        client.force_login(ours.responder, backend="django.contrib.auth.backends.ModelBackend")
        begin = 1000
        for size in SIZES:
            fill(ours, theirs, begin, size)
            begin = size + 1
            for path, times in measure(client).items():
                all_ms, own_ms = (statistics.quantiles(times[kind], n=20)[-1] * 1000 for kind in ("everyone", "groups"))
                name = f"{size:,} {path}"
                figures |= {f"{name} everyone p95 ms": round(all_ms, 1), f"{name} groups p95 ms": round(own_ms, 1)}
                figures |= {f"{name} ratio p50": _ratio(times), f"{name} ratio p95": round(own_ms / all_ms, 2)}
                promises[f"{name}: p95 at most {PROMISED} times"] = own_ms <= PROMISED * all_ms
    report("boundaries", figures, promises)


def fill(ours: Side, theirs: Side, begin: int, end: int) -> None:
    """Adds alerts with these numbers, of which a tenth is ours."""
    values = {"own": ours.integration.pk, "other": theirs.integration.pk, "begin": begin, "end": end}
    with database.connect(name="bench") as connection:
        connection.lift_time_limit()
        connection.execute(_FILL, {**values, "group": ours.group.pk, "foreign": theirs.group.pk})
        connection.execute(_INDEX_TEXTS, (begin,))
        connection.execute("VACUUM ANALYZE")


def measure(client: Client) -> dict[str, dict[str, list[float]]]:
    """Returns the seconds of each request, by path and `visibility`."""
    times: dict[str, dict[str, list[float]]] = {path: {"everyone": [], "groups": []} for path in PATHS}
    for number in range(ROUNDS + WARM_UP):
        for visibility in ("everyone", "groups"):
            settings_store.set(settings_store.VISIBILITY, visibility)
            for path in PATHS:
                began = time.perf_counter()
                assert client.get(path).status_code == 200
                if number >= WARM_UP:
                    times[path][visibility].append(time.perf_counter() - began)
    return times


def _ratio(times: dict[str, list[float]]) -> float:
    return round(statistics.median(times["groups"]) / statistics.median(times["everyone"]), 2)


if __name__ == "__main__":
    main()
