"""The weekly e-mail to managers about coverage problems in their groups, if the setting is enabled.

The notices themselves record that an e-mail was sent, so a restart or a second node does not send it again.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import ReasonType, joined
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks
from tocsin.oncall.calculation.coverage_checks import CoverageFinding
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.operate.coverage import coverage
from tocsin.operate.coverage.manager_mail import MORE, mail_managers

CHECK_INTERVAL = timedelta(minutes=10)
#: On Mondays, in the installation's time zone.
SEND_TIME = time(8)
#: Findings listed per e-mail; the rest is only counted.
MAX_FINDINGS = 20

_TITLE = ReasonType(
    "coverage.mail_title", "On call in {group}: {count} problem", "On call in {group}: {count} problems"
)
_INTRO = ReasonType("coverage.mail_intro", "On-call problems in {group} in the next {days} days:")
_LINE = ReasonType("coverage.mail_line", "- {problem}")

#: Advisory lock: one node at a time.
_LOCK = int.from_bytes(b"coverage")


def weekly_mail_task() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask("weekly coverage mail", lambda: run_once(clock.now()), CHECK_INTERVAL)


def run_once(now: datetime) -> bool:
    """Sends e-mails due at `now`; does nothing on other days than Monday or if disabled."""
    with database.transaction() as connection:
        settings = settings_store.load(connection)
        if not settings[settings_store.WEEKLY_COVERAGE_MAIL.name]:
            return False
        local = now.astimezone(ZoneInfo(settings[settings_store.TIME_ZONE.name]))
        if local.weekday() != 0 or local.time() < SEND_TIME:
            return False
        if not database.rows(connection, "SELECT 1 WHERE pg_try_advisory_xact_lock(%s)", (_LOCK,)):
            return False
        groups = loader.groups_with_schedule(connection)
        sent = 0
        for plan, findings in coverage.coverage_of_groups(connection, groups, now).values():
            problems = coverage_checks.first_of_each(coverage_checks.problems(findings))
            if problems:
                sent += _send(connection, plan, problems, local.date().isoformat(), now)
        if sent:
            database.notify(connection, "outbox")
    return False


def _send(
    connection: Connection, plan: GroupPlan, problems: tuple[CoverageFinding, ...], week: str, now: datetime
) -> int:
    lines = [_LINE(problem=coverage.describe_finding(finding, now)) for finding in problems[:MAX_FINDINGS]]
    if len(problems) > MAX_FINDINGS:
        lines.append(MORE(count=len(problems) - MAX_FINDINGS))
    intro = _INTRO(group=plan.name, days=coverage_checks.COVERAGE_HORIZON.days)
    title = _TITLE(group=plan.name, count=len(problems))
    text = joined(intro, joined(*lines, separator="\n"), separator="\n\n")
    return mail_managers(connection, plan, title, text, f"coverage:{plan.id}:{week}", now, timedelta(days=6))
