"""Health probes and Prometheus metrics over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

import psycopg
from django.db import DatabaseError, connections
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from psycopg_pool import PoolTimeout

import tocsin
from tocsin.access import tokens
from tocsin.core.db import database
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
from tocsin.inbound.processing.committer import MAX_WAIT_SECONDS, Committer
from tocsin.operate import gauges, readiness
from tocsin.operate.readiness import SingleFlight
from tocsin.operate.tasks import HEARTBEAT_TASK

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
        yield from gauges.pool_gauges(database.pool().get_stats())
        if self._committer is not None:
            yield from gauges.queue_gauges(self._committer.queue_status())


_UP = "1 while the database answers; otherwise the gauges from the database are missing."


def _from_database() -> list[Metric]:
    with database.pool().connection(timeout=3) as connection, connection.transaction():
        families = gauges.database_gauges(connection, clock.now())
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
