"""Times of maintenance windows: each error names its key, and each window is described in words."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason, Term
from tocsin.inbound import maintenance

ONCE = {"starts": "2026-12-01 22:00", "ends": "2026-12-02 02:00"}
DAILY = {"repeat": "daily", "from": "22:00", "to": "02:00"}
WEEKLY = {**DAILY, "repeat": "weekly", "days": ["tue"]}
MONTHLY = {**DAILY, "repeat": "monthly", "days": ["15"]}


def read(spec: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The stored times, and (key, reason code) of each problem."""
    try:
        return maintenance.WindowTimesSpec.read(spec).times(), []
    except Rejected as rejected:
        problems = rejected.problems if isinstance(rejected, RejectedAll) else (rejected,)
        return {}, [(one.field or "", _innermost(one.reason).code) for one in problems]


def _innermost(reason: Reason) -> Reason:
    problem = dict(reason.params).get("problem")
    return problem if isinstance(problem, Reason) else reason


@pytest.mark.parametrize(
    ("spec", "key", "code"),
    [
        ({**ONCE, "days": ["tue"]}, "days", "applies to recurring windows; a one-time window has starts and ends."),
        (
            {**WEEKLY, "starts": "2026-12-01 22:00"},
            "starts",
            "applies to one-time windows; a recurring window has from and to, first_day and last_day.",
        ),
        ({**ONCE, "ends": "2026-12-01 22:00"}, "ends", "must be after starts, and within a year of it."),
        (
            {**ONCE, "starts": "tomorrow"},
            "starts",
            'is required, in the time zone\'s local time: write it like "2026-12-01 22:00".',
        ),
        ({**DAILY, "days": ["tue"]}, "days", "applies to weekly and monthly windows."),
        ({**WEEKLY, "days": []}, "days", "are required: [tue] of a week, or [15, 2nd tue, last day] of a month."),
        ({**WEEKLY, "days": ["someday"]}, "days", '"{value}" is not a day; write {choices}.'),
        (
            {**MONTHLY, "days": ["33"]},
            "days",
            '"{day}" is not a day of a month; write it like 15, last day, 2nd tue or last sun.',
        ),
        ({**DAILY, "from": "25:00"}, "from", '"{value}" is not a time of day; write it like "08:00".'),
        ({**DAILY, "lasts": "8h"}, "to", "set either to (22:00) or lasts (8h)."),
        ({**DAILY, "to": None, "lasts": "10s"}, "lasts", "must be at least one minute."),
        ({**DAILY, "first_day": "soon"}, "first_day", 'must be a day such as "2026-12-01".'),
        ({**DAILY, "first_day": "2201-01-01"}, "first_day", "must be a day before the year {year}."),
        ({**DAILY, "first_day": "2026-12-02", "last_day": "2026-12-01"}, "last_day", "is before first_day."),
    ],
)
def test_invalid_time_is_rejected_at_its_key(spec: dict[str, Any], key: str, code: str) -> None:
    assert read(spec)[1] == [(key, code)]


def test_one_time_window_names_both_ends() -> None:
    stored, problems = read({**ONCE, "time_zone": "Europe/Zurich"})
    assert problems == []
    assert (
        str(maintenance.describe_times(stored)) == "Once, from 2026-12-01, 22:00 to 2026-12-02, 02:00 (Europe/Zurich)"
    )


@pytest.mark.parametrize(
    ("day", "described"),
    [("1", "1st"), ("2", "2nd"), ("3", "3rd"), ("11", "11th"), ("last day", "last day"), ("last sun", "last Sunday"),
     ("2nd tue", "2nd Tuesday")],
)  # fmt: skip
def test_day_of_month_is_described(day: str, described: str) -> None:
    stored, problems = read({**MONTHLY, "days": [day], "time_zone": "UTC"})
    assert problems == []
    assert str(maintenance.describe_times(stored)) == f"On the {described} of each month from 22:00 to 02:00 (UTC)"


def test_recurring_window_has_days_length_and_limits() -> None:
    spec = {**WEEKLY, "to": None, "lasts": "56h", "first_day": "2026-12-01", "last_day": "2027-01-31"}
    stored, problems = read({**spec, "time_zone": "UTC"})
    assert problems == []
    hours, first_day, last_day = maintenance.describe_times(stored)["parts"]  # type: ignore[misc]
    assert (hours.code, hours["duration"]) == ("{days} from {start} for {duration} ({zone})", timedelta(hours=56))
    assert hours["days"] == Reason("Every {weekdays}", (("weekdays", (Term("Tuesday"),)),))
    assert (first_day["day"], last_day["day"]) == (date(2026, 12, 1), date(2027, 1, 31))
    stored, _ = read({**DAILY, "time_zone": "UTC"})
    assert str(maintenance.describe_times(stored)) == "Every day from 22:00 to 02:00 (UTC)"
