"""Gauges computed on request: from the database, with a few indexed queries, and from this process.

The database's gauges are the same on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from tocsin.alerts.sql import count_active
from tocsin.core.config.settings_store import load_backup_status
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.escalation.tasks import STUCK_AFTER
from tocsin.inbound.processing.committer import QueueStatus
from tocsin.operate import node_heartbeat, readiness, self_check


def database_gauges(connection: Connection, now: datetime) -> list[Metric]:
    """The gauges from the database at `now`."""
    return [
        *_alerts(connection, now),
        *_escalation_runs(connection, now),
        *_outbox(connection, now),
        *_providers(connection),
        *_messages(connection, now),
        *_nodes(connection),
        *_self_check(connection),
        *_durability(connection),
        *_backup(connection, now),
    ]


def pool_gauges(stats: Mapping[str, int]) -> Iterator[Metric]:
    """This process's connection pool, from psycopg_pool's `get_stats`."""
    yield _gauge("tocsin_pool_connections", "Database connections of this node's pool.", stats.get("pool_size", 0))
    yield _gauge("tocsin_pool_idle", "Connections of the pool that are not in use.", stats.get("pool_available", 0))
    yield _gauge("tocsin_pool_waiting", "Threads that wait for a connection.", stats.get("requests_waiting", 0))
    yield _gauge("tocsin_pool_connections_max", "Maximum connections of the pool.", stats.get("pool_max", 0))


def queue_gauges(batch: QueueStatus) -> Iterator[Metric]:
    """The messages waiting for this node's committer."""
    yield _gauge("tocsin_queue_messages", "Messages that wait for this node's committer.", batch.message_count)
    yield _gauge("tocsin_queue_bytes", "Size of the messages that wait for this node's committer.", batch.size_bytes)
    yield _gauge(
        "tocsin_queue_oldest_seconds",
        "How long the oldest message has waited for this node's committer.",
        batch.oldest_age_seconds,
    )


def _alerts(connection: Connection, now: datetime) -> Iterator[Metric]:
    yield _labelled("tocsin_alerts", "Active alerts by status.", "status", count_active(connection).items())
    unreached = self_check.unreached(connection, now).count
    yield _gauge(
        "tocsin_alerts_unreached",
        "Open alerts that have reached no one: a page due a minute ago was not sent, or there is no one to page.",
        unreached,
    )


def _escalation_runs(connection: Connection, now: datetime) -> Iterator[Metric]:
    row = database.row(
        connection,
        "SELECT count(*) FILTER (WHERE due_at <= %(now)s) AS due, count(*) AS waiting, "
        "count(*) FILTER (WHERE failures >= %(stuck)s) AS stuck, min(due_at) AS oldest "
        "FROM escalation_run WHERE due_at IS NOT NULL",
        {"now": now, "stuck": STUCK_AFTER},
    )
    assert row is not None
    yield _gauge("tocsin_runs_waiting", "Escalation runs with a timer.", row["waiting"])
    yield _gauge("tocsin_runs_due", "Escalation runs whose timer is due.", row["due"])
    yield _gauge("tocsin_runs_stuck", "Escalation runs that failed five times in a row.", row["stuck"])
    yield _gauge("tocsin_runs_late_seconds", "How late the oldest due escalation run is.", _age(row["oldest"], now))


def _outbox(connection: Connection, now: datetime) -> Iterator[Metric]:
    # One branch per partial index.
    rows = database.rows(
        connection,
        "SELECT channel, status, count(*) AS number, min(due_at) AS oldest FROM notify_delivery "
        "WHERE status = 'queued' GROUP BY channel, status "
        "UNION ALL SELECT channel, status, count(*), NULL FROM notify_delivery WHERE status = 'sending' "
        "GROUP BY channel, status",
    )
    outbox = GaugeMetricFamily(
        "tocsin_outbox", "Deliveries that are queued or being sent.", labels=["channel", "status"]
    )
    for row in rows:
        outbox.add_metric([row["channel"], row["status"]], row["number"])
    yield outbox
    oldest = min((row["oldest"] for row in rows if row["oldest"] is not None), default=None)
    yield _gauge("tocsin_outbox_late_seconds", "How late the oldest queued delivery is.", _age(oldest, now))


def _providers(connection: Connection) -> Iterator[Metric]:
    rows = connection.execute("SELECT name, NOT is_open FROM notify_providerhealth ORDER BY name").fetchall()
    yield _labelled(
        "tocsin_provider_up", "0 while a provider's circuit breaker is open; 1 once it has sent.", "provider", rows
    )


def _messages(connection: Connection, now: datetime) -> Iterator[Metric]:
    row = database.row(
        connection,
        "SELECT count(*) AS number, min(received_at) AS oldest FROM inbound_inboundmessage WHERE status = 'Pending'",
    )
    assert row is not None
    yield _gauge("tocsin_messages_pending", "Messages that are stored and not yet decided.", row["number"])
    yield _gauge(
        "tocsin_messages_pending_seconds",
        "Age of the oldest message that is not yet decided.",
        _age(row["oldest"], now),
    )


def _nodes(connection: Connection) -> Iterator[Metric]:
    ages = GaugeMetricFamily(
        "tocsin_node_age_seconds", "Time since the last heartbeat of a node.", labels=["node", "role"]
    )
    task_ages = GaugeMetricFamily(
        "tocsin_loop_age_seconds", "Time since the last run of a periodic task.", labels=["node", "loop"]
    )
    seen_names: set[str] = set()
    for node in sorted(node_heartbeat.load_nodes(connection), key=lambda status: status.age):
        # Two processes on one machine have the same name; the id distinguishes them.
        name = node.name if node.name not in seen_names else f"{node.name}/{node.id}"
        seen_names.add(name)
        ages.add_metric([name, node.role], node.age.total_seconds())
        for task in node.tasks:
            task_ages.add_metric([name, task.name], task.age.total_seconds())
    yield ages
    yield task_ages


def _self_check(connection: Connection) -> Iterator[Metric]:
    status = self_check.status_from_problems(connection)
    if status.age is not None:
        yield _gauge("tocsin_audit_age_seconds", "Time since the last self-check.", status.age.total_seconds())
    if status.heartbeat_age is not None:
        age = status.heartbeat_age.total_seconds()
        yield _gauge("tocsin_heartbeat_age_seconds", "Time since the last external heartbeat that was accepted.", age)
    yield _gauge(
        "tocsin_paging_ok",
        "1 while the self-check finds no problem.",
        int(status.is_recent and not status.problems),
    )
    problems = ((problem.id, 1) for problem in status.problems)
    yield _labelled("tocsin_problem", "1 for each problem of the self-check.", "problem", problems)


def _durability(connection: Connection) -> Iterator[Metric]:
    risks = ((risk.id, 1) for risk in readiness.durability_weaknesses(readiness.read(connection)))
    yield _labelled(
        "tocsin_database_risk",
        "1 for each reason why a commit may be lost, such as `standby_missing`.",
        "risk",
        risks,
    )


def _backup(connection: Connection, now: datetime) -> Iterator[Metric]:
    last = load_backup_status(connection, now).last
    if last is None:
        return
    yield _gauge("tocsin_backup_age_seconds", "Time since the last backup.", _age(last.at, now))
    if last.size_bytes is not None:
        yield _gauge("tocsin_backup_size_bytes", "Size of the last backup.", last.size_bytes)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


def _labelled(name: str, documentation: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family


def _age(at: datetime | None, now: datetime) -> float:
    """Seconds since `at`; 0 for None or a future time."""
    return max(0.0, (now - at).total_seconds()) if at is not None else 0.0
