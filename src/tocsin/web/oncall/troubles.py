"""What is wrong with who will be on call, in sentences, by group: worked out again when something was changed, and now
and then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.core.cache import cache

from tocsin.core import configuration
from tocsin.core.database import Connection
from tocsin.oncall import health
from tocsin.oncall.plans import GroupPlan
from tocsin.operate import coverage

#: For so many seconds it is remembered, while no configuration changes.
REMEMBERED = 300


def of_plans(
    connection: Connection, plans: Mapping[int, GroupPlan], now: datetime, ahead: timedelta
) -> dict[int, Sequence[str]]:
    """The troubles of each group from now on, so far ahead, the gravest first; by group id."""
    version = configuration.version(connection)
    keys = {f"on-call-troubles:{version}:{ahead.days}:{number}": number for number in plans}
    known: dict[int, Sequence[str]] = {keys[key]: found for key, found in cache.get_many(keys).items()}
    missing = {number: plan for number, plan in plans.items() if number not in known}
    if missing:
        reachable = coverage.reachable(connection)
        for number, plan in missing.items():
            found = health.firsts(health.problems(health.findings(plan, reachable, now, now + ahead)))
            known[number] = [coverage.sentence(plan, finding, now) for finding in found]
        cache.set_many({key: known[number] for key, number in keys.items() if number in missing}, REMEMBERED)
    return known
