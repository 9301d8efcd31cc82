"""Opsgenie objects become an equivalent configuration and a report of omissions."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles import opsgenie as account
from tests.support.imported_schedules import local, moments, on_call, utc
from tocsin.core.errors import Rejected
from tocsin.importers import opsgenie_reader
from tocsin.importers.config_builder import ConvertedConfig, ExistingUser, FindingSeverity, as_text
from tocsin.importers.opsgenie import convert

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
ZONE = "Europe/Zurich"


@pytest.fixture(scope="module")
def moved() -> ConvertedConfig:
    return convert(account.documents(), NOW)


def named(moved: ConvertedConfig, key: str, name: str, by: str = "name") -> dict[str, Any]:
    return next(entry for entry in moved.configuration[key] if entry[by] == name)


@pytest.mark.parametrize(("condition", "is_told"), [("if-not-acked", True), ("if-not-closed", False)])
def test_acknowledgement_timeout_is_reported_where_it_stops_escalation(condition: str, is_told: bool) -> None:
    whole = account.documents()
    rules = [{**rule, "condition": condition} for rule in whole["escalations"][0]["rules"]]
    moved = convert({**whole, "escalations": [{**whole["escalations"][0], "rules": rules}]}, NOW)
    assert ("ask “Still on it?” 30 minutes after an acknowledgement" in as_text(moved)) == is_told


def test_month_of_restrictions_and_overrides_keeps_on_call_users(moved: ConvertedConfig) -> None:
    asked = on_call(named(moved, "schedules", "ops_schedule"))
    for at in moments(NOW + timedelta(minutes=15), 30):
        assert asked(at) == expected_on_call(at), at


def expected_on_call(at: datetime) -> frozenset[str]:
    """By Opsgenie's rules: every rotation at once, each with its restriction; an override takes its rotations' place.

    https://docs.opsgenie.com/docs/schedule-rotation-api, https://docs.opsgenie.com/docs/schedule-override-api
    """
    here = local(at, ZONE)
    if utc("2026-12-01T08:00:00Z") <= at < utc("2026-12-02T20:00:00Z"):
        return frozenset({"carol"})
    results = set()
    first_line = ["alice", "bob"][(here - datetime(2026, 1, 5, 9)) // timedelta(weeks=1) % 2]
    is_swapped = utc("2026-12-05T08:00:00Z") <= at < utc("2026-12-06T20:00:00Z")
    results.add("bob@example.com" if is_swapped else first_line)
    hour = here.weekday() * 24 + here.hour + here.minute / 60
    if 18 <= hour < 32 or hour >= 4 * 24 + 17.5 or hour < 8:
        nights = ["alice", "carol", "alice", None, "bob"]
        whoever = nights[(here - datetime(2026, 1, 5, 18)) // timedelta(days=1) % 5]
        results |= {whoever} if whoever else set()
    if 8 <= here.hour + here.minute / 60 < 18.5 and at < utc("2026-12-10T17:00:00Z"):
        results.add(["bob", "carol"][(here - datetime(2026, 1, 5, 8)) // timedelta(hours=12) % 2])
    return frozenset(results)


def test_delays_from_the_creation_become_delays_from_the_step_before(moved: ConvertedConfig) -> None:
    policy = named(moved, "escalation_policies", "ops_escalation")
    assert policy["steps"] == [
        {"notify": {"schedules": ["ops_schedule"]}, "after": "5m", "only_until_acknowledged": True},
        {"notify": {"users": ["bob"]}, "after": "0m", "only_until_acknowledged": True},
        {"notify": {"groups": ["Ops-Night"], "roles": ["lead"]}, "after": "15m", "only_until_acknowledged": True},
        {"notify": {"groups": ["Ops-Night"], "everybody": True}, "after": "10m"},
    ]
    assert policy["acknowledge"] == {"effect": "continue"}, "a rule that goes on until it is closed"
    assert policy["repeat"] == {"times": 2, "every": "15m"}, "ten minutes, and the first rule's five again"


def test_contacts_and_new_alert_rule_become_delayed_contact_methods(moved: ConvertedConfig) -> None:
    alice = named(moved, "users", "alice", "username")
    assert alice == {
        "username": "alice",
        "name": "Alice Andersson",
        "email": "alice@example.org",
        "role": "admin",
        "time_zone": ZONE,
        "contact_methods": [
            {"label": "Email-Official", "channel": "email", "address": "alice@example.org"},
            {
                "label": "SMS-Official",
                "channel": "sms",
                "address": "+41790000001",
                "wait": "1m",
                "repeat": {"times": 2, "every": "10m"},
            },
            {"label": "Phone-Official-Mobile", "channel": "voice", "address": "+41790000001", "wait": "5m"},
        ],
    }
    bob = named(moved, "users", "bob", "username")
    assert bob["out_of_office"] == [
        {
            "from": "2026-12-24T06:00:00Z",
            "to": "2027-01-03T06:00:00Z",
            "cover": "alice",
            "note": "Forwarded in Opsgenie",
        }
    ], "whatever his zone is here"


def test_future_maintenance_becomes_a_window_of_its_integrations(moved: ConvertedConfig) -> None:
    assert moved.configuration["maintenance_windows"] == [
        {
            "name": "Patch night",
            "starts": "2026-12-05 20:00",
            "ends": "2026-12-06 02:00",
            "time_zone": "UTC",
            "integrations": [moved.configuration["integrations"][len(account.HEARTBEATS)]["name"]],
            "action": "suppress",
        }
    ]
    report = as_text(moved)
    assert "maintenance Patch night: applies to its integrations only." in report
    assert "maintenance Old data center: not imported. It has no end" in report
    assert "maintenance Other rules at Christmas: not imported. None of its integrations was imported." in report
    assert "maintenance_windows" not in convert(account.documents(), datetime(2027, 1, 5, tzinfo=UTC)).configuration


def test_names_become_valid_and_unique_and_changes_are_reported(moved: ConvertedConfig) -> None:
    assert [group["name"] for group in moved.configuration["groups"]] == ["Ops-Night", "global_schedule"]
    assert [entry["name"] for entry in moved.configuration["integrations"]] == [
        "backup",
        "Default API",
        "default api (2)",
        "Mails",
    ]
    text = as_text(moved)
    assert "group Ops/Night: is named Ops-Night." in text
    assert "integration default api: is named default api (2)." in text


def test_routing_rules_become_routes_and_unsupported_ones_are_reported(moved: ConvertedConfig) -> None:
    routes = named(moved, "integrations", "Default API")["routes"]
    assert routes[0] == {
        "name": "Low ones",
        "when": {"any": [{"field": "severity", "operator": "equals", "value": "P5"}]},
        "action": "record",
    }
    assert routes[1]["when"]["all"] == [
        {"field": "subject", "operator": "matches", "value": "^(?:db[0-9]+ .*)$"},
        {"field": "^details^env", "operator": "equals", "value": "test", "not": True},
    ]
    assert (routes[1]["during"], routes[1]["escalation_policy"]) == (
        "Ops-Night: Database at night",
        "On call by ops_schedule",
    )
    assert len(routes) == 2
    assert "routing rule By country: not imported. It checks country" in as_text(moved)


def reasons_of_routing_rule(**rule: Any) -> set[str]:
    """The codes of why a routing rule was not imported; those of the two integrations that use it."""
    whole = account.documents()
    rules = [{"name": "Odd", "notify": {"type": "none"}, **rule}]
    moved = convert({**whole, "teams": [{**whole["teams"][0], "routing_rules": rules}]}, NOW)
    assert as_text(moved)
    return {finding.reason.code for finding in moved.findings if "routing rule Odd" in str(finding.object)}


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ({"field": "details", "operation": "equals"}, "It checks extra properties without naming one."),
        ({"field": "country", "operation": "equals"}, "It checks {field}, which messages in Tocsin do not have."),
        ({"field": "priority", "operation": "less-than", "expectedValue": "P3"}, "It compares priorities."),
        (
            {"field": "message", "operation": "sounds-like"},
            "It uses the operation {operation}, which Tocsin does not have.",
        ),
        (
            {"field": "message", "operation": "matches", "expectedValue": "("},
            "Its condition cannot be used in Tocsin: {problem}",
        ),
    ],
)
def test_condition_without_equivalent_is_reported(condition: dict[str, str], code: str) -> None:
    assert code in reasons_of_routing_rule(criteria={"type": "match-all-conditions", "conditions": [condition]})


def test_routing_rule_with_an_unreadable_restriction_is_reported() -> None:
    restriction = {"type": "time-of-day", "restriction": {"startHour": 99}}
    assert "Its time restriction cannot be read." in reasons_of_routing_rule(timeRestriction=restriction)


@pytest.mark.parametrize(
    ("recipient", "notify_type", "codes"),
    [
        (
            account.ON_CALL,
            "next",
            {
                "notifies who is on call in {schedule}, not who is next",
                "A step in Tocsin knows who is and was on call, not who is next.",
            },
        ),
        (
            {"type": "team", **account.TEAM},
            "random",
            {"notifies everyone in {group}", "A step in Tocsin does not choose at random."},
        ),
    ],
)
def test_recipient_that_only_opsgenie_has_is_reported(
    recipient: dict[str, Any], notify_type: str, codes: set[str]
) -> None:
    whole = account.documents()
    escalation = {**account.ESCALATIONS[0], "rules": [account.rule(0, recipient, notify_type)]}
    moved = convert({**whole, "escalations": [escalation]}, NOW)
    assert codes <= {reason.code for finding in moved.findings for reason in (finding.difference, finding.reason)}
    assert as_text(moved)


def test_report_names_every_omission_and_contains_no_secret(moved: ConvertedConfig) -> None:
    texts = [str(finding) for finding in moved.findings if finding.severity is FindingSeverity.OMITTED]
    for expected in (
        "schedule old_schedule: not imported. It is disabled",
        "rotation Teams: the rotation of team Ops/Night has no user",
        "override nobody: from 2026-12-20T08:00:00Z",
        "escalation off_escalation: not imported",
        "user bob@example.com: has one number for sms less (1•••)",
        "integrations Our Slack (SlackApp): not imported",
        "alert and notification policies Drop test alerts: not imported",
    ):
        assert any(expected in line for line in texts), expected
    assert "Mars/Olympus" in as_text(moved)
    assert "closes it after all repeats" in as_text(moved)
    assert account.SENDER_KEY not in as_text(moved) + str(moved.configuration), "only if it is asked for"
    assert all(finding.reason for finding in moved.findings)


def test_sender_key_becomes_token_only_on_request() -> None:
    moved = convert(account.documents(), NOW, with_keys=True)
    assert named(moved, "integrations", "Default API")["token"] == account.SENDER_KEY
    assert account.SENDER_KEY not in as_text(moved)


def test_override_of_restricted_rotation_reports_its_limited_effect() -> None:
    whole = account.documents()
    nights = {**account.OVERRIDES[1], "alias": "nights", "rotations": [{"id": account.NIGHTS["id"]}]}
    schedule = {**whole["schedules"][0], "overrides": [nights]}
    converted_config = convert({**whole, "schedules": [schedule]}, NOW)
    assert "override nights: from 2026-12-05T08:00:00Z to 2026-12-06T20:00:00Z applies while its rotation" in as_text(
        converted_config
    )
    overrides = named(converted_config, "schedules", "ops_schedule")["overrides"]
    assert {one["shift"].split(",")[0] for one in overrides} == {"Nights"}, "of each stretch of that rotation"


def test_existing_user_keeps_name_role_and_methods() -> None:
    moved = convert(account.documents(), NOW, {"bob@example.org": ExistingUser("robert", "admin")})
    robert = named(moved, "users", "robert", "username")
    assert robert["role"] == "admin"
    assert "contact_methods" not in robert
    assert named(moved, "groups", "Ops-Night")["members"][1]["user"] == "robert"


def test_disabled_existing_user_keeps_state_name_and_time_zone() -> None:
    existing_user = ExistingUser("robert", "admin", name="Robert B.", time_zone="Asia/Tokyo", is_active=False)
    robert = named(convert(account.documents(), NOW, {"bob@example.org": existing_user}), "users", "robert", "username")
    assert (robert["name"], robert["time_zone"], robert["active"]) == ("Robert B.", "Asia/Tokyo", False)
    blocked = {**account.documents(), "users": [{**one, "blocked": True} for one in account.documents()["users"]]}
    admin = named(
        convert(blocked, NOW, {"bob@example.org": ExistingUser("robert", "admin")}), "users", "robert", "username"
    )
    assert "active" not in admin, "who may sign in here is decided here"


@pytest.mark.parametrize("never", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z"])
def test_an_end_that_never_comes_is_no_end(never: str) -> None:
    whole = account.documents()
    for zone in ("Europe/Zurich", "America/Chicago"):
        rotations = [{**one, "endDate": never} for one in whole["schedules"][0]["rotations"]]
        spoilt = {**whole["schedules"][0], "timezone": zone, "rotations": rotations}
        schedule = named(convert({**whole, "schedules": [spoilt]}, NOW), "schedules", "ops_schedule")
        assert not any("end" in shift for shift in schedule["shifts"])


@pytest.mark.parametrize("broken", [[1], {"a": 1}, float("inf")])
def test_invalid_hours_are_reported(broken: Any) -> None:
    whole = account.documents()
    limits = {"type": "time-of-day", "restriction": {"startHour": broken, "startMin": 0, "endHour": 9, "endMin": 0}}
    rotations = [{**one, "timeRestriction": limits} for one in whole["schedules"][0]["rotations"]]
    moved = convert({**whole, "schedules": [{**whole["schedules"][0], "rotations": rotations}]}, NOW)
    assert "not in the schedule. It cannot be read: has a time that is none" in as_text(moved)


@pytest.mark.parametrize("overlaps", [False, True])
def test_locally_entered_absences_are_kept(overlaps: bool) -> None:
    own = {"from": "2027-02-01T00:00:00Z", "to": "2027-02-05T00:00:00Z", "cover": "carol", "note": "Skiing"}
    if overlaps:
        own |= {"from": "2026-12-20T00:00:00Z"}
    earlier = {"from": "2026-12-24T00:00:00Z", "to": "2026-12-26T00:00:00Z", "note": "Forwarded in Opsgenie"}
    existing_user = ExistingUser("robert", "admin", absences=(own, earlier))
    moved = convert(account.documents(), NOW, {"bob@example.org": existing_user})
    away = named(moved, "users", "robert", "username")["out_of_office"]
    assert away[0] == own
    assert [one["note"] for one in away[1:]] == ([] if overlaps else ["Forwarded in Opsgenie"])
    assert earlier not in away, "the newest state of what came from there"
    assert ("overlaps an absence that the user entered in Tocsin" in as_text(moved)) == overlaps


def test_what_the_backup_tool_wrote_comes_to_the_same(moved: ConvertedConfig) -> None:
    packed = io.BytesIO()
    whole = account.documents()
    with zipfile.ZipFile(packed, "w") as archive:

        def put(folder: str, name: str, value: object) -> None:
            archive.writestr(f"OpsGenieBackups/{folder}/{name}.json", json.dumps(value))

        for user in whole["users"]:
            rest = {
                key: held_items for key, held_items in user.items() if key not in ("contacts", "notification_rules")
            }
            rest["userContacts"] = [{**one, "contactMethod": one["method"]} for one in user["contacts"]]
            put("users", user["id"], {"user": rest, "notificationRuleList": user["notification_rules"]})
        for team in whole["teams"]:
            put("teams", team["id"], {"team": team, "teamRoutingRules": team["routing_rules"]})
        for schedule in whole["schedules"]:
            put("schedules", schedule["id"], {"schedule": schedule, "scheduleOverrideList": schedule["overrides"]})
        for folder in ("escalations", "forwardings"):
            for number, one in enumerate(whole[folder]):
                put(folder, str(number), one)
        for one in whole["integrations"]:
            put("integrations", one["id"], {"integration": one, "integrationActions": {}})
        for one in whole["maintenances"]:
            put("maintenance", one["id"], one)
        archive.writestr("OpsGenieBackups/policies/global/p1.json", json.dumps(whole["alert_policies"][0]))
        archive.writestr("OpsGenieBackups/readme.txt", "not JSON")
    converted_config = convert(opsgenie_reader.read(packed.getvalue()), NOW)
    heartbeat = {"integrations"}
    for key in moved.configuration.keys() - heartbeat:
        assert sorted(map(str, converted_config.configuration[key])) == sorted(map(str, moved.configuration[key])), key


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file: is not JSON"),
        (b"[]", "it is JSON, but not an object"),
        (b'{"users": []}', "it has no users, teams or schedules"),
        (b"PK\x03\x04 nothing", "it is a ZIP file that cannot be opened"),
        (b"\xff\xfe", "the file: is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_unreadable_export_is_rejected_with_a_reason(content: bytes, message: str) -> None:
    with pytest.raises(Rejected, match="This export cannot be read") as refused:
        opsgenie_reader.read(content)
    assert message in refused.value.detail


def test_a_zip_that_grows_beyond_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opsgenie_reader, "MAX_UNPACKED_BYTES", 1000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("users/a.json", b" " * 2000)
    with pytest.raises(Rejected, match="more than 0 MiB"):
        opsgenie_reader.read(packed.getvalue())


@pytest.mark.parametrize("broken", [None, 7, "x", {"id": 5}, [None]])
def test_documents_of_another_shape_are_left_out_and_break_nothing(broken: Any) -> None:
    """Whatever stands in the place of a list or an object, the rest is translated."""
    whole = account.documents()
    for kind in ("users", "teams", "schedules", "escalations", "integrations", "heartbeats", "forwardings"):
        for one in whole[kind]:
            for name in list(one):
                if name in ("id", "username", "name"):
                    continue
                spoilt = {**whole, kind: [*[other for other in whole[kind] if other is not one], {**one, name: broken}]}
                assert convert(spoilt, NOW).configuration["users"]


def test_damaged_zip_member_is_rejected_by_name() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("OpsGenieBackups/users/a.json", json.dumps([{"username": "a"}] * 100))
    content = bytearray(packed.getvalue())
    start = 30 + len("OpsGenieBackups/users/a.json")
    content[start : start + 8] = b"\xff" * 8
    with pytest.raises(Rejected, match=r"a\.json: cannot be unpacked"):
        opsgenie_reader.read(bytes(content))


def test_what_a_list_has_twice_is_there_once() -> None:
    whole = account.documents()
    twice = {kind: [*results, *(one for one in results if "id" in one)] for kind, results in whole.items()}
    assert convert(twice, NOW) == convert(whole, NOW)
