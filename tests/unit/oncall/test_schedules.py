"""Who has a shift at an instant: hand-offs at local times, the nights in which clocks change, the order of roles."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.oncall import schedules
from tocsin.oncall.schedules import Fixed, Rotation, Schedule, Turn
from tocsin.oncall.windows import Window
from tocsin.people.members import MemberRole

ZURICH = ZoneInfo("Europe/Zurich")
ALICE, BOB, CAROL = 1, 2, 3
PRIMARY, SECONDARY = MemberRole.PRIMARY, MemberRole.SECONDARY

#: The rotation of the example: weekly, Mondays at 09:00 in Zürich, from 5 January 2026.
EXAMPLE = schedules.load(
    "Service Desk 24x7",
    "Europe/Zurich",
    {
        "shifts": [
            {
                "name": "Weekly",
                "rotate": {
                    "every": "1w",
                    "at": "09:00",
                    "on": "monday",
                    "users": [ALICE, BOB],
                    "roles": ["primary", "secondary"],
                },
                "start": "2026-01-05",
            }
        ]
    },
)


def local(text: str, zone: ZoneInfo = ZURICH, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


def holders(schedule: Schedule, at: datetime) -> list[tuple[str, int]]:
    return [(str(turn.role), turn.user_id) for turn in schedule.turns(at)]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-05T08:59:59", []),
        ("2026-01-05T09:00:00", [("primary", ALICE), ("secondary", BOB)]),
        ("2026-01-12T08:59:59", [("primary", ALICE), ("secondary", BOB)]),
        ("2026-01-12T09:00:00", [("primary", BOB), ("secondary", ALICE)]),
        ("2026-01-19T09:00:00", [("primary", ALICE), ("secondary", BOB)]),
        # Clocks went forward on 29 March: the hand-off stays at 09:00 by the clock on the wall.
        ("2026-03-30T08:59:59", [("primary", BOB), ("secondary", ALICE)]),
        ("2026-03-30T09:00:00", [("primary", ALICE), ("secondary", BOB)]),
        ("2036-01-07T08:59:59", [("primary", BOB), ("secondary", ALICE)]),
    ],
)
def test_the_first_of_the_order_is_primary_the_next_secondary_and_both_move_on(
    at: str, expected: list[tuple[str, int]]
) -> None:
    assert holders(EXAMPLE, local(at)) == expected


def test_a_turn_says_since_and_until_when_also_over_a_change_of_clocks() -> None:
    turn = EXAMPLE.turns(local("2026-03-29T12:00:00"))[0]
    assert turn == Turn(PRIMARY, BOB, local("2026-03-23T09:00"), local("2026-03-30T09:00"), "Weekly")
    assert turn.until - turn.since == timedelta(days=7) - timedelta(hours=1)


def test_a_daily_hand_off_at_a_time_that_is_skipped_happens_that_much_later() -> None:
    nightly = Rotation("N", (ALICE, BOB), (PRIMARY,), datetime(2026, 3, 28, 2, 30), timedelta(days=1))
    hand_off = local("2026-03-29T03:30")
    assert nightly.turns(ZURICH, hand_off - timedelta(seconds=1))[0].user_id == ALICE
    assert nightly.turns(ZURICH, hand_off)[0].user_id == BOB


def test_a_daily_hand_off_at_a_time_that_comes_twice_happens_the_first_time_only() -> None:
    nightly = Rotation("N", (ALICE, BOB), (PRIMARY,), datetime(2026, 10, 24, 2, 30), timedelta(days=1))
    assert nightly.turns(ZURICH, local("2026-10-25T02:29:59"))[0].user_id == ALICE
    assert nightly.turns(ZURICH, local("2026-10-25T02:30"))[0].user_id == BOB
    assert nightly.turns(ZURICH, local("2026-10-25T02:15", fold=1))[0].user_id == BOB
    assert nightly.turns(ZURICH, local("2026-10-25T02:45", fold=1))[0].user_id == BOB


def test_the_first_hand_off_is_on_the_named_day_on_or_after_the_start() -> None:
    assert schedules.first_hand_off(date(2026, 1, 5), 540, 0) == datetime(2026, 1, 5, 9)
    assert schedules.first_hand_off(date(2026, 1, 6), 540, 0) == datetime(2026, 1, 12, 9)
    assert schedules.first_hand_off(date(2026, 1, 6), 540, None) == datetime(2026, 1, 6, 9)


def test_with_one_user_a_rotation_keeps_them_and_never_gives_them_two_roles() -> None:
    alone = Rotation("A", (ALICE,), (PRIMARY, SECONDARY), datetime(2026, 1, 5, 9), timedelta(weeks=1))
    assert [(turn.role, turn.user_id) for turn in alone.turns(ZURICH, local("2026-02-01T00:00"))] == [(PRIMARY, ALICE)]


def test_a_shift_ends_with_its_last_day() -> None:
    ending = Rotation("E", (ALICE, BOB), (PRIMARY,), datetime(2026, 1, 5, 9), timedelta(weeks=1), end=date(2026, 1, 7))
    assert ending.turns(ZURICH, local("2026-01-07T23:59:59"))[0].until == local("2026-01-08T00:00")
    assert ending.turns(ZURICH, local("2026-01-08T00:00")) == []


NIGHTS = Fixed("Nights", (ALICE, BOB), (PRIMARY,), (Window(frozenset({4, 5}), 22 * 60, 6 * 60),))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-09T21:59:59", []),  # Friday
        ("2026-01-09T22:00:00", [ALICE, BOB]),
        ("2026-01-10T05:59:59", [ALICE, BOB]),
        ("2026-01-10T06:00:00", []),
        ("2026-01-11T05:59:59", [ALICE, BOB]),  # Saturday's window, on Sunday morning
        ("2026-01-11T22:00:00", []),
    ],
)
def test_a_fixed_shift_over_midnight_belongs_to_the_day_on_which_it_begins(at: str, expected: list[int]) -> None:
    assert [turn.user_id for turn in NIGHTS.turns(ZURICH, local(at))] == expected


def test_a_fixed_shift_says_when_its_window_began_and_ends() -> None:
    turn = NIGHTS.turns(ZURICH, local("2026-01-10T03:00"))[0]
    assert (turn.since, turn.until) == (local("2026-01-09T22:00"), local("2026-01-10T06:00"))


def test_a_fixed_shift_counts_from_its_first_day_to_its_last() -> None:
    days = frozenset(range(7))
    shift = Fixed("D", (ALICE,), (PRIMARY,), (Window(days, 0, 24 * 60),), date(2026, 1, 6), date(2026, 1, 6))
    assert not shift.turns(ZURICH, local("2026-01-05T23:59:59"))
    assert shift.turns(ZURICH, local("2026-01-06T00:00"))
    assert not shift.turns(ZURICH, local("2026-01-07T00:00"))


ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Zurich",
        "America/Chicago",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "America/Sao_Paulo",
    ]
)


@given(
    zone=ZONES,
    first=st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(second=0, microsecond=0)),
    every=st.integers(1, 24 * 30).map(lambda hours: timedelta(hours=hours)),
    users=st.integers(1, 5),
    at=st.datetimes(datetime(2010, 1, 1), datetime(2035, 1, 1)),
)
def test_at_every_moment_after_the_first_hand_off_exactly_one_has_a_role_and_turns_join_without_a_gap(
    zone: str, first: datetime, every: timedelta, users: int, at: datetime
) -> None:
    place = ZoneInfo(zone)
    rotation = Rotation("R", tuple(range(users)), (PRIMARY,), first, every)
    moment = at.replace(tzinfo=UTC)
    turns = rotation.turns(place, moment)
    began = first.replace(tzinfo=place).astimezone(UTC)
    if moment < began:
        assert turns == []
        return
    (turn,) = turns
    assert turn.since <= moment < turn.until
    (following,) = rotation.turns(place, turn.until)
    assert following.since == turn.until
    if turn.since > began:
        (before,) = rotation.turns(place, turn.since - timedelta(microseconds=1))
        assert before.until == turn.since
