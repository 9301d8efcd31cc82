"""What an account has and Tocsin has not becomes a finding: which documents make which codes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from tests.doubles import alertops, grafana_oncall, opsgenie, pagerduty
from tocsin.core.errors import Rejected
from tocsin.importers import alertops as alertops_converter
from tocsin.importers import grafana_oncall as grafana_converter
from tocsin.importers import opsgenie as opsgenie_converter
from tocsin.importers import opsgenie_reader
from tocsin.importers import pagerduty as pagerduty_converter
from tocsin.importers.config_builder import ConvertedConfig, as_text, list_names

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)

type Documents = dict[str, list[dict[str, Any]]]
type Convert = Callable[[Mapping[str, list[dict[str, Any]]], datetime], ConvertedConfig]


def codes(convert: Convert, account: ModuleType, changed: Documents) -> set[str]:
    """The codes of every finding of the account, with the changed documents in place of its own."""
    moved = convert({**account.documents(), **changed}, NOW)
    assert as_text(moved)
    parts = [(one.object, one.difference, one.reason, one.remedy) for one in moved.findings]
    return {reason.code for found in parts for reason in found}


def alertops_shift(**given: Any) -> Documents:
    return {"groups": [{**alertops.GROUPS[0], "schedules": [{**alertops.SHIFTS[0], **given}]}]}


def alertops_user(name: str, *methods: Any) -> Documents:
    return {"users": [*alertops.USERS, {"user_name": name, "contact_methods": list(methods)}]}


NIGHT_ONLY = alertops.method(
    "Email-Official", 1, email={"email_address": "dave@example.org"}, notification_time24x7=False,
    notification_times=[{"from": 8}],
)  # fmt: skip
UNUSABLE_MAPPING = {"url_mapping": {"subject": "<field:host>"}}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (alertops_shift(users=[{"user": "alice", "role": "Primary"}] * 2), ["A user is in its order twice."]),
        (alertops_shift(start_date=alertops.time("2026-01-05", 99)), ["Its hours cannot be read."]),
        (alertops_shift(is_holiday_notify=False), ["is on call on holidays too", "AlertOps respects holidays.",
            "Add a holiday calendar, and `skip`."]),
        (
            alertops_user("dave", NIGHT_ONLY),
            ["are reached at any time by every contact method", "Their contact methods have notification times in "
            "AlertOps.", "They set quiet hours under Me → Notification rules."],
        ),
        (alertops_user("dave"), ["No email address is set."]),
        (
            alertops_user("dave@example.org", alertops.method("Email-Spare", 2, email={"email_address": "nonsense"})),
            ["has one email address less", "It is not an email address."],
        ),
        (
            {"escalation_policies": [{**alertops.POLICIES[0], "group_contacts": [{"name": "Desk"}]}]},
            ["does not notify group contacts", "Add them to the policy's steps."],
        ),
        (
            {"integrations": [{**alertops.INTEGRATIONS[1], "api_settings": UNUSABLE_MAPPING}]},
            ["has no custom mapping and rules", "They cannot be used in Tocsin: {problem}", "Map the first message "
            "on the Mapping tab."],
        ),
    ],
)  # fmt: skip
def test_what_only_alertops_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert set(expected) <= codes(alertops_converter.convert, alertops, changed)


ABSENCES = [
    {**opsgenie.FORWARDINGS[0], "id": "f2", "startDate": "2027-01-01T06:00:00Z", "endDate": "2027-01-09T06:00:00Z"},
    *opsgenie.FORWARDINGS,
]
SEVERAL_RULES = [{**opsgenie.documents()["users"][0]["notification_rules"][0], "id": name} for name in ("a", "b")]
EMPTY_TEAM: dict[str, Any] = {**opsgenie.TEAMS[0], "members": [], "routing_rules": []}
ACTIONS = {"type": "match-all-conditions", "conditions": [{"field": "actions", "operation": "equals"}]}
BY_ACTIONS = {"name": "Odd", "notify": {"type": "none"}, "criteria": ACTIONS}


def opsgenie_rules(*rules: Any) -> Documents:
    return {"escalations": [{**opsgenie.ESCALATIONS[0], "rules": list(rules)}]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"forwardings": ABSENCES}, ["It overlaps another absence of the user."]),
        (
            {"users": [{**opsgenie.documents()["users"][0], "notification_rules": SEVERAL_RULES}]},
            [
                "have one set of rules for every alert",
                "Their rules in Opsgenie repeat, or differ by conditions or time of day.",
                "They set rules by priority, and quiet hours, under Me → Notification rules.",
            ],
        ),
        ({"users": [{"id": "u9", "username": "no address"}]}, ["No email address is set."]),
        (
            {"services": [{"id": "s1", "name": "Shop"}]},
            ["Incidents and services are not part of Tocsin.", "Tags and routes may replace them."],
        ),
        (
            {"integrations": [{**opsgenie.INTEGRATIONS[2], "responders": [opsgenie.ALICE]}]},
            ["notifies no one yet", "Its responders in Opsgenie are not a team."],
        ),
        (
            {"teams": [{**opsgenie.TEAMS[0], "routing_rules": [BY_ACTIONS]}]},
            ["It checks {field}, which messages of this integration do not have."],
        ),
        (
            opsgenie_rules(opsgenie.rule(0, {"type": "team", **opsgenie.TEAM}, "users")) | {"teams": [EMPTY_TEAM]},
            ["notifies everyone in {group}", "Nothing narrower could be imported."],
        ),
        (
            opsgenie_rules(*[opsgenie.rule(0, opsgenie.ON_CALL)] * 51),
            ["ends after {count} step", "A policy has no more of them."],
        ),
        (
            {"schedules": [{**opsgenie.SCHEDULE, "rotations": [{**opsgenie.WEEKLY, "length": -1}]}]},
            ["Its type, length or start cannot be read."],
        ),
    ],
)
def test_what_only_opsgenie_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert set(expected) <= codes(opsgenie_converter.convert, opsgenie, changed)


def test_export_of_too_many_files_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opsgenie_reader, "MAX_FILES", 1)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"users/{name}.json", "{}")
    with pytest.raises(Rejected) as rejected:
        opsgenie_reader.read(packed.getvalue())
    problem = rejected.value.reason["problem"]
    assert (problem.code, problem.data) == ("it contains more than {limit} files.", {"limit": 1})  # type: ignore[union-attr]


def pagerduty_layer(**given: Any) -> Documents:
    return {"schedules": [{**pagerduty.SCHEDULES[2], "schedule_layers": [{**pagerduty.LAYERS[3], **given}]}]}


def restricted(**given: Any) -> Documents:
    return pagerduty_layer(restrictions=[{**pagerduty.weekly(5, "17:00:00", 3600), **given}])


TWO_TIMEOUTS = [pagerduty.SERVICES[0], {**pagerduty.SERVICES[0], "id": "PSVC9", "acknowledgement_timeout": 1200}]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (pagerduty_layer(rotation_turn_length_seconds=None), ["Its rotation cannot be read."]),
        (pagerduty_layer(rotation_turn_length_seconds=90), ["Its turns are not whole minutes."]),
        (restricted(duration_seconds=-1), ["One of its restrictions cannot be read."]),
        (restricted(start_day_of_week=8), ["One of its restrictions cannot be read."]),
        ({"services": TWO_TIMEOUTS}, ["has the shortest acknowledgement timeout of its services", "In Tocsin the "
        "policy has it."]),
        ({"rulesets": [{"id": "r", "name": "Old"}]}, ["They route events to services in PagerDuty.",
            "Set routes and filters on the integrations."]),
        ({"business_services": [{"id": "b", "name": "Shop"}]}, ["They page no one.", "A tag may replace them."]),
        (
            {"escalation_policies": [
                {**pagerduty.POLICIES[0], "escalation_rules": [pagerduty.level(5, pagerduty.PRIMARY)] * 51}
            ]},
            ["ends after {count} step", "A policy has no more of them."],
        ),
    ],
)  # fmt: skip
def test_what_only_pagerduty_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert set(expected) <= codes(pagerduty_converter.convert, pagerduty, changed)


def grafana_shift(hours: int = 1, users: Sequence[Sequence[str]] = (("UALICE",),), **given: Any) -> Documents:
    shift = grafana_oncall.rolling("O1", "Odd", [list(one) for one in users], "2026-11-02T09:00:00", hours * 3600)
    return {"on_call_shifts": [{**shift, **given}]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (grafana_shift(frequency="hourly", interval=2), ["It recurs by the hour, with gaps."]),
        (
            grafana_shift(frequency="daily", interval=2, by_day=["MO"]),
            ["Its daily turns are on some days of the week only."],
        ),
        (grafana_shift(frequency="daily", interval=53), ["Its rotation repeats after more than a year."]),
        (
            {"integrations": [{"id": "C9", "name": "Mails", "type": "inbound_email"}]},
            ["Their senders still write to OnCall's address."],
        ),
    ],
)
def test_what_only_grafana_oncall_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert set(expected) <= codes(grafana_converter.convert, grafana_oncall, changed)


def test_a_long_list_of_names_is_shortened() -> None:
    names = list_names(["a", "b", "c", "d", "e", "f", "g", "a"])
    assert (names.code, names.data) == ("{names} and {count} more", {"names": "a, b, c, d, e", "count": 2})  # type: ignore[union-attr]
