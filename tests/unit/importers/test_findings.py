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


def prefixed(area: str, names: Sequence[str]) -> set[str]:
    return {f"import.{area}.{name}" if "." not in name else name for name in names}


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
        (alertops_shift(users=[{"user": "alice", "role": "Primary"}] * 2), ["user_twice"]),
        (alertops_shift(start_date=alertops.time("2026-01-05", 99)), ["hours_unreadable"]),
        (alertops_shift(is_holiday_notify=False), ["on_holidays_too", "holidays_there", "add_holiday_calendar"]),
        (
            alertops_user("dave", NIGHT_ONLY),
            ["no_notification_times", "notification_times_there", "set_quiet_hours"],
        ),
        (alertops_user("dave"), ["import.no_email"]),
        (
            alertops_user("dave@example.org", alertops.method("Email-Spare", 2, email={"email_address": "nonsense"})),
            ["import.one_email_less", "import.not_an_email"],
        ),
        (
            {"escalation_policies": [{**alertops.POLICIES[0], "group_contacts": [{"name": "Desk"}]}]},
            ["notifies_no_contacts", "name_on_steps"],
        ),
        (
            {"integrations": [{**alertops.INTEGRATIONS[1], "api_settings": UNUSABLE_MAPPING}]},
            ["no_own_mapping", "mapping_unusable", "map_first_message"],
        ),
    ],
)  # fmt: skip
def test_what_only_alertops_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert prefixed("alertops", expected) <= codes(alertops_converter.convert, alertops, changed)


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
        ({"forwardings": ABSENCES}, ["absences_overlap"]),
        (
            {"users": [{**opsgenie.documents()["users"][0], "notification_rules": SEVERAL_RULES}]},
            ["one_set_of_rules", "rules_there", "set_rules_by_priority"],
        ),
        ({"users": [{"id": "u9", "username": "no address"}]}, ["import.no_email"]),
        ({"services": [{"id": "s1", "name": "Shop"}]}, ["no_incidents", "use_tags"]),
        (
            {"integrations": [{**opsgenie.INTEGRATIONS[2], "responders": [opsgenie.ALICE]}]},
            ["notifies_nobody", "responders_not_a_team"],
        ),
        ({"teams": [{**opsgenie.TEAMS[0], "routing_rules": [BY_ACTIONS]}]}, ["field_unknown_to_kind"]),
        (
            opsgenie_rules(opsgenie.rule(0, {"type": "team", **opsgenie.TEAM}, "users")) | {"teams": [EMPTY_TEAM]},
            ["notifies_group", "nothing_narrower"],
        ),
        (opsgenie_rules(*[opsgenie.rule(0, opsgenie.ON_CALL)] * 51), ["import.too_many_steps", "import.step_limit"]),
        (
            {"schedules": [{**opsgenie.SCHEDULE, "rotations": [{**opsgenie.WEEKLY, "length": -1}]}]},
            ["rotation_unreadable"],
        ),
    ],
)
def test_what_only_opsgenie_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert prefixed("opsgenie", expected) <= codes(opsgenie_converter.convert, opsgenie, changed)


def test_export_of_too_many_files_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opsgenie_reader, "MAX_FILES", 1)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"users/{name}.json", "{}")
    with pytest.raises(Rejected) as rejected:
        opsgenie_reader.read(packed.getvalue())
    problem = rejected.value.reason["problem"]
    assert (problem.code, problem.data) == ("import.opsgenie.too_many_files", {"limit": 1})  # type: ignore[union-attr]


def pagerduty_layer(**given: Any) -> Documents:
    return {"schedules": [{**pagerduty.SCHEDULES[2], "schedule_layers": [{**pagerduty.LAYERS[3], **given}]}]}


def restricted(**given: Any) -> Documents:
    return pagerduty_layer(restrictions=[{**pagerduty.weekly(5, "17:00:00", 3600), **given}])


TWO_TIMEOUTS = [pagerduty.SERVICES[0], {**pagerduty.SERVICES[0], "id": "PSVC9", "acknowledgement_timeout": 1200}]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (pagerduty_layer(rotation_turn_length_seconds=None), ["turns_unreadable"]),
        (pagerduty_layer(rotation_turn_length_seconds=90), ["not_whole_minutes"]),
        (restricted(duration_seconds=-1), ["layer_restriction_unreadable"]),
        (restricted(start_day_of_week=8), ["layer_restriction_unreadable"]),
        ({"services": TWO_TIMEOUTS}, ["shortest_timeout", "timeout_of_policy"]),
        ({"rulesets": [{"id": "r", "name": "Old"}]}, ["route_events", "set_routes"]),
        ({"business_services": [{"id": "b", "name": "Shop"}]}, ["page_nobody", "use_tag"]),
        (
            {"escalation_policies": [
                {**pagerduty.POLICIES[0], "escalation_rules": [pagerduty.level(5, pagerduty.PRIMARY)] * 51}
            ]},
            ["import.too_many_steps", "import.step_limit"],
        ),
    ],
)  # fmt: skip
def test_what_only_pagerduty_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert prefixed("pagerduty", expected) <= codes(pagerduty_converter.convert, pagerduty, changed)


def grafana_shift(hours: int = 1, users: Sequence[Sequence[str]] = (("UALICE",),), **given: Any) -> Documents:
    shift = grafana_oncall.rolling("O1", "Odd", [list(one) for one in users], "2026-11-02T09:00:00", hours * 3600)
    return {"on_call_shifts": [{**shift, **given}]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (grafana_shift(frequency="hourly", interval=2), ["hourly_with_gaps"]),
        (grafana_shift(frequency="daily", interval=2, by_day=["MO"]), ["daily_on_some_days"]),
        (grafana_shift(frequency="daily", interval=53), ["cycle_fits_no_year"]),
        ({"integrations": [{"id": "C9", "name": "Mails", "type": "inbound_email"}]}, ["still_write"]),
    ],
)
def test_what_only_grafana_oncall_has_is_reported(changed: Documents, expected: list[str]) -> None:
    assert prefixed("grafana", expected) <= codes(grafana_converter.convert, grafana_oncall, changed)


def test_a_long_list_of_names_is_shortened() -> None:
    names = list_names(["a", "b", "c", "d", "e", "f", "g", "a"])
    assert (names.code, names.data) == ("import.more_names", {"names": "a, b, c, d, e", "count": 2})  # type: ignore[union-attr]
