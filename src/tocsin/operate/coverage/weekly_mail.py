"""The weekly e-mail to managers about coverage problems in their groups, if the setting is enabled.

The notices themselves record that an e-mail was sent, so a restart or a second node does not send it again.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify.enqueue import queue
from tocsin.notify.enqueue.queue import Notice
from tocsin.oncall.calculation import coverage_checks
from tocsin.oncall.calculation.coverage_checks import CoverageFinding
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.operate.coverage import coverage
from tocsin.people.member_roles import MemberRole

CHECK_INTERVAL = timedelta(minutes=10)
#: On Mondays, in the installation's time zone.
SEND_TIME = time(8)
#: Findings listed per e-mail; the rest is only counted.
MAX_FINDINGS = 20

_GROUPS = "SELECT DISTINCT group_id FROM oncall_schedule ORDER BY group_id"

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
        groups = [row["group_id"] for row in database.rows(connection, _GROUPS)]
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
    managers = [m.user_id for m in plan.members if m.is_active and MemberRole.MANAGER in m.roles]
    recipient_ids = managers or queue.administrators(connection)
    about = f"coverage:{plan.id}:{week}"
    if not recipient_ids or queue.was_noticed(connection, recipient_ids, about, now, timedelta(days=6)):
        return 0
    lines = [f"- {coverage.sentence(plan, finding, now)}" for finding in problems[:MAX_FINDINGS]]
    if len(problems) > MAX_FINDINGS:
        lines.append(f"- and {len(problems) - MAX_FINDINGS} more")
    text = "\n".join(
        [
            f"What is wrong with who is on call in {plan.name} in the next "
            f"{coverage_checks.COVERAGE_HORIZON.days} days:",
            "",
            *lines,
            "",
            f"The group: {environment.current().public_url}/groups/{plan.id}/",
        ]
    )
    notice = Notice(
        title=f"On call in {plan.name}: {len(problems)} thing{'s' if len(problems) > 1 else ''} to look at",
        text=text,
        about=about,
        reason=f"You are a manager of {plan.name}." if managers else f"{plan.name} has no manager.",
    )
    return queue.queue_notice(connection, notice, now, user_ids=recipient_ids)
