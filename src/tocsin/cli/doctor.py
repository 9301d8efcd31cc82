"""`tocsin doctor`: reports problems, each with its remedy. Changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer

from tocsin.cli.session import DataDir, configure, open_database
from tocsin.core.config.environment import ConfigError
from tocsin.core.errors import TocsinError
from tocsin.core.reasons import as_reason, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tocsin.operate.finding import HealthFinding


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check the installation for problems.

    Checks the database, durability, clock, disk, configuration, public URL, providers, and who can be reached. Each
    problem has an id and a remedy. The exit status is 1 if there is a problem; notes do not count.
    """
    has_problem = False
    if as_json:
        findings = list(_find(data_dir))
        typer.echo(_as_json(findings))
        has_problem = any(finding.is_problem for finding in findings)
    else:
        count = 0
        # Each is printed at once: under load, the next check may take long.
        for finding in _find(data_dir):
            typer.echo(_as_text(finding))
            count += finding.is_problem
        typer.echo(f"{count} {'problem' if count == 1 else 'problems'}." if count else "No problems.")
        has_problem = count > 0
    if has_problem:
        raise typer.Exit(1)


def _find(data_dir: Path | None) -> Iterator[HealthFinding]:
    from tocsin.operate.finding import HealthFinding

    try:
        configure(data_dir)
    except ConfigError as error:
        yield HealthFinding(
            "configuration.variable",
            as_reason(str(error)),
            sentence("Correct that variable; nothing else was checked."),
        )
        return
    from django.db import OperationalError

    try:
        # A diagnosis must not change anything, so the tables are not migrated.
        with open_database(data_dir, migrate=False):
            from tocsin.core.db import database
            from tocsin.core.runtime import clock
            from tocsin.operate import doctor as examination

            # A direct connection reports the actual error; the pool would only report a timeout.
            with database.connect(name="tocsin doctor") as connection:
                clock.measure(connection)
            yield from examination.find(clock.now())
    except (psycopg.OperationalError, OperationalError, TocsinError) as error:
        yield from _find_without_database(" ".join(str(error).split()))


def _find_without_database(problem: str) -> Iterator[HealthFinding]:
    from tocsin.cli.session import set_up_django
    from tocsin.core.db import database, start_up
    from tocsin.core.runtime.telemetry import mask_tokens

    set_up_django()
    from tocsin.operate import doctor as examination

    sqlstate = start_up.sqlstate_of_rejection() if database.url_in_use() is not None else ""
    yield from examination.find_without_database(mask_tokens(problem), datetime.now(UTC), sqlstate=sqlstate)


def _as_json(findings: list[HealthFinding]) -> str:
    problems = [_as_dict(finding) for finding in findings if finding.is_problem]
    notes = [_as_dict(finding) for finding in findings if not finding.is_problem]
    return json.dumps({"ok": not problems, "problems": problems, "notes": notes}, indent=2, ensure_ascii=False)


def _as_dict(finding: HealthFinding) -> dict[str, str]:
    return {
        "id": finding.id,
        "detail": str(finding.detail),
        "remedy": str(finding.remedy),
        "about": finding.about,
        "level": finding.level,
    }


def _as_text(finding: HealthFinding) -> str:
    text = f"{finding.level:8} {finding.id}: {finding.detail}"
    return f"{text}\n{'':8} → {finding.remedy}" if finding.remedy else text
