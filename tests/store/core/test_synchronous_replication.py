"""Answers, pages and calls rest on what a synchronous standby has, however PostgreSQL's wait for it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from queue import Queue

import psycopg
import pytest
from django.db import connection as django_connection
from django.db import transaction

from tests.doubles.http import http_double
from tests.doubles.smtp import smtp_double
from tests.support.ingest import halo, make_integration, message
from tests.support.outbound_harness import desk
from tests.support.outbox_harness import allow_loopback, outbox_harness
from tests.support.replication import set_standbys, wait_until
from tocsin.core.db import database
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored
from tocsin.inbound.storage.messages import MessageResult

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


# --- background tasks

#: A statement that waits for a standby, but for the one that began at this moment.
_NEXT_WAIT = "SELECT query_start::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query_start::text <> %s"

CANCEL, TERMINATE = "pg_cancel_backend", "pg_terminate_backend"


class Standby:
    """A missing standby that commits wait for, until it is no longer waited for."""

    def __init__(self, operator: psycopg.Connection) -> None:
        self._operator = operator

    def end_wait(self, end: str) -> str:
        """Ends the wait of a commit, once it waits; when its statement began."""
        wait_until(self._operator, f"SELECT EXISTS ({_NEXT_WAIT})", "")
        row = self._operator.execute(_NEXT_WAIT, ("",)).fetchone()
        assert row is not None
        self._operator.execute(f"SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'".encode())
        return str(row[0])

    def wait_for_next(self, earlier: str) -> None:
        """Returns once a commit waits after the one that `end_wait` ended."""
        wait_until(self._operator, f"SELECT EXISTS ({_NEXT_WAIT})", earlier)

    def release(self) -> None:
        set_standbys(self._operator, "")


@contextmanager
def missing_standby(primary: str) -> Iterator[Standby]:
    with psycopg.connect(primary, autocommit=True) as operator:
        set_standbys(operator, "missing")
        standby = Standby(operator)
        try:
            yield standby
        finally:
            standby.release()


def check_work_waits(primary: str, work: Callable[[], object], effects: Callable[[], int], end: str) -> None:
    """Checks that what `work` does outside happens only after its commits are confirmed, or after another's are."""
    assert effects() == 0
    with ThreadPoolExecutor(1) as thread, missing_standby(primary) as standby:
        running = thread.submit(work)
        ended = standby.end_wait(end)
        if end == TERMINATE:
            with pytest.raises(psycopg.OperationalError):
                running.result(10)
            running = thread.submit(work)
        standby.wait_for_next(ended)
        assert not running.done()
        assert effects() == 0
        standby.release()
        running.result(10)


@pytest.mark.parametrize("end", [CANCEL, TERMINATE])
def test_page_leaves_after_its_claim_is_confirmed(
    primary: str, now: datetime, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    with smtp_double() as mail, outbox_harness(now) as post:
        allow_loopback(monkeypatch, smtp_url=mail.url, email_from="Tocsin <tocsin@example.org>")
        post.user("alice")
        post.page(post.alert(), "alice")
        outbox = post.outbox()
        check_work_waits(primary, outbox.run_once, lambda: len(mail.mails), end)
        outbox.settle()
        # A claim whose connection was lost is taken over once its lease expires.
        assert len(mail.mails) == (1 if end == CANCEL else 0)


@pytest.mark.parametrize("end", [CANCEL, TERMINATE])
def test_call_leaves_after_its_claim_is_confirmed(
    primary: str, now: datetime, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    allow_loopback(monkeypatch)
    with http_double() as other, desk(now) as at:
        at.queue(at.integration(url=other.url), "a")
        outbox = at.outbox()
        check_work_waits(primary, outbox.run_once, lambda: len(other.requests), end)
        outbox.settle()
        assert len(other.requests) == (1 if end == CANCEL else 0)


def test_cancelled_wait_is_confirmed_for_django_too(primary: str) -> None:
    def write() -> None:
        with transaction.atomic(), django_connection.cursor() as cursor:
            cursor.execute("CREATE TABLE written (id int)")
        django_connection.close()

    with ThreadPoolExecutor(1) as thread, missing_standby(primary) as standby:
        running = thread.submit(write)
        standby.wait_for_next(standby.end_wait(CANCEL))
        assert not running.done()
        standby.release()
        running.result(10)


def test_read_after_lost_commit_waits_for_standby(primary: str) -> None:
    """What it reads may be the transaction whose outcome is unknown."""

    def write() -> None:
        with database.transaction() as connection:
            connection.execute("CREATE TABLE written (id int)")

    def read() -> list[object]:
        with database.transaction() as connection:
            return list(connection.execute("SELECT * FROM written"))

    with ThreadPoolExecutor(1) as thread, missing_standby(primary) as standby:
        running = thread.submit(write)
        ended = standby.end_wait(TERMINATE)
        with pytest.raises(psycopg.OperationalError):
            running.result(10)
        reading = thread.submit(read)
        standby.wait_for_next(ended)
        assert not reading.done()
        standby.release()
        assert reading.result(10) == []
