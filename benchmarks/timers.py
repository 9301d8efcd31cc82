"""Timers: 20,000 runs due in the same second, then 1,000 due a minute, and how late each is decided.

Alerts of 200 groups are opened whose first step is an hour away; one statement then says when each is due. A run counts
as decided when everybody can see it: when the transaction that fires its step is committed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import httpx
import psycopg

from benchmarks.harness import SECONDS, database, free_port, report, tocsin
from benchmarks.storm import Phones

#: Groups, each with one who is on call.
GROUPS = 200 if SECONDS > 1 else 5
RUNS = 20_000 if SECONDS > 1 else 400
#: Then so many a minute, for as long as is measured, a minute at least.
A_MINUTE = 1_000
STEADY = max(60, SECONDS) if SECONDS > 1 else 2
TOKEN = "ffedcba9876543210fedcba987654321"

CONFIGURATION = """
users:
{users}
groups:
{groups}
escalation_policies:
  - name: Timers
    steps:
      - {{notify: {{roles: [primary]}}, after: 1h}}
      - {{notify: {{roles: [primary]}}, after: 1h}}
integrations:
  - name: Timers
    kind: api
    anyway: true
    escalation_policy: Timers
    mapping: {{recipient_groups: to, source_id: id, subject: subject}}
    token: {token}
providers:
  - {{name: Phones, kind: ntfy, channels: [ntfy], api_base: "http://127.0.0.1:{port}"}}
"""


def configuration(port: int) -> str:
    """The groups, their people, and the provider that they are paged by."""
    users = "\n".join(
        f"  - {{username: timer{n}, email: timer{n}@example.org, contact_methods: "
        f"[{{label: Phone, channel: ntfy, address: timer{n}}}]}}"
        for n in range(GROUPS)
    )
    groups = "\n".join(
        f"  - {{name: Timers {n}, members: [{{user: timer{n}, roles: [primary]}}]}}" for n in range(GROUPS)
    )
    return CONFIGURATION.format(users=users, groups=groups, token=TOKEN, port=port)


def opened(url: str, number: int, word: str) -> list[int]:
    """Opens so many alerts, in arrays of 500, and returns their numbers."""
    counts: list[int] = []
    with httpx.Client(timeout=60) as client:
        for begin in range(0, number, 500):
            body = [
                {"id": f"{word}-{n}", "subject": f"{word} {n}", "status": "open", "to": [f"Timers {n % GROUPS}"]}
                for n in range(begin, min(number, begin + 500))
            ]
            answer = client.post(f"{url}/in/{TOKEN}", json=body)
            answer.raise_for_status()
            counts += [message["alert_id"] for message in answer.json()["messages"]]
    return counts


def fall_due(connection: psycopg.Connection, alerts: Sequence[int], seconds: float, delay: float) -> datetime:
    """Spreads when the alerts' runs are due over so many seconds, from `delay` from now on; returns that moment."""
    results = connection.execute(
        "WITH begun AS MATERIALIZED (SELECT clock_timestamp() + make_interval(secs => %(delay)s) AS at), "
        "wanted AS (SELECT w.alert_id, begun.at + make_interval(secs => %(seconds)s * (w.place - 1) / %(all)s) AS at "
        "FROM unnest(%(alerts)s::bigint[]) WITH ORDINALITY AS w(alert_id, place), begun), "
        "due AS (UPDATE escalation_run r SET due_at = w.at, progress = r.progress || jsonb_build_object('step_due_at', "
        "w.at) FROM wanted w WHERE r.alert_id = w.alert_id AND r.status = 'active' RETURNING 1) "
        "SELECT begun.at, (SELECT count(*) FROM due) FROM begun",
        {"delay": delay, "seconds": seconds, "all": float(len(alerts)), "alerts": list(alerts)},
    ).fetchone()
    assert results is not None
    assert results[1] == len(alerts)
    connection.execute("VACUUM ANALYZE escalation_run")
    started_at: datetime = results[0]
    return started_at


