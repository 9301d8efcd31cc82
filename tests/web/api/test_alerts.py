"""Alerts over the API: schema, filters, timeline, creation and every command."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import pytest

from tests.support.ingest import make_integration
from tests.web.api.conftest import Api, Company, moment
from tests.web.api.test_errors import refused
from tocsin.alerts.models import Alert
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun

type Open = Callable[..., int]

SHAPE = {
    "id", "status", "acknowledged", "priority", "subject", "source", "source_name", "source_id", "source_url",
    "source_status", "client", "count", "owner", "acknowledged_by", "opened_at", "last_message_at", "closed_at",
    "integration", "tags", "custom", "next_step", "dry_run", "test",
}  # fmt: skip


def test_an_alert_has_the_shape_that_scripts_rely_on(observer: Api, open_alert: Open) -> None:
    number = open_alert(
        "VPN down",
        source="HaloITSM",
        source_id="20817",
        columns={"client": "Acme", "long_text": "All of it"},
        tags={"environment": "prod"},
        custom={"ticket_type": "Incident"},
    )
    listed = observer.get("alerts").body["items"][0]
    assert listed.keys() >= SHAPE
    assert "long_text" not in listed
    one = observer.get(f"alerts/{number}").body
    assert one["long_text"] == "All of it"
    assert {name: one[name] for name in listed} == listed
    assert (listed["id"], listed["status"], listed["acknowledged"]) == (number, "open", False)
    assert (listed["client"], listed["source_id"], listed["owner"]) == ("Acme", "20817", None)
    assert (listed["tags"], listed["custom"]) == ({"environment": "prod"}, {"ticket_type": "Incident"})
    assert (listed["acknowledged_by"], listed["next_step"], listed["closed_at"]) == ([], None, None)
    assert moment(listed["opened_at"]) <= clock.now()


def test_missing_alert_returns_404(admin: Api) -> None:
    for call in (
        lambda: admin.get("alerts/7"),
        lambda: admin.get("alerts/7/events"),
        lambda: admin.post("alerts/7/close"),
        lambda: admin.post("alerts/7/merge", {"into": 8}),
        lambda: admin.get(f"alerts/{2**62}"),
    ):
        refused(call(), 404, "not_found")
    refused(admin.get(f"alerts/{2**63}"), 400, "invalid", "id")


def test_filters_narrow_the_list(company: Company, admin: Api, open_alert: Open) -> None:
    vpn = open_alert("VPN down", source="HaloITSM", source_id="1", columns={"client": "Acme"}, priority="critical")
    disk = open_alert("Disk full", source="Nagios", ago=timedelta(hours=2), is_test=True)
    admin.post(f"alerts/{vpn}/assign", {"user": "bob"})
    admin.post(f"alerts/{disk}/acknowledge")
    now = clock.now()
    for query, expected in (
        ({"status": "open"}, [disk]),
        ({"status": ["open", "assigned"]}, [disk, vpn]),
        ({"status": "closed"}, []),
        ({"priority": "critical"}, [vpn]),
        ({"source": "Nagios"}, [disk]),
        ({"source_id": "1"}, [vpn]),
        ({"client": "Acme"}, [vpn]),
        ({"subject": "disk"}, [disk]),
        ({"owner": "BOB"}, [vpn]),
        ({"acknowledged": "true"}, [disk]),
        ({"acknowledged": "false"}, [vpn]),
        ({"acknowledged_by": "alice"}, [disk]),
        ({"test": "true"}, [disk]),
        ({"dry_run": "true"}, []),
        ({"opened_after": (now - timedelta(hours=1)).isoformat()}, [vpn]),
        ({"opened_before": (now - timedelta(hours=1)).isoformat()}, [disk]),
        ({"status": "open", "source": "HaloITSM"}, []),
    ):
        results = [alert["id"] for alert in admin.get("alerts", **query).body["items"]]
        assert sorted(results) == sorted(expected), query


def test_a_plus_sign_that_was_not_encoded_is_understood(admin: Api, open_alert: Open) -> None:
    open_alert()
    assert admin.get("/api/v1/alerts?opened_after=2020-01-01T00:00:00+01:00").status == 200


def test_moment_with_unusual_offset_is_converted(admin: Api, open_alert: Open) -> None:
    number = open_alert()
    assert admin.get("/api/v1/alerts?opened_after=0448-04-01T21:03:50-22:19").status == 200
    until = (clock.now() + timedelta(hours=2)).astimezone(timezone(timedelta(hours=22, minutes=19)))
    assert moment(admin.post(f"alerts/{number}/hold", {"until": until.isoformat()}).body["hold_until"]) == until


def test_the_next_step_is_the_runs_timer(admin: Api, open_alert: Open) -> None:
    number = open_alert()
    due = clock.now() + timedelta(minutes=5)
    run = EscalationRun.objects.filter(alert=number).first() or EscalationRun(
        alert_id=number, mode="page", started_at=clock.now()
    )
    run.status, run.due_at, run.reason = "active", due, as_reason("Step 2 of 3 is next.")
    run.save()
    results = admin.get("alerts").body["items"][0]["next_step"]
    assert moment(results["at"]) == due
    assert results["summary"]["text"]
    EscalationRun.objects.update(status="ended", due_at=None)
    assert admin.get("alerts").body["items"][0]["next_step"] is None


# --- commands


def test_each_command_acts_and_returns_the_alert(admin: Api, responder: Api, open_alert: Open) -> None:
    number, other = open_alert(), open_alert("the same")

    def give(command: str, body: Any = None) -> dict[str, Any]:
        answer = responder.post(f"alerts/{number}/{command}", body)
        assert answer.status == 200, (command, answer)
        assert answer.body["id"] == number
        assert answer.body["answer"]["text"]
        assert answer.body["changed"] is True
        results: dict[str, Any] = answer.body
        return results

    assert give("acknowledge")["acknowledged_by"] == ["bob"]
    assert give("unacknowledge", {})["acknowledged"] is False
    assert give("assign", {"user": "bob"})["owner"] == "bob"
    assert give("unassign", {"note": "not mine"})["status"] == "open"
    assert give("assign", {"name": "Vendor hotline"})["owner"] == "Vendor hotline"
    assert give("undo")["status"] == "open"
    assert give("reply", {"text": "On my way"})["status"] == "open"
    assert give("hold", {"for": "30m"})["status"] == "on_hold"
    assert give("resume")["status"] == "open"
    until = clock.now() + timedelta(hours=2)
    assert moment(give("hold", {"until": until.isoformat()})["hold_until"]) == until
    assert give("resume")["hold_until"] is None
    assert give("escalate")["status"] == "open"
    closed = give("close", {"note": "restarted"})
    assert (closed["status"], closed["closed_at"] is not None) == ("closed", True)
    assert give("reopen")["status"] == "open"
    assert give("cancel")["status"] == "cancelled"
    assert give("reopen")["status"] == "open"
    merged = give("merge", {"into": other})
    assert (merged["status"], merged["merged_into"]) == ("merged", other)


def test_timeline_names_user_action_and_channel(responder: Api, open_alert: Open) -> None:
    number = open_alert()
    responder.post(f"alerts/{number}/reply", {"text": "On my way", "note": "by bike"})
    answer = responder.get(f"alerts/{number}/events")
    opened, replied = answer.body["items"]
    assert opened["kind"] == "opened"
    assert (replied["kind"], replied["actor"], replied["via"]) == ("replied", "Bob Andersson", "api")
    assert replied["actor_kind"] == "token"
    assert replied["data"]["text"] == "On my way"
    assert "before" not in replied["data"]
    assert [event["id"] for event in responder.get(f"alerts/{number}/events", kind="replied").body["items"]] == [
        replied["id"]
    ]


def test_command_without_effect_is_reported(responder: Api, open_alert: Open) -> None:
    number = open_alert()
    responder.post(f"alerts/{number}/acknowledge")
    again = responder.post(f"alerts/{number}/acknowledge")
    assert (again.status, again.body["changed"]) == (200, False)
    assert "already" in again.body["answer"]["text"]


def test_a_command_that_comes_too_late_hears_how_it_stands(admin: Api, responder: Api, open_alert: Open) -> None:
    number = open_alert()
    admin.post(f"alerts/{number}/close")
    detail = refused(responder.post(f"alerts/{number}/acknowledge"), 409, "already_closed")
    assert "closed by Alice Andersson" in detail
    refused(responder.post(f"alerts/{number}/undo"), 409, "not_possible")


@pytest.mark.parametrize(
    ("command", "body", "field"),
    [
        ("assign", {}, "body"),
        ("assign", {"user": "bob", "name": "Bob"}, "body"),
        ("assign", {"user": "nobody"}, "user"),
        ("assign", {"user": 7}, "user"),
        ("assign", {"name": ""}, "name"),
        ("assign", {"name": "  "}, "name"),
        ("assign", {"name": "x" * 201}, "name"),
        ("reply", {}, "text"),
        ("reply", {"text": " "}, "text"),
        ("hold", {}, "body"),
        ("hold", {"for": "30m", "until": "2030-01-01T00:00:00Z"}, "body"),
        ("hold", {"for": "soon"}, "for"),
        ("hold", {"for": "0"}, "until"),
        ("hold", {"until": "2020-01-01T00:00:00Z"}, "until"),
        ("hold", {"until": "2020-01-01T00:00:00"}, "until"),
        ("hold", {"until": "9999-12-31T23:59:59Z"}, "until"),
        ("merge", {}, "into"),
        ("merge", {"into": 0}, "into"),
        ("merge", {"into": 999}, "into"),
        ("merge", {"into": "x"}, "into"),
        ("close", {"reason": "x"}, "reason"),
        ("close", {"note": "x" * 2001}, "note"),
    ],
)
def test_a_commands_body_is_checked(admin: Api, open_alert: Open, command: str, body: Any, field: str) -> None:
    number = open_alert()
    answer = admin.post(f"alerts/{number}/{command}", body)
    assert answer.status == 400, answer
    assert answer.fields == [field]
    assert Alert.objects.get(pk=number).status == "open"


def test_alert_cannot_be_assigned_to_disabled_user(company: Company, admin: Api, open_alert: Open) -> None:
    company.bob.is_active = False
    company.bob.save()
    refused(admin.post(f"alerts/{open_alert()}/assign", {"user": "bob"}), 400, "invalid", "user")


def test_command_based_on_stale_owner_is_rejected(
    admin: Api, responder: Api, open_alert: Open, company: Company
) -> None:
    number, seen = open_alert(), clock.now()
    admin.post(f"alerts/{number}/assign", {"user": "alice"})
    body = {"user": "bob", "seen_at": seen.isoformat()}
    refused(responder.post(f"alerts/{number}/assign", body), 409, "already_assigned")


# --- opening by hand


def test_an_alert_can_be_opened_by_hand(responder: Api, company: Company) -> None:
    answer = responder.post(
        "alerts",
        {
            "subject": "Smoke in room 3",
            "priority": "critical",
            "client": "Acme",
            "long_text": "Really.",
            "tags": {"environment": "prod"},
            "recipients": {"users": ["bob"], "groups": ["Service Desk"]},
            "note": "saw it myself",
        },
    )
    assert answer.status == 201, answer
    alert = answer.body
    assert (alert["status"], alert["priority"], alert["subject"]) == ("open", "critical", "Smoke in room 3")
    assert (alert["client"], alert["long_text"], alert["tags"]) == ("Acme", "Really.", {"environment": "prod"})
    event = responder.get(f"alerts/{alert['id']}/events").body["items"][0]
    assert (event["kind"], event["actor"]) == ("opened", "Bob Andersson")
    assert "saw it myself" in event["reason"]["text"]


def test_an_alert_opened_by_hand_pages_by_its_policy(admin: Api, responder: Api, company: Company) -> None:
    steps = [{"notify": {"roles": ["primary"]}, "after": "5m"}]
    assert admin.post("escalation-policies", {"name": "P", "steps": steps, "default_priority": "low"}).status == 201
    body = {"subject": "x", "escalation_policy": "p", "recipients": {"groups": ["Service Desk"]}}
    alert = responder.post("alerts", body).body
    assert alert["priority"] == "low"
    assert "Bob Andersson" in alert["next_step"]["summary"]["text"]
    due = moment(alert["next_step"]["at"]) - moment(alert["opened_at"])
    assert due == timedelta(minutes=5)
    listed = responder.get("alerts").body["items"][0]
    assert listed["next_step"] == alert["next_step"]
    accepted = responder.post(f"alerts/{alert['id']}/assign", {"user": "bob"}).body
    assert accepted["next_step"] is None


def test_alert_without_reachable_users_is_reported(responder: Api) -> None:
    alert = responder.post("alerts", {"subject": "x"}).body
    assert alert["next_step"] is None
    reasons = [event["reason"]["text"] for event in responder.get(f"alerts/{alert['id']}/events").body["items"]]
    assert any("pages no one" in reason or "no one is paged" in reason for reason in reasons), reasons


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "subject"),
        ({"subject": "  "}, "subject"),
        ({"subject": "x" * 301}, "subject"),
        ({"subject": "x", "priority": "urgent"}, "priority"),
        ({"subject": "x", "escalation_policy": "none"}, "escalation_policy"),
        ({"subject": "x", "recipients": {"users": ["bob", "nobody"]}}, "recipients.users[1]"),
        ({"subject": "x", "recipients": {"groups": ["nobody"]}}, "recipients.groups[0]"),
        ({"subject": "x", "recipients": {"teams": []}}, "recipients.teams"),
        ({"subject": "x", "source_url": "javascript:alert(1)"}, "source_url"),
        ({"subject": "x", "tags": {"a": 1}}, "tags.a"),
        ({"subject": "x", "id": 7}, "id"),
    ],
)
def test_an_alert_that_cannot_be_opened_says_why(company: Company, responder: Api, body: Any, field: str) -> None:
    answer = responder.post("alerts", body)
    assert answer.status == 400, answer
    assert answer.fields == [field]
    assert not Alert.objects.exists()


def test_a_storm_is_one_item_with_its_alerts(admin: Api, open_alert: Open) -> None:
    columns, integration = {"client": "Globex"}, make_integration("Prometheus", "alertmanager")
    opened = [
        open_alert(f"Host web-{one} does not answer", integration_id=integration.pk, columns=columns)
        for one in range(6)
    ]
    vpn = open_alert("VPN down")
    listed = admin.get("alerts", group="storm").body
    assert listed["next"] is None
    first, storm = listed["items"]
    assert (first["id"], first["storm"]) == (vpn, None)
    assert storm["id"] == opened[0]
    assert storm["storm"] == {
        "by": "subject", "name": "Host web-# does not answer", "clients": ["Globex"], "alerts": opened[::-1],
    }  # fmt: skip
    part = admin.get("alerts", group="storm", limit=1).body
    assert [item["id"] for item in part["items"]] == [vpn]
    rest = admin.get("alerts", group="storm", limit=1, cursor=part["next"]).body
    assert (rest["items"], rest["next"]) == ([storm], None)
    admin.post(f"alerts/{opened[1]}/close")
    (item,) = admin.get("alerts", group="storm", subject="web-").body["items"]
    assert opened[1] not in item["storm"]["alerts"]
    assert admin.get("alerts", group="storm", status="closed").body["items"] == []
    refused(admin.get("alerts", group="host"), 400, "invalid", "group")


def test_one_command_for_several_alerts(admin: Api, observer: Api, open_alert: Open) -> None:
    opened = [open_alert(f"Host web-{one} does not answer") for one in range(3)]
    made = admin.post("alerts/bulk", {"command": "hold", "alerts": [*opened, 2**40], "for": "2h"}).body["items"]
    assert [(item["id"], item["changed"], item["error"]) for item in made] == [
        *((number, True, None) for number in opened), (2**40, False, "not_found"),
    ]  # fmt: skip
    assert set(Alert.objects.values_list("status", flat=True)) == {"on_hold"}
    admin.post("alerts/bulk", {"command": "undo", "alerts": opened})
    admin.post("alerts/bulk", {"command": "assign", "alerts": opened})
    assert set(Alert.objects.values_list("owner__username", flat=True)) == {"alice"}
    refused(admin.post("alerts/bulk", {"command": "hold", "alerts": opened}), 400, "invalid", "body")
    refused(admin.post("alerts/bulk", {"command": "reopen", "alerts": opened}), 400, "invalid", "command")
    refused(admin.post("alerts/bulk", {"command": "close", "alerts": []}), 400, "invalid", "alerts")
    refused(observer.post("alerts/bulk", {"command": "close", "alerts": opened}), 403, "forbidden")
