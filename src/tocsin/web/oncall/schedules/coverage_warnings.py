"""Coverage warnings per group, cached until the configuration changes or a few minutes pass; and their sentences in the
user's language and time zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.core.cache import caches
from django.utils.translation import ngettext

from tocsin.core.config import config_version
from tocsin.core.db.database import Connection
from tocsin.oncall.calculation import coverage_checks
from tocsin.oncall.calculation.coverage_checks import CoverageFinding
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.operate.coverage import coverage
from tocsin.web.oncall.schedules import describe_shift

#: Cache lifetime in seconds while the configuration does not change.
CACHE_SECONDS = 300


def findings_of_plans(
    connection: Connection, plans: Mapping[int, GroupPlan], now: datetime, ahead: timedelta
) -> dict[int, Sequence[CoverageFinding]]:
    """Return {group id: findings} within `ahead` from now, most severe first."""
    version = config_version.current_version(connection)
    keys = {f"on-call-findings:{version}:{ahead.days}:{number}": number for number in plans}
    findings: dict[int, Sequence[CoverageFinding]] = {
        keys[key]: cached for key, cached in caches["process"].get_many(keys).items()
    }
    missing = {number: plan for number, plan in plans.items() if number not in findings}
    if missing:
        reachable = coverage.reachable_user_ids(connection)
        for number, plan in missing.items():
            findings[number] = coverage_checks.first_of_each(
                coverage_checks.problems(coverage_checks.findings(plan, reachable, now, now + ahead))
            )
        caches["process"].set_many(
            {key: findings[number] for key, number in keys.items() if number in missing}, CACHE_SECONDS
        )
    return findings


def sentences(findings: Sequence[CoverageFinding], now: datetime) -> list[str]:
    """Return each finding as the sentence that `say` builds."""
    return [describe_finding(finding, now) for finding in findings]


def describe_finding(finding: CoverageFinding, now: datetime) -> str:
    """Return the finding as a sentence with its times in the user's time zone."""
    text = finding.reason.localized()
    if not coverage.has_times(finding):
        return text
    begin = max(finding.since or now, now)
    period = describe_shift.format_period(begin, finding.until)
    if finding.occurrence_count > 1:
        count_text = ngettext("%(count)d time in all", "%(count)d times in all", finding.occurrence_count) % {
            "count": finding.occurrence_count
        }
        period = f"{period} ({count_text})"
    return f"{text.removesuffix('.')}: {period}."
