"""Schedule and holiday definitions: problems are reported with their location."""

from __future__ import annotations

import pytest

from tocsin.core.errors import Rejected
from tocsin.oncall.calculation import schedules
from tocsin.oncall.changes import specs

ROTATE = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob"], "roles": ["primary"]}
WINDOW = {"days": ["mon"], "from": "08:00", "to": "18:00"}
FRIDAY = {"from": "fri 17:00", "to": "mon 08:00"}
FIXED = {"windows": [WINDOW], "users": ["alice"]}
SPAN = {"from": "2026-12-24T17:00", "to": "2026-12-27T08:00", "users": ["alice"]}


@pytest.mark.parametrize(
    ("shift", "place", "part"),
    [
        ({}, "shifts[0].rotate", "one of rotate, fixed and calendar"),
        ({"rotate": ROTATE, "fixed": {}}, "shifts[0].fixed", "one of"),
        ({"rotate": ROTATE, "start": None}, "shifts[0].start", "required"),
        ({"rotate": ROTATE, "start": "2026-01-05T09:00"}, "shifts[0].start", "required"),
        ({"rotate": ROTATE, "start": "5 January"}, "shifts[0].start", "not a date"),
        ({"rotate": ROTATE, "start": "2026-02-30"}, "shifts[0].start", "not a date"),
        ({"rotate": ROTATE, "end": "2025-01-01"}, "shifts[0].end", "before start"),
        ({"rotate": ROTATE, "time_zone": "Mars"}, "shifts[0].time_zone", "not a time zone"),
        ({"rotate": ROTATE, "layer": 0}, "shifts[0].layer", "1 to 100"),
        ({"rotate": ROTATE, "holidays": "maybe"}, "shifts[0].holidays", "not one of"),
        ({"rotate": ROTATE, "holidays": "skip"}, "holiday_calendars", "at least one"),
        ({"rotate": {**ROTATE, "every": "0"}}, "shifts[0].rotate.every", "at least 1 hour"),
        ({"rotate": {**ROTATE, "every": "2 fortnights"}}, "shifts[0].rotate.every", "not a duration"),
        ({"rotate": {**ROTATE, "every": "0 months"}}, "shifts[0].rotate.every", "1 to 24 months"),
        ({"rotate": {**ROTATE, "every": "1d"}}, "shifts[0].rotate.on", "whole weeks"),
        ({"rotate": {**ROTATE, "on": "someday"}}, "shifts[0].rotate.on", "not a day"),
        ({"rotate": {**ROTATE, "every": "1 month", "on": 32}}, "shifts[0].rotate.on", "1 to 31"),
        ({"rotate": {**ROTATE, "at": "25:00"}}, "shifts[0].rotate.at", "not a time"),
        ({"rotate": {**ROTATE, "at": None}}, "shifts[0].rotate.at", "required"),
        ({"rotate": {**ROTATE, "move": 0}}, "shifts[0].rotate.move", "1 to 1,000"),
        ({"rotate": {**ROTATE, "windows": []}}, "shifts[0].rotate.windows", "at least one"),
        ({"rotate": {**ROTATE, "users": []}}, "shifts[0].rotate.users", "at least one"),
        ({"rotate": {**ROTATE, "users": ["alice", "alice"]}}, "shifts[0].rotate.users[1]", "twice"),
        ({"rotate": {**ROTATE, "roles": ["boss"]}}, "shifts[0].rotate.roles[0]", "not one of"),
        ({"rotate": {**ROTATE, "roles": ["own", "primary"]}}, "shifts[0].rotate.roles[0]", "cannot be combined"),
        (
            {"rotate": {**ROTATE, "roles": ["primary", "secondary", "lead"]}},
            "shifts[0].rotate.roles",
            "at least as many users",
        ),
        ({"fixed": {"users": ["alice"], "windows": []}}, "shifts[0].fixed.windows", "at least one"),
        ({"fixed": {**FIXED, "every": "10d"}}, "shifts[0].fixed.every", "whole weeks"),
        ({"fixed": {**FIXED, "every": "2w"}, "start": None}, "shifts[0].fixed.every", "start"),
        ({"fixed": {**FIXED, "windows": [FRIDAY | {"to": "someday 08:00"}]}}, "shifts[0].fixed.windows[0].to", "day"),
        ({"fixed": {**FIXED, "windows": [FRIDAY | {"from": "fri"}]}}, "shifts[0].fixed.windows[0].from", "fri 17"),
        ({"fixed": {**SPAN, "windows": [WINDOW]}}, "shifts[0].fixed.windows", "either windows"),
        ({"fixed": {**SPAN, "to": SPAN["from"]}}, "shifts[0].fixed.to", "after from"),
        ({"fixed": {**SPAN, "from": "2026-12-24"}}, "shifts[0].fixed.from", "not a local time"),
        ({"fixed": {**SPAN, "to": "2027-01-24T00:00", "every": "1w"}}, "shifts[0].fixed.every", "than the period"),
        ({"calendar": {"url": "ftp://example.org/a.ics"}}, "shifts[0].calendar.url", "http"),
        ({"calendar": {}}, "shifts[0].calendar.url", "required"),
        ({"rotate": ROTATE, "colour": "red"}, "shifts[0].colour", "unknown key"),
    ],
)  # fmt: skip
def test_a_bad_shift_is_refused_with_the_place(shift: dict[str, object], place: str, part: str) -> None:
    value = {"name": "24x7", "group": "Desk", "shifts": [{"name": "Weekly", "start": "2026-01-05", **shift}]}
    with pytest.raises(Rejected) as raised:
        specs.read_schedule(value)
    assert part in raised.value.fields[place]


