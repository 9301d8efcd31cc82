"""Temporary schedule changes and their notices, and calendar import and export."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction
from django.test import Client

from tests.doubles.http import Request, Response, http_double
from tests.support.outbox_harness import configured
from tests.support.people import ACTOR, make_group, make_user
from tocsin.access.models import AuditEntry
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import TEXT, Reason, each_of, reason_from_json
from tocsin.notify import notices
from tocsin.notify.models import Notification
from tocsin.oncall import loader
from tocsin.oncall.calendars import calendar_import_worker, feeds
from tocsin.oncall.changes import commands, overrides, swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import CalendarImport, FeedKind, Override, PendingNotice, Reminder, Schedule
from tocsin.operate import coverage
from tocsin.people.changes import out_of_office, users
from tocsin.people.models import Group, User
from tocsin.resources import registry

pytestmark = pytest.mark.usefixtures("database")

#: Alice has the week of Monday 23 November 2026, Bob the next.
WEEKLY = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob"]}
SPEC: dict[str, object] = {
    "name": "Desk 24x7",
    "group": "Desk",
    "time_zone": "Europe/Zurich",
    "shifts": [{"name": "Weekly", "rotate": WEEKLY, "start": "2026-01-05"}],
}


@pytest.fixture
def desk_group(database: str, now: datetime) -> Group:
    for name in ("alice", "bob", "carol"):
        make_user(name, now, name=name.title())
    return make_group("Desk", now, members=("alice", "bob"))


@pytest.fixture
def schedule(desk_group: Group, now: datetime) -> Schedule:
    return commands.save_schedule(SPEC, actor=ACTOR, now=now)


def user(name: str) -> User:
    return User.objects.get(username=name)


def primary(group: Group, at: datetime) -> tuple[str, str]:
    with database.transaction() as connection:
        person = loader.on_call(connection, [group.pk], at)[group.pk][0]
    return person.name, str(person.reason)


def test_override_replaces_user_for_its_window_and_notifies_both(
    desk_group: Group, schedule: Schedule, now: datetime
) -> None:
    assert primary(desk_group, now) == ("Alice", "shift Weekly of Desk 24x7")
    spec = {"schedule": "desk 24x7", "name": "Xmas swap", "user": "carol", "role": "primary"}
    window = {"from": "2026-12-24T17:00", "to": "2026-12-25T12:00:00+01:00"}
    made = overrides.save_override({**spec, **window}, actor=ACTOR, now=now)
    assert primary(desk_group, datetime(2026, 12, 25, 3, tzinfo=UTC)) == ("Carol", "override Xmas swap")
    assert primary(desk_group, datetime(2026, 12, 24, 15, 59, tzinfo=UTC))[0] == "Alice"
    assert primary(desk_group, datetime(2026, 12, 25, 11, tzinfo=UTC))[0] == "Alice"
    assert [notice.user.username for notice in PendingNotice.objects.all()] == ["carol"]
    assert commands.stand_ins_by_user(user("carol").pk)[0].code == hooks.OVERRIDE.code
    with pytest.raises(Rejected, match="it is used by"):
        users.delete_user(user("carol"), actor=ACTOR, now=now)
    again = overrides.save_override(overrides.override_spec(made), existing=made, actor=ACTOR, now=now)
    bob = overrides.save_override({**spec, **window, "user": "bob"}, existing=again, actor=ACTOR, now=now)
    overrides.delete_override(bob, actor=ACTOR, now=now)
    notices = [(notice.user.username, notice.title.code) for notice in PendingNotice.objects.order_by("id")]
    assert notices[1:] == [
        ("bob", "{user} is on call in {schedule} from {since} until {until}"),
        ("carol", "{user} is on call in {schedule} from {since} until {until}"),
        ("bob", "{user} is no longer on call in {schedule} from {since} until {until}"),
    ]
    entries = AuditEntry.objects.filter(object_type="override").order_by("id").values_list("action", flat=True)
    assert list(entries) == ["create", "update", "delete"], "saving it unchanged is no change"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"to": "2026-12-24T17:00"}, "to"),
        ({"from": "2026-11-01T00:00", "to": "2026-11-02T00:00"}, "to"),
        ({"from": "Christmas"}, "from"),
        ({"shift": "Nightly"}, "shift"),
        ({"role": "boss"}, "role"),
        ({"user": "mallory"}, "user"),
        ({"instead_of": "carol"}, "instead_of"),
        ({"schedule": "Nobody's"}, "schedule"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_override_is_refused_with_the_place(
    change: dict[str, object], place: str, schedule: Schedule, now: datetime
) -> None:
    good = {"schedule": schedule.name, "user": "carol", "from": "2026-12-24T17:00", "to": "2026-12-25T17:00"}
    with pytest.raises(Rejected) as raised:
        overrides.save_override({**good, **change}, actor=ACTOR, now=now)
    assert place in raised.value.fields
    assert not Override.objects.exists()


def test_absent_user_is_covered_or_marked_without_cover(desk_group: Group, schedule: Schedule, now: datetime) -> None:
    alice, at = user("alice"), now + timedelta(hours=1)
    span = {"from": "2026-11-24T09:30:00Z", "to": "2026-11-24T12:00:00Z"}
    absence = out_of_office.save_absence(alice, {**span, "covers": {"desk": "carol"}}, actor=ACTOR, now=now)
    assert primary(desk_group, at) == ("Carol", "covering for Alice (out of office)")
    with pytest.raises(Rejected, match="must not overlap") as raised:
        out_of_office.save_absence(
            alice, {"from": "2026-11-24T11:00:00Z", "to": "2026-11-25T00:00"}, actor=ACTOR, now=now
        )
    assert raised.value.code == "overlap"
    for bad in ({"cover": "alice"}, {"cover": "mallory"}, {"covers": {"Nowhere": "bob"}}, {"to": span["from"]}):
        with pytest.raises(Rejected):
            out_of_office.save_absence(alice, {**span, **bad}, existing=absence, actor=ACTOR, now=now)
    out_of_office.save_absence(alice, span, existing=absence, actor=ACTOR, now=now)
    with database.transaction() as connection:
        person = loader.on_call(connection, [desk_group.pk], at)[desk_group.pk][0]
    assert (person.name, person.is_absent) == ("Alice", True)
    assert "no cover" in str(person.reason)
    assert (person.since, person.until) == (absence.starts_at, absence.ends_at)


def test_cover_is_in_use_until_the_absence_ends(desk_group: Group, now: datetime) -> None:
    span = {"from": "2026-11-24T09:30:00Z", "to": "2026-11-24T12:00:00Z"}
    absence = out_of_office.save_absence(user("alice"), {**span, "cover": "carol"}, actor=ACTOR, now=now)
    carol = user("carol").pk
    assert [use.code for use in out_of_office.absences_using_user(carol, now)] == ["the absence of {username}"]
    assert out_of_office.absences_using_user(carol, absence.ends_at) == []


def test_swap_is_requested_mailed_accepted_and_changes_both_shifts(
    desk_group: Group, schedule: Schedule, now: datetime
) -> None:
    alice, bob = user("alice"), user("bob")
    mine = ShiftRange(now + timedelta(hours=1), now + timedelta(hours=9))
    back = ShiftRange(now + timedelta(days=8), now + timedelta(days=8, hours=8))
    data = {"requester": alice, "requested_user": bob, "message": "Concert", "actor": ACTOR, "now": now}
    with pytest.raises(Rejected, match="Alice is not on call"):
        swaps.request_swap(schedule, back, in_return=None, **data)  # type: ignore[arg-type]
    swap = swaps.request_swap(schedule, mine, in_return=back, **data)  # type: ignore[arg-type]
    assert not notices.queue_pending_notices(now)
    notification = Notification.objects.get()
    assert (notification.user, notification.purpose, notification.channel) == (bob, "notice", "email")
    text = reason_from_json(notification.data["text"])
    assert [part.code for part in each_of(text)] == [
        "{user} asks {requested} to take {schedule} from {since} until {until}.",
        "In return: from {since} until {until}.",
        TEXT.code,
    ]
    assert str(each_of(text)[-1]) == "Concert"
    swaps.accept(swap, actor=ACTOR, now=now)
    assert primary(desk_group, mine.starts_at) == ("Bob", "override Bob for Alice")
    assert primary(desk_group, back.starts_at) == ("Alice", "override Alice for Bob")
    assert primary(desk_group, mine.ends_at)[0] == "Alice"
    for answer in (swaps.accept, swaps.decline, swaps.withdraw):
        with pytest.raises(Rejected):
            answer(swap, actor=ACTOR, now=now)
    assert not notices.queue_pending_notices(now)
    assert Notification.objects.filter(data__title__code="Swap of {schedule} accepted", user=alice).count() == 1


@pytest.mark.parametrize("answer", [swaps.decline, swaps.withdraw])
def test_answered_swap_keeps_its_answer(
    desk_group: Group, schedule: Schedule, now: datetime, answer: Callable[..., object]
) -> None:
    stretch = ShiftRange(now + timedelta(hours=1), now + timedelta(hours=9))
    swap = swaps.request_swap(
        schedule, stretch, requester=user("alice"), requested_user=user("bob"), in_return=None, message="", actor=ACTOR,
        now=now,
    )  # fmt: skip
    answer(swap, actor=ACTOR, now=now)
    with pytest.raises(Rejected) as rejected:
        swaps.accept(swap, actor=ACTOR, now=now)
    state = "declined" if answer is swaps.decline else "withdrawn"
    assert rejected.value.reason.code == f"This swap has already been {state}."


def test_deleted_override_gives_the_shift_back(desk_group: Group, schedule: Schedule, now: datetime) -> None:
    stretch = ShiftRange(now + timedelta(hours=1), now + timedelta(hours=9))
    swaps.transfer_shift(schedule, stretch, current_user=user("alice"), new_user=user("bob"), actor=ACTOR, now=now)
    PendingNotice.objects.all().delete()
    overrides.delete_override(Override.objects.get(), actor=ACTOR, now=now)
    texts = [str(notice.text) for notice in PendingNotice.objects.all()]
    assert texts
    assert all("Alice has the shift again." in text for text in texts)


def test_user_has_a_limited_number_of_absences(desk_group: Group, now: datetime) -> None:
    spans = [
        {
            "from": f"{now + timedelta(days=2 * number):%Y-%m-%d %H:%M}",
            "to": f"{now + timedelta(days=2 * number + 1):%Y-%m-%d %H:%M}",
        }
        for number in range(1, out_of_office.MAX_ABSENCES + 2)
    ]
    with pytest.raises(Rejected) as rejected:
        out_of_office.replace_all(user("alice"), spans, actor=ACTOR, now=now)
    problem = rejected.value.reason["problem"]
    assert isinstance(problem, Reason)
    assert problem.code == "a user can have at most {count} absence."


def test_shift_changed_midway_keeps_its_past(desk_group: Group, schedule: Schedule, now: datetime) -> None:
    stretch, later = ShiftRange(now + timedelta(hours=1), now + timedelta(hours=9)), now + timedelta(hours=3)
    data = {"requester": user("alice"), "requested_user": user("bob"), "in_return": None, "message": ""}
    swap = swaps.request_swap(schedule, stretch, actor=ACTOR, now=now, **data)  # type: ignore[arg-type]
    swaps.accept(swap, actor=ACTOR, now=later)
    assert primary(desk_group, later - timedelta(minutes=1))[0] == "Alice"
    assert primary(desk_group, later)[0] == "Bob"


def test_cover_can_hand_over_a_covered_shift(desk_group: Group, schedule: Schedule, now: datetime) -> None:
    span = {"from": "2026-11-24T09:30:00Z", "to": "2026-11-24T12:00:00Z"}
    out_of_office.save_absence(user("alice"), {**span, "cover": "bob"}, actor=ACTOR, now=now)
    stretch = ShiftRange(datetime(2026, 11, 24, 9, 30, tzinfo=UTC), datetime(2026, 11, 24, 12, tzinfo=UTC))
    swaps.transfer_shift(schedule, stretch, current_user=user("bob"), new_user=user("carol"), actor=ACTOR, now=now)
    assert primary(desk_group, stretch.starts_at) == ("Carol", "override Carol for Bob")
    assert primary(desk_group, stretch.ends_at)[0] == "Alice"


def test_moved_or_replacing_override_notifies_again(schedule: Schedule, now: datetime) -> None:
    spec = {"schedule": "desk 24x7", "name": "Xmas", "user": "carol", "instead_of": "alice"}
    window = {"from": "2026-12-24T17:00", "to": "2026-12-25T12:00"}
    made = overrides.save_override({**spec, **window}, actor=ACTOR, now=now)
    PendingNotice.objects.all().delete()
    overrides.save_override({**spec, **window, "name": "Christmas"}, existing=made, actor=ACTOR, now=now)
    assert not PendingNotice.objects.exists(), "another name changes nobody's duty"
    overrides.save_override({**spec, **window, "to": "2026-12-27T12:00"}, existing=made, actor=ACTOR, now=now)
    notices = [(notice.user.username, notice.title["until"]) for notice in PendingNotice.objects.order_by("id")]
    assert notices == [(name, datetime(2026, 12, 27, 11, tzinfo=UTC)) for name in ("carol", "alice")]
    PendingNotice.objects.all().delete()
    moved = {**window, "to": "2026-12-27T12:00", "instead_of": "bob"}
    overrides.save_override({**spec, **moved}, existing=made, actor=ACTOR, now=now)
    assert {notice.user.username for notice in PendingNotice.objects.all()} == {"carol", "alice", "bob"}


def test_cover_is_notified_of_start_changes_and_end(desk_group: Group, now: datetime) -> None:
    alice = user("alice")
    span = {"from": "2026-12-24T12:00", "to": "2027-01-04T08:00"}

    def told() -> list[tuple[str, str]]:
        rows = [(notice.user.username, str(each_of(notice.text)[0])) for notice in PendingNotice.objects.order_by("id")]
        PendingNotice.objects.all().delete()
        return rows

    saving = {"actor": ACTOR, "now": now}
    away = overrides.save_absence(alice, {**span, "cover": "bob", "covers": {"Desk": "carol"}}, **saving)  # type: ignore[arg-type]
    assert sorted(told()) == [
        ("bob", "Bob covers for Alice from 2026-12-24 12:00 UTC until 2027-01-04 08:00 UTC, in every other group."),
        ("carol", "Carol covers for Alice from 2026-12-24 12:00 UTC until 2027-01-04 08:00 UTC, in Desk."),
    ]
    changed = {**span, "cover": "bob", "covers": {"Desk": "carol"}, "note": "Skiing"}
    overrides.save_absence(alice, changed, existing=out_of_office.rows().get(pk=away.pk), **saving)  # type: ignore[arg-type]
    assert told() == [], "a note is nobody's duty"
    shorter = {**span, "to": "2026-12-31T08:00", "cover": "bob"}
    overrides.save_absence(alice, shorter, existing=out_of_office.rows().get(pk=away.pk), **saving)  # type: ignore[arg-type]
    assert told() == [
        ("bob", "Bob covers for Alice from 2026-12-24 12:00 UTC until 2026-12-31 08:00 UTC, in every group."),
        (
            "carol",
            "Carol no longer covers for Alice from 2026-12-24 12:00 UTC until 2027-01-04 08:00 UTC.",
        ),
    ]
    overrides.delete_absence(out_of_office.rows().get(pk=away.pk), **saving)  # type: ignore[arg-type]
    assert [name for name, _ in told()] == ["bob"]


def test_cover_of_a_cover_sees_the_shift_in_their_calendar(
    desk_group: Group, schedule: Schedule, now: datetime
) -> None:
    make_user("dave", now, name="Dave")
    span = {"from": "2026-11-24T09:30:00Z", "to": "2026-11-24T12:00:00Z"}
    out_of_office.save_absence(user("alice"), {**span, "cover": "carol"}, actor=ACTOR, now=now)
    out_of_office.save_absence(user("carol"), {**span, "cover": "dave"}, actor=ACTOR, now=now)
    assert primary(desk_group, datetime(2026, 11, 24, 10, tzinfo=UTC))[0] == "Dave"
    made = feeds.create_feed(user("dave"), FeedKind.PERSON, actor=ACTOR, now=now)
    with database.transaction() as connection:
        assert loader.groups_of(connection, [made.feed.owner_id]) == {desk_group.pk}


YAML = """
users:
  - {username: alice, email: alice@example.org, reminders: [{before: 1d}, {before: 1h, by: Email-Official}],
     out_of_office: [{from: "2030-12-24T12:00", to: "2031-01-04T08:00", covers: {Desk: bob}, note: Away}]}
  - {username: bob, email: bob@example.org}
