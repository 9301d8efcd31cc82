"""A converted rotation matches its source at every moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tests.support.imported_schedules import local, moments, on_call
from tocsin.importers import rotation_converter
from tocsin.importers.rotation_converter import ConvertedRotation, UnsupportedRotation
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow

NOW = datetime(2026, 11, 24, 9)
FIRST = datetime(2026, 11, 16, 9)


def expected_users(expected: ConvertedRotation, at: datetime) -> frozenset[str]:
    """Who has it at a local time, by the definition alone."""
    begins = max(expected.first_handoff, expected.begin or expected.first_handoff)
    if at < begins or (expected.end is not None and at >= expected.end):
        return frozenset()
    if expected.windows and not any(is_open(window, at) for window in expected.windows):
        return frozenset()
    user = expected.slots[(at - expected.first_handoff) // expected.interval % len(expected.slots)]
    return frozenset({user} if user else ())


def is_open(window: WeeklyWindow, at: datetime) -> bool:
    minute = (at.weekday() * 24 + at.hour) * 60 + at.minute
    return any((minute - day * 1440 - window.start) % 10_080 < window.length for day in window.days)


SLOTS = st.lists(st.sampled_from(["alice", "bob", "carol", None]), min_size=1, max_size=5)
EVERY = st.sampled_from(
    [timedelta(hours=8), timedelta(hours=12), timedelta(days=1), timedelta(days=3), timedelta(weeks=1)]
)
WINDOW = st.builds(
    rotation_converter.window,
    st.integers(0, 6),
    st.integers(0, 47).map(lambda n: n * 30),
    st.integers(1, 200).map(lambda n: n * 30),
)


@examples(60)
@given(
    slots=SLOTS,
    every=EVERY,
    windows=st.lists(WINDOW, max_size=3),
    begin=st.none() | st.integers(-40, 400).map(lambda n: NOW + n * timedelta(hours=1)),
    end=st.none() | st.integers(1, 600).map(lambda n: NOW + n * timedelta(hours=1)),
)
def test_imported_rotation_matches_source_at_every_future_moment(
    slots: list[str | None],
    every: timedelta,
    windows: list[WeeklyWindow],
    begin: datetime | None,
    end: datetime | None,
) -> None:
    expected_value = ConvertedRotation("R", tuple(slots), FIRST, every, rotation_converter.combine(windows), begin, end)
    try:
        shifts = rotation_converter.shifts(expected_value, NOW)
    except UnsupportedRotation:
        assert None in slots or len(set(slots)) < len(slots), "each once can always be said"
        return
    zone = "Asia/Kathmandu"  # a quarter past, and clocks that never change
    since = datetime(2026, 11, 24, 3, 15, tzinfo=UTC)
    asked = on_call({"name": "S", "group": "G", "time_zone": zone, "shifts": shifts}) if shifts else None
    for at in moments(since + timedelta(minutes=1), 16, 180):
        expected = expected_users(expected_value, local(at, zone))
        assert (asked(at) if asked else frozenset()) == expected, at


def test_handoffs_keep_local_time_across_clock_changes() -> None:
    expected = ConvertedRotation("R", ("alice", "bob", "alice", "carol"), datetime(2026, 10, 19, 9), timedelta(days=7))
    shifts = rotation_converter.shifts(expected, datetime(2026, 10, 1))
    asked = on_call({"name": "S", "group": "G", "time_zone": "Europe/Zurich", "shifts": shifts})
    # Clocks go back on 25 October and forward on 28 March.
    for at in moments(datetime(2026, 10, 19, 7, tzinfo=UTC), 180, 60 * 3):
        here = local(at, "Europe/Zurich")
        assert asked(at) == expected_users(expected, here), here


def test_inexact_rotations_are_rejected_with_a_reason() -> None:
    with pytest.raises(UnsupportedRotation, match="shorter than an hour"):
        rotation_converter.shifts(ConvertedRotation("R", ("a", "b"), FIRST, timedelta(minutes=30)), NOW)
    with pytest.raises(UnsupportedRotation, match="does not fit into 52 weeks"):
        rotation_converter.shifts(ConvertedRotation("R", ("a", "b", "a"), FIRST, timedelta(days=53)), NOW)
    with pytest.raises(UnsupportedRotation, match="shifts in"):
        rotation_converter.shifts(ConvertedRotation("R", ("a", "b", "a", None, "b"), FIRST, timedelta(hours=1)), NOW)
