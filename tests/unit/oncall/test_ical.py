"""Calendar export and import: exports can be read back, and attendees are matched to users."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.doubles.http import Response, http_double
from tests.support.outbox_harness import allow_loopback
from tests.support.schedule_strategies import ALICE, BOB, local, plan, rotate, schedule
from tocsin.core.errors import Permanent
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import as_reason
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calendars import calendar_import_worker, ical
from tocsin.oncall.calendars.ical import GroupShift, UnreadableCalendar

ZURICH = ZoneInfo("Europe/Zurich")
PEOPLE = {"alice@example.org": ALICE, "alice": ALICE, "alice andersson": ALICE, "bob": BOB}
SINCE, UNTIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)


def calendar(*events: str) -> bytes:
    body = "".join(f"BEGIN:VEVENT\r\nUID:{n}@x\r\n{event}\r\nEND:VEVENT\r\n" for n, event in enumerate(events))
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{body}END:VCALENDAR\r\n".encode()


def read(*events: str) -> ical.ParsedCalendar:
    return ical.read(calendar(*events), PEOPLE, ZURICH, SINCE, UNTIL)


def test_recurring_event_keeps_local_time_across_clock_changes() -> None:
    parsed_calendar = read(
        "DTSTART;TZID=Europe/Zurich:20260323T090000\r\nDTEND;TZID=Europe/Zurich:20260323T170000\r\n"
        "RRULE:FREQ=WEEKLY;COUNT=2\r\nSUMMARY:Alice"
    )
    assert parsed_calendar.spans == (
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


def test_unknown_attendee_is_named_and_room_is_ignored() -> None:
    parsed_calendar = read(
        "DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nATTENDEE:mailto:alice@example.org\r\n"
        "ATTENDEE:mailto:bobby@example.org\r\nATTENDEE;CUTYPE=RESOURCE:mailto:room@example.org\r\nSUMMARY:Shift"
    )
    assert [user for user, _, _ in parsed_calendar.spans] == [ALICE]
    assert parsed_calendar.unknown == ("bobby@example.org",)


def test_unknown_person_is_named_and_cancelled_event_is_ignored() -> None:
    parsed_calendar = read(
        "DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Mallory",
        "DTSTART:20260402T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Bob\r\nSTATUS:CANCELLED",
        "DTSTART;VALUE=DATE:20260403\r\nSUMMARY:Bob",
        "DTSTART:20260404T080000\r\nDURATION:PT1H\r\nSUMMARY:Bob",
    )
    assert parsed_calendar.unknown == ("Mallory",)
    assert parsed_calendar.spans == (
        (BOB, local("2026-04-03T00:00"), local("2026-04-04T00:00")),
        (BOB, local("2026-04-04T08:00"), local("2026-04-04T09:00")),
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b" \r\n", "the response is empty"),
        (b"<html>Sign in</html>", 'starts with "<html>Sign in</html>"'),
        (b"BEGIN:VCALENDAR\r\n", "sent only part of it"),
        (b"BEGIN:VCALENDAR\r\n\x00\r\nEND:VCALENDAR", "could not be parsed"),
        (b"\xff\xfe\x00", "starts with"),
        (b"BEGIN:VCALENDAR\rVERSION:2.0\rEND:VCALENDAR", "incomplete"),
        (b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VCALENDAR", "incomplete"),
        (calendar() + b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VCALENDAR", "incomplete"),
    ],
)
def test_what_is_no_calendar_is_refused_in_words(body: bytes, message: str) -> None:
    with pytest.raises(UnreadableCalendar, match=message):
        ical.read(body, PEOPLE, ZURICH, SINCE, UNTIL)


def test_invalid_event_is_named_and_others_are_imported() -> None:
    good = "DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Bob"
    parsed_calendar = read(
        "DTSTART:20260402T080000Z\r\nDURATION:PT1H\r\nRRULE:FREQ=SOMETIMES\r\nSUMMARY:Alice",
        "SUMMARY:Never",
        "DTSTART;TZID=Mars/Olympus:20260404T080000\r\nDURATION:PT1H\r\nSUMMARY:Bob",
        good,
    )
    assert [span[0] for span in parsed_calendar.spans] == [BOB, BOB]
    assert tuple(map(str, parsed_calendar.flaws)) == (
        "Alice (invalid RRULE)",
        "Never (no DTSTART)",
        "Bob (unknown time zone Mars/Olympus, Europe/Zurich is used)",
    )
    assert read(good).flaws == ()


def test_endlessly_recurring_calendar_is_stopped_in_its_subprocess() -> None:
    again = "DTSTART:01000101T000000Z\r\nDURATION:PT1S\r\nRRULE:FREQ=HOURLY\r\nSUMMARY:Bob"
    with pytest.raises(UnreadableCalendar, match="too long"):
        ical.read_in_subprocess(calendar(again), PEOPLE, ZURICH, SINCE, UNTIL, seconds=1)
    with pytest.raises(UnreadableCalendar, match="starts with"):
        ical.read_in_subprocess(b"<html>", PEOPLE, ZURICH, SINCE, UNTIL)
    fine = ("DTSTART:20260401T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Bob", "DTSTART:20260401T080000Z\r\nSUMMARY:Mallory")
    assert ical.read_in_subprocess(calendar(*fine), PEOPLE, ZURICH, SINCE, UNTIL) == read(*fine)


def test_shifts_written_as_a_calendar_can_be_read_again() -> None:
    group = plan(schedule(rotate("Weekly", [ALICE, BOB])))
    rounds = final_schedule.timeline(group, SINCE, UNTIL).segments
    body = ical.write(
        "On call: Desk", [GroupShift("Desk", attempt) for attempt in rounds], SINCE, UNTIL, SINCE, include_names=True
    )
    again = ical.read(body, {"alice": ALICE, "bob": BOB}, ZURICH, SINCE, UNTIL)
    assert again.spans == tuple(
        (attempt.user_id, max(attempt.since or SINCE, SINCE), min(attempt.until or UNTIL, UNTIL)) for attempt in rounds
    )
    assert b"On call: Desk" in body
    assert timedelta(hours=1) == ical.REFRESH


HOUR = "DTSTART:20260401T080000Z\r\nDTEND:20260401T090000Z"


@pytest.mark.parametrize("answer", ["PARTSTAT=DECLINED", "PARTSTAT=delegated", "ROLE=NON-PARTICIPANT"])
def test_declined_or_informational_attendee_is_not_on_call(answer: str) -> None:
    attendees = f"ATTENDEE;{answer}:mailto:alice@example.org\r\nATTENDEE;PARTSTAT=ACCEPTED:mailto:bob"
    assert [user for user, _, _ in read(f"{HOUR}\r\n{attendees}\r\nSUMMARY:Alice").spans] == [BOB]


def test_event_declined_by_all_is_unassigned_and_dated() -> None:
    everybody = "ATTENDEE;PARTSTAT=DECLINED:mailto:alice@example.org\r\nATTENDEE;CUTYPE=ROOM:mailto:room@example.org"
    parsed_calendar = read(f"{HOUR}\r\n{everybody}\r\nORGANIZER:mailto:bob\r\nSUMMARY:Early")
    assert (parsed_calendar.spans, parsed_calendar.unknown) == ((), ())
    assert tuple(map(str, parsed_calendar.flaws)) == ("Early on 2026-04-01 (no attendee accepted)",)


@pytest.mark.parametrize(("now", "told"), [("2026-04-01T10:59", True), ("2026-04-01T11:00", False)])
def test_past_event_problems_are_not_reported(now: str, told: bool) -> None:
    body = calendar(f"{HOUR}\r\nATTENDEE;PARTSTAT=DECLINED:mailto:bob\r\nSUMMARY:Early", f"{HOUR}\r\nSUMMARY:Mallory")
    for event in (ical.read, ical.read_in_subprocess):
        parsed_calendar = event(body, PEOPLE, ZURICH, SINCE, UNTIL, now=local(now))
        assert (bool(parsed_calendar.flaws), bool(parsed_calendar.unknown)) == (told, told)


def test_attendee_without_mail_address_is_matched_by_email_parameter() -> None:
    parsed_calendar = read(f"{HOUR}\r\nATTENDEE;EMAIL=alice@example.org:urn:uuid:17\r\nSUMMARY:Early")
    assert [user for user, _, _ in parsed_calendar.spans] == [ALICE]


def test_duplicate_ids_keep_both_events_and_newer_version_wins() -> None:
    second = "DTSTART:20260402T080000Z\r\nDURATION:PT1H\r\nSUMMARY:Bob"
    again = "DTSTART:20260403T080000Z\r\nDURATION:PT1H\r\nRRULE:FREQ=DAILY;COUNT=2\r\nSUMMARY:Alice"
    moved = "DTSTART:20260404T100000Z\r\nDURATION:PT1H\r\nRECURRENCE-ID:20260404T080000Z\r\nSUMMARY:Bob"

    def same(*events: str) -> list[tuple[int, int]]:
        body = calendar(*events)
        for number in range(1, len(events)):
            body = body.replace(f"UID:{number}@x".encode(), b"UID:0@x")
        return [(user, at.day) for user, at, _ in ical.read(body, PEOPLE, ZURICH, SINCE, UNTIL).spans]

    assert same(f"{HOUR}\r\nSUMMARY:Alice", second) == [(ALICE, 1), (BOB, 2)]
    assert same(f"{HOUR}\r\nSUMMARY:Alice\r\nSTATUS:CANCELLED", second) == [(BOB, 2)]
    assert same(f"{HOUR}\r\nSUMMARY:Alice", f"{second}\r\nSEQUENCE:1") == [(BOB, 2)]
    assert same(again, moved) == [(ALICE, 3), (BOB, 4)]


@pytest.mark.parametrize(
    ("event", "users", "message"),
    [
        ("DTSTART:20260401T080000Z\r\nDTEND;TZID=Mars/X:20260401T190000", [BOB], "unknown time zone"),
        (f"{HOUR}\r\nRRULE:FREQ=DAILY;COUNT=2\r\nEXDATE;TZID=Mars/X:20260402T080000", [BOB], "unknown time zone"),
        (f"{HOUR}\r\nRRULE:FREQ=DAILY;COUNT=2\r\nEXRULE:FREQ=DAILY", [BOB, BOB], "EXRULE is ignored"),
        (f"{HOUR}\r\nRRULE:FREQ=DAILY;COUNT=2;X-A=1", [], "invalid times"),
        (f"{HOUR}\r\nRRULE:INTERVAL=2", [], "invalid times"),
        ("DTSTART:00010101T000000Z\r\nDTEND:20260701T000000Z", [], "invalid times"),
        ("DTSTART;VALUE=DATE:00010101\r\nDTEND;VALUE=DATE:20260701", [], "invalid times"),
        (f"DTSTART:20260401T070000Z\r\n{HOUR}", [], "more than one DTSTART"),
        ("DTSTART:080000\r\nDURATION:PT1H", [], "invalid DTSTART"),
        (f"{HOUR}\r\nRRULE:FREQ=SECONDLY;COUNT=99999999", [], "more than 24 times a day"),
        (f"{HOUR}\r\nRRULE:FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=0,10,20,30,40", [], "more than 24 times a day"),
        ("DTSTART:20260401T080000Z\r\nDTEND:090000", [], "invalid DTEND"),
        (f"{HOUR}\r\nRECURRENCE-ID:080000", [], "invalid RECURRENCE-ID"),
        ("DTSTART:20260401T080000Z\r\nDURATION:20260401T090000Z", [], "invalid DURATION"),
        ("DTSTART:20260401T080000Z", [], "no end, skipped"),
        ("DTSTART:20260401T080000Z\r\nDTEND:20260401T070000Z", [BOB], "its end is not after its start"),
        ("DTSTART:20260401T080000Z\r\nDURATION:PT0S", [], "its end is not after its start"),
    ],
)  # fmt: skip
def test_event_problems_are_reported_and_others_are_imported(event: str, users: list[int], message: str) -> None:
    parsed_calendar = read(f"{event}\r\nSUMMARY:Bob", f"{HOUR}\r\nSUMMARY:Alice")
    assert [user for user, _, _ in parsed_calendar.spans if user == BOB] == users
    assert [user for user, _, _ in parsed_calendar.spans if user != BOB] == [ALICE]
    (flaw,) = map(str, parsed_calendar.flaws)
    assert flaw.startswith("Bob (")
    assert message in flaw


def test_a_stream_of_several_calendars_is_read_whole() -> None:
    both = calendar(f"{HOUR}\r\nSUMMARY:Alice") + calendar(f"{HOUR}\r\nSUMMARY:Bob")
    assert [user for user, _, _ in ical.read(both, PEOPLE, ZURICH, SINCE, UNTIL).spans] == [ALICE, BOB]


def test_a_day_that_ends_where_it_begins_is_that_day() -> None:
    (span,) = read("DTSTART;VALUE=DATE:20260401\r\nDTEND;VALUE=DATE:20260401\r\nSUMMARY:Bob").spans
    assert span == (BOB, local("2026-04-01T00:00"), local("2026-04-02T00:00"))


def test_event_within_an_unfinished_one_is_checked_too() -> None:
    inner = f"{HOUR}\r\nSUMMARY:Alice\r\nRRULE:FREQ=SECONDLY;COUNT=99999999"
    parsed = read(f"{HOUR}\r\nSUMMARY:Bob\r\nBEGIN:VEVENT\r\n{inner}\r\nEND:VEVENT")
    assert [span[0] for span in parsed.spans] == [BOB]
    assert [str(flaw) for flaw in parsed.flaws] == ["Alice (takes place more than 24 times a day, skipped)"]


def test_calendar_of_too_many_events_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ical, "MAX_SHIFTS", 1)
    event = "DTSTART:20260323T090000Z\r\nDTEND:20260323T170000Z\r\nSUMMARY:Alice"
    with pytest.raises(UnreadableCalendar) as raised:
        read(event, event)
    assert (raised.value.reason.code, raised.value.reason.data) == (
        "The calendar has more than {limit} events in the imported period.", {"limit": 1},
    )  # fmt: skip


def test_unanswerable_calendar_server_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    monkeypatch.setattr(calendar_import_worker, "MAX_CALENDAR_BYTES", 2 * 1024 * 1024)
    for response, code in (
        (Response(302, headers={"Location": "/again"}), "Its URL redirects too many times."),
        (Response(200, b"x" * (2 * 1024 * 1024)), "The calendar is larger than {megabytes} MB."),
    ):
        with http_double(lambda request, answer=response: answer) as server, pytest.raises(Permanent) as raised:
            calendar_import_worker._fetch(HttpClient(), f"{server.url}/calendar.ics")
        assert raised.value.reason.code == code


def test_further_flaws_of_a_calendar_are_counted() -> None:
    flaws = tuple(as_reason(f"flaw {number}") for number in range(calendar_import_worker.MAX_NAMED_EVENTS + 2))
    parts = calendar_import_worker._describe_flaws(flaws).data["flaws"]["data"]["parts"]
    assert parts[-1] == {"code": "and {count} more", "data": {"count": 2}}
