"""Liveness, readiness and metrics of a node, also while PostgreSQL is stopped or hangs."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from queue import Queue

import psycopg
import pytest
from psycopg import sql
from pytest_django import DjangoDbBlocker

from tests.support.embedded_server import postmaster_pid
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import halo, make_integration, message
from tests.support.outbox_harness import configured
from tests.support.people import ACTOR, make_user
from tests.support.postgres import Postgres, in_use
from tocsin.access import tokens
from tocsin.access.roles import UNLIMITED
from tocsin.core.db import database, migrate
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.net.asgi import AsgiMessage, AsgiScope
from tocsin.core.runtime import clock, telemetry
from tocsin.core.runtime.periodic_tasks import PeriodicTask, Worker
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult
from tocsin.operate import http as exposition
from tocsin.operate.http import REJECTED_WITHIN, ProbesApp
from tocsin.operate.readiness import SingleFlight
from tocsin.operate.self_check import SelfCheckRunner
from tocsin.operate.tasks import HEARTBEAT_TASK
from tocsin.people.models import ContactMethod

LOOPBACK = ("127.0.0.1", 50000)
ELSEWHERE = ("192.0.2.7", 50000)


class ProbeResponse:
    """What a probe said."""

    def __init__(self, messages: list[AsgiMessage]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = {key.decode(): value.decode() for key, value in messages[0]["headers"]}
        self.text = b"".join(message.get("body", b"") for message in messages[1:]).decode()


def ask(
    probes: ProbesApp,
    path: str,
    *,
    method: str = "GET",
    client: tuple[str, int] = LOOPBACK,
    headers: dict[str, str] | None = None,
) -> ProbeResponse:
    """Asks as the server would."""
    return asyncio.run(_ask(probes, path, method, client, headers or {}))


async def _ask(
    probes: ProbesApp, path: str, method: str, client: tuple[str, int], headers: dict[str, str]
) -> ProbeResponse:
    sent: list[AsgiMessage] = []

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    async def receive() -> AsgiMessage:
        return {"type": "http.request", "body": b"", "more_body": False}

    whole = {"host": "localhost:8686", **headers}
    raw = [(name.encode(), value.encode()) for name, value in whole.items()]
    scope: AsgiScope = {"type": "http", "method": method, "path": path, "headers": raw, "client": client}
    await probes(scope, receive, send)
    return ProbeResponse(sent)


def made(worker: Worker | None = None, committer: Committer | None = None, *, listens: bool = True) -> ProbesApp:
    return ProbesApp(worker=worker or Worker(()), committer=committer, is_listening=lambda: listens)


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what earlier tests of this process rejected."""
    monkeypatch.setattr(telemetry, "_rejected_at", float("-inf"))


@pytest.fixture
def durable(postgres: Postgres, database: str) -> Iterator[str]:
    """The test's database, on a server whose settings are as durable as a real one's for that long."""
    with _settings(postgres, fsync="on", full_page_writes="on", synchronous_commit="on"):
        yield database