groups: [{name: Desk, members: [{user: alice, roles: [primary]}, {user: bob, roles: [secondary]}]}]
holiday_calendars: [{name: Zurich, country: CH, region: ZH, days: [{date: 12-24, name: Christmas Eve}]}]
support_hours:
  - {name: Office, holiday_calendars: [Zurich], windows: [{days: [mon], from: "08:00", to: "18:00"}]}
schedules:
  - name: Desk 24x7
    group: Desk
    time_zone: Europe/Zurich
    holiday_calendars: [Zurich]
    shifts:
      - {name: Months, rotate: {every: 1 month, at: "09:00", on: 31, move: 1, users: [alice, bob]}, start: 2026-01-05}
      - name: Weekend
        layer: 2
        fixed: {windows: [{from: fri 17:00, to: mon 08:00}], users: [bob], roles: [own]}
        holidays: skip
      - name: Fair
        layer: 3
        time_zone: America/Chicago
        fixed: {every: 2w, from: "2026-12-01T08:00", to: "2026-12-03T18:00", users: [bob, alice]}
        end: "2027-06-30"
      - {name: Elsewhere, calendar: {url: "https://calendar.example.org/a.ics", roles: [lead]}, layer: 4}
    overrides:
      - {name: Xmas, user: bob, instead_of: alice, role: primary, from: "2030-12-24T17:00", to: "2030-12-26T08:00"}
      - {user: alice, shift: Weekend, from: "2020-12-24T17:00", to: "2020-12-26T08:00"}
