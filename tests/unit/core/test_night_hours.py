"""The night hours: when it is night, and which night was the last."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tocsin.core.config.settings_store import validated
from tocsin.core.errors import Rejected
from tocsin.core.validation.inputs import NightHours

ZURICH = ZoneInfo("Europe/Zurich")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=ZURICH)


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [("22:00-07:00", (22, 0, 6), (7, 12, 21)), ("00:30-06:00", (1, 5), (0, 6, 23)), ("07:00-22:00", (7, 21), (22, 6))],
)
def test_night_includes_its_start_and_not_its_end(
    hours: str, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    night = NightHours.parse(hours)
    assert all(night.includes(at(2, hour), ZURICH) for hour in inside)
    assert not any(night.includes(at(2, hour), ZURICH) for hour in outside)


def test_last_night_ends_on_the_given_day() -> None:
    assert NightHours.parse("22:00-07:00").last_night(at(2, 3)) == (at(1, 22), at(2, 7))
    assert NightHours.parse("01:00-06:30").last_night(at(2, 9)) == (at(2, 1), at(2, 6, 30))


@pytest.mark.parametrize("text", ["22-7", "22:00-22:00", "24:00-07:00", "22:00", "22:00-07:60"])
def test_other_formats_are_rejected_with_the_setting(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        validated({"night_hours": text})
    assert refused.value.field == "night_hours"


def test_spaces_and_an_empty_text_are_accepted() -> None:
    assert validated({"night_hours": "21:30 – 06:00"}) == {"night_hours": "21:30-06:00"}
    assert validated({"night_hours": ""}) == {"night_hours": "22:00-07:00"}
