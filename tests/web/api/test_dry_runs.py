"""Dry runs, replays and tests over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.doubles.ntfy import NtfyDouble
from tests.web.api.conftest import Api, Company
from tests.web.api.test_errors import refused
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.ids import uuid7
from tocsin.core.runtime import clock
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.notify.models import Delivery, Notification


@pytest.fixture
def integration(company: Company, admin: Api) -> Integration:
    """An integration of the desk that pages bob."""
    assert admin.post("escalation-policies", {"name": "P", "steps": [{"notify": {"roles": ["primary"]}}]}).status == 201
    spec = {
        "name": "Tool",
        "kind": "api",
        "group": "Service Desk",
        "escalation_policy": "P",
        "recipients": {"groups": ["Service Desk"]},
        "mapping": {"subject": "title", "source_id": "id"},
    }
    answer = admin.post("integrations", spec)
    assert answer.status == 201, answer
    return Integration.objects.get(name="Tool")


def _message(
    integration: Integration, raw: bytes = b'{"id": 7, "title": "Disk full"}', **columns: Any
) -> InboundMessage:
    values = {"received_at": clock.now(), "status": "Mapping Failed", "content_type": "application/json", **columns}
    return InboundMessage.objects.create(id=uuid7(), integration=integration, raw=raw, **values)


# --- dry run


def test_preflight_of_an_integration_names_who_is_paged(integration: Integration, observer: Api) -> None:
    answer = observer.get("integrations/Tool/preflight", at="2026-12-05T03:00:00Z", priority="low", client="Acme")
    assert answer.status == 200, answer
    (found,) = answer.body["integrations"]
    assert [(way["route"], way["policy"]) for way in found["ways"]] == [(None, "P")]
    assert {page["to"] for page in found["ways"][0]["pages"]} == {"Bob Andersson"}
    refused(observer.get("integrations/Tool/preflight", at="Saturday"), 400, "invalid", "at")
    assert observer.get("integrations/Nothing/preflight").status == 404
    assert not Notification.objects.exists()


def test_dry_run_returns_outcome_and_paged_users(integration: Integration, manager: Api) -> None:
    answer = manager.post("integrations/Tool/test", {"id": 7, "title": "Disk full"})
    assert answer.status == 200, answer
    (message,) = answer.body["messages"]
    assert (message["status"], message["alert"]["subject"]) == ("Mapped Opened", "Disk full")
    assert [(page["to"], page["address"]) for page in message["pages"]] == [
        ("Bob Andersson", "bob@example.org"),
        ("Bob Andersson", "+41790000003"),
    ]
    assert {field["field"] for field in message["trace"]["fields"]} >= {"subject", "source_id"}
    assert not Alert.objects.exists()
    assert not InboundMessage.objects.exists()
    assert not Notification.objects.exists()


def test_dry_run_of_an_unusable_configuration_is_rejected(integration: Integration, manager: Api) -> None:
    IntegrationVersion.objects.update(definition={"rules": 7})
    settings_store.bump()
    answer = manager.post("integrations/Tool/test", {"id": 7})
    assert (answer.status, answer.body["detail"]) == (
        409,
        "The configuration of Tool cannot be compiled; save it again.",
    )


def test_backtest_returns_changes_and_names_unsavable_parts(
    integration: Integration, manager: Api, observer: Api
) -> None:
    for _ in range(3):
        _message(integration, status="Mapped Opened")
    answer = manager.post("integrations/Tool/backtest", {"mapping": {"source_id": "title"}, "limit": 2})
    assert answer.status == 200, answer
    assert (answer.body["looked_at"], answer.body["differing"], answer.body["counts"]["key"]) == (2, 2, 2)
    assert answer.body["differences"][0]["changes"][0]["says"]["text"].startswith("another key: Tool /  / Disk full")
    assert answer.body["after"]["pages"] == 1
    same = manager.post("integrations/Tool/backtest", {})
    assert (same.body["looked_at"], same.body["differing"], same.body["from"] is not None) == (3, 0, True)
    refused(
        manager.post("integrations/Tool/backtest", {"mapping": {"subjct": "a"}}), 400, "unknown_field", "mapping.subjct"
    )
    assert manager.post("integrations/Tool/backtest", {"limit": 10**9}).status == 400
    assert observer.post("integrations/Tool/backtest", {}).status == 403
    effect = manager.post("integrations/Tool/backtest", {"filters": False}).body["effects"][0]
    assert (effect["text"], effect["data"]) == ("1 message would no longer open an alert", {"count": 1})


def test_several_messages_are_replayed_at_once(integration: Integration, manager: Api) -> None:
    ids = [str(_message(integration, raw=b'{"id": %d, "title": "Disk full"}' % n).pk) for n in (7, 8, 8)]
    answer = manager.post("inbound-messages/replay/several", {"ids": ids, "page": False})
    assert answer.body == {"replayed": 3, "statuses": {"Mapped Opened": 2, "Mapped Appended": 1}}, "replayed"
    refused(manager.post("inbound-messages/replay/several", {"ids": [str(uuid7())]}), 400, "not_found", "ids")
    assert manager.post("inbound-messages/replay/several", {"ids": []}).status == 400


def test_a_dry_run_is_for_any_moment(integration: Integration, manager: Api) -> None:
    answer = manager.post("/api/v1/integrations/Tool/test?at=2026-12-25T03:00:00Z", {"title": "x"})
    assert answer.body["at"] == "2026-12-25T03:00:00Z"
    refused(manager.post("/api/v1/integrations/Tool/test?at=tonight", {"title": "x"}), 400, "invalid", "at")
    last = "/api/v1/integrations/Tool/test?at=9999-12-31T23:59:59Z"
    refused(manager.post(last, {"title": "x"}), 400, "invalid", "at")


def test_a_dry_run_of_what_cannot_be_read_says_why(integration: Integration, manager: Api) -> None:
    for body in (b"{", b"", b"\xff"):
        answer = manager.post("integrations/Tool/test", body)
        assert answer.status == 200, answer
        assert answer.body["messages"][0]["status"] == "Mapping Failed"
        assert answer.body["messages"][0]["reason"]["text"]


# --- sample


def test_sample_answered_by_foreign_server_is_explained(
    integration: Integration, manager: Api, ntfy: NtfyDouble
) -> None:
    detail = refused(manager.post("integrations/Tool/send-sample"), 502, "needs_attention")
    assert f"{ntfy.url} answered 404" in detail
    refused(manager.post("integrations/Tool/send-sample", {"sample": "nonsense"}), 400, "invalid", "sample")
    refused(manager.post("integrations/Tool/send-sample", {"name": "x"}), 400, "invalid", "name")


def test_sample_uses_the_public_url_and_pages_only_its_sender(
    integration: Integration, company: Company, manager: Api, inbound_url: str
) -> None:
    answer = manager.post("integrations/Tool/send-sample")
    assert answer.status == 200, answer
    assert answer.body["status"] == "Mapped Opened"
    message = manager.get(f"inbound-messages/{answer.body['message_id']}").body
    assert (message["test"], message["alert_id"]) == (True, answer.body["alert_id"])
    alert = manager.get(f"alerts/{answer.body['alert_id']}").body
    assert alert["test"] is True
    assert "Mia" in alert["next_step"]["summary"]["text"]


# --- replay


def test_replay_creates_new_row_decided_by_current_rules(integration: Integration, manager: Api) -> None:
    old = _message(integration)
    answer = manager.post(f"inbound-messages/{old.pk}/replay")
    assert answer.status == 201, answer
    assert (answer.body["replay_of"], answer.body["status"]) == (str(old.pk), "Mapped Opened")
    assert answer.body["mapped"]["subject"] == "Disk full"
    alert = Alert.objects.get(pk=answer.body["alert_id"])
    assert alert.subject == "Disk full"
    old.refresh_from_db()
    assert old.status == "Mapping Failed"
    results = manager.get("inbound-messages", replay_of=str(old.pk)).body["items"]
    assert [message["id"] for message in results] == [answer.body["id"]]


def test_replay_of_missing_message_returns_404(integration: Integration, manager: Api) -> None:
    refused(manager.post(f"inbound-messages/{uuid7()}/replay"), 404, "not_found")
    message = _message(integration, received_at=clock.now() - timedelta(hours=2))
    refused(manager.post(f"inbound-messages/{message.pk}/replay", {"page": "perhaps"}), 400, "invalid", "page")
    refused(manager.post(f"inbound-messages/{message.pk}/replay", {"pages": True}), 400, "invalid", "pages")


# --- providers and contact methods


def test_a_provider_is_tried_without_sending_anything(company: Company, admin: Api, ntfy: NtfyDouble) -> None:
    made = admin.post("providers", {"name": "Push", "kind": "ntfy", "api_base": ntfy.url, "token": "tk_secret"})
    assert made.status == 201, made
    assert made.body["secrets_set"] == ["token"]
    assert "tk_secret" not in str(admin.get("providers").body)
    admin.patch("providers/Push", {"token": ""})
    answer = admin.post("providers/Push/test")
    assert answer.status == 200, answer
    assert answer.body["ok"] is True
    assert "healthy" in answer.body["detail"]


def test_unresponsive_provider_is_reported(company: Company, admin: Api, ntfy: NtfyDouble) -> None:
    admin.post("providers", {"name": "Push", "kind": "ntfy", "api_base": "http://127.0.0.1:9"})
    answer = admin.post("providers/Push/test")
    assert answer.status in (502, 503), answer
    assert answer.body["detail"]
    refused(admin.post("providers/SMTP%20(environment)/test"), 404, "not_found")


def test_a_test_by_a_contact_method_is_queued(company: Company, admin: Api, responder: Api, manager: Api) -> None:
    method = company.bob.contact_methods.get(label="Email-Official").pk
    answer = responder.post(f"contact-methods/{method}/test")
    assert answer.status == 202, answer
    delivery = Delivery.objects.get(notification=answer.body["notification_id"])
    assert (delivery.user, delivery.purpose, delivery.status) == (company.bob, "test", "queued")
    shown = responder.get("deliveries", notification_id=answer.body["notification_id"]).body["items"]
    assert [one["id"] for one in shown] == [str(delivery.pk)]
    refused(manager.post(f"contact-methods/{method}/test"), 403, "forbidden")
    assert admin.post(f"contact-methods/{method}/test").status == 202


def test_policy_forecasts_pages_at_any_moment_and_stores_nothing(company: Company, admin: Api) -> None:
    steps = [
        {"notify": {"roles": ["primary"]}, "after": "0m", "when": {"priority": ["critical"]}},
        {"notify": {"users": ["bob"]}, "after": "5m", "retries": {"times": 1, "every": "2m"}},
    ]
    assert admin.post("escalation-policies", {"name": "Tried", "steps": steps}).status == 201
    body = {"at": "2026-12-25T03:00:00Z", "priority": "low", "groups": ["Service Desk"]}
    answer = admin.post("escalation-policies/Tried/simulate", body).body
    assert (answer["policy"], answer["priority"]) == ("Tried", "low")
    assert {page["user_id"] for page in answer["pages"]} == {company.bob.pk}
    assert [page["minutes"] for page in answer["pages"] if page["label"] == answer["pages"][0]["label"]] == [0, 2]
    assert any("only for critical alerts" in line["reason"]["text"] for line in answer["timeline"])
    refused(admin.post("escalation-policies/Tried/simulate", {"groups": ["Nobody's"]}), 400, "invalid", "groups")


def test_policy_templates_apply_unchanged(admin: Api) -> None:
    for one in admin.get("escalation-policies/templates").body["items"]:
        assert admin.post("escalation-policies", one["spec"]).status == 201, one


def test_schedule_preview_excludes_the_version_it_would_replace(company: Company, admin: Api) -> None:
    days = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "24:00"}
    always = {"name": "Always", "fixed": {"windows": [days], "users": ["mia"]}}
    spec = {"name": "Desk", "group": "Service Desk", "shifts": [always]}
    made = admin.post("schedules", spec).body["id"]
    other = {**spec, "shifts": [{**always, "fixed": {**always["fixed"], "users": ["bob"]}}]}
    answer = admin.post(f"groups/Service%20Desk/timeline?existing={made}", other)
    assert answer.status == 200, answer
    assert [one["user"] for one in answer.body["segments"] if one["role"] == "primary"] == ["bob"]
    assert admin.get(f"schedules/{made}").body["shifts"][0]["fixed"]["users"] == ["mia"], "nothing is saved"
    refused(admin.post("groups/Service%20Desk/timeline", other), 400, "name_taken", "name")
    refused(
        admin.post("groups/Service%20Desk/timeline", {**spec, "name": "New", "shifts": []}), 400, "missing", "shifts"
    )
