"""All checks of `tocsin doctor` and the System view. Each finding describes a problem and its remedy.

Changes and sends nothing. A check that crashes becomes a finding and does not stop the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from tocsin.core.db import database
from tocsin.operate.checks import address, keys, machine, mailboxes, on_call, people, providers, running
from tocsin.operate.checks import database as postgres
from tocsin.operate.checks import outbound as outbound_checks
from tocsin.operate.checks import workflows as workflow_checks
from tocsin.operate.finding import HealthFinding

log = logging.getLogger(__name__)

type HealthCheck = Callable[[], Iterable[HealthFinding]]


def examine(now: datetime) -> list[HealthFinding]:
    """Runs all checks at `now` and returns findings, problems first. Takes seconds: providers and the public URL are
    called."""
    found = [*_run("database", lambda: _with(postgres.check)), *_run("machine", machine.check)]
    # Without Tocsin's tables, no further check is possible.
    if not any(finding.id == "database.tables" for finding in found):
        found += _run("connections", lambda: _with(postgres.check_connections))
        found += _run("secrets", lambda: _with(providers.check_secrets))
        found += _run("keys", lambda: _with(keys.check))
        found += _run("providers", lambda: _with(providers.check))
        found += _run("mailboxes", mailboxes.check)
        found += _run("outbound", lambda: _with(outbound_checks.check))
        found += _run("workflows", lambda: _with(workflow_checks.check))
        found += _run("people", lambda: people.check(now))
        found += _run("on call", lambda: _with(lambda connection: on_call.check(connection, now)))
        found += _run("running", lambda: _with(running.check))
    found += _run("address", lambda: address.check(now))
    return ordered(found)


def examine_without_database(problem: str, now: datetime) -> list[HealthFinding]:
    """Runs the checks that work without a database; `problem` is why it cannot be used."""
    unusable = HealthFinding(
        "database.unusable",
        f"The database cannot be used: {problem}",
        "Look at TOCSIN_DATABASE_URL and at the server; for the built-in one, at the log in its folder.",
    )
    return ordered([unusable, *_run("machine", machine.check), *_run("address", lambda: address.check(now))])


def ordered(found: Iterable[HealthFinding]) -> list[HealthFinding]:
    """Problems first, then notes, each in their original order."""
    return sorted(found, key=lambda finding: not finding.is_problem)


def _run(name: str, check: HealthCheck) -> list[HealthFinding]:
    try:
        return list(check())
    except Exception as error:  # one check's edge: the others are still useful
        log.exception("The check of %s failed.", name)
        detail = f"The check of {name} could not be done: {type(error).__name__}."
        return [
            HealthFinding(
                "check.failed", detail, "Look at the log; if nothing there explains it, report it.", about=name
            )
        ]


def _with(check: Callable[[database.Connection], Iterable[HealthFinding]]) -> list[HealthFinding]:
    with database.pool().connection() as connection:
        return list(check(connection))
