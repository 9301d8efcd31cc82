"""AlertOps' documents become a configuration that says the same, and a report of the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles import alertops as account
from tests.unit.configure.imports.duty import local, moments, on_call
from tocsin.configure.imports.alertops.translating import translate
from tocsin.configure.imports.report import Translation, as_text

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
ZONE = "America/Chicago"


@pytest.fixture(scope="module")
def moved() -> Translation:
    return translate(account.documents(), NOW)


def named(moved: Translation, key: str, name: str, by: str = "name") -> dict[str, Any]:
    return next(entry for entry in moved.configuration[key] if entry[by] == name)


def test_of_shifts_that_overlap_the_shorter_one_wins_over_a_month(moved: Translation) -> None:
    asked = on_call(named(moved, "schedules", "SRE"))
    for at in moments(NOW + timedelta(minutes=15), 30):
        here = local(at, ZONE)
        turn = (here - datetime(2026, 1, 5, 9)) // timedelta(weeks=1) % 2
        primary, secondary = ("alice", "bob") if turn == 0 else ("bob", "alice")
        if here.weekday() < 5 and 8 <= here.hour < 18:
            primary = "carol"
        if datetime(2026, 12, 7) <= here < datetime(2026, 12, 9):
            primary = "bob"
        assert asked(at) == {primary, secondary}, at


def test_roles_one_after_the_other_until_somebody_takes_it(moved: Translation) -> None:
    assert named(moved, "escalation_policies", "Escalate") == {
        "name": "Escalate",
        "acknowledge": {"effect": "continue"},
        "default_priority": "critical",
        "groups_one_by_one": "20m",
        "steps": [
            {
                "notify": {"roles": ["primary"]},
                "after": "0m",
                "one_by_one": "5m",
                "retries": {"times": 5, "every": "5m"},
                "by": [{"label": "SMS-Official", "wait": "1m", "repeat": {"times": 2, "every": "3m"}}],
            },
            {"notify": {"roles": ["secondary"]}, "after": "15m"},
        ],
    }


def test_contact_methods_keep_their_labels_waits_and_repeats(moved: Translation) -> None:
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
        {"user": "alice", "roles": ["primary", "manager"]},
    ]
    assert group["contacts"] == [{"label": "Email-Official", "channel": "email", "address": "sre@example.org"}]


def test_mapping_rules_and_filters_are_the_same_words_here(moved: Translation) -> None:
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


def test_the_report_names_the_rest_and_no_secret(moved: Translation) -> None:
    said = as_text(moved)
    for wanted in (
        "group SRE: member bob: has no role tertiary",
        "group SRE: has no member Others",
        "group SRE: contact Slack: is not here",
        "group SRE: shift Weekend: is not in the schedule. Nobody who is here has it",
        "policy Escalate: notifies no tertiary",
        "policy Off: is not here",
        "1 workflow: is not here (W)",
        "out of office: is not read",
    ):
        assert wanted in said, wanted
    assert "secret" not in said
    assert "Long ago" not in said, "what is over is nobody's worry"


@pytest.mark.parametrize("broken", [None, 7, "x", {"id": 5}, [None]])
def test_documents_of_another_shape_break_nothing(broken: Any) -> None:
    whole = account.documents()
    for kind in whole.keys() - {"not_shown"}:
        for one in whole[kind]:
            for name in (key for key in one if key not in ("user_name", "contact_methods")):
                spoilt = {**whole, kind: [*[other for other in whole[kind] if other is not one], {**one, name: broken}]}
                assert translate(spoilt, NOW).configuration["users"]
    for shift in account.SHIFTS:
        for name in shift:
            groups = [{**whole["groups"][0], "schedules": [{**shift, name: broken}]}]
            assert translate({**whole, "groups": groups}, NOW).configuration["users"]