"""


def collected(text: str) -> config_files.ConfigFiles:
    return config_files.collect([yaml_loader.parse(text, "a.yaml", Path())])


def test_on_call_configuration_round_trips_through_yaml(now: datetime) -> None:
    expected = collected(YAML)
    plan.apply(expected, prune=False, now=now)
    assert plan.apply(expected, prune=True, now=now).is_empty
    text = plan.write(plan.export_configuration(with_secrets=True))
    assert plan.apply(collected(text), prune=True, now=now).is_empty
    assert Override.objects.count() == 1, "what is over already is not made"
    assert CalendarImport.objects.get().shift == "Elsewhere"
    changed = text.replace("note: Away", "note: Skiing")
    lines = plan.apply(collected(changed), prune=False, now=now)
    assert [str(line) for line in lines.lines if line.keys] == ["update    user alice: out_of_office"]
    bad = text.replace("Desk: bob", "Desk: mallory")
    with pytest.raises(Rejected, match=r"a\.yaml:\d+.*mallory"):
        plan.apply(collected(bad), prune=False, now=now)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpClient]:
    configured(monkeypatch, allow_targets=(ip_network("127.0.0.0/8"),))
    client = HttpClient()
    yield client
    client.close()


CALENDAR = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20261124T080000Z\r\n"
    "DTEND:20261124T200000Z\r\nSUMMARY:Carol\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nUID:2\r\nDTSTART:20261125T080000Z\r\n"
    "DTEND:20261125T200000Z\r\nSUMMARY:Mallory\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


def test_calendar_shift_is_imported_and_kept_during_failures(
    desk_group: Group, now: datetime, client: HttpClient
) -> None:
    broken = "END:VEVENT\r\nBEGIN:VEVENT\r\nUID:3\r\nDTSTART:soon\r\nSUMMARY:Dave\r\nEND:VEVENT\r\nEND:VCAL"
    answers = [
        Response(302, headers={"Location": "/moved.ics"}),
        Response(200, CALENDAR.replace("END:VEVENT\r\nEND:VCAL", broken).encode()),
        Response(200, b"<html>Sign in</html>"),
        Response(503),
    ]

    def answering(request: Request) -> Response:
        return answers.pop(0)

    with http_double(answering) as server:
        shift = {"name": "Elsewhere", "calendar": {"url": f"{server.url}/a.ics"}}
        commands.save_schedule({**SPEC, "shifts": [shift]}, actor=ACTOR, now=now)
        calendar_import_worker.run_once(client, now)
        row = CalendarImport.objects.get()
        assert (row.unknown, row.read_at) == (["Mallory"], now)
        assert str(row.error) == "Skipped, or imported only in part: Dave (invalid DTSTART)."
        assert primary(desk_group, now)[0] == "Carol"
        assert primary(desk_group, now + timedelta(days=1))[0] == "Alice", "no shift is on: the group's own order"
        for minutes, problem in ((16, "Not a calendar"), (32, "returned 503")):
            calendar_import_worker.run_once(client, now + timedelta(minutes=minutes))
            assert problem in str(CalendarImport.objects.get().error)
            assert primary(desk_group, now)[0] == "Carol"
        calendar_import_worker.run_once(client, now + timedelta(minutes=33))
        assert len(server.requests) == 4, "not before its time"


def test_unexpected_error_of_a_calendar_import_is_stored(desk_group: Group, now: datetime, client: HttpClient) -> None:
    with database.connect(name="test") as connection:
        connection.execute("ALTER TABLE oncall_calendarimport ADD CONSTRAINT not_read CHECK (read_at IS NULL)")
    with http_double(lambda request: Response(200, CALENDAR.encode())) as server:
        shift = {"name": "Elsewhere", "calendar": {"url": f"{server.url}/a.ics"}}
        commands.save_schedule({**SPEC, "shifts": [shift]}, actor=ACTOR, now=now)
        calendar_import_worker.run_once(client, now)
    row = CalendarImport.objects.get()
    assert (row.error.code, row.due_at) == (
        "The calendar could not be imported. The log has the details.",
        now + calendar_import_worker.RETRY_INTERVAL,
    )


def test_calendar_events_survive_shift_rename_and_follow_time_zone(
    desk_group: Group, now: datetime, client: HttpClient
) -> None:
    local = CALENDAR.replace("T080000Z", "T080000").replace("T200000Z", "T200000")
    answers = [Response(200, local.encode()), Response(503), Response(200, local.encode())]
    with http_double(lambda request: answers.pop(0)) as server:
        address = {"url": f"{server.url}/a.ics"}
        spec = {**SPEC, "shifts": [{"name": "Elsewhere", "calendar": address}]}
        schedule = commands.save_schedule(spec, actor=ACTOR, now=now)
        calendar_import_worker.run_once(client, now)
        later = now + timedelta(minutes=1)
        spec = {**SPEC, "shifts": [{"name": "elsewhere, by Carol", "calendar": address}], "time_zone": "Asia/Tokyo"}
        commands.save_schedule(spec, existing=schedule, actor=ACTOR, now=later)
        calendar_import_worker.run_once(client, later)
        assert "returned 503" in str(CalendarImport.objects.get().error)
        assert primary(desk_group, now)[0] == "Carol", "what was read last stays in force"
        calendar_import_worker.run_once(client, later + calendar_import_worker.RETRY_INTERVAL)
        assert primary(desk_group, datetime(2026, 11, 23, 23, 30, tzinfo=UTC))[0] == "Carol", "08:30 in Tokyo"
        assert primary(desk_group, datetime(2026, 11, 24, 11, 30, tzinfo=UTC))[0] == "Alice", "20:30 in Tokyo"


def test_calendar_feed_uses_secret_address_until_rotation(schedule: Schedule, now: datetime) -> None:
    alice = user("alice")
    made = feeds.create_feed(alice, FeedKind.PERSON, actor=ACTOR, now=now)
    path = "/calendar/" + made.url.rpartition("/calendar/")[2]
    answer = Client().get(path)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/calendar; charset=utf-8")
    text = answer.content.decode()
    assert "SUMMARY:On call: primary of Desk" in text
    assert text.count("BEGIN:VEVENT") >= 12
    with pytest.raises(Rejected, match="already"):
        feeds.create_feed(alice, FeedKind.PERSON, actor=ACTOR, now=now)
    rotated = feeds.rotate(made.feed, actor=ACTOR, now=now)
    assert Client().get(path).status_code == 404
    path = "/calendar/" + rotated.url.rpartition("/calendar/")[2]
    assert Client().head(path).status_code == 200
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert Client().get(path).status_code == 404
    assert rotated.url not in str(list(AuditEntry.objects.values()))


def test_managers_get_a_weekly_problem_mail_when_enabled(desk_group: Group, now: datetime) -> None:
    office = {"windows": [{"days": ["tue"], "from": "08:00", "to": "18:00"}], "users": ["bob"], "roles": ["lead"]}
    commands.save_schedule({**SPEC, "shifts": [{"name": "Office", "fixed": office}]}, actor=ACTOR, now=now)
    monday = datetime(2026, 11, 30, 9, tzinfo=UTC)
    coverage.run_weekly_mail(monday)
    with transaction.atomic():
        settings_store.set(settings_store.WEEKLY_COVERAGE_MAIL, True)
    for when in (monday - timedelta(hours=2), monday - timedelta(days=1)):
        coverage.run_weekly_mail(when)
    assert not Notification.objects.exists()
    make_user("erin", now, role="admin")
    coverage.run_weekly_mail(monday)
    coverage.run_weekly_mail(monday + timedelta(minutes=10))
    notification = Notification.objects.get()
    assert notification.user == user("erin"), "the group has no lead"
    text = reason_from_json(notification.data["text"])
    assert "No lead on call in Desk. From 2026-11-30 09:00 UTC" in str(text)
    assert "From Mon 30 Nov 2026, 10:00 CET" in text.localized("en", ZoneInfo("Europe/Zurich"))
    coverage.run_weekly_mail(monday + timedelta(days=7))
    assert Notification.objects.count() == 2


def test_weekly_mail_counts_the_problems_that_it_leaves_out(
    schedule: Schedule, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "MAX_FINDINGS", 0)
    with transaction.atomic():
        settings_store.set(settings_store.WEEKLY_COVERAGE_MAIL, True)
    make_user("erin", now, role="admin")
    users.change_own(user("alice"), {"active": False}, actor=ACTOR, now=now)
    coverage.run_weekly_mail(datetime(2026, 11, 30, 9, tzinfo=UTC))
    assert "- and {count} more" in str(Notification.objects.get().data["text"])


def test_managers_read_that_others_cover_a_deactivated_user(desk_group: Group, now: datetime) -> None:
    shifts = [
        {"name": name.title(), "start": "2026-01-05", "rotate": {**WEEKLY, "users": [name]}}
        for name in ("alice", "bob")
    ]
    commands.save_schedule({**SPEC, "shifts": shifts}, actor=ACTOR, now=now)
    make_user("erin", now, role="admin")
    users.change_own(user("alice"), {"active": False}, actor=ACTOR, now=now)
    coverage.run_once(now)
    assert "Others are on call instead of {user} in the next {days} days." in str(
        Notification.objects.get().data["text"]
    )


def test_managers_are_mailed_about_shifts_of_a_deactivated_user(desk_group: Group, now: datetime) -> None:
    rotate = {"every": "1w", "at": "09:00", "users": ["alice"]}
    shifts = [{"name": "Weekly", "start": "2026-01-05", "rotate": rotate}]
    commands.save_schedule({**SPEC, "shifts": shifts}, actor=ACTOR, now=now)
    make_user("erin", now, role="admin")
    coverage.run_once(now)
    assert not Notification.objects.exists()
    users.change_own(user("alice"), {"active": False}, actor=ACTOR, now=now)
    coverage.run_once(now)
    coverage.run_once(now + timedelta(days=1))
    notification = Notification.objects.get()
    assert notification.user == user("erin"), "the group has no lead"
    title, text = (str(reason_from_json(notification.data[name])) for name in ("title", "text"))
    assert title == "Alice was deactivated and is on call in Desk"
    assert "Weekly" in text
    link = re.search(rf"\S+/groups/{desk_group.pk}/reassign/\?(\S+)", text)
    assert link is not None
    query = parse_qs(link[1])
    assert (query["role"], query["schedule"], query["from"]) == (["primary"], [SPEC["name"]], [now.isoformat()])
    users.change_own(user("bob"), {"active": False}, actor=ACTOR, now=now)
    coverage.run_once(now)
    assert Notification.objects.count() == 1, "no shift names Bob"


def test_a_reminder_that_cannot_be_written_holds_up_no_other(
    schedule: Schedule, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = datetime(2026, 11, 30, 8, tzinfo=UTC)
    make_group("Lab", now, members=("carol", "alice"))
    rotate = {**WEEKLY, "users": ["alice", "carol"]}
    lab = {
        **SPEC,
        "name": "Lab",
        "group": "Lab",
        "shifts": [{"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}],
    }
    commands.save_schedule(lab, actor=ACTOR, now=now)
    for name in ("bob", "carol"):
        users.replace_all(user(name), [{"before": "1h"}], actor=ACTOR, now=now)
    notices.plan_reminders(begin - timedelta(minutes=70))
    whole = notices._remind

    def failing(connection: object, group: str, *about: object) -> None:
        if group == "Desk":
            raise KeyError("whatever it is")
        whole(connection, group, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(notices, "_remind", failing)
    notices.queue_reminders(begin - timedelta(minutes=59))
    assert Notification.objects.get().user == user("carol")


def test_reminder_leaves_once_before_a_shift_still_assigned(schedule: Schedule, now: datetime) -> None:
    bob = user("bob")
    begin = datetime(2026, 11, 30, 8, tzinfo=UTC)
    users.replace_all(bob, [{"before": "1h", "by": "email-official"}, {"before": "1d"}], actor=ACTOR, now=now)
    for bad in ([{"before": "0"}], [{"before": "1h", "by": "Pigeon"}], [{"before": "1h"}] * 2, [{"before": "1h"}] * 4):
        with pytest.raises(Rejected):
            users.replace_all(bob, bad, actor=ACTOR, now=now)
    notices.plan_reminders(begin - timedelta(hours=23))
    notices.plan_reminders(begin - timedelta(minutes=70))
    notices.plan_reminders(begin - timedelta(minutes=69))
    assert [reminder.before for reminder in Reminder.objects.all()] == [timedelta(hours=1)]
    notices.queue_reminders(begin - timedelta(minutes=61))
    assert not Notification.objects.exists()
    notices.queue_reminders(begin - timedelta(minutes=59, seconds=43))
    notices.queue_reminders(begin - timedelta(minutes=59))
    notification = Notification.objects.get()
    assert (notification.user, notification.label, notification.purpose) == (bob, "Email-Official", "notice")
    assert str(notification.title) == "On call in 1 hour: primary of Desk"


def test_reminder_missed_during_outage_is_sent_late(schedule: Schedule, now: datetime) -> None:
    begin = datetime(2026, 11, 30, 8, tzinfo=UTC)
    users.replace_all(user("bob"), [{"before": "1h"}], actor=ACTOR, now=now)
    notices.plan_reminders(begin - timedelta(hours=10))
    back = begin - timedelta(minutes=30)
    notices.plan_reminders(back)
    notices.queue_reminders(back)
    assert str(Notification.objects.get().title) == "On call in 30 minutes: primary of Desk"


def test_only_last_reminder_of_a_shift_leaves_after_outage(schedule: Schedule, now: datetime) -> None:
    begin = datetime(2026, 11, 30, 8, tzinfo=UTC)
    bob, three = user("bob"), [{"before": "2h"}, {"before": "1h"}, {"before": "10m"}]
    users.replace_all(bob, three, actor=ACTOR, now=now)
    notices.plan_reminders(begin - timedelta(hours=10))
    notices.queue_reminders(begin - timedelta(minutes=30))
    assert str(Notification.objects.get().title) == "On call in 30 minutes: primary of Desk"
    notices.queue_reminders(begin - timedelta(minutes=10))
    assert Notification.objects.count() == 2
    Reminder.objects.update(done_at=None)
    users.replace_all(bob, three[:2], actor=ACTOR, now=now)
    notices.queue_reminders(begin - timedelta(minutes=9))
    assert Notification.objects.count() == 3, "one that is wanted no more takes no other's place"


SHORT = "{name: Short, user: bob, from: 2026-12-24T12:00, to: 2026-12-26T12:00}"
LONG = "{name: Long, user: carol, from: 2026-12-23T12:00, to: 2026-12-27T12:00}"
CHRISTMAS = datetime(2026, 12, 25, 12, tzinfo=UTC)


def with_overrides(*entries: str) -> config_files.ConfigFiles:
    rotate = '{every: 1w, at: "09:00", on: monday, users: [alice, bob]}'
    shift = f"{{name: Weekly, rotate: {rotate}, start: 2026-01-05}}"
    return collected(
        f"schedules: [{{name: S, group: Desk, time_zone: UTC, shifts: [{shift}], overrides: [{', '.join(entries)}]}}]"
    )


def test_later_override_wins_even_after_export_and_import(desk_group: Group, now: datetime) -> None:
    plan.apply(with_overrides(SHORT, LONG), prune=False, now=now)
    assert primary(desk_group, CHRISTMAS) == ("Carol", "override Long")
    text = plan.write(plan.export_configuration(with_secrets=False))
    registry.SCHEDULES.delete(Schedule.objects.get(), actor=ACTOR, now=now)
    plan.apply(collected(text), prune=False, now=now)
    assert primary(desk_group, CHRISTMAS) == ("Carol", "override Long")
    assert plan.write(plan.export_configuration(with_secrets=False)) == text
    assert plan.apply(collected(text), prune=False, now=now).is_empty


def test_overlapping_overrides_are_recreated_in_the_files_order(desk_group: Group, now: datetime) -> None:
    apart = "{name: Apart, user: carol, from: 2026-12-28T12:00, to: 2026-12-29T12:00}"
    plan.apply(with_overrides(SHORT, LONG), prune=False, now=now)
    before = {override.name: override.pk for override in Override.objects.all()}
    assert not PendingNotice.objects.exists(), "of a new schedule nobody is told"
    plan.apply(with_overrides(apart, LONG, SHORT), prune=False, now=now)
    assert primary(desk_group, CHRISTMAS) == ("Bob", "override Short")
    after = {override.name: override.pk for override in Override.objects.all()}
    assert after["Long"] == before["Long"], "only what must follow another one is made again"
    notices = [str(notice.title) for notice in PendingNotice.objects.all()]
    assert notices == ["Carol is on call in S from 2026-12-28 12:00 UTC until 2026-12-29 12:00 UTC"], (
        "and of no other one"
    )
    assert plan.apply(with_overrides(apart, LONG, SHORT), prune=False, now=now).is_empty


AWAY = """
users:
  - username: alice
    email: alice@example.org
    out_of_office: [{from: "2026-12-24T12:00", to: "2027-01-04T08:00", cover: carol}]
