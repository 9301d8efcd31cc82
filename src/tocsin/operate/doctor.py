"""All checks of `tocsin doctor` and the System view. Each finding describes a problem and its remedy.

Changes and sends nothing. A check that crashes becomes a finding and does not stop the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from tocsin.core.db import database
from tocsin.core.reasons import ReasonType, Term
from tocsin.operate.checks import address, keys, machine, mailboxes, on_call, people, providers, running
from tocsin.operate.checks import database as postgres
from tocsin.operate.checks import outbound as outbound_checks
from tocsin.operate.checks import workflows as workflow_checks
from tocsin.operate.finding import HealthFinding

log = logging.getLogger(__name__)

_UNUSABLE = ReasonType("health.database_unusable", "The database cannot be used: {error}")
_UNUSABLE_REMEDY = ReasonType(
    "health.database_unusable_remedy",
    "Check TOCSIN_DATABASE_URL and the server; for the built-in server, read the log in its folder.",
)
_FAILED = ReasonType("health.check_failed", "The check of {area} failed: {error}.")
_FAILED_REMEDY = ReasonType("health.check_failed_remedy", "Read the log. If nothing there explains it, report it.")

type HealthCheck = Callable[[], Iterable[HealthFinding]]


def examine(now: datetime) -> list[HealthFinding]:
    """Runs all checks at `now` and returns findings, problems first. Takes seconds: providers and the public URL are
    called."""
    findings = [
        *_run(Term("database"), lambda: _with_connection(postgres.check)),
        *_run(Term("machine"), machine.check),
    ]
    # Without Tocsin's tables, no further check is possible.
    if not any(finding.id == "database.tables" for finding in findings):
        findings += _run(Term("connections"), lambda: _with_connection(postgres.check_connections))
        findings += _run(Term("secrets"), lambda: _with_connection(providers.check_secrets))
        findings += _run(Term("keys"), lambda: _with_connection(keys.check))
        findings += _run(Term("providers"), lambda: _with_connection(providers.check))
        findings += _run(Term("mailboxes"), mailboxes.check)
        findings += _run(Term("outbound"), lambda: _with_connection(outbound_checks.check))
        findings += _run(Term("workflows"), lambda: _with_connection(workflow_checks.check))
        findings += _run(Term("people"), lambda: people.check(now))
        findings += _run(Term("on call"), lambda: _with_connection(lambda connection: on_call.check(connection, now)))
        findings += _run(Term("running"), lambda: _with_connection(running.check))
    findings += _run(Term("address"), lambda: address.check(now))
    return ordered(findings)


def examine_without_database(problem: str, now: datetime) -> list[HealthFinding]:
    """Runs the checks that work without a database; `problem` is why it cannot be used."""
    unusable = HealthFinding("database.unusable", _UNUSABLE(error=problem), _UNUSABLE_REMEDY())
    return ordered(
        [unusable, *_run(Term("machine"), machine.check), *_run(Term("address"), lambda: address.check(now))]
    )


def ordered(findings: Iterable[HealthFinding]) -> list[HealthFinding]:
    """Problems first, then notes, each in their original order."""
    return sorted(findings, key=lambda finding: not finding.is_problem)


def _run(area: Term, check: HealthCheck) -> list[HealthFinding]:
    try:
        return list(check())
    except Exception as error:  # one check's edge: the others are still useful
        log.exception("The check of %s failed.", area.text)
        detail = _FAILED(area=area, error=type(error).__name__)
        return [HealthFinding("check.failed", detail, _FAILED_REMEDY(), about=area.text)]


def _with_connection(check: Callable[[database.Connection], Iterable[HealthFinding]]) -> list[HealthFinding]:
    with database.pool().connection() as connection:
        return list(check(connection))
