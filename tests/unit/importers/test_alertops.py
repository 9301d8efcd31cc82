"""AlertOps objects become an equivalent configuration and a report of omissions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles import alertops as account
from tests.support.imported_schedules import local, moments, on_call
from tocsin.importers.alertops import convert
from tocsin.importers.config_builder import ConvertedConfig, as_text

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
ZONE = "America/Chicago"


@pytest.fixture(scope="module")
def moved() -> ConvertedConfig:
    return convert(account.documents(), NOW)


def named(moved: ConvertedConfig, key: str, name: str, by: str = "name") -> dict[str, Any]:
    return next(entry for entry in moved.configuration[key] if entry[by] == name)


def test_shorter_overlapping_shift_wins_over_a_month(moved: ConvertedConfig) -> None:
    asked = on_call(named(moved, "schedules", "SRE"))
    for at in moments(NOW + timedelta(minutes=15), 30):
        here = local(at, ZONE)
        attempt = (here - datetime(2026, 1, 5, 9)) // timedelta(weeks=1) % 2
        primary, secondary = ("alice", "bob") if attempt == 0 else ("bob", "alice")
        if here.weekday() < 5 and 8 <= here.hour < 18:
            primary = "carol"
        if datetime(2026, 12, 7) <= here < datetime(2026, 12, 9):
            primary = "bob"
        assert asked(at) == {primary, secondary}, at


def test_sequential_roles_are_paged_until_acknowledged(moved: ConvertedConfig) -> None:
    assert named(moved, "escalation_policies", "Escalate") == {
        "name": "Escalate",
        "acknowledge": {"effect": "continue"},
        "default_priority": "critical",
        "groups_sequential": "20m",
        "steps": [
            {
                "notify": {"roles": ["primary"]},
                "after": "0m",
                "sequential": "5m",
                "retries": {"times": 5, "every": "5m"},
                "methods": [{"label": "SMS-Official", "wait": "1m", "repeat": {"times": 2, "every": "3m"}}],
            },
            {"notify": {"roles": ["secondary"]}, "after": "15m"},
        ],
    }


def test_contact_methods_keep_their_labels_waits_and_repeats(moved: ConvertedConfig) -> None:
    alice = named(moved, "users", "alice", "username")
    assert (alice["role"], alice["time_zone"]) == ("admin", ZONE)
    assert alice["contact_methods"] == [
        {"label": "Email-Official", "channel": "email", "address": "alice@example.org"},
        {
            "label": "SMS-Official",
            "channel": "sms",
            "address": "+41790000001",
            "wait": "5m",
            "repeat": {"times": 2, "every": "3m"},
        },
    ]
    group = named(moved, "groups", "SRE")
    assert group["members"] == [
        {"user": "bob", "roles": ["secondary"]},
        {"user": "alice", "roles": ["primary", "lead"]},
    ]
    assert group["contacts"] == [{"label": "Email-Official", "channel": "email", "address": "sre@example.org"}]


def test_mapping_rules_and_filters_are_the_same_words_here(moved: ConvertedConfig) -> None:
    custom = named(moved, "integrations", "Custom")
    assert custom["mapping"]["source_id"] == {"path": "issue^id"}
    assert custom["mapping"]["subject"] == {"template": "<description> on <host>"}
    assert custom["rules"] == {
        "open": {
            "any": [
                {"field": "^state", "operator": "contains", "value": "open"},
                {"field": "^state", "operator": "contains", "value": "critical"},
            ]
        },
        "close": {"field": "^state", "operator": "equals", "value": "closed"},
    }
    assert custom["filters"] == {
        "all": [{"all": [{"field": "^env", "operator": "equals", "value": "test", "not": True}]}]
    }
    assert named(moved, "integrations", "HaloITSM")["kind"] == "haloitsm"
    assert named(moved, "integrations", "Beat")["mode"] == "disabled"


def with_integration(**given: Any) -> ConvertedConfig:
    one = {
        "inbound_integration_name": "One",
        "type": "API",
        "escalation_policy": "Escalate",
        "recipient_groups": ["SRE"],
        **given,
    }
    return convert({**account.documents(), "integrations": [one]}, NOW)


def test_statuses_that_halo_opens_and_closes_by_are_kept() -> None:
    rules = {
        "open_alert_when": {"field_name": "ticket^status^name", "type": "contains", "values": ["Awaiting"]},
        "close_alert_when": {"type": "contains", "values": ["Resolved", "Closed"]},
    }
    moved = with_integration(inbound_integration_name="HaloITSM", api_settings={"url_mapping": rules})
    assert named(moved, "integrations", "HaloITSM")["rules"] == {
        "open": {"field": "source_status", "operator": "contains", "value": "Awaiting"},
        "close": {
            "any": [
                {"field": "source_status", "operator": "contains", "value": "Resolved"},
                {"field": "source_status", "operator": "contains", "value": "Closed"},
            ]
        },
    }


def test_the_usual_statuses_of_halo_stay_those_of_the_kind() -> None:
    rules = {
        "open_alert_when": {"field_name": "ticket^status^name", "type": "contains", "values": ["New"]},
        "close_alert_when": {"type": "contains", "values": ["Closed"]},
    }
    moved = with_integration(inbound_integration_name="HaloITSM", api_settings={"url_mapping": rules})
    assert "rules" not in named(moved, "integrations", "HaloITSM")


def test_halo_heartbeat_is_imported_and_missing_recipient_reported() -> None:
    moved = with_integration(
        inbound_integration_name="Halo sync", type="Heartbeat", recipient_users=["bob", "gone"], recipient_groups=["No"]
    )
    one = named(moved, "integrations", "Halo sync")
    assert (one["kind"], one["recipients"]) == ("heartbeat", {"users": ["bob"]})
    for name in ("gone", "No"):
        assert (
            f"integration Halo sync: does not notify {name}. It was not imported, and does not exist in Tocsin."
            in as_text(moved)
        )


def test_a_heartbeat_is_expected_as_often_as_there() -> None:
    moved = with_integration(type="Heartbeat", heartbeat_settings={"heartbeat_interval_in_min": 15})
    assert named(moved, "integrations", "One")["settings"] == {"interval": "15m"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"delaying_rule": {"delay": True, "every_x_alerts": 3}}, "opens alerts immediately"),
        ({"grouping_rule": {"group": True}}, "does not group alerts"),
        (
            {"escalation_policy_override": {"based_on_source_data": [{"policy": "Off"}]}},
            "has one policy for all alerts",
        ),
        ({"based_on_time_of_day": [{"policy": "Off"}]}, "has one policy for all alerts"),
        ({"dynamic_recipient_groups": [{"recipient_group": "SRE"}]}, "has the same recipients for all alerts"),
        ({"url_mapping": {"alert_tags": {"environment": "env"}}}, "has no alert_tags"),
        ({"url_mapping": {"custom_alert_fields": [{"attribute_name": "x"}]}}, "has no custom_alert_fields"),
        ({"url_mapping": {"recipient_group": "team"}}, "has no recipient_group"),
        (
            {"url_mapping": {"open_alert_when": {"field_name": "a", "type": "sounds like", "values": ["x"]}}},
            "does not open by its own rule (sounds like x)",
        ),
        (
            {"url_mapping": {"close_alert_when": {"type": "equals", "values": ["done"]}}},
            "does not close by its own rule (equals done)",
        ),
        (
            {"add_any_filter": {"filters": [{"condition": {"field_name": "env", "type": "is like", "value": "x"}}]}},
            "does not filter by env (is like x)",
        ),
    ],
)
def test_unsupported_integration_features_are_reported_by_name(given: dict[str, Any], message: str) -> None:
    assert f"integration One: {message}" in as_text(with_integration(api_settings=given))
    assert "integration One" not in as_text(with_integration(api_settings={"delaying_rule": {"delay": False}}))


def test_mailbox_with_rules_reports_that_every_mail_opens_alerts() -> None:
    settings = {"every_incoming_email_will_open_an_alert": False, "open_alert_when": {"values": ["PROBLEM"]}}
    text = "integration One: opens an alert for every email"
    assert text in as_text(with_integration(type="Email", email_settings=settings))
    assert text not in as_text(with_integration(type="Email", email_settings={}))


def test_users_sharing_an_address_are_merged_and_reported() -> None:
    whole = account.documents()
    double = account.user(9, "alice2", "ALICE@example.org")
    moved = convert({**whole, "users": [*whole["users"], double]}, NOW)
    assert [one["username"] for one in moved.configuration["users"]] == ["alice", "bob", "carol"]
    assert "user Alice2 Example: is alice in Tocsin. They have the same email address" in as_text(moved)


def test_the_report_names_the_rest_and_no_secret(moved: ConvertedConfig) -> None:
    text = as_text(moved)
    for expected in (
        "group SRE: member bob: has no role tertiary",
        "group SRE: has no member Others",
        "group SRE: contact Slack: not imported",
        "group SRE: shift Weekend: not in the schedule. No imported user has it.",
        "policy Escalate: notifies no tertiary",
        "policy Off: not imported",
        "workflows W: not imported",
        "out of office: not read",
    ):
        assert expected in text, expected
    assert "secret" not in text
    assert "Long ago" not in text, "what is over is nobody's worry"


@pytest.mark.parametrize("broken", [None, 7, "x", {"id": 5}, [None]])
def test_documents_of_another_shape_break_nothing(broken: Any) -> None:
    whole = account.documents()
    for kind in whole.keys() - {"not_shown"}:
        for one in whole[kind]:
            for name in (key for key in one if key not in ("user_name", "contact_methods")):
                spoilt = {**whole, kind: [*[other for other in whole[kind] if other is not one], {**one, name: broken}]}
                assert convert(spoilt, NOW).configuration["users"]
    for shift in account.SHIFTS:
        for name in shift:
            groups = [{**whole["groups"][0], "schedules": [{**shift, name: broken}]}]
            assert convert({**whole, "groups": groups}, NOW).configuration["users"]


def test_rotation_with_equal_roles_keeps_all_members_and_order() -> None:
    """There everybody of such a shift is called, the next one first each time."""
    whole = account.documents()
    (group,) = whole["groups"]
    several = [{"user": name, "role": role} for name, role in (("alice", "Primary"), ("bob", "Primary"))]
    shifts = [{**group["schedules"][0], "users": [*several, {"user": "carol", "role": "Secondary"}]}]
    moved = convert({**whole, "groups": [{**group, "schedules": shifts}]}, NOW)
    rotations = [one["rotate"] for one in named(moved, "schedules", "SRE")["shifts"]]
    assert [(one["users"], one["roles"]) for one in rotations] == [
        (["alice", "bob", "carol"], ["primary"]),
        (["bob", "carol", "alice"], ["primary"]),
        (["carol", "alice", "bob"], ["secondary"]),
    ]
