"""Calendars out and in: what is written can be read again, and whose an event elsewhere is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.unit.oncall.drawing import ALICE, BOB, local, plan, rotate, schedule
from tocsin.oncall import ical, ical_apart, rota
from tocsin.oncall.ical import GroupTurn, Unreadable

ZURICH = ZoneInfo("Europe/Zurich")
PEOPLE = {"alice@example.org": ALICE, "alice": ALICE, "alice andersson": ALICE, "bob": BOB}
SINCE, UNTIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)


def calendar(*events: str) -> bytes:
    body = "".join(f"BEGIN:VEVENT\r\nUID:{n}@x\r\n{event}\r\nEND:VEVENT\r\n" for n, event in enumerate(events))
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{body}END:VCALENDAR\r\n".encode()


def read(*events: str) -> ical.Read:
    return ical.read(calendar(*events), PEOPLE, ZURICH, SINCE, UNTIL)


def test_an_event_that_comes_again_keeps_its_local_time_when_clocks_change() -> None:
    found = read(
        "DTSTART;TZID=Europe/Zurich:20260323T090000\r\nDTEND;TZID=Europe/Zurich:20260323T170000\r\n"
        "RRULE:FREQ=WEEKLY;COUNT=2\r\nSUMMARY:Alice"
    )
    assert found.spans == (
        (ALICE, local("2026-03-23T09:00"), local("2026-03-23T17:00")),
        (ALICE, local("2026-03-30T09:00"), local("2026-03-30T17:00")),
    )


@pytest.mark.parametrize(
    ("named", "user"),
    [
        ("ATTENDEE;CN=Somebody:mailto:Alice@example.org\r\nSUMMARY:bob", ALICE),
        ("ORGANIZER:mailto:alice@example.org\r\nSUMMARY:bob", ALICE),
        ("SUMMARY:Alice Andersson", ALICE),
        ("SUMMARY:On call: Bob", BOB),
        ("SUMMARY:Bob: primary of Desk", BOB),
    ],
)
def test_an_event_is_somebodys_by_attendee_organizer_or_title(named: str, user: int) -> None:
    (span,) = read(f"DTSTART:20260401T080000Z\r\nDTEND:20260401T090000Z\r\n{named}").spans
    assert span[0] == user


def test_an_attendee_who_is_nobody_here_is_named_beside_one_who_is_and_a_room_is_not() -> None:
    found = read(
        "DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nATTENDEE:mailto:alice@example.org\r\n"
        "ATTENDEE:mailto:bobby@example.org\r\nATTENDEE;CUTYPE=RESOURCE:mailto:room@example.org\r\nSUMMARY:Shift"
    )
    assert [user for user, _, _ in found.spans] == [ALICE]
    assert found.unknown == ("bobby@example.org",)


def test_who_is_nobody_here_is_named_and_a_cancelled_event_is_left_out() -> None:
    found = read(
        "DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Mallory",
        "DTSTART:20260402T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Bob\r\nSTATUS:CANCELLED",
        "DTSTART;VALUE=DATE:20260403\r\nSUMMARY:Bob",
        "DTSTART:20260404T080000\r\nDURATION:PT1H\r\nSUMMARY:Bob",
    )
    assert found.unknown == ("Mallory",)
    assert found.spans == (
        (BOB, local("2026-04-03T00:00"), local("2026-04-04T00:00")),
        (BOB, local("2026-04-04T08:00"), local("2026-04-04T09:00")),
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b" \r\n", "it is empty"),
        (b"<html>Sign in</html>", 'begins with "<html>Sign in</html>"'),
        (b"BEGIN:VCALENDAR\r\n", "only a part"),
        (b"BEGIN:VCALENDAR\r\n\x00\r\nEND:VCALENDAR", "could not be parsed"),
        (b"\xff\xfe\x00", "begins with"),
    ],
)
def test_what_is_no_calendar_is_refused_in_words(body: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=f"not a calendar.*{said}"):
        ical.read(body, PEOPLE, ZURICH, SINCE, UNTIL)


def test_an_event_that_cannot_be_understood_is_named_and_the_others_are_taken() -> None:
    good = "DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Bob"
    found = read(
        "DTSTART:20260402T080000Z\r\nDURATION:PT1H\r\nRRULE:FREQ=SOMETIMES\r\nSUMMARY:Alice",
        "SUMMARY:Never",
        "DTSTART;TZID=Mars/Olympus:20260404T080000\r\nDURATION:PT1H\r\nSUMMARY:Bob",
        good,
    )
    assert [span[0] for span in found.spans] == [BOB, BOB]
    assert found.flaws == (
        "Alice (RRULE cannot be understood)",
        "Never (no DTSTART)",
        "Bob (time zone Mars/Olympus is not known, Europe/Zurich is taken)",
    )
    assert read(good).flaws == ()


def test_a_calendar_that_repeats_each_second_ends_alone_and_others_are_read_the_same_way_apart() -> None:
    again = "DTSTART:20260101T000000Z\r\nDURATION:PT1S\r\nRRULE:FREQ=SECONDLY\r\nSUMMARY:Bob"
    with pytest.raises(Unreadable, match="too long"):
        ical_apart.read(calendar(again), PEOPLE, ZURICH, SINCE, UNTIL, seconds=1)
    with pytest.raises(Unreadable, match="begins with"):
        ical_apart.read(b"<html>", PEOPLE, ZURICH, SINCE, UNTIL)
    fine = ("DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Bob", "DTSTART:20260401T080000Z\r\nSUMMARY:Mallory")
    assert ical_apart.read(calendar(*fine), PEOPLE, ZURICH, SINCE, UNTIL) == read(*fine)


def test_shifts_written_as_a_calendar_can_be_read_again() -> None:
    group = plan(schedule(rotate("Weekly", [ALICE, BOB])))
    turns = rota.timeline(group, SINCE, UNTIL).segments
    body = ical.write(
        "On call: Desk", [GroupTurn("Desk", turn) for turn in turns], SINCE, UNTIL, SINCE, names_people=True
    )
    again = ical.read(body, {"alice": ALICE, "bob": BOB}, ZURICH, SINCE, UNTIL)
    assert again.spans == tuple(
        (turn.user_id, max(turn.since or SINCE, SINCE), min(turn.until or UNTIL, UNTIL)) for turn in turns
    )
    assert b"On call: Desk" in body
    assert timedelta(hours=1) == ical.REFRESH
