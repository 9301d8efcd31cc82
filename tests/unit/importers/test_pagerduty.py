"""PagerDuty objects become an equivalent configuration and a report of omissions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles import pagerduty as account
from tests.support.imported_schedules import local, moments, on_call, utc
from tocsin.importers.config_builder import ConvertedConfig, as_text
from tocsin.importers.pagerduty import convert
from tocsin.importers.people import normalize_phone

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
ZONE = "America/New_York"


@pytest.fixture(scope="module")
def moved() -> ConvertedConfig:
    return convert(account.documents(), NOW)


def named(moved: ConvertedConfig, key: str, name: str, by: str = "name") -> dict[str, Any]:
    return next(entry for entry in moved.configuration[key] if entry[by] == name)


def test_month_of_layers_restrictions_and_overrides_keeps_on_call_users(
    moved: ConvertedConfig,
) -> None:
    asked = on_call(named(moved, "schedules", "Primary-24x7"))
    for at in moments(NOW + timedelta(minutes=15), 30):
        assert asked(at) == {final(at)}, at


def final(at: datetime) -> str:
    """The final schedule, by PagerDuty's rules: overrides, then the highest layer that has somebody.

    https://support.pagerduty.com/main/docs/schedule-basics, https://support.pagerduty.com/main/docs/schedule-examples
    """
    if utc("2026-12-01T00:00:00-05:00") <= at < utc("2026-12-02T12:00:00-05:00"):
        return "carol"
    here = local(at, ZONE)
    week = (here.weekday() * 24 + here.hour) * 60 + here.minute
    day = week % 1440
    if datetime(2026, 12, 10, 12) <= here < datetime(2026, 12, 19, 8) and (day >= 22 * 60 or day < 4 * 60):
        return ["alice", "bob"][(here - datetime(2026, 11, 30, 17)) // timedelta(weeks=1) % 2]
    weekend, lunch = 4 * 1440 + 17 * 60, 2 * 1440 + 12 * 60 + 30
    if (week - weekend) % 10_080 < 39 * 60 or (week - lunch) % 10_080 < 60:
        return ["carol", "bob"][(here - datetime(2026, 1, 5, 17)) // timedelta(days=1) % 2]
    if 9 * 60 <= day < 17 * 60 and (here - datetime(2026, 1, 5, 9)) // timedelta(days=1) % 2:
        return "carol"  # whose turn it is otherwise is nobody's any more, and the layer below has it
    return ["alice", "bob", "alice", "carol"][(here - datetime(2026, 1, 5, 9)) // timedelta(weeks=1) % 4]


def test_level_delay_becomes_next_steps_delay_even_without_targets(
    moved: ConvertedConfig,
) -> None:
    policy = named(moved, "escalation_policies", "Standard")
    assert policy["steps"] == [
        {"notify": {"schedules": ["Primary-24x7"]}, "after": "0m"},
        {"notify": {"users": ["alice", "bob"]}, "after": "15m"},
    ]
    assert policy["repeat"] == {"times": 3, "every": "30m"}
    assert policy["end_after"] == "30m"
    assert policy["acknowledge"] == {"timeout": "10m"}, "the service's"
    assert "policy Standard: level 2: does not notify schedule Nobody's" in as_text(moved)
    assert "level 3: notifies everyone at once. PagerDuty assigns each incident to the next" in as_text(moved)


def test_rules_of_high_and_low_urgency_become_rules_by_priority(moved: ConvertedConfig) -> None:
    alice = named(moved, "users", "alice", "username")
    labels = [(one["label"], one["address"]) for one in alice["contact_methods"]]
    assert labels == [
        ("SMS-Official", "+41790000001"),
        ("Phone-Official-Mobile", "+41790000001"),
        ("Email-Official", "alice@example.org"),
    ]
    urgent = [
        {"method": "SMS-Official"},
        {"method": "Phone-Official-Mobile", "wait": "3m"},
        {"method": "Phone-Official-Mobile", "wait": "5m"},
        {"method": "Phone-Official-Mobile", "wait": "12m"},
    ]
    quiet = [{"method": "Email-Official"}]
    assert alice["notification_rules"] == {
        "by_priority": {"critical": urgent, "high": urgent, "medium": quiet, "low": quiet}
    }
    bob = named(moved, "users", "bob", "username")
    assert bob["contact_methods"] == [
        {"label": "Phone-Official-Mobile", "channel": "voice", "address": "+13125550142", "wait": "1m"},
        {"label": "Email-Official", "channel": "email", "address": "bob@example.org", "enabled": False},
    ]
    carol = named(moved, "users", "carol", "username")
    assert (carol["role"], carol["time_zone"]) == ("observer", "America/New_York")


def test_a_service_is_an_integration_for_each_of_its_own(moved: ConvertedConfig) -> None:
    kinds = {entry["name"]: entry["kind"] for entry in moved.configuration["integrations"]}
    assert kinds == {
        "Shop: Events API V2": "pagerduty",
        "Shop: Email": "email",
        "Shop: Datadog": "api",
        "Nightly": "pagerduty",
    }
    events = named(moved, "integrations", "Shop: Events API V2")
    assert events["escalation_policy"] == "Standard"
    assert events["settings"]["priorities"]["warning"] == "high", "a constant urgency"
    assert named(moved, "integrations", "Nightly")["mode"] == "disabled"
    text = as_text(moved)
    assert "service Nightly: has no policy that pages anybody" in text
    assert "event orchestrations Global routing: not imported" in text
    assert account.SENDER_KEY not in text + str(moved.configuration)


def test_maintenance_window_covers_the_integrations_of_its_services(moved: ConvertedConfig) -> None:
    (window,) = moved.configuration["maintenance_windows"]
    assert (window["name"], window["starts"], window["ends"]) == ("Patch night", "2026-12-06 01:00", "2026-12-06 03:00")
    assert len(window["integrations"]) == len(account.SERVICES[0]["integrations"])
    assert "maintenance Gone: not imported." in as_text(moved)


def test_with_keys_senders_keep_their_routing_key() -> None:
    moved = convert(account.documents(), NOW, with_keys=True)
    assert named(moved, "integrations", "Shop: Events API V2")["token"] == account.SENDER_KEY
    assert account.SENDER_KEY not in as_text(moved)


def test_members_have_their_roles_and_observers_are_left_alone(moved: ConvertedConfig) -> None:
    assert named(moved, "groups", "Platform")["members"] == [
        {"user": "alice", "roles": ["lead"]},
        {"user": "bob", "roles": []},
    ]


@pytest.mark.parametrize("broken", [None, 7, "x", {"id": 5}, [None]])
def test_documents_of_another_shape_break_nothing(broken: Any) -> None:
    whole = account.documents()
    for kind in ("users", "teams", "schedules", "escalation_policies", "services"):
        for one in whole[kind]:
            for name in (key for key in one if key not in ("id", "email", "name")):
                spoilt = {**whole, kind: [*[other for other in whole[kind] if other is not one], {**one, name: broken}]}
                assert convert(spoilt, NOW).configuration["users"]


def test_number_with_extension_is_reported_and_never_truncated() -> None:
    whole = account.documents()
    method = {"id": "X", "type": "phone_contact_method", "country_code": 49, "address": "301234567,,12"}
    moved = convert({**whole, "users": [{**whole["users"][0], "contact_methods": [method]}]}, NOW)
    assert "+493012345671" not in str(moved.configuration)
    assert "has one number for voice less" in as_text(moved)
    assert normalize_phone("+49 (0)30/123 45-67") == "+49301234567"


def test_schedule_without_team_gets_group_of_distinct_users() -> None:
    """Also where a layer has somebody twice, so that their turn comes more often."""
    whole = account.documents()
    moved = convert({**whole, "schedules": [{**one, "teams": []} for one in whole["schedules"]]}, NOW)
    members = [one["user"] for one in named(moved, "groups", "Primary-24x7")["members"]]
    assert sorted(members) == ["alice", "bob", "carol"]


def test_what_a_list_has_twice_is_there_once() -> None:
    """Pages are counted from the beginning: what is added meanwhile pushes others onto the next one."""
    whole = account.documents()
    assert convert({kind: [*results, *results] for kind, results in whole.items()}, NOW) == convert(whole, NOW)
