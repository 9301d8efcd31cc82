"""Durations as users write and read them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.core.validation.inputs import describe, parse_duration, write_duration


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("1w", timedelta(days=7)),
        ("1w2d", timedelta(days=9)),
        (" 1h 30m ", timedelta(minutes=90)),
        ("0m", timedelta()),
        ("0", timedelta()),
        (0, timedelta()),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: object, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        5,
        "m",
        "5x",
        "5m1h",
        "1h1h",
        "-5m",
        "1.5h",
        "5M",
        "٥m",
        None,
        True,
        ["5m"],
        "5 minutes",
        "9" * 30 + "s",
    ],
)
def test_what_is_no_duration_is_refused_and_the_place_named(text: object) -> None:
    with pytest.raises(Rejected) as refused:
        parse_duration(text, "steps[1].after")
    assert refused.value.field == "steps[1].after"
    assert refused.value.code == "invalid_duration"


def test_duration_over_ten_years_is_rejected() -> None:
    with pytest.raises(Rejected, match="ten years"):
        parse_duration("999999w")
    with pytest.raises(Rejected, match="ten years"):
        parse_duration("999999999w")


@given(st.integers(min_value=0, max_value=3650 * 86_400))
def test_what_is_written_is_read_as_the_same_span(seconds: int) -> None:
    assert parse_duration(write_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


def test_durations_are_shown_in_their_two_largest_units() -> None:
    assert describe(timedelta(minutes=5)) == "5 minutes"
    assert describe(timedelta(hours=1, minutes=30, seconds=7)) == "1 hour 30 minutes"
    assert describe(timedelta(days=1)) == "1 day"
    assert describe(timedelta()) == "0 seconds"
    assert describe(timedelta(seconds=-5)) == "0 seconds"
