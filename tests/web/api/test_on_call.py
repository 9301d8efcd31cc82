"""On-call data over the API: a moment, a range, problems, and permissions of shift changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.web.api.conftest import Api, ApiResponse, Company
from tests.web.api.test_errors import refused
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.oncall.models import HandoverNote, Schedule
from tocsin.people.models import User

CALENDAR = {"url": "https://c.example.org/secret.ics", "roles": ["lead"]}
ROTATE = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob", "mia"], "roles": ["primary"]}
SCHEDULE = {
    "name": "Desk 24x7",
    "group": "Service Desk",
    "time_zone": "Europe/Zurich",
    "shifts": [
        {"name": "Weekly", "rotate": ROTATE, "start": "2026-01-05"},
        {
            "name": "Elsewhere",
            "calendar": {"url": "https://c.example.org/secret.ics", "roles": ["lead"]},
            "layer": 2,
        },
    ],
}


@pytest.fixture
def ready(company: Company, manager: Api) -> Api:
    assert manager.post("schedules", SCHEDULE).status == 201
    return manager


def on_call(api: Api, at: str) -> list[tuple[str, str, str]]:
    answer = api.get("groups/Service%20Desk/on-call", at=at)
    return [(one["role"], one["user"], one["reason"]["text"]) for one in answer.body["on_call"]]


def test_override_is_created_shown_on_timeline_and_deleted(ready: Api) -> None:
    spec = {"schedule": "Desk 24x7", "name": "Xmas swap", "user": "olga", "role": "primary"}
    made = ready.post("overrides", {**spec, "from": "2036-12-24T17:00", "to": "2036-12-26T08:00"})
    assert (made.status, made.body["from"], made.body["created_by"]) == (201, "2036-12-24T16:00:00Z", "mia")
    assert on_call(ready, "2036-12-25T03:00:00Z")[0] == ("primary", "olga", "override Xmas swap")
    span = {"from": "2036-12-24T00:00:00Z", "to": "2036-12-27T00:00:00Z"}
    drawn = ready.get("groups/Service%20Desk/timeline", **span).body
    primaries = [segment for segment in drawn["segments"] if segment["role"] == "primary"]
    assert [segment["user"] for segment in primaries] == ["bob", "olga", "bob"]
    assert primaries[0]["until"] == primaries[1]["since"] == "2036-12-24T16:00:00Z"
    assert "override Xmas swap" in [shift["hidden_by"] for shift in drawn["shifts"]]
    assert ready.get("schedules/Desk%2024x7").body["overrides"][0]["name"] == "Xmas swap"
    assert ready.get("overrides", at="2036-12-25T03:00:00Z").body["items"][0]["id"] == made.body["id"]
    assert ready.delete(f"overrides/{made.body['id']}").status == 204
    assert on_call(ready, "2036-12-25T03:00:00Z")[0][1] == "bob"


@pytest.mark.parametrize(
    ("span", "field"),
    [
        ({"from": "2026-12-24T00:00:00Z", "to": "2026-12-24T00:00:00Z"}, "to"),
        ({"from": "2026-12-24T00:00:00Z", "to": "2028-12-24T00:00:00Z"}, "to"),
        ({"from": "tomorrow"}, "from"),
    ],
)
def test_a_range_that_cannot_be_is_refused_in_words(span: dict[str, str], field: str, ready: Api) -> None:
    answer = ready.get("groups/Service%20Desk/timeline", **span)
    assert answer.status in (400, 422)
    assert field in answer.fields


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_moment_that_no_schedule_reaches_is_refused_in_words(at: str, ready: Api) -> None:
    for path, field in (
        ("groups/Service%20Desk/on-call", "at"),
        ("groups/Service%20Desk/timeline", "from"),
        ("groups/Service%20Desk/coverage", "from"),
    ):
        assert "1970" in refused(ready.get(path, **{field: at}), 400, "invalid", field)


def test_errors_are_reported_and_calendar_addresses_stay_secret(
    ready: Api, company: Company, caller: Callable[[User], Api]
) -> None:
    assert ready.patch("schedules/Desk%2024x7", {"shifts": SCHEDULE["shifts"]}).status == 200
    away = {"from": (clock.now() + timedelta(days=1)).isoformat(), "to": (clock.now() + timedelta(days=20)).isoformat()}
    bob = caller(company.bob)
    assert bob.post("out-of-office", away).status == 201
    refused(bob.post("out-of-office", away), 400, "overlap", "from")
    refused(bob.post("out-of-office", {**away, "user": "mia"}), 403, "forbidden")
    results = {finding["kind"]: finding for finding in bob.get("groups/Service%20Desk/coverage").body["findings"]}
    assert results.keys() == {"absent", "no_shift"}
    assert (results["absent"]["user"], results["absent"]["note"]) == ("bob", False)
    for reader in (bob, ready):
        assert reader.get("schedules/Desk%2024x7").body["shifts"][1]["calendar"]["url"] == "https://c.example.org/…"
        assert "secret" not in str(reader.get("schedules").body)
    assert ready.get("schedules/Desk%2024x7/imports").body["items"][0]["shift"] == "Elsewhere"


def test_shift_is_reassigned_and_swapped_by_its_participants(
    ready: Api, company: Company, caller: Callable[[User], Api]
) -> None:
    bob, olga, nadia = caller(company.bob), caller(company.olga), caller(company.nadia)
    # Hours of Bob's and of Mia's weeks.
    bobs: dict[str, Any] = {"from": "2036-12-23T10:00:00Z", "to": "2036-12-23T18:00:00Z"}
    mias: dict[str, Any] = {"from": "2036-12-30T10:00:00Z", "to": "2036-12-30T18:00:00Z"}
    take = "schedules/Desk%2024x7/take"
    refused(nadia.post(take, {**bobs, "instead_of": "bob"}), 403, "forbidden")
    _not_on_call(olga.post(take, {**mias, "instead_of": "bob"}))
    assert olga.post(take, {**bobs, "instead_of": "bob"}).body["name"] == "Olga Andersson for Bob Andersson"
    assert on_call(bob, bobs["from"])[0][1] == "olga"
    refused(
        bob.post("schedules/Desk%2024x7/hand-over", {**mias, "user": "olga", "instead_of": "mia"}), 403, "forbidden"
    )
    assert olga.post("schedules/Desk%2024x7/hand-over", {**bobs, "user": "bob"}).status == 201
    assert on_call(bob, bobs["from"])[0][1] == "bob"
    api_response = bob.post(
        "swaps",
        {**bobs, "schedule": "Desk 24x7", "user": "mia", "return_from": mias["from"], "return_to": mias["to"]},
    )
    assert (api_response.status, api_response.body["state"]) == (201, "asked")
    number = api_response.body["id"]
    refused(olga.post(f"swaps/{number}/accept"), 403, "forbidden")
    assert ready.post(f"swaps/{number}/accept").body["state"] == "accepted"
    assert [on_call(bob, at)[0][1] for at in (bobs["from"], mias["from"])] == ["mia", "bob"]
    refused(bob.post(f"swaps/{number}/withdraw"), 409, "already_answered")
    assert bob.get("swaps", mine="true", state="accepted").body["items"][0]["id"] == number


@pytest.mark.parametrize(
    ("span", "field", "message"),
    [
        ({"from": "0001-01-01T00:00:00Z", "to": "2036-12-23T18:00:00Z"}, "from", "1970"),
        ({"from": "2036-12-23T10:00:00Z", "to": "9999-12-31T23:59:59Z"}, "to", "1970"),
        ({"from": "2026-12-23T10:00:00Z", "to": "2036-12-23T18:00:00Z"}, "to", "400 days"),
    ],
)
def test_unscheduled_or_years_long_range_cannot_be_handed_over(
    span: dict[str, str], field: str, message: str, ready: Api, company: Company, caller: Callable[[User], Api]
) -> None:
    bob = caller(company.bob)
    assert message in refused(
        bob.post("schedules/Desk%2024x7/hand-over", {**span, "user": "olga"}), 400, "invalid", field
    )
    assert message in refused(
        bob.post("swaps", {**span, "schedule": "Desk 24x7", "user": "mia"}), 400, "invalid", field
    )


def test_member_takes_uncovered_shift_and_can_return_it(
    ready: Api, company: Company, caller: Callable[[User], Api]
) -> None:
    bob, olga, nadia = caller(company.bob), caller(company.olga), caller(company.nadia)
    office = {"windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}], "users": ["bob"], "roles": ["secondary"]}
    shifts = ready.get("schedules/Desk%2024x7").body["shifts"]
    assert ready.patch(
        "schedules/Desk%2024x7", {"shifts": [*shifts, {"name": "Office", "fixed": office}]}
    ).status == 200  # fmt: skip
    # A Tuesday: secondary is nobody.
    gap: dict[str, Any] = {"from": "2036-12-23T10:00:00Z", "to": "2036-12-23T18:00:00Z", "role": "secondary"}
    take = "schedules/Desk%2024x7/take"
    refused(nadia.post(take, gap), 403, "forbidden")
    refused(bob.post(take, {**gap, "role": None}), 400, "missing", "role")
    answer = bob.post(take, {**gap, "role": "primary"})
    refused(answer, 400, "invalid", "from")
    assert "is primary of" in answer.body["detail"]
    made = bob.post(take, gap)
    assert (made.status, made.body["user"], made.body["created_by"]) == (201, "bob", "bob")
    refused(olga.post(take, gap), 400, "invalid", "from")
    refused(olga.post(f"overrides/{made.body['id']}/take-back"), 403, "forbidden")
    assert bob.post(f"overrides/{made.body['id']}/take-back").status == 204
    refused(bob.post(f"overrides/{made.body['id']}/take-back"), 404, "not_found")


def test_managers_arrangements_survive_loss_of_their_role(
    ready: Api, company: Company, caller: Callable[[User], Api]
) -> None:
    bobs: dict[str, Any] = {"from": "2036-12-23T10:00:00Z", "to": "2036-12-23T18:00:00Z"}
    made = ready.post("schedules/Desk%2024x7/hand-over", {**bobs, "user": "olga", "instead_of": "bob"})
    assert (made.status, made.body["created_by"]) == (201, "mia")
    User.objects.filter(pk=company.mia.pk).update(role="observer")
    mia = caller(User.objects.get(pk=company.mia.pk))
    refused(mia.post(f"overrides/{made.body['id']}/take-back"), 403, "forbidden")


def _not_on_call(answer: ApiResponse) -> None:
    refused(answer, 400, "invalid", "from")
    assert "is not on call" in answer.body["detail"]


def test_readiness_names_each_shift_and_its_problems(ready: Api, observer: Api) -> None:
    shifts = observer.get("readiness", group="Service Desk").body["shifts"]
    assert {one["user"] for one in shifts if one["role"] == "primary"} == {"bob", "mia"}
    bob = next(one for one in shifts if one["user"] == "bob")
    assert (bob["ready"], bob["loud_channels"], bob["verified"], bob["tested_at"]) == (False, ["sms"], False, None)
    assert [(one["kind"], one["reason"]["code"]) for one in bob["problems"]] == [
        ("not_verified", "readiness.not_verified"),
        ("not_tested", "readiness.not_tested"),
    ]
    assert {one["group"] for one in observer.get("readiness").body["shifts"]} >= {"Service Desk"}
    assert observer.get("readiness", group="Nobody").status == 400
    backwards = observer.get("readiness", **{"from": "2036-01-02T00:00:00Z", "to": "2036-01-01T00:00:00Z"})
    assert (backwards.status, backwards.fields) == (400, ["to"])


def test_calendar_has_the_lanes_of_every_group(ready: Api, observer: Api) -> None:
    span = {"from": "2026-12-01T00:00:00+01:00", "to": "2026-12-15T00:00:00+01:00"}
    answer = observer.get("on-call/calendar", **span)
    assert (answer.status, len(answer.body["days"])) == (200, 14 if answer.body["time_zone"] != "UTC" else 15)
    lane = next(one for one in answer.body["lanes"] if one["group"] == "Service Desk")
    assert (lane["group"], lane["role"], lane["scheduled"], lane["gaps"]) == ("Service Desk", "primary", True, [])
    assert [one["user"] for one in lane["segments"]] == ["mia", "bob", "mia"]
    assert lane["segments"] == [
        one
        for one in observer.get("groups/Service%20Desk/timeline", **span).body["segments"]
        if one["role"] == "primary"
    ]
    assert {one["group"] for one in observer.get("on-call/calendar", group="Service Desk").body["lanes"]} == {
        "Service Desk"
    }
    refused(observer.get("on-call/calendar", **{"from": "December"}), 400, "invalid", "from")
    refused(observer.get("on-call/calendar", to="2099-01-01T00:00:00Z"), 400, "invalid", "to")
    refused(observer.get("on-call/calendar", group="Nobody"), 404, "not_found")


def test_handover_note_is_written_and_sent_over_the_api(
    ready: Api, observer: Api, caller: Callable[[User], Api], company: Company
) -> None:
    schedule, at = Schedule.objects.get(), clock.now() + timedelta(hours=1)
    note = HandoverNote.objects.create(
        schedule=schedule, at=at, since=at - timedelta(days=7), outgoing=[company.bob.pk], incoming=[company.mia.pk]
    )
    path, bob = f"schedules/Desk%2024x7/handovers/{note.pk}", caller(company.bob)
    (listed,) = observer.get("schedules/Desk%2024x7/handovers").body["items"]
    assert (listed["id"], listed["outgoing"], listed["incoming"], listed["sent_at"]) == (
        note.pk,
        ["bob"],
        ["mia"],
        None,
    )
    refused(observer.put(path, {"text": "Mine"}), 403, "forbidden")
    refused(bob.put(path, {"text": "x" * 5001}), 400, "invalid", "text")
    written = bob.put(path, {"text": "The backup fails."}).body
    assert (written["text"], written["edited_by"]) == ("The backup fails.", "bob")
    refused(bob.put(path, {"text": "It works.", "edited_at": None}), 412, "changed_meanwhile")
    assert bob.put(path, {"text": "It fails.", "edited_at": written["edited_at"]}).status == 200
    assert [section["title"]["text"] for section in written["sections"]] == [
        "No open alerts",
        "No alerts in the shift",
    ]
    sent = bob.post(f"{path}/send").body
    assert sent["sent_at"]
    assert observer.get(path).body["sections"] == sent["sections"]
    refused(bob.post(f"{path}/send"), 409, "not_possible")
    assert ready.patch("schedules/Desk%2024x7", {"handover_notes": False}).body["handover_notes"] is False


# ---------- announcements


def test_announcements_are_previewed_without_saving(company: Company, manager: Api) -> None:
    contact = {"label": "List", "channel": "email", "address": "desk@example.org"}
    assert manager.patch("groups/Service%20Desk", {"contacts": [contact]}).status == 200
    path = "groups/Service%20Desk/announcements/preview"
    assert manager.post(path, {}).body == {"announcements": []}
    found = manager.post(path, {"announcements": [{"topics": ["on_call"], "at": "06:00"}]}).body["announcements"]
    assert [(one["topic"], one["contacts"], one["title"]) for one in found] == [
        ("on_call", ["List"], "On call now in Service Desk: primary Bob Andersson and lead Mia Andersson")
    ]
    wrong = manager.post(path, {"announcements": [{"topics": ["on_call"], "at": "25:00"}]})
    assert (wrong.status, wrong.fields) == (400, ["announcements[0].at"])
    saved = manager.patch("groups/Service%20Desk", {"announcements": [{"topics": ["on_call", "maintenance"]}]})
    assert saved.body["announcements"] == [{"topics": ["on_call", "maintenance"]}]


def test_announcements_are_hidden_from_other_groups(
    company: Company, admin: Api, caller: Callable[[User], Api]
) -> None:
    assert admin.patch("groups/Network", {"announcements": [{"topics": ["maintenance"]}]}).status == 200
    settings_store.set(settings_store.VISIBILITY, "groups")
    mia = caller(company.mia)
    assert mia.get("groups/Network").status == 404
    assert mia.post("groups/Network/announcements/preview", {}).status == 404
    window = {"name": "Patch", "group": "Service Desk", "starts": "2036-01-01 10:00", "ends": "2036-01-01 11:00"}
    told = mia.post("maintenance-windows", {**window, "announce_to": ["Network"]})
    assert (told.status, told.fields) == (400, ["announce_to[0]"])


def test_only_administrators_announce_maintenance_to_clients(company: Company, manager: Api, admin: Api) -> None:
    report = {"client": "Acme", "address": "it@acme.example", "maintenance": True, "enabled": False}
    assert admin.post("client-reports", report).status == 201
    policy = {"name": "Standard", "steps": [{"notify": {"roles": ["primary"]}, "after": "0m"}]}
    assert admin.post("escalation-policies", policy).status == 201
    api = {"name": "Desk", "kind": "api", "group": "Service Desk", "escalation_policy": "Standard"}
    assert admin.post("integrations", {**api, "recipients": {"groups": ["Service Desk"]}}).status == 201
    window = {"name": "Patch", "group": "Service Desk", "starts": "2036-01-01 10:00", "ends": "2036-01-01 11:00"}
    window |= {"integrations": ["Desk"]}
    assert manager.post("maintenance-windows", {**window, "announce_to_clients": ["Acme"]}).status == 403
    assert admin.post("maintenance-windows", {**window, "announce_to_clients": ["Acme"]}).status == 201
    # A manager may change the rest, and take clients away.
    assert manager.patch("maintenance-windows/Patch", {"ticket_reference": "CHG1"}).status == 200
    assert manager.patch("maintenance-windows/Patch", {"announce_to_clients": None}).status == 200
    unknown = admin.patch("maintenance-windows/Patch", {"announce_to_clients": ["Nobody"]})
    assert (unknown.status, unknown.fields) == (400, ["announce_to_clients"])
