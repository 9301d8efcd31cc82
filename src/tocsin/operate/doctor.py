"""The health checks: Home shows the findings of the cheap ones, `tocsin doctor` and System those of all.

Each finding describes a problem and its remedy. A check changes and sends nothing: the doctor's database connections
are read-only. A check that crashes or takes too long becomes a finding and does not stop the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection as django_connection

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import ReasonType, Term
from tocsin.core.runtime.daemon_threads import run_in_time
from tocsin.operate.checks import (
    address,
    alerts,
    backups,
    integrations,
    machine,
    mailboxes,
    on_call,
    people,
    providers,
    running,
    security,
)
from tocsin.operate.checks import database as postgres
from tocsin.operate.checks import outbound as outbound_checks
from tocsin.operate.checks import workflows as workflow_checks
from tocsin.operate.finding import HealthFinding, reason_of_future

log = logging.getLogger(__name__)

#: For each check. Providers and mailboxes are given up a little earlier, each with its own finding.
DEADLINE = timedelta(seconds=30)

_UNUSABLE = ReasonType("health.database_unusable", "The database is unavailable: {error}")
_UNUSABLE_REMEDY = ReasonType(
    "health.database_unusable_remedy",
    "Check TOCSIN_DATABASE_URL and the server; for the built-in server, check the log in its folder.",
)
_FAILED = ReasonType("health.check_failed", "Check of {area}: {error}")
_FAILED_REMEDY = ReasonType("health.check_failed_remedy", "Check the log. If it does not explain the error, report it.")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A check of one area, by a connection and the time. It may use Django's connection too."""

    area: Term
    run: Callable[[Connection, datetime], Iterable[HealthFinding]]
    #: Whether Home shows its findings: it asks only the database, and little of it.
    is_cheap: bool = False
    #: Whether Home may show them some minutes late, unless the configuration changes.
    is_cached: bool = False


_DATABASE = HealthCheck(Term("database"), lambda connection, now: postgres.check(connection))

#: The checks that need Tocsin's tables.
CHECKS: tuple[HealthCheck, ...] = (
    HealthCheck(Term("running"), lambda connection, now: running.check(connection), is_cheap=True),
    HealthCheck(Term("alerts"), lambda connection, now: alerts.check(connection), is_cheap=True),
    HealthCheck(Term("connections"), lambda connection, now: postgres.check_connections(connection)),
    HealthCheck(Term("secrets"), lambda connection, now: providers.check_secrets(connection)),
    HealthCheck(Term("backups"), backups.check, is_cheap=True),
    HealthCheck(Term("keys"), lambda connection, now: security.check_keys(connection)),
    HealthCheck(Term("audit log"), security.check_audit_log),
    HealthCheck(Term("audit log"), security.check_forwarding, is_cheap=True),
    HealthCheck(Term("single sign-on"), lambda connection, now: security.check_certificates(now), is_cheap=True),
    HealthCheck(Term("deliveries"), lambda connection, now: providers.check_deliveries(now), is_cheap=True),
    HealthCheck(Term("providers"), lambda connection, now: providers.check(connection)),
    HealthCheck(Term("mailboxes"), lambda connection, now: mailboxes.check_last_poll(connection), is_cheap=True),
    HealthCheck(Term("mailboxes"), lambda connection, now: mailboxes.check()),
    HealthCheck(Term("outbound"), lambda connection, now: outbound_checks.check(connection), is_cheap=True),
    HealthCheck(Term("workflows"), lambda connection, now: workflow_checks.check(connection), is_cheap=True),
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
    HealthCheck(Term("on call"), on_call.check, is_cheap=True, is_cached=True),
)


def examine(now: datetime) -> list[HealthFinding]:
    """Runs all checks at `now` and returns findings, problems first. Takes seconds: providers and the public URL are
    called."""
    findings = [*_run(_DATABASE, now), *_run_in_time(Term("machine"), machine.check)]
    # Without Tocsin's tables, no further check is possible.
    if not any(finding.id == "database.tables" for finding in findings):
        for check in CHECKS:
            findings += _run(check, now)
    return _problems_first([*findings, *_check_address(now)])


def examine_without_database(problem: str, now: datetime) -> list[HealthFinding]:
    """Runs the checks that work without a database; `problem` is why it cannot be used."""
    unusable = HealthFinding("database.unusable", _UNUSABLE(error=problem), _UNUSABLE_REMEDY())
    return _problems_first([unusable, *_run_in_time(Term("machine"), machine.check), *_check_address(now)])


def _problems_first(findings: Iterable[HealthFinding]) -> list[HealthFinding]:
    return sorted(findings, key=lambda finding: not finding.is_problem)


def _check_address(now: datetime) -> list[HealthFinding]:
    return _run_in_time(Term("address"), lambda: address.check(now))


def _run(check: HealthCheck, now: datetime) -> list[HealthFinding]:
    return _run_in_time(check.area, lambda: _run_read_only(check, now))


def _run_in_time(area: Term, work: Callable[[], Iterable[HealthFinding]]) -> list[HealthFinding]:
    """Runs a check in a thread of its own, which is abandoned at the deadline."""
    (future,) = run_in_time({area.text: lambda: list(work())}, DEADLINE, name="doctor").values()
    if problem := reason_of_future(future, DEADLINE):
        log.error("The check of %s failed.", area.text, exc_info=future.exception() if future.done() else None)
        detail = _FAILED(area=area, error=problem)
        return [HealthFinding("check.failed", detail, _FAILED_REMEDY(), about=area.text)]
    return future.result()


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
