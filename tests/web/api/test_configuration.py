"""Configured objects over the API: the YAML schema both ways, by ID or name, with error locations."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connections, transaction

from tests.support.locks import wait_for_waiters
from tests.support.people import ACTOR
from tests.web.api.conftest import Api, Company, moment
from tests.web.api.test_errors import refused
from tocsin.access.models import AuditEntry
from tocsin.api import system as settings_api
from tocsin.core.config import settings_store
from tocsin.core.ids import uuid7
from tocsin.core.models import ConfigVersion
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.people.changes import groups as group_commands
from tocsin.people.models import User
from tocsin.resources import registry

NOUNS: dict[str, dict[str, Any]] = {resource.path: dict(resource.example) for resource in registry.RESOURCES}

#: Keys of the examples that no answer has.
_SECRETS = {"client_secret", "account_sid", "auth_token"}


@pytest.fixture
def ready(company: Company, admin: Api) -> Api:
    """An administrator of a company that has what the examples of the documentation refer to."""
    assert admin.post("escalation-policies", NOUNS["escalation-policies"]).status == 201
    return admin


@pytest.mark.parametrize("noun", NOUNS)
def test_the_documented_example_is_made_shown_changed_and_deleted(noun: str, ready: Api, company: Company) -> None:
    example = dict(NOUNS[noun])
    name = {"users": "username", "client-reports": "client"}.get(noun, "name")
    if noun == "escalation-policies":
        example["name"] = "Another"
    if noun == "call-routes":
        assert ready.post("providers", NOUNS["providers"]).status == 201
    if noun == "service-accounts":
        assert ready.post("groups", NOUNS["groups"]).status == 201
    before = _version()
    made = ready.post(noun, example)
    assert made.status == 201, made
    shown = {key: value for key, value in example.items() if key not in _SECRETS}
    assert _is_within(shown, made.body)
    assert _version() > before
    by_name = ready.get(f"{noun}/{quote(example[name].swapcase())}")
    by_number = ready.get(f"{noun}/{made.body['id']}")
    assert made.body == by_name.body == by_number.body
    assert made.body in ready.get(noun, **{name: example[name]}).body["items"]

    changed = ready.patch(f"{noun}/{made.body['id']}", {name: "Renamed"})
    assert changed.status == 200, changed
    assert changed.body == {**made.body, name: "Renamed"}
    # What was shown can be sent back as it is.
    again = ready.put(f"{noun}/Renamed", changed.body)
    assert (again.status, again.body) == (200, changed.body)

    history = ready.get(f"{noun}/Renamed/history").body["items"]
    assert [entry["action"] for entry in history] == ["update", "create"]
    assert ready.delete(f"{noun}/Renamed").status == 204
    refused(ready.get(f"{noun}/{made.body['id']}"), 404, "not_found")
    refused(ready.delete(f"{noun}/Renamed"), 404, "not_found")
    actions = list(
        AuditEntry.objects.filter(object_id=str(made.body["id"])).order_by("id").values_list("action", "via")
    )
    assert [pair for pair in actions if pair[0] in ("create", "update", "delete")][-3:] == [
        ("create", "api"),
        ("update", "api"),
        ("delete", "api"),
    ]


def _is_within(expected: Any, found: Any) -> bool:
    """Whether everything that was asked for is there; more may be."""
    match expected:
        case dict():
            return all(key in found and _is_within(value, found[key]) for key, value in expected.items())
        case list():
            return len(expected) == len(found) and all(map(_is_within, expected, found))
    return bool(expected == found)


def _version() -> int:
    return ConfigVersion.objects.get().version


@pytest.mark.parametrize(
    ("noun", "body", "field"),
    [
        ("users", {"username": "x"}, "email"),
        ("users", {"username": "123", "email": "x@example.org"}, "username"),
        ("users", {"username": "alice", "email": "other@example.org"}, "username"),
        ("users", {"username": "x", "email": "x@example.org", "role": "king"}, "role"),
        ("users", {"username": "x", "email": "x@example.org", "password": 7}, "password"),
        ("users", {"username": "x", "email": "x@example.org", "password": "short"}, "password"),
        (
            "users",
            {
                "username": "x",
                "email": "x@example.org",
                "contact_methods": [{"label": "A", "channel": "sms", "address": "12"}],
            },
            "contact_methods[0].address",
        ),
        ("groups", {"name": "a/b"}, "name"),
        ("groups", {"name": "Service desk"}, "name"),
        ("groups", {"name": "x", "members": [{"user": "nobody"}]}, "members[0].user"),
        ("groups", {"name": "x", "colour": "red"}, "colour"),
        ("schedules", {"name": "x", "group": "Service Desk", "shifts": []}, "shifts"),
        ("support-hours", {"name": "x", "windows": [{"days": ["someday"], "from": "1", "to": "2"}]}, None),
        ("escalation-policies", {"name": "x"}, "steps"),
        (
            "escalation-policies",
            {"name": "x", "steps": [{"notify": {"users": ["nobody"]}}]},
            "steps[0].notify.users[0]",
        ),
        ("integrations", {"name": "x", "kind": "nonsense"}, "kind"),
        ("integrations", {"name": "x", "kind": "api"}, "escalation_policy"),
        (
            "integrations",
            {"name": "x", "kind": "api", "mode": "dry_run", "rules": {"open": {"field": "a", "operator": "near"}}},
            "rules.open.operator",
        ),
        (
            "integrations",
            {
                "name": "x",
                "kind": "api",
                "mode": "dry_run",
                "rules": {"open": {"field": "subject", "operator": "matches", "value": "("}},
            },
            "rules.open.value",
        ),
        ("integrations", {"name": "x", "kind": "api", "mode": "dry_run", "token": "short"}, "token"),
        ("integrations", {"name": "x", "kind": "api", "mode": "dry_run", "recipients": {"users": ["?"]}}, None),
    ],
)
def test_what_cannot_be_saved_names_its_place_and_changes_nothing(
    ready: Api, noun: str, body: dict[str, Any], field: str | None
) -> None:
    before, count = _version(), len(ready.get(noun).body["items"])
    answer = ready.post(noun, body)
    assert answer.status == 400, answer
    assert answer.fields
    if field is not None:
        assert field in answer.fields, answer.body
    assert (_version(), len(ready.get(noun).body["items"])) == (before, count)


def test_null_removes_a_key_and_omission_keeps_it(ready: Api) -> None:
    rules = {"quiet_hours": [{"from": "22:00", "to": "07:00"}], "most_per_hour": 20}
    assert ready.patch("users/bob", {"language": "de", "notification_rules": rules}).status == 200
    assert ready.patch("users/bob", {"name": "Bob"}).body["notification_rules"]["most_per_hour"] == 20
    changed = ready.patch("users/bob", {"language": None, "notification_rules": None}).body
    assert "language" not in changed
    assert "notification_rules" not in changed
    override = {"user": "bob", "from": "2199-01-01T00:00Z", "to": "2199-01-02T00:00Z"}
    made = ready.post("schedules", {**NOUNS["schedules"], "overrides": [override]})
    assert made.status == 201, made
    assert "overrides" not in ready.patch(f"schedules/{made.body['id']}", {"overrides": None}).body


def test_concurrent_changes_of_different_keys_are_both_kept(company: Company, admin: Api) -> None:
    answers: list[int] = []

    def change() -> None:
        try:
            answers.append(admin.patch("groups/Network", {"time_zone": "Asia/Tokyo"}).status)
        finally:
            connections.close_all()

    other = threading.Thread(target=change)
    with transaction.atomic():
        settings_store.lock()
        other.start()
        wait_for_waiters(unless=lambda: bool(answers))
        spec = {**group_commands.group_spec(company.network), "description": "Switches and cables"}
        group_commands.save_group(spec, existing=company.network, actor=ACTOR, now=company.now)
    other.join(timeout=30)
    assert answers == [200]
    shown = admin.get("groups/Network").body
    assert (shown["description"], shown["time_zone"]) == ("Switches and cables", "Asia/Tokyo")
    entry = AuditEntry.objects.filter(object_type="group").latest("pk")
    assert (entry.before, entry.after) == ({"time_zone": "UTC"}, {"time_zone": "Asia/Tokyo"})


@pytest.mark.parametrize("noun", NOUNS)
@pytest.mark.parametrize("body", [[], "text", 7, None])
def test_a_body_that_is_no_object_is_refused(noun: str, ready: Api, body: Any) -> None:
    assert ready.post(noun, body).status == 400
    assert ready.patch(f"{noun}/1", body).status == 400


def test_all_configuration_errors_are_reported_at_once(admin: Api) -> None:
    answer = admin.post("users", {"email": "nonsense", "role": "king"})
    assert set(answer.fields) >= {"username", "email", "role"}


def test_what_is_needed_elsewhere_is_not_deleted(company: Company, ready: Api) -> None:
    made = ready.post("integrations", {**NOUNS["integrations"], "recipients": {"groups": ["Service Desk"]}})
    assert made.status == 201, made
    assert "HaloITSM" in refused(ready.delete("escalation-policies/Standard"), 409, "in_use")
    assert "HaloITSM" in refused(ready.delete("groups/Service Desk".replace(" ", "%20")), 409, "in_use")


def test_the_last_administrator_stays(company: Company, admin: Api) -> None:
    answer = admin.patch("users/alice", {"role": "observer"})
    assert (answer.status, answer.body["error"]) == (409, "last_administrator")


def test_a_name_in_an_address_is_url_encoded(company: Company, admin: Api) -> None:
    assert admin.get("groups/Service%20Desk").body["name"] == "Service Desk"
    assert admin.get("groups/service%20DESK/on-call").status == 200
    admin.post("groups", {"name": "Ñandú & Co. 100%?"})
    assert admin.get(f"groups/{quote('Ñandú & Co. 100%?')}").body["name"] == "Ñandú & Co. 100%?"
    refused(admin.get("groups/%00"), 404, "not_found")
    refused(admin.get(f"groups/{'9' * 40}"), 404, "not_found")
    refused(admin.get("groups/²"), 404, "not_found")


def test_a_new_user_can_be_given_a_password(company: Company, admin: Api) -> None:
    body = {"username": "carol", "email": "carol@example.org", "password": "a long enough passphrase"}
    made = admin.post("users", body)
    assert made.status == 201, made
    assert "password" not in made.body
    assert User.objects.get(username="carol").check_password("a long enough passphrase")
    admin.patch("users/carol", {"name": "Carol"})
    assert User.objects.get(username="carol").check_password("a long enough passphrase")


# --- on call


def test_on_call_response_has_its_documented_stable_shape(company: Company, ready: Api) -> None:
    answer = ready.get("groups/Service%20Desk/on-call", at="2026-12-25T03:00:00Z")
    assert answer.body["at"] == "2026-12-25T03:00:00Z"
    assert [(one["role"], one["user"]) for one in answer.body["on_call"]] == [("primary", "bob"), ("lead", "mia")]
    assert answer.body["on_call"][0].keys() >= {"role", "user", "since", "until", "reason"}
    assert ready.post("schedules", {**NOUNS["schedules"], "shifts": [_weekly("bob", "mia")]}).status == 201
    first = ready.get("groups/Service%20Desk/on-call", at="2026-01-06T03:00:00Z").body["on_call"][0]
    after = ready.get("groups/Service%20Desk/on-call", at="2026-01-13T03:00:00Z").body["on_call"][0]
    assert (first["user"], after["user"]) == ("bob", "mia")
    assert moment(first["until"]) == moment(after["since"]) == moment("2026-01-12T08:00:00Z")


def _weekly(*names: str) -> dict[str, Any]:
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": list(names), "roles": ["primary"]}
    return {"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}


def test_the_default_moment_is_now(company: Company, admin: Api) -> None:
    at = moment(admin.get("groups/Network/on-call").body["at"])
    assert abs(clock.now() - at) < timedelta(minutes=1)


# --- integrations


def test_changed_rules_create_a_version_and_keep_the_old(ready: Api) -> None:
    ready.post("integrations", NOUNS["integrations"])
    filters = {"field": "client", "operator": "equals", "value": "Acme"}
    changed = ready.patch("integrations/HaloITSM", {"filters": filters})
    assert changed.body["version"] == 2
    assert ready.patch("integrations/HaloITSM", {"source": "Halo"}).body["version"] == 2
    newest, oldest = ready.get("integrations/HaloITSM/versions").body["items"]
    assert (newest["number"], newest["current"], newest["created_by"]) == (2, True, "alice")
    assert newest["definition"] == {"filters": filters}
    assert (oldest["number"], oldest["current"], oldest["definition"]) == (1, False, {})


def test_versions_are_compared_and_restored_as_new_ones(ready: Api) -> None:
    ready.post("integrations", NOUNS["integrations"])
    filters = {"field": "client", "operator": "equals", "value": "Acme"}
    ready.patch("integrations/HaloITSM", {"filters": filters})
    changes = ready.get("integrations/HaloITSM/versions/1/changes").body["changes"]
    assert changes == [{"part": "filters", "before": None, "after": filters}]
    assert ready.get("integrations/HaloITSM/versions/2/changes?to=2").body["changes"] == []
    assert ready.get("integrations/HaloITSM/versions/9/changes").status == 404
    back = ready.post("integrations/HaloITSM/versions/1/restore")
    assert (back.status, back.body["version"], "filters" in back.body) == (200, 3, False)
    assert ready.post("integrations/HaloITSM/versions/99999999999/restore").status == 404


def test_status_action_is_set_over_the_api(ready: Api) -> None:
    ready.post("integrations", NOUNS["integrations"])
    assert ready.get("integrations/HaloITSM/statuses").body == {
        "statuses": [],
        "warning": "",
        "partial": "",
        "in_halo": {},
    }
    assert ready.put("integrations/HaloITSM/statuses", {"status": "Logged", "does": "open"}).status == 200
    rules = ready.get("integrations/HaloITSM").body["rules"]
    assert rules["open"]["any"][1] == {"field": "source_status", "operator": "equals", "value": "Logged"}
    refused(ready.put("integrations/HaloITSM/statuses", {"status": "Logged", "does": "sing"}), 400, "invalid", "does")


def test_token_rotation_returns_new_url_and_old_expiry(ready: Api) -> None:
    url = ready.post("integrations", NOUNS["integrations"]).body["url"]
    answer = ready.post("integrations/HaloITSM/rotate-token", {"overlap": "2h"})
    assert answer.status == 200, answer
    assert answer.body["url"] != url
    assert answer.body["url"].endswith(f"/in/{answer.body['token']}")
    duration = moment(answer.body["old_token_until"]) - clock.now()
    assert timedelta(minutes=119) < duration <= timedelta(hours=2)
    assert ready.get("integrations/HaloITSM").body["url"] == answer.body["url"]
    refused(ready.post("integrations/HaloITSM/rotate-token", {"overlap": "90d"}), 400, "invalid_duration", "overlap")
    refused(ready.post("integrations/HaloITSM/rotate-token", {"overlap": "soon"}), 400, "invalid_duration", "overlap")
    refused(ready.post("integrations/HaloITSM/rotate-token", {"token": "short"}), 400, "invalid_token", "token")


def test_credentials_are_never_shown_and_stay_when_left_out(ready: Api) -> None:
    credentials = {"basic": {"username": "halo", "password": "open sesame"}}
    made = ready.post("integrations", {**NOUNS["integrations"], "credentials": credentials})
    assert made.body["credentials"] == {"basic": {"username": "halo"}}
    value = Integration.objects.get().credentials
    assert ready.put("integrations/HaloITSM", made.body).status == 200
    assert Integration.objects.get().credentials == value
    assert "sesame" not in str(ready.get("audit-log", limit=500).body)


# --- the Inbound Log


def test_a_message_shows_what_arrived_and_how_it_was_understood(ready: Api, observer: Api) -> None:
    body = {"name": "Tool", "kind": "api", "mode": "dry_run", "mapping": {"subject": "summary", "source_id": "id"}}
    made = ready.post("integrations", body)
    assert made.status == 201, made
    integration = Integration.objects.select_related("current_version").get()
    raw = '{"id": 7, "summary": "VPN dówn"}'.encode()
    stored = InboundMessage.objects.create(
        id=uuid7(),
        integration=integration,
        received_at=clock.now(),
        status="Mapped Opened",
        reason=as_reason("open rule"),
        raw=raw,
        content_type="application/json",
        headers={"user-agent": "curl"},
        version=integration.current_version,
    )
    ready.patch("integrations/Tool", {"mapping": {"subject": "title", "source_id": "id"}})
    listed = observer.get("inbound-messages").body["items"][0]
    assert not {"raw", "headers", "mapped", "trace"} & listed.keys()
    one = observer.get(f"inbound-messages/{stored.pk}").body
    assert one.keys() >= {"id", "received_at", "integration", "status", "reason", "source_id", "subject", "alert_id"}
    assert (one["integration"], one["raw"], one["raw_base64"]) == ("Tool", raw.decode(), None)
    assert one["headers"] == {"user-agent": "curl"}
    # By the rules that decided it, although they have changed since.
    assert (one["mapped"]["subject"], one["mapped"]["source_id"]) == ("VPN dówn", "7")
    assert {field["field"] for field in one["trace"]["fields"]} >= {"subject", "source_id"}


def test_bytes_that_are_no_text_can_still_be_fetched(ready: Api) -> None:
    ready.post("integrations", {"name": "Tool", "kind": "api", "mode": "dry_run"})
    stored = InboundMessage.objects.create(
        id=uuid7(), integration=Integration.objects.get(), received_at=clock.now(), status="Mapping Failed",
        raw=b"\xff\x00{",
    )  # fmt: skip
    one = ready.get(f"inbound-messages/{stored.pk}").body
    assert one["raw_base64"] == "/wB7"
    assert one["mapped"] is None
    refused(ready.get("inbound-messages/nonsense"), 404, "not_found")
    refused(ready.get(f"inbound-messages/{uuid7()}"), 404, "not_found")


def test_the_log_is_filtered(ready: Api) -> None:
    for name in ("One", "Two"):
        ready.post("integrations", {"name": name, "kind": "api", "mode": "dry_run"})
        integration = Integration.objects.get(name=name)
        InboundMessage.objects.create(
            id=uuid7(), integration=integration, received_at=clock.now(), status="Mapped Opened", raw=b"{}",
            source_id=name,
            subject=f"About {name}", alert_id=7 if name == "One" else None,
        )  # fmt: skip
    hour = timedelta(hours=1)
    for query, expected in (
        ({"integration": "one"}, ["One"]),
        ({"status": "Mapped Opened"}, ["Two", "One"]),
        ({"status": "Mapping Failed"}, []),
        ({"source_id": "Two"}, ["Two"]),
        ({"subject": "about t"}, ["Two"]),
        ({"alert_id": 7}, ["One"]),
        ({"received_after": (clock.now() + hour).isoformat()}, []),
        ({"received_before": (clock.now() + hour).isoformat()}, ["Two", "One"]),
    ):
        results = ready.get("inbound-messages", **query).body["items"]
        assert [message["integration"] for message in results] == expected, query


# --- pause, settings, tokens, audit log


def test_paging_is_paused_and_goes_on(admin: Api, observer: Api) -> None:
    assert observer.get("pause").body["paused"] is False
    until = clock.now() + timedelta(hours=2)
    answer = admin.put("pause", {"reason": "Moving", "until": until.isoformat()})
    assert answer.status == 200, answer
    held_window = observer.get("pause").body
    assert (held_window["paused"], held_window["reason"], held_window["user"]) == (True, "Moving", "alice")
    assert moment(held_window["until"]) == until
    assert admin.delete("pause").body["paused"] is False
    assert observer.get("pause").body == admin.delete("pause").body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"for": "2h"}, "reason"),
        ({"reason": " ", "for": "2h"}, "reason"),
        ({"reason": "x"}, "body"),
        ({"reason": "x", "for": "9d"}, "until"),
        ({"reason": "x", "until": "2020-01-01T00:00:00Z"}, "until"),
        ({"reason": "x", "for": "a while"}, "for"),
    ],
)
def test_a_pause_that_cannot_be_says_why(admin: Api, body: Any, field: str) -> None:
    answer = admin.put("pause", body)
    assert (answer.status, answer.fields) == (400, [field])
    assert admin.get("pause").body["paused"] is False


def test_settings_are_read_and_changed_by_name(admin: Api) -> None:
    assert admin.get("settings").body["message_retention_days"] == 90
    changed = admin.patch("settings", {"message_retention_days": 30})
    assert changed.body["message_retention_days"] == 30
    assert admin.get("settings").body == changed.body
    answer = admin.patch("settings", {"message_retention_days": 0, "nonsense": 1})
    assert answer.status == 400
    assert set(answer.fields) == {"message_retention_days", "nonsense"}
    assert admin.get("settings").body == changed.body
    assert settings_api.settings_routes.resource_name == "settings"


def test_users_can_change_their_name_and_display_settings(observer: Api) -> None:
    assert (
        observer.patch("preferences", {"time_zone": "Asia/Kathmandu", "language": "de", "theme": "dark"}).status == 200
    )
    expected = {
        "name": "Olga Andersson", "time_zone": "Asia/Kathmandu", "language": "de", "theme": "dark",
        "compact_list": False, "alert_filters": [],
    }  # fmt: skip
    assert observer.get("preferences").body == expected
    assert observer.patch("preferences", {"language": None, "theme": None, "name": "Olga"}).body == {
        **expected, "name": "Olga", "language": "", "theme": "",
    }  # fmt: skip
    filters = [{"name": "Critical", "query": "tab=open&priority=critical"}]
    assert observer.patch("preferences", {"compact_list": True, "alert_filters": filters}).status == 200
    kept = observer.get("preferences").body
    assert (kept["compact_list"], kept["alert_filters"]) == (True, filters)
    refused(observer.patch("preferences", {"alert_filters": filters * 2}), 400, "invalid", "alert_filters")
    misspelt = [{**filters[0], "colour": "red"}]
    refused(observer.patch("preferences", {"alert_filters": misspelt}), 400, "invalid", "alert_filters[0].colour")
    refused(
        observer.patch("preferences", {"alert_filters": None, "theme": "pink", "language": "de"}),
        400,
        "invalid",
        "theme",
    )
    refused(observer.patch("preferences", {"time_zone": "Mars"}), 400, "invalid_time_zone", "time_zone")
    assert observer.patch("preferences", {"role": "admin"}).status == 400
    assert observer.get("preferences").body["language"] == ""
    assert User.objects.get(username="olga").role == "observer"


def test_token_is_shown_once_and_works_until_revoked(responder: Api) -> None:
    made = responder.post("tokens", {"name": "script"})
    assert (made.status, made.body["user"]) == (201, "bob")
    other = Api(made.body["token"])
    assert other.get("alerts").status == 200
    shown = responder.get(f"tokens/{made.body['id']}").body
    assert "token" not in shown
    assert made.body["token"].startswith(shown["prefix"])
    refused(responder.post("tokens", {"name": "script"}), 400, "name_taken", "name")
    refused(responder.post("tokens", {"name": " "}), 400, "invalid_name", "name")
    assert responder.delete(f"tokens/{made.body['id']}").status == 204
    refused(other.get("alerts"), 401, "not_authenticated")
    assert responder.get("tokens", revoked="true").body["items"][0]["id"] == made.body["id"]


def test_the_audit_log_is_filtered(admin: Api, caller: Callable[[User], Api]) -> None:
    admin.post("groups", {"name": "New"})
    results = admin.get("audit-log", object_type="group", action="create").body["items"]
    assert [(entry["actor"], entry["object_name"], entry["via"]) for entry in results] == [
        ("Alice Andersson", "New", "api")
    ]
    assert results[0]["after"]["name"] == "New"
    assert admin.get(f"audit-log/{results[0]['id']}").body == results[0]
    assert admin.get("audit-log", actor="nobody").body["items"] == []


def test_managers_read_and_export_the_log_of_their_groups(
    company: Company, admin: Api, manager: Api, observer: Api
) -> None:
    for group in ("Service Desk", "Network"):
        assert admin.post("support-hours", {**NOUNS["support-hours"], "name": group, "group": group}).status == 201
    (entry,) = manager.get("audit-log", object_type="support_hours").body["items"]
    assert (entry["object_name"], entry["address"]) == ("Service Desk", None)
    assert manager.get(f"audit-log/{entry['id']}").body == entry
    other = admin.get("audit-log", object_name="Network").body["items"][0]["id"]
    refused(manager.get(f"audit-log/{other}"), 403, "forbidden")
    lines = exported(manager, "format=jsonl&object_type=support_hours").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [entry["id"]]
    header, *rows = exported(admin, "format=csv&object_type=support_hours").splitlines()
    assert (header.split(",")[:4], len(rows)) == (["id", "at", "actor", "action"], 2)
    refused(observer.get("audit-log/export"), 403, "forbidden")
    refused(manager.get("audit-log/export?format=xml"), 400, "invalid", "format")


def exported(api: Api, query: str) -> str:
    answer = api.client.get(f"/api/v1/audit-log/export?{query}", headers={"Authorization": f"Bearer {api.token}"})
    return b"".join(answer.streaming_content).decode()  # type: ignore[arg-type, union-attr]


def test_history_lists_changes_newest_first_for_those_who_may_change(
    company: Company, admin: Api, manager: Api, responder: Api
) -> None:
    made = manager.post("support-hours", {**NOUNS["support-hours"], "group": "Service Desk"})
    manager.patch("support-hours/Office hours", {"time_zone": "Europe/Berlin"})
    path = "support-hours/Office hours/history"
    entries = manager.get(path).body["items"]
    assert [(entry["action"], entry["actor"], entry["object_id"]) for entry in entries] == [
        ("update", company.mia.display_name, str(made.body["id"])),
        ("create", company.mia.display_name, str(made.body["id"])),
    ]
    assert entries[0]["after"] == {"time_zone": "Europe/Berlin"}
    assert {entry["address"] for entry in entries} == {None}
    assert {entry["address"] for entry in admin.get(path).body["items"]} == {"127.0.0.1"}
    assert admin.get(path, limit=1).body["next"]
    refused(responder.get(path), 403, "forbidden")
    refused(manager.get("support-hours/Nights/history"), 404, "not_found")


def test_several_people_are_invited_or_nobody(company: Company, admin: Api, manager: Api) -> None:
    good = {"email": "carl@example.org", "phone": "+41790000009", "groups": ["Service Desk"]}
    refused = admin.post("users/invitations", {"invitations": [good, {"email": "x@example.org", "phone": "12"}]})
    assert (refused.status, refused.fields) == (400, ["invitations[1].phone"])
    assert admin.get("users/carl").status == 404
    assert manager.post("users/invitations", {"invitations": [good]}).status == 403
    made = admin.post("users/invitations", {"invitations": [good]})
    assert (made.status, made.body) == (201, {"users": ["carl"], "not_sent": []})
    methods = admin.get("contact-methods", user="carl").body["items"]
    assert [(one["channel"], one["awaits_code"]) for one in methods] == [("email", False), ("sms", True)]