def until_decided(connection: psycopg.Connection, started_at: datetime, end: datetime, deadline: float) -> float:
    """Waits until all runs due before `end` are decided; returns the seconds from `started_at` until then."""
    while time.monotonic() < deadline:
        remaining = connection.execute(
            "SELECT clock_timestamp(), EXISTS (SELECT FROM escalation_run WHERE due_at < %s)", (end,)
        ).fetchone()
        assert remaining is not None
        if not remaining[1]:
            return float((remaining[0] - started_at).total_seconds())
        time.sleep(0.05)
    raise RuntimeError("not all runs were decided")


def lateness(connection: psycopg.Connection, alerts: Sequence[int], end: datetime, deadline: float) -> list[float]:
    """Looks fifty times a second which runs were decided; returns for each by how many milliseconds it was late."""
    due = dict(
        connection.execute("SELECT alert_id, due_at FROM escalation_run WHERE alert_id = ANY(%s)", (list(alerts),))
    )
    late: dict[int, float] = {}
    while len(late) < len(due) and time.monotonic() < deadline:
        results = connection.execute(
            "SELECT clock_timestamp(), (SELECT array_agg(alert_id) FROM escalation_run WHERE due_at < %s)", (end,)
        ).fetchone()
        assert results is not None
        now, waiting = results[0], set(results[1] or ())
        for alert_id in due.keys() - waiting - late.keys():
            late[alert_id] = 1000 * (now - due[alert_id]).total_seconds()
        time.sleep(0.02)
    return sorted(late.values())


def fired(connection: psycopg.Connection, alerts: Sequence[int]) -> tuple[int, int]:
    """Of how many of the alerts the step has fired, and how many notifications there are of them."""
    results = connection.execute(
        "SELECT (SELECT count(DISTINCT alert_id) FROM alerts_alertevent "
        "WHERE alert_id = ANY(%(alerts)s) AND kind = 'step_fired'), "
        "(SELECT count(*) FROM notify_notification WHERE alert_id = ANY(%(alerts)s) AND purpose = 'page')",
        {"alerts": list(alerts)},
    ).fetchone()
    assert results is not None
    return int(results[0]), int(results[1])


def main() -> None:
    """The flood, until all of it is decided; then the steady stream."""
    phones = Phones(port := free_port())
    phones.start()
    environment = {"TOCSIN_ALLOW_TARGETS": "127.0.0.0/8"}
    with tocsin(environment=environment, more=configuration(port)) as served, database(served) as connection:
        flood = opened(served.url, RUNS, "flood")
        started_at = fall_due(connection, flood, 1, 1)
        all_decided = until_decided(connection, started_at, _after(started_at, 2), time.monotonic() + 180)
        number = A_MINUTE * STEADY // 60
        stream = opened(served.url, number, "stream")
        started_at = fall_due(connection, stream, STEADY, 1)
        late = lateness(connection, stream, _after(started_at, STEADY + 1), time.monotonic() + STEADY + 60)
        flood_fired, flood_pages = fired(connection, flood)
        stream_fired, stream_pages = fired(connection, stream)
    report(
        "timers",
        {
            "runs due in one second": RUNS,
            "all decided after s": all_decided,
            "decided, per second": RUNS / all_decided,
            "of them fired": flood_fired,
            "of them paged": flood_pages,
            "due a minute": A_MINUTE,
            "decided of them": len(late),
            "lateness p50 ms": late[len(late) // 2],
            "lateness p99 ms": late[int(0.99 * (len(late) - 1))],
            "lateness, most ms": late[-1],
        },
        {
            "each fired its step and paged": (flood_fired, flood_pages) == (RUNS, RUNS)
            and (stream_fired, stream_pages) == (number, number),
            "all decided within 10 s": all_decided < 10,
            "lateness p99 < 1 s": len(late) == number and late[int(0.99 * (len(late) - 1))] < 1000,
        },
    )


def _after(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


if __name__ == "__main__":
    main()
