"""Announcements: each once, whichever node sends them and though a node was down, and none before it was set up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.slack import SlackDouble, slack_double
from tests.support.people import ACTOR, make_user
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core.db import database as store
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import reason_from_json
from tocsin.inbound import maintenance_commands
from tocsin.inbound.models import MaintenanceWindow
from tocsin.notify import notices
from tocsin.notify.dispatch import claim
from tocsin.notify.integrations.slack import SlackKind
from tocsin.notify.interfaces import ProviderAccount
from tocsin.notify.models import Announced, Delivery, Notification
from tocsin.notify.notices import CLIENT_REPORTS
from tocsin.notify.providers.pool import ActiveProvider
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import Schedule
from tocsin.operate.checks import people as checks
from tocsin.people.changes import groups, users
from tocsin.people.changes.users import AnnouncementSpec
from tocsin.people.models import Group, User
from tocsin.reports import announcements

pytestmark = pytest.mark.usefixtures("database")

#: Alice has the week of Monday 23 November 2026, Bob the next, from 9:00 in Zurich on; both have it alone.
WEEKLY = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob"], "roles": ["primary"]}
BACKUP = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob", "carol"], "roles": ["secondary"]}
SPEC = {
    "name": "Desk 24x7",
    "group": "Desk",
    "time_zone": "Europe/Zurich",
    "shifts": [
        {"name": "Weekly", "rotate": WEEKLY, "start": "2026-01-05"},
        {"name": "Backup", "rotate": BACKUP, "start": "2026-01-05"},
    ],
}
#: The handover, and the Friday before.
MONDAY = datetime(2026, 11, 30, 8, tzinfo=UTC)
FRIDAY = datetime(2026, 11, 27, 7, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
CHAT = {"label": "Channel", "channel": "chat", "address": "slack:C0123456"}
LIST = {"label": "List", "channel": "email", "address": "desk@example.org"}


@pytest.fixture(autouse=True)
def named_users(database: str, now: datetime) -> None:
    for name in ("alice", "bob", "carol", "dana"):
        make_user(name, now, name=name.title())


def group_with(now: datetime, *told: dict[str, Any], existing: Group | None = None, **more: Any) -> Group:
    spec = {
        "name": "Desk",
        "time_zone": "Europe/Zurich",
        "members": [{"user": "dana", "roles": ["lead"]}],
        "contacts": [CHAT, LIST],
        "announcements": list(told),
        **more,
    }
    return groups.save_group(spec, existing=existing, actor=ACTOR, now=now)


@pytest.fixture
def set_up(now: datetime) -> Callable[..., Group]:
    """Sets up announcements of a group with the schedule, and has them seen at `since`."""

    def make(since: datetime, *told: dict[str, Any]) -> Group:
        made = group_with(now, *told)
        commands.save_schedule(SPEC, actor=ACTOR, now=now)
        announcements.announce_groups(since)
        assert not Notification.objects.exists()
        return made

    return make


def sent() -> list[tuple[str, str]]:
    return [(one.address, str(one.title)) for one in Notification.objects.order_by("created_at", "id")]


def text() -> str:
    return reason_from_json(Notification.objects.latest("created_at", "id").data["text"]).localized(
        "en", announcements.ZoneInfo("Europe/Zurich")
    )


# ---------- on call, handovers


def test_on_call_is_announced_once_each_day(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY - HOUR, {"topics": ["on_call"], "contacts": ["channel"]})
    with ThreadPoolExecutor(3) as nodes:
        list(nodes.map(announcements.announce_groups, [FRIDAY] * 3))
    announcements.announce_groups(FRIDAY + HOUR)
    assert sent() == [("slack:C0123456", "On call now in Desk: primary Alice, secondary Bob and lead Dana")]
    assert text() == (
        "primary: Alice until Mon 30 Nov 2026, 09:00 CET\nsecondary: Bob until Mon 30 Nov 2026, 09:00 CET\n"
        "lead: Dana\n\nTimes are in Europe/Zurich."
    )
    announcements.announce_groups(FRIDAY + timedelta(days=1))
    assert len(sent()) == 2


def test_message_has_language_and_zone_of_the_group(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY - HOUR, {"topics": ["on_call"], "contacts": ["List"], "language": "de", "roles": ["primary"]})
    announcements.announce_groups(FRIDAY)
    with store.transaction() as connection:
        (due,) = claim.facts(connection, list(Delivery.objects.values_list("pk", flat=True)))
    assert (due.language, due.time_zone) == ("de", "Europe/Zurich")
    assert sent() == [("desk@example.org", "On call now in Desk: primary Alice")]


def test_handover_of_several_roles_is_one_message(set_up: Callable[..., Group]) -> None:
    set_up(MONDAY - HOUR, {"topics": ["handovers", "on_call"], "contacts": ["Channel"], "at": "09:00"})
    announcements.announce_groups(MONDAY - MINUTE)
    with ThreadPoolExecutor(3) as nodes:
        list(nodes.map(announcements.announce_groups, [MONDAY] * 3))
    announcements.announce_groups(MONDAY + MINUTE)
    assert sent() == [("slack:C0123456", "On call now in Desk: primary Bob, secondary Carol and lead Dana")]
    assert "Before: primary Alice and secondary Bob" in text()


def test_override_is_announced_when_it_takes_effect(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY, {"topics": ["handovers"], "contacts": ["Channel"], "roles": ["primary"]})
    spec = {
        "schedule": "Desk 24x7",
        "user": "carol",
        "role": "primary",
        "from": "2026-11-27T09:00",
        "to": "2026-11-27T12:00",
    }
    overrides.save_override(spec, actor=ACTOR, now=FRIDAY + HOUR)
    announcements.announce_groups(FRIDAY + 2 * HOUR)
    assert [title for _address, title in sent()] == ["On call now in Desk: primary Carol"]
    announcements.announce_groups(FRIDAY + 5 * HOUR)
    assert [title for _address, title in sent()][1:] == ["On call now in Desk: primary Alice"]


def test_change_of_other_roles_is_not_announced(set_up: Callable[..., Group]) -> None:
    set_up(MONDAY - HOUR, {"topics": ["handovers"], "roles": ["lead"]})
    announcements.announce_groups(MONDAY)
    assert not sent()


def test_nothing_is_sent_before_it_is_set_up(set_up: Callable[..., Group], now: datetime) -> None:
    made = set_up(FRIDAY - HOUR, {"topics": ["handovers"]})
    group_with(now, {"topics": ["on_call"]}, existing=made)
    announcements.announce_groups(FRIDAY + HOUR)
    assert not sent()


# ---------- outages


def test_late_announcement_is_sent_after_some_hours(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY - HOUR, {"topics": ["on_call"], "contacts": ["Channel"]})
    announcements.announce_groups(FRIDAY + 5 * HOUR)
    assert len(sent()) == 1
    assert "Nothing was announced" not in text()


def test_skipped_announcement_is_said_by_the_next(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY - HOUR, {"topics": ["on_call"], "contacts": ["Channel"]})
    announcements.announce_groups(FRIDAY + 7 * HOUR)
    assert not sent()
    announcements.announce_groups(FRIDAY + timedelta(days=1))
    announcements.announce_groups(FRIDAY + timedelta(days=2))
    texts = [str(reason_from_json(one.data["text"])) for one in Notification.objects.order_by("created_at", "id")]
    assert ["Nothing was announced since 2026-11-27 07:00 UTC" in one for one in texts] == [True, False]


def test_clock_rollback_repeats_nothing(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY - HOUR, {"topics": ["on_call"], "contacts": ["Channel"]})
    announcements.announce_groups(FRIDAY)
    announcements.announce_groups(FRIDAY - HOUR)
    announcements.announce_groups(FRIDAY)
    assert len(sent()) == 1


# ---------- week, gaps


def test_next_week_is_announced_on_fridays(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY - 25 * HOUR, {"topics": ["week"], "contacts": ["Channel"], "roles": ["primary"]})
    announcements.announce_groups(FRIDAY - 24 * HOUR)
    assert not sent()
    announcements.announce_groups(FRIDAY)
    assert [title for _address, title in sent()] == ["On call next week in Desk"]
    assert text().splitlines()[:2] == [
        "Mon 30 Nov 2026, 00:00 CET to Mon 30 Nov 2026, 09:00 CET:\tAlice\t(primary)",
        "Mon 30 Nov 2026, 09:00 CET to Mon 7 Dec 2026, 00:00 CET:\tBob\t(primary)",
    ]


def test_gaps_are_announced_only_if_there_are_any(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY - HOUR, {"topics": ["gaps"], "contacts": ["Channel"]})
    announcements.announce_groups(FRIDAY)
    assert not sent()
    windows = [{"days": ["sat"], "from": "08:00", "to": "18:00"}]
    fixed = {"windows": windows, "users": ["alice"], "roles": ["primary"]}
    shifts = [{"name": "Saturdays", "fixed": fixed}]
    schedule = Schedule.objects.get()
    commands.save_schedule({**SPEC, "shifts": shifts}, existing=schedule, actor=ACTOR, now=FRIDAY)
    announcements.announce_groups(FRIDAY + timedelta(days=1))
    assert [title for _address, title in sent()] == ["No one on call in Desk in the next 7 days"]
    assert "Sat 28 Nov 2026, 18:00 CET to Sat 5 Dec 2026, 08:00 CET:\tno one\t(primary)" in text()


def test_group_without_anybody_says_so(now: datetime) -> None:
    group_with(now, {"topics": ["on_call"], "contacts": ["Channel"]}, members=[])
    announcements.announce_groups(FRIDAY - HOUR)
    announcements.announce_groups(FRIDAY)
    assert sent() == [("slack:C0123456", "No one is on call in Desk")]


# ---------- invalid values


@pytest.mark.parametrize(
    ("told", "field", "message"),
    [
        ({"topics": ["on_call"], "at": "25:00"}, "announcements[0].at", "not a time of day"),
        ({"topics": ["lunch"]}, "announcements[0].topics[0]", "lunch"),
        ({}, "announcements[0].topics", "choose what is announced"),
        ({"topics": ["on_call"], "contacts": ["Nowhere"]}, "announcements[0].contacts[0]", "Nowhere"),
        ({"topics": ["on_call"], "language": "xx"}, "announcements[0].language", "xx"),
        ({"user_group": "@oncall"}, "announcements[0].user_group", "not a user group"),
    ],
)
def test_invalid_announcement_names_the_place(told: dict[str, Any], field: str, message: str, now: datetime) -> None:
    with pytest.raises(Rejected) as rejected:
        group_with(now, told)
    problem = rejected.value.problems[0] if isinstance(rejected.value, RejectedAll) else rejected.value
    assert problem.field == field
    assert message in str(problem.reason)
    assert not Group.objects.exists()


def test_announcement_without_contacts_is_rejected(now: datetime) -> None:
    with pytest.raises(Rejected, match="no contact"):
        group_with(now, {"topics": ["on_call"]}, contacts=[])


def test_spec_is_kept_without_defaults(now: datetime) -> None:
    made = group_with(now, {"topics": ["on_call"], "at": "08:00"}, {"topics": ["gaps"], "at": "9:30"})
    assert groups.group_spec(made)["announcements"] == [{"topics": ["on_call"]}, {"topics": ["gaps"], "at": "09:30"}]


def test_preview_says_what_would_be_sent(set_up: Callable[..., Group]) -> None:
    made = set_up(FRIDAY, {"topics": ["on_call"]})
    specs = AnnouncementSpec.read_list([{"topics": ["on_call", "gaps"], "language": "de"}], "announcements")
    with store.transaction() as connection:
        on_call, gaps = announcements.preview(connection, made, "Europe/Zurich", specs, FRIDAY)
    assert (on_call.at, on_call.contacts) == (FRIDAY + timedelta(days=1), ("Channel", "List"))
    assert gaps.text == ""
    assert not sent()


# ---------- maintenance


def window(now: datetime, existing: MaintenanceWindow | None = None, **more: Any) -> MaintenanceWindow:
    spec = {
        "name": "Patch night",
        "starts": "2026-11-27 22:00",
        "ends": "2026-11-28 02:00",
        "time_zone": "UTC",
        "ticket_reference": "CHG7",
        "announce_to": ["Desk"],
        **more,
    }
    return maintenance_commands.save_window(spec, existing=existing, actor=ACTOR, now=now)


@pytest.fixture
def told_desk(now: datetime) -> Group:
    return group_with(now, {"topics": ["maintenance"], "contacts": ["Channel"]})


def titles() -> list[str]:
    return [title for _address, title in sent()]


def test_window_is_announced_at_each_change(told_desk: Group) -> None:
    window(FRIDAY)
    with ThreadPoolExecutor(3) as nodes:
        list(nodes.map(announcements.announce_windows, [FRIDAY] * 3))
    assert titles() == ["Maintenance planned: Patch night"]
    assert text().splitlines() == [
        "Fri 27 Nov 2026, 23:00 CET to Sat 28 Nov 2026, 03:00 CET", "Ticket: CHG7", "Its alerts page no one.",
        "Times are in Europe/Zurich.",
    ]  # fmt: skip
    row = MaintenanceWindow.objects.get()
    window(FRIDAY, row, ends="2026-11-28 03:00")
    for hours in (1, 15, 16, 20, 21):
        announcements.announce_windows(FRIDAY + hours * HOUR)
    assert titles()[1:] == [
        "Maintenance changed: Patch night", "Maintenance started: Patch night", "Maintenance ended: Patch night",
    ]  # fmt: skip


def test_deleted_window_is_announced_as_cancelled(told_desk: Group) -> None:
    row = window(FRIDAY)
    announcements.announce_windows(FRIDAY)
    maintenance_commands.delete_window(row, actor=ACTOR, now=FRIDAY)
    announcements.announce_windows(FRIDAY + HOUR)
    announcements.announce_windows(FRIDAY + 2 * HOUR)
    assert titles() == ["Maintenance planned: Patch night", "Maintenance cancelled: Patch night"]
    assert not Announced.objects.exists()


def test_window_that_was_ended_early_is_announced_as_ended(told_desk: Group) -> None:
    row = window(FRIDAY)
    begun = FRIDAY + 16 * HOUR
    announcements.announce_windows(begun)
    maintenance_commands.end_now(row, actor=ACTOR, now=begun)
    announcements.announce_windows(begun + MINUTE)
    assert titles() == ["Maintenance started: Patch night", "Maintenance ended: Patch night"]


def test_past_window_is_not_announced(told_desk: Group) -> None:
    window(FRIDAY + timedelta(days=30))
    announcements.announce_windows(FRIDAY + timedelta(days=30))
    assert not sent()


def test_window_without_end_names_its_next_time(told_desk: Group) -> None:
    times = {"repeat": "weekly", "days": ["tue"], "from": "22:00", "to": "23:00", "starts": None, "ends": None}
    window(FRIDAY, **times)
    for days in (0, 1, 4.63, 4.7, 11.63):
        announcements.announce_windows(FRIDAY + timedelta(days=days))
    assert titles() == [
        "Maintenance planned: Patch night", "Maintenance started: Patch night", "Maintenance ended: Patch night",
        "Maintenance started: Patch night",
    ]  # fmt: skip


def test_group_added_later_hears_where_it_stands(told_desk: Group, now: datetime) -> None:
    other = {"topics": ["maintenance"], "contacts": ["List"]}
    group_with(now, other, name="Network", members=[])
    row = window(FRIDAY)
    announcements.announce_windows(FRIDAY)
    window(FRIDAY, row, announce_to=["Desk", "Network"])
    announcements.announce_windows(FRIDAY + HOUR)
    assert sent() == [
        ("slack:C0123456", "Maintenance planned: Patch night"),
        ("desk@example.org", "Maintenance planned: Patch night"),
    ]


def test_window_is_quiet_by_default(told_desk: Group) -> None:
    window(FRIDAY, announce_to=None)
    announcements.announce_windows(FRIDAY)
    assert not sent()
    assert not Announced.objects.exists()


def test_subscribed_clients_are_mailed(now: datetime) -> None:
    for number in range(30):
        spec = {"client": f"Client {number}", "address": f"it@c{number}.example", "maintenance": True, "enabled": False}
        CLIENT_REPORTS.save(spec, actor=ACTOR, now=now)
    window(FRIDAY, announce_to=None, announce_to_clients=[f"client {number}" for number in range(30)])
    announcements.announce_windows(FRIDAY)
    assert len(sent()) == 30
    mail = Notification.objects.get(address="it@c7.example")
    assert "page no one" not in str(reason_from_json(mail.data["text"]))


def test_clients_and_windows_come_from_one_file(now: datetime) -> None:
    text = """
