"""Behind PgBouncer in transaction mode, time limits hold, and no setting reaches another client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from django.db import connection as django_connection
from django.db import transaction

from tests.doubles.pgbouncer import pgbouncer
from tests.support.ingest import halo, make_integration
from tests.support.integrations import inbound_server, rows
from tests.support.postgres import in_use
from tests.support.variants import first
from tocsin.core.db import database as db
from tocsin.core.db import migrate
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.inbound import email
from tocsin.inbound.admin import secrets
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.processing.drain import drain
from tocsin.operate.backup import writing
from tocsin.operate.backup.archive import ArchiveKeys
from tocsin.operate.checks.database import check_timeouts
from tocsin.operate.doctor import examine

_LIMITS = """
SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'),
       current_setting('TimeZone')
"""
_IN_FORCE = ("30s", "15s", "UTC")

#: What the sessions of a server have that nobody has set.
_UNTOUCHED = """
SELECT name, setting FROM pg_settings WHERE source = 'session' AND name NOT IN
('application_name', 'client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone', 'standard_conforming_strings')
"""


@pytest.fixture
def pooled(database: str) -> Iterator[str]:
    """Tocsin and Django reach the database through PgBouncer. Gives the URL."""
    with pgbouncer(database) as url, in_use(url):
        yield url


@pytest.fixture
def single(database: str) -> Iterator[str]:
    """As `pooled`; all clients share one session of the server."""
    with pgbouncer(database, sessions=1) as url, in_use(url):
        yield url


def settings_of_session(url: str) -> list[tuple[str, str]]:
    """Settings that the only session of the server kept from its last client."""
    with psycopg.connect(url, autocommit=True) as other:
        return other.execute(_UNTOUCHED).fetchall()


def test_only_connections_through_a_pooler_count_as_pooled(database: str) -> None:
    with db.connect(name="test") as direct:
        assert not direct.is_pooled
    with pgbouncer(database) as url, in_use(url), db.connect(name="test") as connection:
        assert connection.is_pooled


def test_tables_are_not_migrated_behind_a_pooler(pooled: str) -> None:
    with db.connect(name="test") as connection:
        connection.execute("DELETE FROM django_migrations WHERE app = 'workflows'")
    with pytest.raises(Permanent) as caught:
        migrate.migrate()
    codes = [caught.value.reason.code, caught.value.remedy_reason.code]
    assert codes == [
        "The tables cannot be migrated by a connection pooler in transaction mode, because locks do not hold there. "
        "Nothing was changed.",
        "Point it at PostgreSQL itself, or set pool_mode = session for Tocsin's database in pgbouncer.ini.",
    ]


def test_time_limits_hold_in_transactions_behind_a_pooler(pooled: str) -> None:
    with db.transaction() as connection:
        assert connection.execute(_LIMITS).fetchone() == _IN_FORCE
        assert list(check_timeouts(connection)) == []
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute(_LIMITS)
        assert cursor.fetchone() == _IN_FORCE
    with db.connect(name="test") as connection:
        connection.begin()
        assert connection.execute(_LIMITS).fetchone() == _IN_FORCE
        connection.rollback()


def test_lifted_limit_is_lifted_in_transactions_behind_a_pooler(pooled: str) -> None:
    with db.connect(name="test") as connection:
        with connection.transaction():
            connection.lift_time_limit()
            assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        with connection.transaction():
            assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        connection.restore_time_limit()
        with connection.transaction():
            assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)


@pytest.mark.parametrize("mode", first(1, ["ACCESS EXCLUSIVE", "SHARE"]))
@pytest.mark.parametrize("is_pooled", [True, False])
def test_messages_behind_locked_alerts_are_answered(database: str, mode: str, *, is_pooled: bool) -> None:
    """While the table is locked, they stay pending; afterwards they open. CREATE INDEX locks in SHARE mode."""
    integration = make_integration()
    with pgbouncer(database) as url, in_use(url if is_pooled else database), inbound_server(max_wait=5) as server:
        assert server.post(integration, halo(1)).body["status"] == "Mapped Opened"
        with psycopg.connect(database) as operator:
            operator.execute(f"LOCK TABLE alerts_alert IN {mode} MODE".encode())
            answers = [server.post(integration, halo(number)) for number in range(2, 12)]
            operator.rollback()
        assert [(answer.status, answer.body["status"]) for answer in answers] == [(202, "Pending")] * 10
        registry = IntegrationRegistry()
        drain(registry, AlertIdAllocator(), clock.now())
        assert {row.status for row in rows()} == {MessageStatus.OPENED}


def test_ingest_leaves_no_setting_to_other_clients(single: str) -> None:
    integration = make_integration()
    # After a pipeline, PgBouncer 1.24 now and then keeps the session for its client until that one asks again.
    with inbound_server(max_wait=5) as server:
        assert server.post(integration, halo(1)).status == 200
    drain(IntegrationRegistry(), AlertIdAllocator(), clock.now())
    assert settings_of_session(single) == []


def test_doctor_leaves_no_setting_to_other_clients(pooled: str, now: datetime) -> None:
    examine(now)
    # All sessions at once.
    connections = [psycopg.connect(pooled) for _ in range(10)]
    try:
        for connection in connections:
            assert connection.execute(_UNTOUCHED).fetchall() == []
            assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)
    finally:
        for connection in connections:
            connection.close()


def test_backup_and_mailbox_leave_no_lock_behind_a_pooler(pooled: str, now: datetime, tmp_path: Path) -> None:
    integration = make_integration("Mails", "email")
    secrets.put_credentials(integration, {"imap": {"mailbox": "imap://reader@127.0.0.1:9/INBOX", "password": "x"}})
    integration.save()
    registry = IntegrationRegistry()
    registry.refresh()
    writing.write(tmp_path / "state", now, keys=ArchiveKeys())
    with pytest.raises((Temporary, Permanent)):
        email.poll(registry.get(integration.pk), now)
    with psycopg.connect(pooled) as connection:
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_doctor_cannot_write_behind_a_pooler(pooled: str) -> None:
    with db.connect(name="test") as connection:
        connection.forbid_writes()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), connection.transaction():
            connection.execute("CREATE TABLE written (id int)")
