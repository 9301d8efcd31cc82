"""A message is answered once a synchronous standby has it, however PostgreSQL's wait for the standby ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import psycopg
import pytest
from psycopg import sql
from pytest_django import DjangoDbBlocker

from tests.support.ingest import halo, make_integration, message
from tests.support.postgres import in_use
from tocsin.core.db import migrate
from tocsin.core.embedded_postgres.lifecycle import EmbeddedPostgres
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored
from tocsin.inbound.storage.messages import MessageResult


@pytest.fixture
def primary(data_dir: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A server with Tocsin's tables that can have standbys."""
    with django_db_blocker.unblock(), EmbeddedPostgres(data_dir) as embedded:
        url = embedded.start()
        with in_use(url):
            migrate.migrate()
            yield url


def set_standbys(connection: psycopg.Connection, names: str) -> None:
    """Names the standbys that commits wait for; an empty text ends all waits."""
    setting = sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}")
    # Without waiting for the standby itself.
    connection.execute("SET synchronous_commit = local")
    connection.execute(setting.format(sql.Literal(names)))
    connection.execute("SELECT pg_reload_conf()")
    wait_until(connection, "SELECT current_setting('synchronous_standby_names') = %s", names)


def wait_until(connection: psycopg.Connection, query: str, *parameters: object) -> None:
    for _ in range(500):
        row = connection.execute(query.encode(), parameters).fetchone()
        if row is not None and row[0]:
            return
        connection.execute("SELECT pg_sleep(0.02)")
    pytest.fail(query)


WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'tocsin committer' "
    "AND pid || query <> %s"
)


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("is_patient", [True, False])
def test_ended_wait_for_a_standby_is_no_answer(primary: str, end: str, *, is_patient: bool) -> None:
    integration = make_integration()
    registry = IntegrationRegistry()
    registry.refresh()
    committer = Committer(registry, max_wait=60 if is_patient else 0)
    answers: Queue[list[MessageResult] | Exception] = Queue()
    with psycopg.connect(primary, autocommit=True) as operator:
        set_standbys(operator, "missing")
        committer.start()
        try:
            assert committer.put(IngestRequest([message(integration, halo(1))], 100, answers.put))
            wait_until(operator, WAITING, "")
            row = operator.execute("SELECT pid || query FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone()
            assert row is not None
            operator.execute(
                f"SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'".encode(),
            )
            if is_patient:
                wait_until(operator, WAITING, row[0])
                assert answers.empty()
                set_standbys(operator, "")
                assert isinstance(answers.get(timeout=10), list)
            else:
                assert isinstance(answers.get(timeout=10), NotStored)
        finally:
            set_standbys(operator, "")
            committer.stop(10)