@pytest.mark.parametrize("shifts", [None, [], "weekly", [7]])
def test_a_schedule_needs_shifts(shifts: object) -> None:
    with pytest.raises(Rejected):
        specs.read_schedule({"name": "24x7", "group": "Desk", "shifts": shifts})


def test_two_shifts_of_one_name_are_refused() -> None:
    shift = {"name": "Weekly", "start": "2026-01-05", "rotate": ROTATE}
    with pytest.raises(Rejected, match="twice"):
        specs.read_schedule({"name": "24x7", "group": "Desk", "shifts": [shift, {**shift, "name": "weekly"}]})


def test_definition_is_stored_in_its_written_words() -> None:
    every = {"every": "3 months", "at": "09:00", "on": 31, "move": 2}
    rotate = {**every, "windows": [{"from": "fri 17:00", "to": "mon 08:00"}], "users": ["a", "b"], "roles": ["own"]}
    shift = {"name": "M", "layer": 2, "time_zone": "Asia/Kathmandu", "rotate": rotate, "start": "2026-01-05"}
    (read,) = specs.read_schedule({"name": "S", "group": "Desk", "shifts": [shift]}).shifts
    assert read.users == ("a", "b")
    stored = read.stored([1, 2])
    assert stored == {**shift, "rotate": {**rotate, "users": [1, 2]}}
    (loaded,) = schedules.load("S", "UTC", {"shifts": [stored]}).shifts
    assert (loaded.zone.key, loaded.layer, loaded.users, loaded.roles) == ("Asia/Kathmandu", 2, (1, 2), ())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"country": "XX"}, "country"),
        ({"country": "CH", "region": "QQ"}, "region"),
        ({"region": "ZH"}, "country"),
        ({"days": []}, "country"),
        ({"days": [{"date": "13-24", "name": "x"}]}, "days[0].date"),
        ({"days": [{"date": "2026-02-29", "name": "x"}]}, "days[0].date"),
        ({"days": [{"date": "12-24"}]}, "days[0].name"),
        ({"days": [{"date": "12-24", "name": "x"}] * 2}, "days[1].date"),
    ],
)
def test_a_bad_holiday_calendar_is_refused_with_the_place(change: dict[str, object], place: str) -> None:
    with pytest.raises(Rejected) as raised:
        specs.HolidayCalendarSpec.read({"name": "H", **change})
    assert place in raised.value.fields
