"""The health checks: Home shows the findings of the cheap ones, `tocsin doctor` and System those of all.

Each finding describes a problem and its remedy. A check changes and sends nothing: the doctor's database connections
are read-only. A check that crashes or takes too long becomes a finding and does not stop the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection as django_connection

from tocsin.core.db import database, start_up
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Term, Text, sentence
from tocsin.core.runtime.periodic_tasks import start_call
from tocsin.operate.checks import database as postgres
from tocsin.operate.checks import integrations, machine, people
from tocsin.operate.finding import HealthFinding, reason_of_future

log = logging.getLogger(__name__)

#: For each check that asks the database or this machine.
DEADLINE = timedelta(seconds=10)
#: For each check that asks other servers. Providers and mailboxes are given up earlier, each with its own finding.
REMOTE_DEADLINE = timedelta(seconds=30)
#: After this time no further check begins.
TOTAL_DEADLINE = timedelta(seconds=45)

#: The SQLSTATE of a server that has no connection left (too_many_connections).
_TOO_MANY_CONNECTIONS = "53300"

_UNUSABLE = Text("The database is unavailable: {error}")
_UNUSABLE_REMEDY = Text(
    "Check TOCSIN_DATABASE_URL and the server; for the built-in server, check the log in its folder."
)
_FAILED = Text("Check of {area}: {error}")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A check of one area, by a connection and the time. It may use Django's connection too."""

    area: Term
    run: Callable[[Connection, datetime], Iterable[HealthFinding]]
    #: Whether Home shows its findings: it asks only the database, and little of it.
    is_cheap: bool = False
    #: Whether it asks other servers, and therefore runs beside the others.
    is_remote: bool = False
    #: Whether Home may show them some minutes late, unless the configuration changes.
    is_cached: bool = False


_DATABASE = HealthCheck(Term("database"), lambda connection, now: postgres.check(connection))

#: The checks that need Tocsin's tables.
CHECKS: tuple[HealthCheck, ...] = (
    HealthCheck(Term("running"), lambda connection, now: machine.check_running(connection), is_cheap=True),
    HealthCheck(Term("alerts"), lambda connection, now: people.check_alerts(connection), is_cheap=True),
    HealthCheck(Term("connections"), lambda connection, now: postgres.check_connections(connection)),
    HealthCheck(Term("secrets"), lambda connection, now: integrations.check_secrets(connection)),
    HealthCheck(Term("backups"), machine.check_backups, is_cheap=True),
    HealthCheck(Term("keys"), lambda connection, now: machine.check_keys(connection)),
    HealthCheck(Term("audit log"), machine.check_audit_log),
    HealthCheck(Term("audit log"), machine.check_forwarding, is_cheap=True),
    HealthCheck(Term("single sign-on"), lambda connection, now: machine.check_certificates(now), is_cheap=True),
    HealthCheck(Term("deliveries"), lambda connection, now: integrations.check_deliveries(now), is_cheap=True),
    HealthCheck(Term("providers"), lambda connection, now: integrations.check_providers(connection), is_remote=True),
    HealthCheck(Term("mailboxes"), lambda connection, now: integrations.check_last_poll(connection), is_cheap=True),
    HealthCheck(Term("mailboxes"), lambda connection, now: integrations.check_mailboxes(), is_remote=True),
    HealthCheck(Term("outbound"), lambda connection, now: integrations.check_outbound(connection), is_cheap=True),
    HealthCheck(Term("workflows"), lambda connection, now: integrations.check_workflows(connection), is_cheap=True),
    HealthCheck(Term("integrations"), integrations.check, is_cheap=True),
    HealthCheck(Term("dry run"), integrations.check_dry_runs, is_cheap=True, is_cached=True),
    HealthCheck(
        Term("maintenance"), lambda connection, now: integrations.check_maintenance(now), is_cheap=True, is_cached=True
    ),
    HealthCheck(
        Term("messages"),
        lambda connection, now: integrations.check_messages(now),
        is_cheap=True,
        is_cached=True,
    ),
    HealthCheck(Term("people"), people.check, is_cheap=True, is_cached=True),
    HealthCheck(Term("recipients"), lambda connection, now: integrations.check_reach(now)),
    HealthCheck(Term("on call"), people.check_on_call, is_cheap=True, is_cached=True),
)


