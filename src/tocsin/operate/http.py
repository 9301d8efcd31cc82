"""Health probes and Prometheus metrics over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import psycopg
from django.db import DatabaseError, connections
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from psycopg_pool import PoolTimeout

import tocsin
from tocsin.access import tokens
from tocsin.alerts.store import count_active
from tocsin.core.config.settings_store import load_backup_status
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import (
    AsgiScope,
    Receive,
    Send,
    client_address,
    header,
    is_loopback,
    send_error,
    send_response,
)
from tocsin.core.runtime import clock, telemetry
from tocsin.core.runtime.periodic_tasks import Worker
from tocsin.core.runtime.telemetry import REGISTRY
from tocsin.escalation.tasks import STUCK_AFTER
from tocsin.inbound.processing.committer import MAX_WAIT_SECONDS, Committer, QueueStatus
from tocsin.operate import node_heartbeat, readiness, self_check
from tocsin.operate.readiness import SingleFlight
from tocsin.operate.tasks import HEARTBEAT_TASK

# ---------- gauges
# Gauges computed on request: from the database, with a few indexed queries, and from this process.
#
# The database's gauges are the same on every node.


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
    worked = connection.execute(
        "SELECT name, extract(epoch FROM worked_at)::float8 FROM notify_providerhealth WHERE worked_at IS NOT NULL "
        "ORDER BY name"
    ).fetchall()
    yield _labelled(
        "tocsin_provider_up", "0 while a provider's circuit breaker is open; 1 once it has sent.", "provider", rows
    )
    yield _labelled(
        "tocsin_provider_last_success_timestamp_seconds",
        "When a provider last delivered or accepted a message: a provider that sent nothing lately proves nothing.",
        "provider",
        worked,
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
    risks = (
        (risk.id.removeprefix("database."), 1) for risk in readiness.durability_weaknesses(readiness.read(connection))
    )
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


# ---------- metrics
# `/metrics` in the Prometheus text format: this process's counters and the database's gauges.


log = logging.getLogger(__name__)

#: In seconds: after that, only the process's own metrics are returned.
DEADLINE = 4.0

_CHALLENGE = ((b"www-authenticate", b"Bearer"),)


class MetricsApp:
    """Serves `/metrics` of one node."""

    def __init__(self, committer: Committer | None) -> None:
        self._committer = committer
        self._gauges = SingleFlight("metrics", _from_database)
        #: Checks one token at a time, however many requests arrive: each check uses a database connection.
        self._token_lock = asyncio.Lock()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Returns the metrics, or 401.

        Without a token, only this machine may read them, and only without a public URL and trusted proxies.
        """
        if not is_loopback(scope):
            try:
                is_allowed = await self._may_read(scope)
            except (TimeoutError, DatabaseError, psycopg.Error):
                await send_error(
                    send, 503, "unavailable", "The token cannot be checked now: the database does not answer."
                )
                return
            if not is_allowed:
                detail = (
                    "/metrics needs an API token: Authorization: Bearer TOKEN. Without one it is open only to this "
                    "machine, at http://localhost, while TOCSIN_BASE_URL and TOCSIN_TRUSTED_PROXIES are not set."
                )
                await send_error(send, 401, "unauthorized", detail, headers=_CHALLENGE)
                return
        await send_response(send, 200, await self._text(), content_type=CONTENT_TYPE_LATEST.encode())

    async def _may_read(self, scope: AsgiScope) -> bool:
        address = client_address(scope)
        scheme, _, secret = (header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            return False
        async with asyncio.timeout(DEADLINE), self._token_lock:
            return await SingleFlight("metrics token", lambda: _is_token(secret.strip(), address)).result(DEADLINE)

    async def _text(self) -> bytes:
        """Both parts; without the database's part, and `tocsin_database_up` 0, while the database does not answer."""
        try:
            database_metrics = await self._gauges.result(DEADLINE)
        except (TimeoutError, psycopg.Error, PoolTimeout) as error:
            log.warning("The database does not answer /metrics: %s", error)
            database_metrics = [GaugeMetricFamily("tocsin_database_up", _UP, value=0)]
        registry = CollectorRegistry()
        registry.register(_StaticCollector([*self._process_metrics(), *database_metrics]))
        return generate_latest(REGISTRY) + generate_latest(registry)

    def _process_metrics(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("tocsin_build_info", "The running version.", labels=["version"])
        info.add_metric([tocsin.__version__], 1)
        yield info
        yield from pool_gauges(database.pool().get_stats())
        if self._committer is not None:
            yield from queue_gauges(self._committer.queue_status())


_UP = "1 while the database answers; otherwise the gauges from the database are missing."


def _from_database() -> list[Metric]:
    with database.pool().connection(timeout=3) as connection, connection.transaction():
        families = database_gauges(connection, clock.now())
    return [GaugeMetricFamily("tocsin_database_up", _UP, value=1), *families]


def _is_token(secret: str, address: str | None) -> bool:
    """Returns whether the secret is that of a valid token that is limited to no groups or clients: metrics are about
    everything."""
    # This thread's Django connection ends with it.
    try:
        token = tokens.verify(secret, now=clock.now(), address=address)
        return token is not None and not (token.group_ids or token.clients or token.user.clients)
    except Rejected:
        return False
    finally:
        connections.close_all()


class _StaticCollector(Collector):
    """A collector of precomputed metrics."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


# ---------- probes
# `/healthz`, `/readyz` and `/metrics` as raw ASGI: answered in bounded time, even while Django's threads are busy.


_TEXT = b"text/plain; charset=utf-8"
_NO_STORE = ((b"cache-control", b"no-store"),)


#: Each node writes its own row every few seconds. If that has failed for this long, no message can be stored.
NO_WRITES = timedelta(seconds=30)

#: In seconds: for how long a rejected message counts, unless one has been stored since. Then the node is ready again,
#: because without messages it cannot find out whether it can store them.
REJECTED_WITHIN = 10.0


class ProbesApp:
    """The probes of this node.

    `is_listening` returns whether the thread that restarts dead tasks is alive; `web_process_problem` returns why the
    web process is missing.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        committer: Committer | None,
        is_listening: Callable[[], bool],
        web_process_problem: Callable[[], str | None] | None = None,
    ) -> None:
        self._worker = worker
        self._committer = committer
        self._is_listening = is_listening
        self._web_process_problem = web_process_problem
        self._readiness = SingleFlight("readiness", readiness.problem)
        self._metrics = MetricsApp(committer)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answers one probe."""
        if scope["method"] not in ("GET", "HEAD"):
            await send_error(send, 405, "method_not_allowed", "Ask with GET.", headers=((b"allow", b"GET, HEAD"),))
            return
        match scope["path"]:
            case "/healthz":
                await _respond(send, self.problem_with_health())
            case "/readyz":
                await _respond(send, self.problem_with_health() or await self.problem_with_readiness())
            case "/metrics":
                await self._metrics(scope, receive, send)
            case _:
                await send_error(send, 404, "not_found", "There is no such probe.")

    def problem_with_health(self) -> str | None:
        """Why this process should be restarted, as a sentence; None while it and its tasks are alive. No I/O."""
        if self._committer is not None and not self._committer.is_alive():
            return "The committer has ended."
        if not self._is_listening():
            return "The listener has ended."
        if not self._worker.is_healthy():
            return "Loops died twice within a minute."
        return self._web_process_problem() if self._web_process_problem is not None else None

    async def problem_with_readiness(self) -> str | None:
        """Why this node should not receive messages now, as a sentence; None if it can accept them."""
        try:
            problem = await self._readiness.result(DEADLINE)
        except TimeoutError:
            return f"The database gave no answer within {DEADLINE:.0f} seconds."
        return str(problem) if problem else self._problem_with_writing()

    def _problem_with_writing(self) -> str | None:
        if self._committer is not None and self._committer.queue_status().oldest_age_seconds > MAX_WAIT_SECONDS:
            return "Messages have waited too long to be stored."
        rejecting = telemetry.seconds_rejecting()
        if rejecting is not None and rejecting < REJECTED_WITHIN:
            return "The last message could not be stored."
        since_write = self._worker.since_run(HEARTBEAT_TASK)
        has_stored = telemetry.seconds_since_commit() < NO_WRITES.total_seconds()
        if since_write is not None and since_write > NO_WRITES and not has_stored:
            return "The database has taken no write of this node for a while."
        return None


async def _respond(send: Send, problem: str | None) -> None:
    if problem is None:
        await send_response(send, 200, b"ok", content_type=_TEXT, headers=_NO_STORE)
    else:
        await send_response(send, 503, problem.encode(), content_type=_TEXT, headers=_NO_STORE)
