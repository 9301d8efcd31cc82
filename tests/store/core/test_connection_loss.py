"""Connections to a read-only, frozen or replaced server are replaced without losing messages."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection as django_connection
from django.db.utils import InternalError
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.doubles.postgres_relay import relay_to
from tests.support.ingest import halo, make_integration, message
from tests.support.integrations import InboundServer, inbound_server, rows
from tests.support.postgres import in_use
from tocsin.core.db import database as db
from tocsin.core.runtime import clock
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.processing.batch import AlertIdAllocator, process

_WRITE = "CREATE TABLE IF NOT EXISTS written (id int)"


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """New sessions of the database of `url` are read-only until the end, and stay so: those of a hot standby."""
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))


@pytest.fixture
def node(database: str) -> Iterator[InboundServer]:
    with inbound_server(max_wait=1) as made:
        yield made


# --- read-only servers


def test_ingest_recovers_from_a_connection_to_a_read_only_server(node: InboundServer, database: str) -> None:
    integration = make_integration()
    assert node.post(integration, halo(1)).status == 200
    with db.connect(name="test") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'tocsin committer'"
        )
    with read_only(database):
        assert node.post(integration, halo(2)).status == 503
    reply = node.post(integration, halo(3))
    assert (reply.status, reply.body["status"]) == (200, "Mapped Opened")
    assert "Mapping Failed" not in {row.status for row in rows()}


def test_the_pool_replaces_connections_to_a_read_only_server(database: str) -> None:
    db.close()
    with read_only(database):
        with db.pool().connection(), db.pool().connection():
            pass  # Two that the pool keeps.
        with pytest.raises(errors.ReadOnlySqlTransaction), db.transaction() as connection:
            connection.execute(_WRITE)
    for _ in range(3):
        with db.transaction() as connection:
            connection.execute(_WRITE)


def test_django_replaces_a_connection_to_a_read_only_server(database: str) -> None:
    django_connection.close()
    with read_only(database), django_connection.cursor() as cursor, pytest.raises(InternalError):
        cursor.execute(_WRITE)
    django_connection.close_if_unusable_or_obsolete()
    with django_connection.cursor() as cursor:
        cursor.execute(_WRITE)


def test_django_checks_at_each_request_that_its_server_is_writable(database: str) -> None:
    django_connection.close()
    with read_only(database), django_connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    # What the signal request_started does.
    django_connection.close_if_unusable_or_obsolete()
    with django_connection.cursor() as cursor:
        cursor.execute(_WRITE)


#: The first statement that stores messages fails, as on a server with a fault of its own.
_FAILS_ONCE = """
CREATE SEQUENCE failures;
CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('failures') = 1 THEN RAISE EXCEPTION USING ERRCODE = 'internal_error'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail_once AFTER INSERT ON inbound_inboundmessage FOR EACH STATEMENT EXECUTE FUNCTION fail_once();
"""


def test_numbers_of_a_failed_batch_cost_no_later_message(database: str) -> None:
    registry, numbers = IntegrationRegistry(), AlertIdAllocator()
    integration = make_integration()
    registry.refresh()
    with db.connect(name="test") as connection:
        connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(errors.ReadOnlySqlTransaction):
            process(connection, registry, numbers, [message(integration, halo(1))], clock.now())
    with db.connect(name="test") as connection:
        (stored,) = process(connection, registry, numbers, [message(integration, halo(2))], clock.now())
    assert stored.status is MessageStatus.OPENED


def test_a_message_that_fails_only_once_is_no_poison(node: InboundServer, database: str) -> None:
    integration = make_integration()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(_FAILS_ONCE)
    reply = node.post(integration, halo(1))
    assert (reply.status, reply.body["status"]) == (200, "Mapped Opened")


# --- frozen servers


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "PROBE_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(db, "PROBE_TIMEOUT", 2)


@pytest.mark.usefixtures("impatient")
def test_a_statement_ends_when_its_server_has_frozen(database: str) -> None:
    with relay_to(database) as relay, in_use(relay.url(database)), db.connect(name="test") as connection:
        relay.mute()
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="has not answered"):
            connection.execute("SELECT 1")
        assert connection.closed
        assert time.monotonic() - began < 10


@pytest.mark.usefixtures("impatient")
def test_slow_statement_on_a_live_server_continues(database: str) -> None:
    with relay_to(database) as relay, in_use(relay.url(database)), db.connect(name="test") as connection:
        accepted = relay.accepted
        assert connection.execute("SELECT pg_sleep(1)").fetchone() == ("",)
        assert relay.accepted > accepted, "nobody asked whether the server lives"


@pytest.mark.usefixtures("impatient")
def test_a_statement_on_a_frozen_backend_ends_after_its_timeout(database: str) -> None:
    with relay_to(database) as relay, in_use(relay.url(database)), db.connect(name="test") as connection:
        connection.max_silence = 0.5
        pid = connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(psycopg.OperationalError, match="has not answered"):
                connection.execute("SELECT 1")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert not db.connect(name="test").is_outdated


@pytest.mark.usefixtures("impatient")
def test_a_statement_ends_when_its_address_leads_to_another_server(database: str) -> None:
    """A virtual IP address has moved, and the old server's session went without a word."""
    with relay_to(database) as relay, in_use(relay.url(database)), db.connect(name="test") as connection:
        relay.mute()
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,))
        relay.move()
        with pytest.raises(psycopg.OperationalError, match="has not answered"):
            connection.execute("SELECT 1")


@pytest.mark.usefixtures("impatient")
def test_one_frozen_connection_has_the_pool_replace_all_at_once(database: str) -> None:
    with relay_to(database) as relay, in_use(relay.url(database)):
        with db.pool().connection(), db.pool().connection(), db.pool().connection():
            pass  # The pool keeps three.
        relay.mute()
        with pytest.raises(psycopg.OperationalError), db.transaction() as connection:
            connection.execute("SELECT 1")
        relay.move()
        began = time.monotonic()
        with db.transaction() as connection:
            connection.execute("SELECT 1")
        assert time.monotonic() - began < 4


def test_every_connection_has_timeouts_unless_the_address_sets_them(database: str) -> None:
    with relay_to(database) as relay:
        with in_use(relay.url(database)), db.connect(name="test") as own, db.pool().connection() as pooled:
            django_connection.ensure_connection()
            for connection in (own, pooled, django_connection.connection):
                assert tcp_settings(connection) == (8_000, 1, 4, 2, 2)
        own_values = make_conninfo(relay.url(database), tcp_user_timeout=30_000, keepalives_idle=9)
        with in_use(own_values), db.connect(name="test") as own:
            assert tcp_settings(own) == (30_000, 1, 9, 2, 2)


def tcp_settings(connection: psycopg.Connection) -> tuple[int, ...]:
    """What the kernel does for the connection."""
    with socket.socket(fileno=os.dup(connection.fileno())) as tcp:
        return (
            tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        )


def test_of_several_servers_the_one_that_takes_writes_is_used() -> None:
    several = "postgresql://a:5432,b:5433/t"
    expected = {"": "read-write", "?target_session_attrs=any": "any"}
    for text, attrs in expected.items():
        options = db.django_settings(several + text)["OPTIONS"]
        assert isinstance(options, dict)
        assert options["target_session_attrs"] == attrs
    one = db.django_settings("postgresql://a:5432/t")["OPTIONS"]
    assert isinstance(one, dict)
    assert "target_session_attrs" not in one