@contextmanager
def _settings(postgres: Postgres, **settings: str) -> Iterator[None]:
    """The server's settings changed for a while, in every new session."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        before = {name: _value_of(connection, name) for name in settings}
        _set(connection, settings)
        try:
            database.close()
            yield
        finally:
            _set(connection, before)


def _value_of(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _set(connection: psycopg.Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    connection.execute("SELECT pg_reload_conf()")
    # The server reads its files in its own time.
    while any(_value_of(connection, name) != value for name, value in settings.items()):
        connection.execute("SELECT pg_sleep(0.01)")


@pytest.fixture
def registry(durable: str) -> IntegrationRegistry:
    known = IntegrationRegistry()
    known.refresh()
    return known


@pytest.fixture
def committer(registry: IntegrationRegistry) -> Iterator[Committer]:
    running = Committer(registry)
    running.start()
    yield running
    running.stop(5)


def test_running_node_is_healthy_and_ready(committer: Committer) -> None:
    probes = made(committer=committer)
    for path in ("/healthz", "/readyz"):
        answer = ask(probes, path)
        assert (answer.status, answer.text) == (200, "ok")
        assert answer.headers["cache-control"] == "no-store"


def test_probes_accept_get_and_head(database: str) -> None:
    assert ask(made(), "/healthz", method="HEAD").status == 200
    refused = ask(made(), "/healthz", method="POST")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


def test_stopped_committer_or_listener_fails_health_and_readiness(committer: Committer) -> None:
    committer.stop(5)
    assert ask(made(committer=committer), "/healthz").text == "The committer has ended."
    assert ask(made(committer=committer), "/readyz").status == 503
    assert ask(made(listens=False), "/healthz").text == "The listener has ended."


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_loops_that_die_twice_in_a_minute_are_no_health() -> None:
    def die() -> bool:
        raise SystemExit

    worker = Worker([PeriodicTask("dying", die, timedelta(seconds=1))])
    worker.start()
    worker.threads["dying"].join(5)
    worker.supervise()
    assert ask(made(worker), "/healthz").status == 200
    worker.threads["dying"].join(5)
    worker.supervise()
    assert ask(made(worker), "/healthz").text == "Loops died twice within a minute."
    worker.stop(5)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("fsync", "off", "fsync is off: a power failure can lose accepted messages."),
        ("synchronous_commit", "off", "synchronous_commit is off: a crash can lose the last accepted messages."),
        ("default_transaction_read_only", "on", "The database accepts no writes."),
        (
            "synchronous_standby_names",
            "replica",
            "Commits wait for a synchronous standby, but none is connected: nothing can be stored.",
        ),
    ],
)
def test_server_that_could_lose_messages_is_not_ready(
    durable: str, postgres: Postgres, setting: str, value: str, reason: str
) -> None:
    with _settings(postgres, **{setting: value}):
        answer = ask(made(), "/readyz")
    assert (answer.status, answer.text) == (503, reason)


def test_tables_that_are_too_old_are_not_ready(committer: Committer) -> None:
    with database.transaction() as connection:
        connection.execute("DELETE FROM django_migrations WHERE app = 'operate'")
    answer = ask(made(), "/readyz")
    assert answer.status == 503
    assert "migrations are missing, such as operate.0001_initial" in answer.text


def test_a_database_without_any_tables_is_not_ready(durable: str, postgres: Postgres) -> None:
    url = postgres.make("bare")
    try:
        with in_use(url):
            answer = ask(made(), "/readyz")
    finally:
        postgres.drop("bare")
    assert answer.status == 503
    assert "outdated" in answer.text


def test_a_clock_that_is_off_is_ready_and_logged(
    committer: Committer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clock, "_skew", timedelta(seconds=-2.5))
    monkeypatch.setattr(clock, "_measured_at", time.monotonic())
    assert ask(made(), "/readyz").status == 200
    assert "This machine's clock and the database's are 2.5 seconds apart" in caplog.text


@contextmanager
def _no_new_connections(postgres: Postgres, name: str) -> Iterator[None]:
    """To that database, as on a server whose connections are all taken; those that there are stay."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def _name(url: str) -> str:
    with psycopg.connect(url) as connection:
        return connection.info.dbname


def test_a_node_is_ready_by_connections_that_it_has(durable: str, postgres: Postgres) -> None:
    assert ask(made(), "/readyz").status == 200
    with _no_new_connections(postgres, _name(durable)):
        assert ask(made(), "/readyz").status == 200