maintenance_windows:
  - {name: Patch night, starts: 2026-11-27 22:00, ends: 2026-11-28 02:00, announce_to_clients: [Acme]}
client_reports:
  - {client: Acme, address: it@acme.example, maintenance: true}
"""
    plan.apply(config_files.collect([yaml_loader.parse(text, "t.yaml", Path())]), prune=False, now=now)
    assert MaintenanceWindow.objects.get().announce_to_clients == ["Acme"]


def test_too_many_clients_are_rejected_clearly(now: datetime) -> None:
    with pytest.raises(Rejected, match="1,000"):
        window(FRIDAY, announce_to=None, announce_to_clients=[f"Client {number}" for number in range(5000)])


@pytest.mark.parametrize(
    ("more", "field"),
    [({"announce_to": ["Nobody"]}, "announce_to[0]"), ({"announce_to_clients": ["Acme"]}, "announce_to_clients")],
)
def test_window_announced_to_unknown_is_rejected(more: dict[str, Any], field: str, told_desk: Group) -> None:
    with pytest.raises(Rejected) as rejected:
        window(FRIDAY, **more)
    assert rejected.value.field == field


def test_group_that_announces_no_maintenance_is_rejected(now: datetime) -> None:
    group_with(now, {"topics": ["on_call"]})
    with pytest.raises(Rejected, match="announces no maintenance") as rejected:
        window(FRIDAY)
    assert rejected.value.field == "announce_to"


def test_window_can_be_ended_when_nobody_is_told_any_more(told_desk: Group, now: datetime) -> None:
    row = window(FRIDAY)
    group_with(now, existing=told_desk)
    maintenance_commands.end_now(row, actor=ACTOR, now=FRIDAY + 16 * HOUR)


# ---------- user groups


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with slack_double() as double:
        yield double


def providers(slack: SlackDouble) -> list[ActiveProvider]:
    account = ProviderAccount("Slack", {"api_base": slack.api}, {"bot_token": slack.token}, is_trusted=True)
    kind = SlackKind()
    return [ActiveProvider("Slack", 1, kind, ("chat",), kind.open(account), (slack.token,), account)]


def reachable(name: str, address: str, now: datetime) -> None:
    methods = [{"label": "Slack", "channel": "chat", "address": address}]
    row = User.objects.get(username=name)
    users.save_user({**users.user_spec(row), "contact_methods": methods}, existing=row, actor=ACTOR, now=now)


TOLD = {"user_group": "slack:S0614TZR7", "roles": ["primary"]}


def test_user_group_follows_who_is_on_call(set_up: Callable[..., Group], slack: SlackDouble, now: datetime) -> None:
    set_up(FRIDAY, TOLD)
    reachable("alice", "slack:U0ALICE", now)
    reachable("bob", "slack:U00BOB0", now)
    for at in (FRIDAY, FRIDAY + HOUR, MONDAY, MONDAY + HOUR):
        announcements.update_user_groups(providers(slack), at)
    assert slack.user_groups == [("S0614TZR7", ["U0ALICE"]), ("S0614TZR7", ["U00BOB0"])]
    assert not sent()


def test_user_group_is_never_emptied_and_leads_hear_once(
    set_up: Callable[..., Group], slack: SlackDouble, now: datetime
) -> None:
    set_up(FRIDAY, TOLD)
    reachable("alice", "slack:U0ALICE", now)
    for at in (FRIDAY, MONDAY, MONDAY + HOUR):
        announcements.update_user_groups(providers(slack), at)
    assert slack.user_groups == [("S0614TZR7", ["U0ALICE"])]
    assert sent() == [("dana@example.org", "The user group of Desk has a problem")]
    with store.transaction() as connection:
        problem = reason_from_json(notices.load_announced(connection, "user_group:")["slack:S0614TZR7"]["problem"])
        findings = [one for one in checks.check_on_call(connection, MONDAY) if one.id == "oncall.user_group"]
    assert problem.code == "oncall.user_group_empty"
    assert [(one.about, one.detail["problem"]) for one in findings] == [("slack:S0614TZR7", problem)]


def test_those_without_address_are_named_once(set_up: Callable[..., Group], slack: SlackDouble, now: datetime) -> None:
    set_up(FRIDAY, {**TOLD, "roles": []})
    reachable("alice", "slack:U0ALICE", now)
    for at in (FRIDAY, FRIDAY + HOUR):
        announcements.update_user_groups(providers(slack), at)
    assert slack.user_groups == [("S0614TZR7", ["U0ALICE"])]
    assert len(sent()) == 1
    assert "Bob and Dana" in text()


def test_missing_scope_is_said_and_retried(set_up: Callable[..., Group], slack: SlackDouble, now: datetime) -> None:
    set_up(FRIDAY, TOLD)
    reachable("alice", "slack:U0ALICE", now)
    slack.group_errors = ["missing_scope"]
    announcements.update_user_groups(providers(slack), FRIDAY)
    assert "usergroups:write" in text()
    announcements.update_user_groups(providers(slack), FRIDAY + timedelta(seconds=30))
    assert not slack.user_groups
    announcements.update_user_groups(providers(slack), FRIDAY + 2 * MINUTE)
    assert slack.user_groups == [("S0614TZR7", ["U0ALICE"])]


def test_passing_failure_is_retried_silently(set_up: Callable[..., Group], slack: SlackDouble, now: datetime) -> None:
    set_up(FRIDAY, TOLD)
    reachable("alice", "slack:U0ALICE", now)
    slack.group_errors = ["ratelimited"]
    announcements.update_user_groups(providers(slack), FRIDAY)
    announcements.update_user_groups(providers(slack), FRIDAY + 2 * MINUTE)
    assert slack.user_groups
    assert not sent()


def test_user_group_without_provider_is_said(set_up: Callable[..., Group]) -> None:
    set_up(FRIDAY, TOLD)
    announcements.update_user_groups([], FRIDAY)
    assert "No provider" in text()
