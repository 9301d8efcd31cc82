"""The e-mail to a group's managers when a user with shifts was deactivated, with a link for each gap to fill it.

This runs as a periodic task in a worker, so it works no matter how the account was deactivated. The notices themselves
record that an e-mail was sent, so a restart or a second node does not send it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlencode

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType, joined
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks
from tocsin.oncall.calculation.coverage_checks import COVERAGE_HORIZON, CoverageFinding, CoverageFindingKind
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.operate.coverage import coverage
from tocsin.operate.coverage.manager_mail import MORE, mail_managers

#: A changed account wakes the task; without a hint it checks at this interval.
CHECK_INTERVAL = timedelta(minutes=10)
#: Gaps listed per e-mail; the rest is only counted.
MAX_GAPS = 10

_TITLE = ReasonType("coverage.deactivated_title", "{user} was deactivated and is on call in {group}")
_NO_GAP = ReasonType("coverage.deactivated_no_gap", "Others are on call instead of {user} in the next {days} days.")
_GAPS = ReasonType(
    "coverage.deactivated_gaps",
    "No one is on call instead, in the next {days} days:",
)
_GAP = ReasonType("coverage.deactivated_gap", "- {problem} Select a replacement: {url}")

#: Advisory lock: one node at a time.
_LOCK = int.from_bytes(b"departed")
_INACTIVE = "SELECT id FROM people_user WHERE NOT is_active"


def deactivation_mail_task() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask(
        "deactivated users on call", lambda: run_once(clock.now()), CHECK_INTERVAL, frozenset({"config"})
    )


def run_once(now: datetime) -> bool:
    """Mails about each deactivated user whom a shift or an override names, once in each group."""
    with database.transaction() as connection:
        inactive = [row["id"] for row in database.rows(connection, _INACTIVE)]
        groups = loader.groups_of(connection, inactive) if inactive else frozenset()
        if not groups or not database.rows(connection, "SELECT 1 WHERE pg_try_advisory_xact_lock(%s)", (_LOCK,)):
            return False
        sent = 0
        for plan, findings in coverage.coverage_of_groups(connection, groups, now).values():
            gaps = [one for one in findings if one.kind is CoverageFindingKind.GAP]
            departed = [one for one in findings if one.kind is CoverageFindingKind.DEACTIVATED_USER]
            for user_id in dict.fromkeys(one.user_id for one in departed if one.user_id is not None):
                named = [one for one in departed if one.user_id == user_id]
                sent += _send(connection, plan, user_id, named, gaps, now)
        if sent:
            database.notify(connection, "outbox")
    return False


def _send(
    connection: Connection,
    plan: GroupPlan,
    user_id: int,
    departed: Sequence[CoverageFinding],
    gaps: Sequence[CoverageFinding],
    now: datetime,
) -> int:
    days = COVERAGE_HORIZON.days
    problems = coverage_checks.first_of_each(departed)
    parts = [joined(*(coverage.describe_finding(one, now) for one in problems), separator=" ")]
    if gaps:
        lines = [
            # Each gap has a line of its own, which does not say how often there is one.
            _GAP(
                problem=coverage.describe_finding(replace(gap, occurrence_count=1), now),
                url=_replace_url(plan, gap, departed, now),
            )
            for gap in gaps[:MAX_GAPS]
        ]
        if len(gaps) > MAX_GAPS:
            lines.append(MORE(count=len(gaps) - MAX_GAPS))
        parts.append(joined(_GAPS(days=days), *lines, separator="\n"))
    else:
        parts.append(_NO_GAP(user=plan.person(user_id), days=days))
    title = _TITLE(user=plan.person(user_id), group=plan.name)
    text: Reason = joined(*parts, separator="\n\n")
    return mail_managers(connection, plan, title, text, f"deactivated:{plan.id}:{user_id}", now, COVERAGE_HORIZON)


def _replace_url(plan: GroupPlan, gap: CoverageFinding, departed: Sequence[CoverageFinding], now: datetime) -> str:
    """Returns the page that replaces nobody in the gap by somebody: the period is filled in."""
    query = {"role": str(gap.role or ""), "schedule": departed[0].schedule}
    query |= {name: at.isoformat() for name, at in (("from", max(gap.since or now, now)), ("to", gap.until)) if at}
    return f"{environment.current().public_url}/groups/{plan.id}/reassign/?{urlencode(query)}"
