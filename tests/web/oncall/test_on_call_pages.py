"""The on-call pages: content, forms and permissions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from django.test import Client

from tests.support.form_data import filled
from tests.web.conftest import Company, make_user
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.oncall import loader
from tocsin.oncall.changes import commands
from tocsin.oncall.models import (
    CalendarFeed,
    HandoverNote,
    HolidayCalendar,
    Override,
    Schedule,
    SupportHours,
    SwapRequest,
)
from tocsin.people.changes import groups, out_of_office
from tocsin.people.models import OutOfOffice, User
from tocsin.web.oncall import board, shift_forms

type BrowserOf = Callable[[User], Client]

#: Each option of a shift, at least once.
EVERY_OPTION: list[dict[str, Any]] = [
    {
        "name": "Weekly",
        "rotate": {
            "every": "2w", "at": "09:30", "on": "monday", "users": ["bob", "alice"], "roles": ["primary", "secondary"],
            "move": 2, "windows": [{"days": ["mon", "tue"], "from": "18:00", "to": "08:00"}],
        },
        "start": "2026-01-05",
    },
    {
        "name": "Monthly", "layer": 2, "time_zone": "Asia/Kathmandu",
        "rotate": {"every": "3 months", "at": "02:30", "on": 31, "users": ["mia"], "roles": ["own"]},
        "start": "2026-01-05", "end": "2027-01-05",
    },
    {
        "name": "First Fridays",
        "rotate": {"every": "1 month", "at": "00:00", "on": "fri", "users": ["mia", "bob"], "roles": ["lead"]},
        "start": "2026-01-05",
    },
    {
        "name": "Half days",
        "rotate": {"every": "12h", "at": "08:00", "users": ["bob", "mia"], "roles": ["secondary"]},
        "start": "2026-01-05", "end": "2026-12-31T12:00",
    },
    {
        "name": "Weekend", "layer": 3, "holidays": "skip",
        "fixed": {
            "windows": [{"from": "fri 17:00", "to": "mon 08:00"}, {"days": ["wed"], "from": "00:00", "to": "24:00"}],
            "users": ["alice"], "roles": ["primary", "lead"], "every": "2w",
        },
        "start": "2026-01-05T09:00",
    },
    {
        "name": "Once", "holidays": "only",
        "fixed": {
            "from": "2026-12-24T17:00", "to": "2026-12-27T08:00", "every": "52w", "users": ["bob"],
            "roles": ["primary"],
        },
    },
    {"name": "Elsewhere", "calendar": {"url": "https://calendar.example.org/x.ics", "roles": ["secondary"]}},
]  # fmt: skip


def make_schedule(company: Company, shifts: list[dict[str, Any]], name: str = "Desk 24x7") -> Schedule:
    if not HolidayCalendar.objects.exists():
        commands.save_holiday_calendar({"name": "Swiss", "country": "CH"}, actor=COMMAND_LINE, now=company.now)
    spec = {
        "name": name, "group": "Service Desk", "time_zone": "Europe/Zurich", "holiday_calendars": ["Swiss"],
        "shifts": shifts,
    }  # fmt: skip
    return commands.save_schedule(spec, actor=COMMAND_LINE, now=company.now)


@pytest.fixture
def weekly(company: Company) -> Schedule:
    """Bob and Alice in turn, for weeks; Mia is the manager of the group."""
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob", "alice"]}
    return make_schedule(company, [{"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}])


def primary(schedule: Schedule, at: datetime) -> str:
    with database.transaction() as connection:
        on_calls = loader.on_call(connection, [schedule.group_id], at)[schedule.group_id]
    return next((one.name for one in on_calls if one.role == "primary"), "nobody")


def next_monday(now: datetime) -> datetime:
    """The next hand-off that is at least a day away."""
    local = (now + timedelta(days=1)).astimezone(ZoneInfo("Europe/Zurich"))
    day = local.date() + timedelta(days=(7 - local.weekday()) % 7 or 7)
    return datetime(day.year, day.month, day.day, 9, tzinfo=ZoneInfo("Europe/Zurich")).astimezone(UTC)


def stand_in(client: Client, schedule: Schedule, since: datetime, until: datetime, **given: Any) -> Any:
    """Opens the page of a stretch, and sends its form with what is given."""
    query = {"role": "primary", "from": since.isoformat(), "to": until.isoformat()}
    path = f"/on-call/groups/{schedule.group_id}/reassign/?{urlencode(query)}"
    shown = client.get(path)
    assert shown.status_code == 200
    form = filled(shown.content.decode(), path)
    return client.post(path, {**form, **given}, follow=True)


def test_fully_featured_schedule_is_unchanged_by_resubmission(company: Company, browser_of: BrowserOf) -> None:
    schedule = make_schedule(company, EVERY_OPTION)
    before, entries = commands.spec_without_overrides(schedule), AuditEntry.objects.count()
    browser = browser_of(company.manager)
    path = f"/on-call/schedules/{schedule.pk}/edit/"
    answer = browser.post(path, filled(browser.get(path).content.decode(), "schedule-form"), follow=True)
    assert answer.status_code == 200, re.findall(r'class="errors"[^>]*>.*?</ul>', answer.content.decode())
    assert commands.spec_without_overrides(Schedule.objects.get()) == before
    assert AuditEntry.objects.count() == entries
    # And each shift is said in words, without the secret address of the calendar.
    page = browser_of(company.observer).get(f"/on-call/schedules/{schedule.pk}/").content.decode()
    assert "Bob Brown, then Alice Andersson: every 2 weeks on Monday at 09:30" in page
    assert "every 3 months on day 31" in page
    assert "Fri 17:00 – Mon 08:00, Wed" in page
    assert "calendar.example.org" not in page


def test_schedule_errors_appear_at_fields_and_lose_nothing(company: Company, browser_of: BrowserOf) -> None:
    browser = browser_of(company.manager)
    begin = filled(browser.get("/on-call/schedules/new/").content.decode(), "schedule-form")
    assert begin["shifts-0-users"][:3] == ["bob", "alice", "mia"], "it offers the group's members"
    wrong = {**begin, "name": "Nights", "shifts-0-users": [""], "shifts-0-end_day": "2020-01-01"}
    answer = browser.post("/on-call/schedules/new/", wrong)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert not Schedule.objects.exists()
    assert 'value="Nights"' in page
    people, ends = (page[page.index(f"id_shifts-0-{name}") :][:9000] for name in ("users", "end_day"))
    assert "At least one user is required." in people
    assert "Must not be before start." in ends

    answer = browser.post("/on-call/schedules/new/", {**begin, "name": "Nights"}, follow=True)
    assert answer.status_code == 200
    assert Schedule.objects.get().group == company.desk


def test_always_is_one_choice_of_a_shift(company: Company, browser_of: BrowserOf) -> None:
    browser = browser_of(company.manager)
    form = filled(browser.get("/on-call/schedules/new/").content.decode(), "schedule-form")
    assert form["shifts-0-always"] == ["on"]
    fixed = {**form, "name": "Nights", "shifts-0-kind": "fixed", "shifts-0-windows-0-begins": "late"}
    browser.post("/on-call/schedules/new/", fixed)
    schedule = Schedule.objects.get()
    (shift,) = schedule.definition["shifts"]
    assert shift["fixed"]["windows"] == shift_forms.ALWAYS
    page = browser.get(f"/on-call/schedules/{schedule.pk}/").content.decode()
    assert "24/7" in page
    edited = filled(browser.get(f"/on-call/schedules/{schedule.pk}/edit/").content.decode(), "schedule-form")
    assert (edited["shifts-0-always"], edited["shifts-0-windows-0-begins"]) == (["on"], [""])
    del edited["shifts-0-always"]
    answer = browser.post(f"/on-call/schedules/{schedule.pk}/edit/", edited)
    assert (answer.status_code, "At least one window is required." in answer.content.decode()) == (422, True)


def test_preview_names_on_call_users_and_saves_nothing(company: Company, browser_of: BrowserOf) -> None:
    browser = browser_of(company.manager)
    form = filled(browser.get("/on-call/schedules/new/").content.decode(), "schedule-form")
    form |= {"name": ["Desk"], "shifts-0-users": ["alice", "bob"]}
    page = browser.post("/on-call/schedules/new/preview", form).content.decode()
    assert page.index("Alice Andersson") < page.index("Bob Brown")
    assert "Mia Manager" not in page
    unnamed = browser.post("/on-call/schedules/new/preview", {**form, "name": ""}).content.decode()
    assert unnamed.replace("of New schedule", "of Desk") == page
    page = browser.post("/on-call/schedules/new/preview", {**form, "shifts-0-users": [""]}).content.decode()
    assert "Weekly: At least one user is required." in page
    second = {name.replace("-0-", "-1-"): value for name, value in form.items() if name.startswith("shifts-0-")}
    two = {
        **form,
        **second,
        "shifts-TOTAL_FORMS": "2",
        "shifts-1-name": "",
        "shifts-1-users": [""],
        "shifts-1-every": "x",
    }
    page = browser.post("/on-call/schedules/new/preview", two).content.decode()
    assert "Shift 2: Enter a whole number." in page
    assert page.index("Alice Andersson") < page.index("Bob Brown"), "what is complete is previewed"
    page = browser.post("/on-call/schedules/new/preview", {**two, "shifts-1-every": "1"}).content.decode()
    assert "Shift 2: At least one user is required." in page
    assert page.index("Alice Andersson") < page.index("Bob Brown")
    assert not Schedule.objects.exists()


def test_user_takes_over_a_shift_and_returns_it(company: Company, weekly: Schedule, browser_of: BrowserOf) -> None:
    monday = next_monday(clock.now())
    if primary(weekly, monday) != "Bob Brown":
        monday += timedelta(weeks=1)
    alice, bob = browser_of(company.admin), browser_of(company.responder)
    until = monday + timedelta(hours=8)
    page = stand_in(alice, weekly, monday, until, take="1").content.decode()
    assert "Alice Andersson is on call instead of Bob Brown." in page
    assert [primary(weekly, at) for at in (monday, until)] == ["Alice Andersson", "Bob Brown"]
    # Bob may not take what is not there to take from him, and gets it from Alice only by her.
    page = stand_in(bob, weekly, monday, until, user=company.manager.pk).content.decode()
    assert "Only group managers can reassign someone else" in page
    stand_in(alice, weekly, monday, until, user=company.responder.pk)
    assert primary(weekly, monday) == "Bob Brown"


def test_outsiders_take_no_shift_and_other_managers_override_nothing(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    monday = next_monday(clock.now())
    stranger = make_user("sam", "manager", "Sam Stranger")
    groups.save_group({"name": "Other", "members": [{"user": "sam"}]}, actor=COMMAND_LINE, now=clock.now())
    query = urlencode({"role": "primary", "from": monday.isoformat(), "to": (monday + timedelta(hours=1)).isoformat()})
    path = f"/on-call/groups/{weekly.group_id}/reassign/?{query}"
    form = filled(browser_of(company.manager).get(path).content.decode(), path)
    for person, sent in ((stranger, {"take": "1"}), (company.observer, {"user": company.admin.pk})):
        browser = browser_of(person)
        shown = browser.get(path).content.decode()
        assert "Only members and managers of this group can reassign shifts." in shown
        assert "Create override" not in shown
        assert browser.post(path, {**form, **sent}).status_code == 422
    override = browser_of(stranger).post(path, {**form, "instead_of": "role", "user": company.admin.pk})
    assert override.status_code == 422
    assert not Override.objects.exists()
    for path in (f"/on-call/schedules/{weekly.pk}/edit/", f"/on-call/schedules/{weekly.pk}/delete/"):
        assert browser_of(stranger).get(path).status_code == 403


def test_manager_overrides_a_role_and_removes_the_override(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    monday, mia = next_monday(clock.now()), browser_of(company.manager)
    holder, until = primary(weekly, monday), monday + timedelta(hours=2)
    stand_in(mia, weekly, monday, until, instead_of="role", user=company.manager.pk)
    made = Override.objects.get()
    assert (made.role, made.instead_of, primary(weekly, monday)) == ("primary", None, "Mia Manager")
    page = mia.get(f"/on-call/groups/{weekly.group_id}/?day={monday.date()}").content.decode()
    assert "an override: Mia Manager for primary of Desk 24x7" in page
    assert f"/on-call/overrides/{made.pk}/" in page
    over = {"begins": "2026-01-01T00:00", "ends": "2025-01-01T00:00", "user": company.manager.pk}
    answer = mia.post(f"/on-call/overrides/{made.pk}/", over)
    assert answer.status_code == 422
    assert "Must be after from." in answer.content.decode()
    assert browser_of(company.responder).post(f"/on-call/overrides/{made.pk}/delete/").status_code == 403
    mia.post(f"/on-call/overrides/{made.pk}/delete/")
    assert primary(weekly, monday) == holder


def test_swap_is_requested_answered_and_both_shifts_change_hands(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    monday = next_monday(clock.now())
    if primary(weekly, monday) != "Bob Brown":
        monday += timedelta(weeks=1)
    alice, bob = browser_of(company.admin), browser_of(company.responder)
    query = {"role": "primary", "from": monday.isoformat(), "to": (monday + timedelta(weeks=1)).isoformat()}
    path = f"/on-call/groups/{weekly.group_id}/reassign/?{urlencode(query)}"
    shown = bob.get(path).content.decode()
    offered = re.findall(r'<option value="(\d+\|primary\|[^"]*)">Alice Andersson', shown)
    mine = {**filled(shown, path), "user": company.admin.pk, "message": "My daughter's concert", "ask": "1"}
    bob.post(path, {**mine, "in_return": offered[-1]})
    swap = SwapRequest.objects.get()
    assert swap.state == "asked"
    assert primary(weekly, monday) == "Bob Brown", "until it is accepted"
    assert "Bob Brown asks you to cover a shift on Desk 24x7" in alice.get("/on-call/").content.decode()
    refused = bob.post(f"/on-call/swaps/{swap.pk}/accept")
    assert (refused.status_code, "Only Alice Andersson may do this." in refused.content.decode()) == (403, True)
    alice.post(f"/on-call/swaps/{swap.pk}/accept", {"next": "/on-call/"})
    assert swap.return_starts_at is not None
    assert [primary(weekly, at) for at in (monday, swap.return_starts_at)] == ["Alice Andersson", "Bob Brown"]
    assert "already been accepted" in alice.post(f"/on-call/swaps/{swap.pk}/decline", follow=True).content.decode()


def test_shift_that_is_on_is_not_offered_in_return(company: Company, weekly: Schedule, browser_of: BrowserOf) -> None:
    now, monday = clock.now(), next_monday(clock.now())
    other = company.admin if primary(weekly, now) == "Bob Brown" else company.responder
    query = {"role": "primary", "from": monday.isoformat(), "to": (monday + timedelta(weeks=1)).isoformat()}
    path = f"/on-call/groups/{weekly.group_id}/reassign/?{urlencode(query)}"
    shown = browser_of(other).get(path).content.decode()
    starts = re.findall(r'<option value="\d+\|primary\|(\w+)\|', shown)
    assert starts
    assert min(starts) > f"{now:%Y%m%dT%H%M}"
    assert re.findall(r'name="(\w+)" [^>]*min="\d{4}-\d\d-\d\dT00:00"', shown) == ["begins", "ends"]


def test_swap_of_another_users_shift_is_rejected_at_its_field(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    monday = next_monday(clock.now())
    if primary(weekly, monday) != "Alice Andersson":
        monday += timedelta(weeks=1)
    bob = browser_of(company.responder)
    query = {"role": "primary", "from": monday.isoformat(), "to": (monday + timedelta(weeks=1)).isoformat()}
    path = f"/on-call/groups/{weekly.group_id}/reassign/?{urlencode(query)}"
    form = filled(bob.get(path).content.decode(), path)
    theirs = {
        **form,
        "instead_of": f"user-{company.admin.pk}",
        "user": company.manager.pk,
        "message": "Please",
        "ask": "1",
    }
    answer = bob.post(path, theirs)
    assert answer.status_code == 422
    assert answer.context["form"].errors["instead_of"] == ["Only your own shift can be offered."]
    assert "Please" in answer.content.decode()
    assert not SwapRequest.objects.exists()


def test_uncovered_absence_is_red_and_overlapping_one_is_rejected(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    monday, bob = next_monday(clock.now()), browser_of(company.responder)
    away = {
        "begins": monday.strftime("%Y-%m-%dT%H:%M"),
        "ends": (monday + timedelta(weeks=2)).strftime("%Y-%m-%dT%H:%M"),
    }
    asked = bob.post("/me/absences/new/", away)
    assert asked.status_code == 422
    assert "Select who covers, or choose that no one does." in asked.content.decode()
    away["cover"] = "none"
    bob.post("/me/absences/new/", away)
    path = f"/on-call/groups/{weekly.group_id}/?show=month&day={monday.date() + timedelta(days=7)}"
    assert "out of office, no cover" in bob.get(path).content.decode()
    assert "No cover (you'll still be paged)" in bob.get("/me/shifts/").content.decode()
    answer = bob.post("/me/absences/new/", away)
    assert answer.status_code == 422
    assert "Absences must not overlap" in answer.content.decode()
    row = OutOfOffice.objects.get()
    bob.post(f"/me/absences/{row.pk}/", {**away, "cover": company.manager.pk})
    assert "Mia Manager covers for Bob Brown" in bob.get(path).content.decode()
    # Others' are the administrators'.
    assert browser_of(company.manager).get(f"/me/absences/{row.pk}/").status_code == 404
    assert browser_of(company.manager).get(f"/me/absences/new/?user={company.responder.pk}").status_code == 403
    browser_of(company.admin).post(f"/me/absences/{row.pk}/delete/")
    assert not out_of_office.current(company.responder, clock.now())


def test_calendar_address_is_shown_once_and_ends_on_rotation(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    bob = browser_of(company.responder)
    shown = bob.post("/on-call/feeds/new", {"kind": "schedule", "number": weekly.pk})
    assert shown["Cache-Control"] == "no-store"
    first = re.search(r"/calendar/\S+?\.ics", shown.content.decode())
    assert first
    assert "Bob Brown" in Client().get(first[0]).content.decode()
    feed = CalendarFeed.objects.get()
    assert first[0] not in bob.get("/me/shifts/").content.decode()
    assert browser_of(company.admin).post(f"/on-call/feeds/{feed.pk}/rotate").status_code == 404
    second = re.search(r"/calendar/\S+?\.ics", bob.post(f"/on-call/feeds/{feed.pk}/rotate").content.decode())
    assert second
    assert Client().get(first[0]).status_code == 404
    assert Client().get(second[0]).status_code == 200


def test_reminders_are_saved_and_errors_appear_at_their_fields(company: Company, browser_of: BrowserOf) -> None:
    bob = browser_of(company.responder)
    form = {"reminders-TOTAL_FORMS": 3, "reminders-INITIAL_FORMS": 0, "reminders-0-before": "1d"}
    bob.post("/me/shifts/", form)
    assert User.objects.get(username="bob").reminders == [{"before": "1d"}]
    answer = bob.post("/me/shifts/", {**form, "reminders-1-before": "soon"})
    assert answer.status_code == 422
    assert 'value="soon"' in answer.content.decode()
    assert User.objects.get(username="bob").reminders == [{"before": "1d"}]


def test_holidays_combine_country_and_own_days_and_resist_deletion(company: Company, browser_of: BrowserOf) -> None:
    alice = browser_of(company.admin)
    form = {
        "name": "Zürich", "country": "CH", "region": "zh", "group": company.desk.pk, "days-TOTAL_FORMS": 2,
        "days-INITIAL_FORMS": 0, "days-0-date": "12-24", "days-0-name": "Christmas Eve",
    }  # fmt: skip
    preview = alice.post("/on-call/holidays/preview", form).content.decode()
    assert "Christmas Eve" in preview
    assert '<option value="ZH">' in preview
    wrong = {**form, "region": "XX", "days-1-date": "30-30", "days-1-name": "Never"}
    answer = alice.post("/on-call/holidays/new/", wrong)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "is not a region of CH" in page
    assert "is not a date; write it like 2026-12-24" in page
    alice.post("/on-call/holidays/new/", form)
    row = HolidayCalendar.objects.get()
    assert (row.region, row.days) == ("ZH", [{"date": "12-24", "name": "Christmas Eve"}])
    hours = {
        "name": "Office", "time_zone": "Europe/Zurich", "holiday_calendars": [row.pk], "windows-0-days": ["mon", "tue"],
        "windows-0-begins": "08:00", "windows-0-until": "", "windows-0-ends": "18:00",
    }  # fmt: skip
    alice.post("/on-call/support-hours/new/", hours)
    assert SupportHours.objects.get().windows == [{"days": ["mon", "tue"], "from": "08:00", "to": "18:00"}]
    assert "Mon, Tue 08:00–18:00" in alice.get("/on-call/support-hours/").content.decode()
    refused = alice.post(f"/on-call/holidays/{row.pk}/delete/")
    assert refused.status_code == 409
    way_out = f'<a href="/on-call/support-hours/{SupportHours.objects.get().pk}/">support hours Office</a>'
    assert way_out in refused.content.decode()
    answer = alice.post("/on-call/support-hours/new/", {**hours, "name": "Night", "windows-0-ends": "08:00"})
    assert "Is the same as from" in answer.content.decode()


def test_board_shows_current_and_next_per_role_and_red_gaps(company: Company, browser_of: BrowserOf) -> None:
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    local = clock.now().astimezone(ZoneInfo("Europe/Zurich"))
    hour = (local + timedelta(hours=2)).strftime("%H:00")
    until = (local + timedelta(hours=3)).strftime("%H:00")
    fixed = {"windows": [{"days": days, "from": hour, "to": until}], "users": ["mia"], "roles": ["secondary"]}
    make_schedule(company, [{"name": "Late", "fixed": fixed}])
    groups.save_group(
        {"name": "Service Desk", "members": [{"user": "bob", "roles": ["primary"]}, {"user": "mia"}]},
        existing=company.desk, actor=COMMAND_LINE, now=clock.now(),
    )  # fmt: skip
    page = re.sub(r"<[^>]+>|\s+", " ", browser_of(company.observer).get("/on-call/").content.decode())
    assert re.search(r"secondary\s+no one\s+until [\d:A-Za-z ]+\s+then\s+Mia Manager", page)
    assert re.search(r"No secondary on call in Service Desk: \w+ \d+ \w+ [\d:]+ – ", page)
    assert page.count("No secondary on call in Service Desk") == 1, "once, however often it comes"


def test_board_names_next_different_user_across_shifts(company: Company) -> None:
    now = clock.now()
    started_at = (now + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    hours = [started_at + timedelta(hours=number) for number in range(3)]
    shifts = [
        {"name": f"{user}{number}", "layer": 2, "fixed": {
            "from": f"{since:%Y-%m-%dT%H:%M}", "to": f"{since + timedelta(hours=1):%Y-%m-%dT%H:%M}", "users": [user]}}
        for number, (since, user) in enumerate(zip(hours, ("bob", "bob", "mia"), strict=True))
    ]  # fmt: skip
    always = {"windows": [{"from": "mon 00:00", "to": "mon 00:00"}], "users": ["bob"]}
    spec = {"name": "Desk", "group": "Service Desk", "time_zone": "UTC"}
    spec["shifts"] = [{"name": "Always", "fixed": always}, *shifts]  # type: ignore[assignment]
    schedule = commands.save_schedule(spec, actor=COMMAND_LINE, now=now)
    with database.transaction() as connection:
        plan = loader.plan(connection, schedule.group_id, now)
    assert plan is not None
    attempt = next(attempt for attempt in board.roles_on_call(plan, now) if attempt.role == "primary")
    assert [person.name for person in attempt.now] == ["Bob Brown"]
    assert ([person.name for person in attempt.next], attempt.changes_at) == (["Mia Manager"], hours[2])


def test_responder_takes_uncovered_shift_and_returns_it(company: Company, browser_of: BrowserOf) -> None:
    windows = [{"days": ["mon"], "from": "08:00", "to": "09:00"}]
    shifts = [{"name": "Late", "fixed": {"windows": windows, "users": ["mia"], "roles": ["secondary"]}}]
    schedule = make_schedule(company, shifts)
    groups.save_group(
        {"name": "Service Desk", "members": [{"user": "bob", "roles": ["primary"]}, {"user": "mia"}]},
        existing=company.desk, actor=COMMAND_LINE, now=clock.now(),
    )  # fmt: skip
    bob, since = browser_of(company.responder), next_monday(clock.now()) + timedelta(days=1)
    query = {"role": "secondary", "from": since.isoformat(), "to": (since + timedelta(hours=4)).isoformat()}
    path = f"/on-call/groups/{schedule.group_id}/reassign/?{urlencode(query)}"
    page = bob.get(path).content.decode()
    assert "No one is on call in this period." in page
    assert "Create override" not in page
    done = bob.post(path, {**filled(page, path), "take": "1"}, follow=True).content.decode()
    assert "Bob Brown is on call for this period." in done
    made = Override.objects.get()
    assert (made.user, made.role, made.starts_at, made.created_by) == (
        company.responder, "secondary", since, company.responder,
    )  # fmt: skip
    assert browser_of(company.observer).post(f"/on-call/overrides/{made.pk}/delete/").status_code == 403
    assert "Delete" in bob.get(f"/on-call/overrides/{made.pk}/").content.decode()
    bob.post(f"/on-call/overrides/{made.pk}/delete/")
    assert not Override.objects.exists()


def test_timeline_shows_final_layer_for_any_valid_day(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    extra = {"name": "Override layer", "layer": 2, "fixed": {"windows": [{"from": "fri 17:00", "to": "mon 08:00"}], "users": ["mia"]}}  # fmt: skip # noqa: E501
    spec = commands.spec_without_overrides(weekly)
    commands.save_schedule(
        {**spec, "shifts": [*spec["shifts"], extra]}, existing=weekly, actor=COMMAND_LINE, now=clock.now()
    )
    browser = browser_of(company.observer)
    place = f"/on-call/groups/{weekly.group_id}/"
    page = browser.get(place).content.decode()
    assert "Ignored: shift Override layer of Desk 24x7" in page
    assert page.index(">Override layer<") < page.index(">Weekly<"), "the higher layer stands above"
    for query in (
        "show=day",
        "show=month",
        "show=coverage",
        "show=agenda",
        "show=year",
        "day=9999-99-99",
        "day=0001-01-01",
        "day=2500-01-01",
    ):
        assert browser.get(f"{place}?{query}").status_code == 200, query
    for query in (
        "from=x&to=y",
        "from=2026-01-01T00:00&to=2026-01-02",
        "user=9&role=nobody",
        "from=9999-12-31T23:59:59Z",
    ):
        assert browser.get(f"{place}reassign/?{query}").status_code == 200, query
    part = browser.get(place, headers={"X-Part": "timeline"}).content.decode()
    assert part.lstrip().startswith('<div class="stack" id="timeline"')


def test_a_policy_says_whom_it_would_page_at_any_moment(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    browser, monday = browser_of(company.observer), next_monday(clock.now())
    place = f"/policies/{company.policy.pk}/?for=group-{weekly.group_id}"
    seen = set()
    for week in range(2):
        at = monday + timedelta(weeks=week, minutes=30)
        page = browser.get(f"{place}&at={at:%Y-%m-%dT%H:%M}").content.decode()
        first = page[page.index('class="policy-steps"') :].partition("</li>")[0]
        assert primary(weekly, at) in first
        seen.add(primary(weekly, at))
    assert seen == {"Bob Brown", "Alice Andersson"}
    assert browser.get(f"{place}&at=whenever").status_code == 200


def test_calendar_has_a_lane_for_each_role_of_every_group(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    browser = browser_of(company.observer)
    page = browser.get("/on-call/calendar/?day=2026-12-01").content.decode()
    assert "1 Dec – 14 Dec 2026" in page
    assert "1 Dec – 3 Dec 2026" in page, "three days on a phone"
    assert {'aria-label="Service Desk, primary"', 'aria-label="Service Desk, lead"'} <= set(
        re.findall(r'aria-label="Service Desk, \w+"', page)
    )
    assert "?day=2026-12-15" in page
    assert "?day=2026-11-28" in page, "a phone goes back by three days"
    month = browser.get("/on-call/calendar/?show=month&day=2026-12-17").content.decode()
    assert "December 2026" in month
    assert "day=2027-01-01" in month
    agenda = browser.get("/on-call/calendar/?show=agenda&day=2026-12-01").content.decode()
    assert agenda.count("Service Desk</bdi>, primary") == 3, "two weeks have two handoffs"
    one_group = browser.get(f"/on-call/calendar/?group={weekly.group_id}").content.decode()
    assert f'name="number" value="{weekly.group_id}"' in one_group
    assert browser.get("/on-call/calendar/?show=x&day=2026-99-01&group=%00").status_code == 200


def test_primary_of_two_groups_is_shown_within_boundaries(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    groups.save_group({"name": "Network", "members": [{"user": "alice"}]}, actor=COMMAND_LINE, now=clock.now())
    always = {"windows": [{"from": "mon 00:00", "to": "mon 00:00"}], "users": ["alice"], "roles": ["primary"]}
    spec = {"name": "Net", "group": "Network", "time_zone": "UTC", "shifts": [{"name": "All", "fixed": always}]}
    commands.save_schedule(spec, actor=COMMAND_LINE, now=clock.now())
    words = "Alice Andersson is primary of Network and primary of Service Desk at once: "
    place = f"/on-call/groups/{weekly.group_id}/"
    admin = browser_of(company.admin)
    page = admin.get("/on-call/calendar/?show=coverage").content.decode()
    assert page.count(words) == 1, "once, however often it comes"
    assert "occurrences)" in page
    assert 'class="tl-collision"' in page
    assert (
        "Alice Andersson is primary of Service Desk and primary of Network at once: "
        in admin.get(place).content.decode()
    )
    settings_store.set(settings_store.VISIBILITY, "groups")
    bob = browser_of(company.responder)
    for path in ("/on-call/calendar/", "/on-call/calendar/?show=coverage", "/on-call/calendar/?show=agenda", place):
        page = bob.get(path).content.decode()
        assert "Service Desk" in page, path
        assert "Network" not in page, path


def test_own_shifts_are_lanes_without_those_of_others(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    page = browser_of(company.responder).get("/me/shifts/").content.decode()
    drawn = "".join(re.findall(r"<svg class=.tl-track.*?</div>", page, re.DOTALL))
    assert "Bob Brown, primary" in drawn
    assert "Alice" not in drawn


def test_feed_of_every_group_has_all_shifts(company: Company, weekly: Schedule, browser_of: BrowserOf) -> None:
    browser = browser_of(company.observer)
    page = browser.post("/on-call/feeds/new", {"kind": "all", "number": ""}).content.decode()
    (token,) = re.findall(r"/calendar/([\w-]+)\.ics", page)[:1]
    calendar = browser.get(f"/calendar/{token}.ics").content.decode()
    assert "Service Desk" in calendar
    assert calendar.count("BEGIN:VEVENT") > 20
    assert CalendarFeed.objects.get().kind == "all"


@pytest.fixture
def note(company: Company, weekly: Schedule) -> HandoverNote:
    """Of the handover from Bob to Alice in an hour."""
    ids = dict(User.objects.values_list("username", "pk"))
    at = company.now + timedelta(hours=1)
    return HandoverNote.objects.create(
        schedule=weekly, at=at, since=at - timedelta(days=7), outgoing=[ids["bob"]], incoming=[ids["alice"]]
    )


def test_outgoing_user_writes_and_sends_the_handover_note(
    company: Company, note: HandoverNote, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    open_alert("VPN down")
    browser, path = browser_of(company.responder), f"/on-call/handovers/{note.pk}/"
    assert path in browser.get("/me/shifts/").content.decode()
    assert path in browser.get(f"/on-call/schedules/{note.schedule_id}/handovers/").content.decode()
    page = browser.get(path).content.decode()
    assert "1 open alert" in page
    assert "VPN down" in page
    saved = browser.post(path, {"text": "<b>The backup</b> fails."}, follow=True).content.decode()
    assert "&lt;b&gt;The backup&lt;/b&gt; fails." in saved
    assert browser.post(path, {"text": "x" * 5001}).status_code == 422
    sent = browser.post(f"{path}send", follow=True).content.decode()
    assert "Handover note sent." in sent
    assert "<textarea" not in sent
    assert "already been sent" in browser.post(f"{path}send", follow=True).content.decode()
    late = browser.post(path, {"text": "Too late"})
    assert (late.status_code, HandoverNote.objects.get().text) == (422, "<b>The backup</b> fails.")


def test_second_editor_of_a_handover_note_sees_both_texts(
    company: Company, note: HandoverNote, browser_of: BrowserOf
) -> None:
    path = f"/on-call/handovers/{note.pk}/"
    first, second = browser_of(company.responder), browser_of(company.admin)
    opened, old = (filled(browser.get(path).content.decode()) for browser in (first, second))
    for _press in range(2):
        assert first.post(path, {**opened, "text": "The backup fails."}).status_code == 302
    refused = second.post(path, {**old, "text": "Ask Acme."})
    shown = refused.content.decode()
    assert refused.status_code == 422
    assert "Bob Brown edited this note in the meantime" in shown
    assert "The backup fails." in shown
    assert "Ask Acme.</textarea>" in shown
    assert HandoverNote.objects.get().text == "The backup fails."
    both = {**old, "seen": refused.context["seen"], "text": "The backup fails. Ask Acme."}
    assert second.post(path, both).status_code == 302
    assert HandoverNote.objects.get().text == "The backup fails. Ask Acme."


def test_others_only_read_the_handover_note(company: Company, note: HandoverNote, browser_of: BrowserOf) -> None:
    browser, path = browser_of(company.observer), f"/on-call/handovers/{note.pk}/"
    page = browser.get(path).content.decode()
    assert "<textarea" not in page
    assert "Send now" not in page
    assert browser.post(path, {"text": "Mine"}).status_code == 403
    assert browser.post(f"{path}send").status_code == 403
    assert browser.get("/on-call/handovers/999/").status_code == 404


def test_next_month_and_fairness_are_two_clicks_from_home(
    company: Company, weekly: Schedule, browser_of: BrowserOf
) -> None:
    browser = browser_of(company.observer)
    assert 'href="/on-call/calendar/"' in browser.get("/").content.decode()
    assert "?show=month" in browser.get("/on-call/calendar/").content.decode()
    assert 'href="/reports/fairness/"' in browser.get("/reports/").content.decode()