def find(now: datetime) -> Iterator[HealthFinding]:
    """Runs all checks at `now` and yields each finding once it is known.

    Checks that ask other servers run beside the others. Within TOTAL_DEADLINE, and the deadline of the last check,
    everything is checked or named as unchecked.
    """
    begun_at = time.monotonic()
    beside = [_start(Term("machine"), machine.check), _start_address(now)]
    is_usable = True
    for finding in _start_check(_DATABASE, now).findings():
        # Without Tocsin's tables, no further check is possible.
        is_usable = is_usable and finding.id != "database.tables"
        yield finding
    beside += [_start_check(check, now) for check in CHECKS if check.is_remote and is_usable]
    unchecked: list[Term] = []
    for check in CHECKS:
        if is_usable and not check.is_remote:
            if time.monotonic() - begun_at < TOTAL_DEADLINE.total_seconds():
                yield from _start_check(check, now).findings()
            else:
                unchecked.append(check.area)
    for started in beside:
        yield from started.findings()
    if unchecked:
        areas = tuple(dict.fromkeys(unchecked))
        yield HealthFinding(
            "check.skipped",
            sentence("Not checked, because {limit} had passed: {areas}.", areas=areas, limit=TOTAL_DEADLINE),
            sentence("This machine or the database is overloaded. Run it again with less load."),
        )


def find_without_database(problem: str, now: datetime, *, sqlstate: str = "") -> Iterator[HealthFinding]:
    """Runs the checks that work without a database; `problem` is why it cannot be used, and `sqlstate` the code with
    which the server rejects connections, if it does."""
    beside = [_start(Term("machine"), machine.check), _start_address(now)]
    if sqlstate == _TOO_MANY_CONNECTIONS:
        yield HealthFinding(
            "database.connections_used",
            sentence(
                "All connections that PostgreSQL allows are in use, so nothing in the database was checked: {error}",
                error=problem,
            ),
            sentence(
                "Close connections of other clients (pg_stat_activity lists them), or raise max_connections. Run it "
                "again then."
            ),
        )
    else:
        yield HealthFinding("database.unusable", _UNUSABLE(error=problem), _UNUSABLE_REMEDY())
    for started in beside:
        yield from started.findings()


def examine(now: datetime) -> list[HealthFinding]:
    """Runs all checks at `now` and returns their findings, problems first. Takes seconds: providers and the public URL
    are called."""
    return sorted(find(now), key=lambda finding: not finding.is_problem)


@dataclass(frozen=True, slots=True)
class _StartedCheck:
    """A check that runs in a thread of its own, which is abandoned at its deadline."""

    area: Term
    future: Future[list[HealthFinding]]
    deadline: timedelta
    begun_at: float

    def findings(self) -> list[HealthFinding]:
        """Waits for the findings; one of its own if the check fails or takes too long."""
        wait([self.future], max(0.0, self.begun_at + self.deadline.total_seconds() - time.monotonic()))
        if problem := reason_of_future(self.future, self.deadline):
            error = self.future.exception() if self.future.done() else None
            log.error("The check of %s failed.", self.area.text, exc_info=error)
            if database.is_unavailable(error) and start_up.sqlstate_of_rejection() == _TOO_MANY_CONNECTIONS:
                problem = sentence("all connections that PostgreSQL allows are in use.")
            detail = _FAILED(area=self.area, error=problem)
            remedy = sentence("Check the log. If it does not explain the error, report it.")
            return [HealthFinding("check.failed", detail, remedy, about=self.area.text)]
        return self.future.result()


def _start(area: Term, work: Callable[[], Iterable[HealthFinding]], deadline: timedelta | None = None) -> _StartedCheck:
    future = start_call(lambda: list(work()), name="doctor")
    return _StartedCheck(area, future, deadline or DEADLINE, time.monotonic())


def _start_check(check: HealthCheck, now: datetime) -> _StartedCheck:
    return _start(check.area, lambda: _run_read_only(check, now), REMOTE_DEADLINE if check.is_remote else None)


def _start_address(now: datetime) -> _StartedCheck:
    return _start(Term("address"), lambda: machine.check_address(now), REMOTE_DEADLINE)


def _run_read_only(check: HealthCheck, now: datetime) -> list[HealthFinding]:
    try:
        django_connection.ensure_connection()
        with database.connect(name="tocsin doctor") as connection:
            connection.forbid_writes()
            django_connection.connection.forbid_writes()
            return list(check.run(connection, now))
    finally:
        # It is this thread's own.
        django_connection.close()