def test_node_storing_messages_is_ready_without_a_free_connection(
    registry: IntegrationRegistry,
    committer: Committer,
    durable: str,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    integration = make_integration()
    registry.refresh()
    name = _name(durable)
    _store(committer, message(integration, halo(1)))
    database.close()
    with _no_new_connections(postgres, name):
        monkeypatch.setattr(telemetry, "_committed_at", float("-inf"))
        refused = ask(made(committer=committer), "/readyz")
        assert (refused.status, refused.text) == (503, "The database is unavailable.")
        _store(committer, message(integration, halo(2)))
        assert ask(made(committer=committer), "/readyz").status == 200
        worker = _last_ran(HEARTBEAT_TASK, 31, monkeypatch)
        assert ask(made(worker, committer), "/readyz").status == 200


def test_node_rejecting_messages_is_not_ready(registry: IntegrationRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    integration = make_integration()
    registry.refresh()
    committer = Committer(registry, max_wait=0.2)
    committer.start()
    probes = made(committer=committer)
    try:
        with database.transaction() as other:
            other.execute("LOCK TABLE inbound_inboundmessage IN SHARE MODE")
            assert isinstance(_put(committer, message(integration, halo(1))), NotStored)
            assert ask(probes, "/readyz").text == "The last message could not be stored."
            # The node may be tried again, even if the database still cannot be used.
            monkeypatch.setattr(telemetry, "_rejected_at", time.monotonic() - REJECTED_WITHIN)
            assert ask(probes, "/readyz").status == 200
            assert isinstance(_put(committer, message(integration, halo(1))), NotStored)
        assert ask(probes, "/readyz").status == 503
        _store(committer, message(integration, halo(1)))
        assert ask(probes, "/readyz").status == 200
    finally:
        committer.stop(5)


def _last_ran(task: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker(())
    with monkeypatch.context() as earlier:
        at = time.monotonic() - seconds
        earlier.setattr(time, "monotonic", lambda: at)
        worker.record_run(task)
    return worker


def _store(committer: Committer, incoming: IncomingMessage) -> None:
    assert isinstance(_put(committer, incoming), list)


def _put(committer: Committer, incoming: IncomingMessage) -> list[MessageResult] | Exception:
    answers: Queue[list[MessageResult] | Exception] = Queue()
    assert committer.put(IngestRequest([incoming], 100, answers.put))
    return answers.get(timeout=10)


def test_node_with_failing_writes_is_not_ready(committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_committed_at", float("-inf"))
    worker = _last_ran(HEARTBEAT_TASK, 31, monkeypatch)
    answer = ask(made(worker), "/readyz")
    assert (answer.status, answer.text) == (503, "The database has taken no write of this node for a while.")


@pytest.mark.parametrize("stopped_by", [signal.SIGSTOP, signal.SIGKILL])
def test_readiness_answers_in_bounded_time_during_postgresql_outage(
    data_dir: Path, stopped_by: signal.Signals, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock(), EmbeddedPostgres(data_dir) as embedded:
        url = embedded.start()
        with in_use(url):
            migrate.migrate()
            probes = made()
            assert ask(probes, "/readyz").status == 200
            processes = _processes(postmaster_pid(data_dir))
            _signal(processes, stopped_by)
            try:
                for _ in range(2):
                    begin = time.monotonic()
                    answer = ask(probes, "/readyz")
                    assert answer.status == 503
                    assert answer.text in (
                        "The database is unavailable.",
                        "The database gave no answer within 4 seconds.",
                    )
                    assert time.monotonic() - begin < 5
                assert ask(probes, "/healthz").status == 200
                metrics = ask(probes, "/metrics")
                assert (metrics.status, "tocsin_database_up 0.0" in metrics.text) == (200, True)
            finally:
                _signal(processes, signal.SIGCONT)
            embedded.start()
            assert ask(probes, "/readyz").status == 200


def test_concurrent_probes_share_one_pending_check() -> None:
    request_counts: list[int] = []
    release = threading.Event()

    def hang() -> str:
        request_counts.append(1)
        release.wait(10)
        return "answered"

    async def several() -> list[object]:
        inquiry = SingleFlight("test", hang)
        late = await asyncio.gather(*(inquiry.result(0.05) for _ in range(3)), return_exceptions=True)
        release.set()
        return [*late, await inquiry.result(5)]

    *late, last = asyncio.run(several())
    assert [type(one) for one in late] == [TimeoutError] * 3
    assert (len(request_counts), last) == (1, "answered")


def test_the_metrics_tell_what_the_database_and_this_process_know(
    committer: Committer, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(monkeypatch, smtp_url="smtp://127.0.0.1:1", email_from="Tocsin <tocsin@example.org>")
    with escalation_enabled():
        desk = EscalationHarness(now)
        ContactMethod.objects.filter(channel="sms").delete()
        desk.open()
        desk.run_until(0)
        desk.open()
    SelfCheckRunner(now=lambda: now, heartbeat_url=lambda: None).run_once()
    text = ask(made(committer=committer), "/metrics").text
    for line in (
        "tocsin_database_up 1.0",
        'tocsin_alerts{status="open"} 2.0',
        'tocsin_alerts{status="on_hold"} 0.0',
        "tocsin_runs_waiting 2.0",
        'tocsin_outbox{channel="email",status="queued"} 1.0',
        "tocsin_messages_pending 0.0",
        "tocsin_queue_messages 0.0",
        "tocsin_paging_ok 1.0",
    ):
        assert f"\n{line}\n" in text, line
    assert "tocsin_pool_connections_max 10.0" in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.usefixtures("database")
def test_metrics_tell_providers_risks_and_errors() -> None:
    handler = telemetry.CountingHandler(io.StringIO())
    with database.transaction() as connection:
        connection.execute("INSERT INTO notify_providerhealth (name, is_open) VALUES ('twilio', true), ('smtp', false)")
    before = _value(ask(made(), "/metrics").text, "tocsin_errors_total")
    for level in (logging.ERROR, logging.WARNING):
        handler.handle(logging.makeLogRecord({"name": "tocsin", "levelno": level, "msg": "of a test"}))
    text = ask(made(), "/metrics").text
    assert _value(text, "tocsin_errors_total") == before + 1
    assert _value(text, 'tocsin_provider_up{provider="smtp"}') == 1
    assert _value(text, 'tocsin_provider_up{provider="twilio"}') == 0
    # The tests' server runs without fsync.
    assert _value(text, 'tocsin_database_risk{risk="fsync"}') == 1


def test_the_committer_counts_what_it_stores(registry: IntegrationRegistry, committer: Committer) -> None:
    integration = make_integration()
    registry.refresh()
    done = threading.Event()
    before = _value(ask(made(), "/metrics").text, 'tocsin_messages_total{status="Mapped Opened"}')
    incoming = [message(integration, halo(1)), message(integration, halo(2))]
    assert committer.put(IngestRequest(incoming, 100, lambda _: done.set()))
    assert done.wait(10)
    text = ask(made(), "/metrics").text
    assert _value(text, 'tocsin_messages_total{status="Mapped Opened"}') == before + 2
    assert _value(text, "tocsin_batch_seconds_count") >= 1


def test_metrics_are_local_or_require_a_token(database: str, now: datetime) -> None:
    secret = tokens.create(make_user("erin", now), "prometheus", limits=UNLIMITED, actor=ACTOR, now=now).secret
    probes = made()
    assert ask(probes, "/metrics").status == 200
    forwarded = {"x-forwarded-for": "192.0.2.7"}
    for client, headers in (
        (ELSEWHERE, {}),
        (LOOPBACK, forwarded),
        (LOOPBACK, {"forwarded": "for=192.0.2.7"}),
        (LOOPBACK, {"host": "tocsin.example.org"}),
        (ELSEWHERE, {"authorization": "Bearer wrong"}),
        (ELSEWHERE, {"authorization": f"Basic {secret}"}),
        (ELSEWHERE, {"authorization": "Bearer "}),
    ):
        refused = ask(probes, "/metrics", client=client, headers=headers)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "tocsin_alerts" not in refused.text
    for headers in ({}, forwarded):
        allowed = ask(probes, "/metrics", client=ELSEWHERE, headers={**headers, "authorization": f"bearer {secret}"})
        assert allowed.status == 200
        assert allowed.headers["content-type"].startswith("text/plain; version=")


def test_concurrent_metrics_requests_share_one_connection(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most = 0, 0

    def watched(secret: str, address: str | None) -> bool:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            return is_token(secret, address)
        finally:
            at_work -= 1

    is_token = exposition._is_token
    monkeypatch.setattr(exposition, "_is_token", watched)

    async def many(probes: ProbesApp) -> list[ProbeResponse]:
        headers = {"authorization": "Bearer wrong"}
        return await asyncio.gather(*(_ask(probes, "/metrics", "GET", ELSEWHERE, headers) for _ in range(20)))

    assert {answer.status for answer in asyncio.run(many(made()))} == {401}
    assert most == 1


def _value(text: str, name: str) -> float:
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)), 0.0)


def _processes(postmaster: int) -> list[int]:
    """The server's processes: the postmaster and its children."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


def _signal(processes: list[int], number: signal.Signals) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