"""


def test_absence_with_disabled_cover_still_applies_but_is_not_selectable(desk_group: Group, now: datetime) -> None:
    plan.apply(collected(AWAY), prune=False, now=now)
    carol = {**users.user_spec(user("carol")), "active": False}
    users.save_user(carol, existing=user("carol"), actor=ACTOR, now=now)
    text = plan.write(plan.export_configuration(with_secrets=False))
    assert plan.apply(collected(text), prune=False, now=now).is_empty
    plan.apply(
        collected("users: [{username: alice, email: alice@example.org, out_of_office: []}]"), prune=False, now=now
    )
    plan.apply(collected(text), prune=False, now=now)
    assert plan.write(plan.export_configuration(with_secrets=False)) == text
    chosen = {"from": "2026-12-01T12:00", "to": "2026-12-02T12:00", "cover": "carol"}
    with pytest.raises(Rejected, match="cover: the account of Carol is deactivated"):
        out_of_office.save_absence(user("bob"), chosen, actor=ACTOR, now=now)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("false", r"a\.yaml:5.*out_of_office: must be a list"),
        ("''", "must be a list"),
        ('[{from: "2026-12-24", to: "2026-12-26T12:00"}]', r"out_of_office\[0\].from.*is not a date and time"),
        (
            '[{from: "2026-12-24T12:00", to: "2026-12-26T12:00", covers: {Desk: bob, desk: carol}}]',
            r'out_of_office\[0\].covers: "desk" is listed twice',
        ),
    ],
)
def test_absences_that_cannot_be_read_take_none_away(
    desk_group: Group, now: datetime, given: str, message: str
) -> None:
    plan.apply(collected(AWAY), prune=False, now=now)
    text = f"users:\n  - username: alice\n    email: alice@example.org\n    name: A\n    out_of_office: {given}\n"
    with pytest.raises(Rejected, match=message):
        plan.apply(collected(text), prune=False, now=now)
    assert len(out_of_office.current(user("alice"), now)) == 1


def test_reminder_follows_renamed_contact_method_and_falls_back_to_mail(desk_group: Group, now: datetime) -> None:
    alice = user("alice")
    sms = users.save_contact_method(
        alice, {"label": "SMS", "channel": "sms", "address": "+41790000001"}, actor=ACTOR, now=now
    )
    expected = [{"before": "1d", "by": "SMS"}, {"before": "1h"}, {"before": "1h", "by": "SMS"}]
    users.replace_all(alice, expected, actor=ACTOR, now=now)
    renamed = {**users.contact_method_spec(sms), "label": "Mobile"}
    users.save_contact_method(alice, renamed, existing=sms, actor=ACTOR, now=now)
    assert user("alice").reminders[0] == {"before": "1d", "by": "Mobile"}
    assert plan.apply(
        collected(plan.write(plan.export_configuration(with_secrets=False))), prune=True, now=now
    ).is_empty
    users.delete_contact_method(sms, actor=ACTOR, now=now)
    assert user("alice").reminders == [{"before": "1d"}, {"before": "1h"}]
    assert plan.apply(
        collected(plan.write(plan.export_configuration(with_secrets=False))), prune=True, now=now
    ).is_empty


def test_contact_method_removed_by_file_is_dropped_from_reminders(desk_group: Group, now: datetime) -> None:
    alice = user("alice")
    sms = {"label": "SMS", "channel": "sms", "address": "+41790000001"}
    users.save_contact_method(alice, sms, actor=ACTOR, now=now)
    users.replace_all(alice, [{"before": "1d", "by": "SMS"}], actor=ACTOR, now=now)
    without = "users: [{username: alice, email: alice@example.org, contact_methods: []}]"
    plan.apply(collected(without), prune=False, now=now)
    assert user("alice").reminders == [{"before": "1d"}]
