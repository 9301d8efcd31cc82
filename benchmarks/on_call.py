"""Who is on call: 1,000 groups with layers, overrides, absences and holidays; an instant each, and a month of each."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from benchmarks.harness import SECONDS, report
from tocsin.access.roles import MemberRole
from tocsin.oncall.calculation import final_schedule, schedules
from tocsin.oncall.calculation.final_schedule import Absence, GroupPlan, SnapshotMember, SnapshotUser
from tocsin.oncall.calculation.schedules import CompiledOverride
from tocsin.oncall.calculation.weekly_windows import HolidayDays

#: A second of `make test-all` is enough for a tenth of the groups.
GROUPS = 1000 if SECONDS > 1 else 50
PEOPLE = 8
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=31)
ZONES = ("Europe/Zurich", "America/Chicago", "Australia/Lord_Howe", "Asia/Kathmandu")
HOLIDAYS = HolidayDays("Zurich", "CH", "ZH")


def definition(users: list[int]) -> dict[str, Any]:
    """A weekly rotation of two roles, nights and weekends in layers above it, office hours for the manager."""
    weekdays, nights = ["mon", "tue", "wed", "thu", "fri"], {"from": "18:00", "to": "08:00"}
    attempt = {"every": "1w", "at": "09:00", "on": "monday", "users": users, "roles": ["primary", "secondary"]}
    daily = {
        "every": "1d",
        "at": "12:00",
        "users": users[:4],
        "roles": ["primary"],
        "windows": [{"days": weekdays, **nights}],
    }
    weekend = {"windows": [{"from": "fri 17:00", "to": "mon 08:00"}], "users": users[4:6], "roles": ["primary"]}
    office = {"windows": [{"days": weekdays, "from": "08:00", "to": "18:00"}], "users": users[6:], "roles": ["manager"]}
    return {
        "shifts": [
            {"name": "Weekly", "rotate": attempt, "start": "2025-12-01"},
            {
                "name": "Nights",
                "rotate": {**daily, "windows": [{"days": weekdays, **nights}]},
                "start": "2025-12-01",
                "layer": 2,
            },
            {"name": "Weekends", "fixed": weekend, "layer": 3, "holidays": "skip"},
            {"name": "Office", "fixed": office, "holidays": "skip"},
        ]
    }


def group(number: int) -> GroupPlan:
    """A group whose schedule is read from its stored form, with an override a fortnight and three absences a year."""
    chance = random.Random(number)
    users = [number * PEOPLE + n for n in range(PEOPLE)]
    moments = [BEGIN + timedelta(days=14 * n, hours=chance.randrange(200)) for n in range(26)]
    overrides = [
        CompiledOverride(n, "Swap", chance.choice(users), at, at + timedelta(hours=12), role=MemberRole.PRIMARY)
        for n, at in enumerate(moments)
    ]
    away = [BEGIN + timedelta(days=chance.randrange(360)) for _ in range(3)]
    compiled_schedule = schedules.load(
        f"Schedule {number}", ZONES[number % 4], definition(users), calendars=[HOLIDAYS], overrides=overrides
    )
    roles = list(MemberRole)
    return GroupPlan(
        number,
        f"Group {number}",
        tuple(SnapshotMember(user, f"Person {user}", frozenset({roles[n % 3]}), n) for n, user in enumerate(users)),
        (compiled_schedule,),
        {user: SnapshotUser(f"Person {user}") for user in users},
        tuple(Absence(user, at, at + timedelta(days=7), users[0]) for user, at in zip(users[1:], away, strict=False)),
    )


def spent(work: Callable[[], object]) -> float:
    """The milliseconds of the processor that it took: nothing here waits, and others may be at work beside it."""
    started_at = time.thread_time()
    work()
    return (time.thread_time() - started_at) * 1000


def main() -> None:
    """Asks every group at a random moment of the next 12 months, then draws a month of each."""
    chance = random.Random(1)
    loaded: list[GroupPlan] = []
    loading = spent(lambda: loaded.extend(group(number) for number in range(GROUPS)))
    # The holidays of the years looked at are worked out once a process, and are not part of an answer.
    final_schedule.timeline(loaded[0], BEGIN, BEGIN + timedelta(days=366))
    moments = [BEGIN + timedelta(minutes=chance.randrange(525_600)) for _ in loaded]
    instants = [
        spent(lambda p=plan, at=at: final_schedule.on_call(p, at)) for plan, at in zip(loaded, moments, strict=True)
    ]
    months = [
        spent(lambda p=plan, at=at: final_schedule.timeline(p, at, at + MONTH))
        for plan, at in zip(loaded, moments, strict=True)
    ]
    zone = ZoneInfo("Europe/Zurich")
    conversion = spent(lambda: [at.astimezone(zone) for at in moments]) / len(moments)
    report(
        "on_call",
        {
            "groups": GROUPS,
            "read from its stored form, ms a group": loading / GROUPS,
            "one instant, ms a group, mean": statistics.fmean(instants),
            "one instant, ms a group, p99": sorted(instants)[int(0.99 * (len(instants) - 1))],
            "a month's timeline, ms, mean": statistics.fmean(months),
            "a month's timeline, ms, p99": sorted(months)[int(0.99 * (len(months) - 1))],
            "an instant, in conversions to local time": statistics.fmean(instants) / conversion,
        },
        {
            "one instant < 2 ms a group": statistics.fmean(instants) < 2,
            "a month's timeline < 50 ms": statistics.fmean(months) < 50,
        },
    )


if __name__ == "__main__":
    main()
