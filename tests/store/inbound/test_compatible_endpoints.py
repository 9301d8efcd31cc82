"""PagerDuty- and Opsgenie-compatible endpoints, tested with the vendors' client packages."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pagerduty
import pytest

from tests.doubles.certificates import make_certificate
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, make_integration
from tests.support.integrations import InboundServer, inbound_server, rows, served
from tocsin.alerts import service
from tocsin.alerts.commands import Actor, Merge
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.inbound.admin import secrets
from tocsin.inbound.compat import alertmanager
from tocsin.inbound.models import Integration


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def desk() -> EscalationHarness:
    return EscalationHarness(NOW)


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


@pytest.fixture
def url(node: InboundServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with served(node.app, monkeypatch) as address:
        yield address


def integration(desk: EscalationHarness, kind: str, name: str = "Nagios") -> Integration:
    integration = make_integration(name, kind, policy=desk.policy)
    integration.recipient_groups.add(desk.group)
    settings_store.bump()
    return integration


def alert() -> Alert:
    return Alert.objects.select_related("owner").latest("pk")


def timeline(number: int) -> list[str]:
    return [str(event.reason) for event in AlertEvent.objects.filter(alert=number).order_by("pk")]


# --- PagerDuty


@pytest.fixture
def events(
    desk: EscalationHarness, node: InboundServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[pagerduty.EventsApiV2Client]:
    """The vendor's own client, which takes nothing but https."""
    token = secrets.token_of(integration(desk, "pagerduty"))
    certificate = make_certificate(tmp_path)
    files = (str(certificate.file), str(tmp_path / "key.pem"))
    with served(node.app, monkeypatch, files) as url:
        client = pagerduty.EventsApiV2Client(token, base_url=url, verify=certificate.client())
        yield client
        client.close()


def test_the_pagerduty_client_opens_acknowledges_and_closes(events: Any, desk: EscalationHarness) -> None:
    key = events.trigger("Disk full on db1", "db1", severity="error", custom_details={"free": "1%"})
    assert (alert().subject, alert().source_id, alert().priority, alert().status) == (
        "Disk full on db1",
        key,
        "high",
        "open",
    )
    assert events.trigger("Disk full on db1", "db1", dedup_key=key) == key
    assert (Alert.objects.count(), alert().count) == (1, 2)
    events.acknowledge(key)
    assert (alert().status, alert().owner_name) == ("assigned", "Nagios")
    assert any("Nagios" in line and "acknowledged there" in line for line in timeline(alert().pk))
    events.acknowledge(key)
    events.resolve(key)
    assert alert().status == "closed"
    events.resolve(key)
    events.acknowledge("nobody knows it")
    second = events.trigger("Disk full on db1", "db1", dedup_key=key)
    assert second == key
    assert Alert.objects.count() == 2
    events.submit("Deployed 1.2.3", "ci", timestamp="2026-11-24T09:15:00Z")
    assert [row.status for row in rows()] == [
        "Mapped Opened",
        "Mapped Appended",
        "Mapped Updated",
        "Mapped Updated",
        "Mapped Closed",
        "Mapped Ignored",
        "Mapped Ignored",
        "Mapped Opened",
        "Mapped Ignored",
    ]


def test_external_acknowledgement_keeps_the_owner(events: Any, desk: EscalationHarness) -> None:
    from tocsin.alerts.commands import Assign

    key = events.trigger("Disk full", "db1")
    alice = desk.users["alice"]
    desk.act(alert().pk, Assign(actor=desk.actor("alice"), name="Alice", user_id=alice.pk), 1)
    events.acknowledge(key)
    assert alert().owner == alice


def test_no_message_holds_the_routing_key(events: Any) -> None:
    events.trigger("Disk full", "db1")
    secret = events.auth_method.secret.encode()
    assert all(secret not in bytes(row.raw) for row in rows())


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({}, "'event_action' is missing or blank"),
        ({"event_action": "explode"}, "'event_action' is invalid"),
        ({"event_action": "trigger"}, "'payload' is missing or blank"),
        ({"event_action": "trigger", "payload": {"summary": "x", "source": "y"}}, "'payload.severity' is missing"),
        (
            {"event_action": "trigger", "payload": {"summary": "x", "source": "y", "severity": "fatal"}},
            "'payload.severity' is invalid",
        ),
        ({"event_action": "resolve"}, "'dedup_key' is missing or blank"),
        ({"event_action": "resolve", "dedup_key": "k" * 256}, "'dedup_key' is too long"),
    ],
)
def test_an_event_that_pagerduty_refuses_is_refused_and_kept(
    desk: EscalationHarness, url: str, event: dict[str, Any], error: str
) -> None:
    token = secrets.token_of(integration(desk, "pagerduty"))
    reply = httpx.post(f"{url}/v2/enqueue", json={"routing_key": token, **event})
    assert reply.status_code == 400
    body = reply.json()
    assert (body["status"], body["message"]) == ("invalid event", "Event object is invalid")
    assert error in body["errors"][0]
    (row,) = rows()
    assert (row.status, error in str(row.reason)) == ("Mapping Failed", True)
    assert "could not be parsed" in alert().subject


@pytest.mark.parametrize("key", [7, True, ["a"], {"a": 1}, " ", "x y "])
def test_the_key_that_is_answered_closes_what_it_opened(desk: EscalationHarness, url: str, key: Any) -> None:
    event = {"routing_key": secrets.token_of(integration(desk, "pagerduty")), "dedup_key": key}
    payload = {"summary": "Disk full", "source": "db1", "severity": "error"}
    body = httpx.post(f"{url}/v2/enqueue", json={**event, "event_action": "trigger", "payload": payload}).json()
    assert (alert().status, alert().source_id) == ("open", body["dedup_key"])
    httpx.post(f"{url}/v2/enqueue", json={**event, "event_action": "resolve", "dedup_key": body["dedup_key"]})
    assert alert().status == "closed"


@pytest.mark.parametrize(
    "path", ["/v2/enqueue", "/v2/enqueue/", "/v2/change/enqueue", "/generic/2010-04-15/create_event.json"]
)
@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b'"x"', b'{"routing_key": 7}', b'{"routing_key": "%s"}' % (b"0" * 32), b"[{}, {}]"]
)
def test_missing_key_is_rejected_in_pagerduty_format_without_trace(node: InboundServer, path: str, body: bytes) -> None:
    reply = node.post(path, body)
    assert (reply.status, reply.body["status"]) == (400, "invalid event")
    assert reply.body["errors"]
    assert rows() == []


def test_key_of_another_kind_is_rejected(desk: EscalationHarness, node: InboundServer) -> None:
    token = secrets.token_of(integration(desk, "haloitsm"))
    event = {"routing_key": token, "event_action": "resolve", "dedup_key": "k"}
    assert node.post("/v2/enqueue", event).status == 400
    assert rows() == []


def test_the_first_version_of_the_events_api_works_too(desk: EscalationHarness, node: InboundServer) -> None:
    token = secrets.token_of(integration(desk, "pagerduty"))
    path = "/generic/2010-04-15/create_event.json"
    opened = node.post(path, {"service_key": token, "event_type": "trigger", "description": "It burns"})
    assert (opened.status, opened.body["status"]) == (200, "success")
    key = opened.body["incident_key"]
    assert alert().subject == "It burns"
    node.post(path, {"service_key": token, "event_type": "acknowledge", "incident_key": key})
    assert alert().owner_name == "Nagios"
    node.post(path, {"service_key": token, "event_type": "resolve", "incident_key": key})
    assert alert().status == "closed"
    assert node.post(path, {"service_key": token, "event_type": "trigger"}).status == 400


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
def test_acknowledgement_of_a_locked_alert_is_to_be_sent_again(
    desk: EscalationHarness, node: InboundServer, kind: str
) -> None:
    token = secrets.token_of(integration(desk, kind))
    event = {"routing_key": token, "dedup_key": "k"}
    key = f"GenieKey {token}"
    if kind == "pagerduty":
        payload = {"summary": "Disk full", "source": "db1", "severity": "error"}
        node.post("/v2/enqueue", {**event, "event_action": "trigger", "payload": payload})
    else:
        node.post("/v2/alerts", {"message": "Disk full", "alias": "k"}, Authorization=key)
    with database.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert FOR NO KEY UPDATE")
        if kind == "pagerduty":
            reply = node.post("/v2/enqueue", {**event, "event_action": "acknowledge"})
        else:
            reply = node.post("/v2/alerts/k/acknowledge?identifierType=alias", {}, Authorization=key)
    assert reply.status == 503
    assert "Another user is changing this alert." in str(reply.body)


# --- Opsgenie


class Sdk:
    """The vendor's own package, with another host."""

    def __init__(self, url: str, token: str) -> None:
        import opsgenie_sdk

        configuration = opsgenie_sdk.Configuration()
        configuration.host = url
        configuration.api_key["Authorization"] = token
        configuration.retry_enabled = False
        client = opsgenie_sdk.ApiClient(configuration=configuration)
        self.token = token
        self.models = opsgenie_sdk
        self.alerts = opsgenie_sdk.AlertApi(api_client=client)
        self.heartbeats = opsgenie_sdk.HeartbeatApi(api_client=client)

    def create(self, message: str, **fields: Any) -> Any:
        return self.alerts.create_alert(self.models.CreateAlertPayload(message=message, **fields))


@pytest.fixture
def sdk(desk: EscalationHarness, url: str) -> Sdk:
    return Sdk(url, secrets.token_of(integration(desk, "opsgenie", "Scripts")))


def test_the_opsgenie_client_creates_reads_and_closes(sdk: Sdk) -> None:
    created = sdk.create("Disk full on db1", alias="disk/db 1", priority="P1", entity="db1", details={"client": "Acme"})
    assert created.result == "Request will be processed"
    status = sdk.alerts.get_request_status(created.request_id).data
    assert (status.is_success, status.action, status.status, status.alias) == (
        True,
        "Create",
        "Created alert",
        "disk/db 1",
    )
    assert status.alert_id == str(alert().pk)
    assert (alert().priority, alert().client, alert().tags) == ("critical", "Acme", {"component_name": "db1"})
    sdk.create("Disk full on db1", alias="disk/db 1")
    for identifier, kind in ((status.alert_id, "id"), (status.alert_id, "tiny"), ("disk/db 1", "alias")):
        result = sdk.alerts.get_alert(identifier, identifier_type=kind).data
        assert (result.message, result.count, result.status, result.priority) == ("Disk full on db1", 2, "open", "P1")
    assert [one.alias for one in sdk.alerts.list_alerts(query="status:open").data] == ["disk/db 1"]
    assert sdk.alerts.count_alerts(query="status:closed").data.count == 0
    sdk.alerts.close_alert("disk/db 1", identifier_type="alias", close_alert_payload={"note": "mended"})
    assert alert().status == "closed"
    assert AlertEvent.objects.get(alert=alert(), kind="replied").data["text"] == "mended"
    assert sdk.alerts.get_alert(status.alert_id).data.status == "closed"
    late = sdk.alerts.close_alert("nothing", identifier_type="alias")
    received = sdk.alerts.get_request_status(late.request_id).data
    assert (received.is_success, received.status) == (False, "Alert does not exist")
    sdk.create("Disk full on db1", alias="disk/db 1")
    assert Alert.objects.count() == 2


@pytest.mark.parametrize(
    ("alias", "kept"), [(7, "7"), (True, "true"), (["a"], "a"), ({"a": 1}, '{"a":1}'), ("  ", None)]
)
def test_an_alias_of_whatever_sort_closes_what_it_opened(sdk: Sdk, url: str, alias: Any, kept: str | None) -> None:
    headers = {"Authorization": f"GenieKey {sdk.token}"}
    httpx.post(f"{url}/v2/alerts", json={"message": "Disk full", "alias": alias}, headers=headers)
    assert alert().source_id == (kept or alert().source_id) != ""
    sdk.alerts.close_alert(alert().source_id, identifier_type="alias")
    assert alert().status == "closed"


def test_every_verb_does_what_it_says(sdk: Sdk, desk: EscalationHarness) -> None:
    m = sdk.models
    sdk.create("Disk full", alias="a")
    by = {"identifier_type": "alias"}
    sdk.alerts.update_alert_message("a", m.UpdateAlertMessagePayload(message="Disk nearly full"), **by)
    sdk.alerts.update_alert_description("a", m.UpdateAlertDescriptionPayload(description="99 %"), **by)
    sdk.alerts.update_alert_priority("a", m.UpdateAlertPriorityPayload(priority="P2"), **by)
    assert (alert().subject, alert().long_text, alert().priority) == ("Disk nearly full", "99 %", "high")
    sdk.alerts.acknowledge_alert("a", acknowledge_alert_payload={"user": "alice"}, **by)
    assert Acknowledgement.objects.get().user == desk.users["alice"]
    assert alert().status == "open"
    sdk.alerts.un_acknowledge_alert("a", un_acknowledge_alert_payload={"user": "alice"}, **by)
    assert not Acknowledgement.objects.exists()
    sdk.alerts.acknowledge_alert("a", acknowledge_alert_payload={"user": "Zoe of the NOC"}, **by)
    assert (alert().status, alert().owner_name) == ("assigned", "Zoe of the NOC")
    sdk.alerts.un_acknowledge_alert("a", **by)
    assert (alert().status, alert().owner_name) == ("open", "")
    sdk.alerts.assign_alert("a", m.AssignAlertPayload(owner={"username": "bob"}), **by)
    assert alert().owner == desk.users["bob"]
    end = clock.now() + timedelta(hours=2)
    sdk.alerts.snooze_alert("a", m.SnoozeAlertPayload(end_time=end, note="until lunch"), **by)
    assert (alert().status, alert().hold_until) == ("on_hold", end)
    assert sdk.alerts.get_alert("a", **by).data.snoozed
    sdk.alerts.add_note("a", m.AddNoteToAlertPayload(note="looking", user="alice"), **by)
    sdk.alerts.execute_custom_alert_action("a", "reboot", **by)
    sdk.alerts.add_responder("a", m.AddResponderToAlertPayload(responder={"name": "Network", "type": "team"}), **by)
    sdk.alerts.add_tags("a", m.AddTagsToAlertPayload(tags=["x"]), **by)
    sdk.alerts.add_details("a", m.AddDetailsToAlertPayload(details={"k": "v"}), **by)
    assert sdk.alerts.get_alert("a", **by).data.count == 1, "it was created once"
    notes = [one.note for one in sdk.alerts.list_notes("a", **by).data]
    assert "looking" in notes
    assert any("Network" in note for note in notes)
    assert any("reboot" in note for note in notes)
    assert sdk.alerts.list_logs("a", **by).data
    assert sdk.alerts.list_recipients("a", **by).data == []
    sdk.alerts.escalate_alert("a", m.EscalateAlertToNextPayload(escalation={"name": "x", "type": "escalation"}), **by)
    sdk.alerts.delete_alert("a", **by)
    assert alert().status == "cancelled"
    assert [
        row.status for row in rows() if row.status not in ("Mapped Updated", "Mapped Opened", "Mapped Closed")
    ] == []


def test_tags_and_details_are_added_and_removed_individually(sdk: Sdk) -> None:
    m = sdk.models
    by = {"identifier_type": "alias"}
    sdk.create("Disk full", alias="a", tags=["x", "disk"], details={"host": "db1", "rack": "7"}, source="cron")
    sdk.alerts.add_tags("a", m.AddTagsToAlertPayload(tags=["y", "x"]), **by)
    sdk.alerts.remove_tags("a", tags=["x"], **by)
    sdk.alerts.add_details("a", m.AddDetailsToAlertPayload(details={"rack": "8", "row": "B"}), **by)
    sdk.alerts.remove_details("a", keys=["host"], **by)
    result = sdk.alerts.get_alert("a", **by).data
    assert result.tags == ["disk", "y"]
    assert result.details == {"rack": "8", "row": "B"}
    assert result.source == "cron"


def test_a_verb_changes_what_it_names_and_nothing_beside(sdk: Sdk) -> None:
    m = sdk.models
    by = {"identifier_type": "alias"}
    sdk.create("Disk full", alias="a", user="Nagios", source="cron")
    sdk.alerts.acknowledge_alert("a", acknowledge_alert_payload={"user": "Zoe", "source": "app"}, **by)
    sdk.alerts.update_alert_message("a", m.UpdateAlertMessagePayload(message="Disk nearly full"), **by)
    now = alert()
    assert (now.subject, now.long_text) == ("Disk nearly full", "Disk full")
    assert (now.requester, now.source_status, now.custom["sent_by"]) == ("Nagios", "create", "cron")
    assert not any("status create" in line for line in timeline(now.pk))


def test_alert_is_visible_only_to_its_own_integration(sdk: Sdk, desk: EscalationHarness, url: str) -> None:
    sdk.create("Disk full", alias="a")
    other = Sdk(url, secrets.token_of(integration(desk, "opsgenie", "Others")))
    number = str(alert().pk)
    for identifier, kind in ((number, "id"), ("a", "alias")):
        with pytest.raises(other.models.ApiException) as caught:
            other.alerts.get_alert(identifier, identifier_type=kind)
        assert caught.value.status == 404
        other.alerts.close_alert(identifier, identifier_type=kind)
    assert alert().status == "open"
    assert other.alerts.list_alerts().data == []


def test_command_on_merged_alert_acts_on_its_parent(sdk: Sdk, desk: EscalationHarness) -> None:
    m = sdk.models
    by = {"identifier_type": "alias"}
    sdk.create("Site down", alias="site")
    site = alert().pk
    sdk.create("Disk full", alias="disk")
    disk = alert().pk
    alice = Actor(ActorKind.USER, "alice", desk.users["alice"].pk)
    service.apply_command(
        FoundAlert.by_tocsin(disk),
        Merge(actor=alice, into=service.load_state(FoundAlert.by_tocsin(site))),
        now=clock.now(),
    )
    sdk.alerts.acknowledge_alert("disk", acknowledge_alert_payload={"user": "alice"}, **by)
    assert Acknowledgement.objects.get().alert_id == site
    sdk.alerts.add_note("disk", m.AddNoteToAlertPayload(note="looking"), **by)
    assert any("looking" in str(event.data) for event in AlertEvent.objects.filter(alert=site, kind="replied"))
    sdk.alerts.acknowledge_alert(str(disk), acknowledge_alert_payload={"user": "Zoe of the NOC"})
    assert Alert.objects.get(pk=site).owner_name == "Zoe of the NOC"


def test_results_of_messages_from_other_endpoints_are_returned(sdk: Sdk, url: str) -> None:
    token = sdk.token
    headers = {"Authorization": f"GenieKey {token}"}
    for body, kind in (
        (b'{"action": 5, "message": "x", "alias": "y"}', "json"),
        (b"message=x", "x-www-form-urlencoded"),
    ):
        sent = httpx.post(f"{url}/in/{token}", content=body, headers={"Content-Type": f"application/{kind}"})
        response = httpx.get(f"{url}/v2/alerts/requests/{sent.json()['message_id']}", headers=headers)
        assert (response.status_code, response.json()["data"]["action"]) == (200, "Update")


def test_query_for_impossible_alias_returns_not_found(sdk: Sdk, url: str) -> None:
    headers = {"Authorization": f"GenieKey {sdk.token}"}
    assert httpx.get(f"{url}/v2/alerts?query=alias:a%00b", headers=headers).json()["data"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v2/alerts", b"{}", 422),
        ("POST", "/v2/alerts", b"[]", 422),
        ("POST", "/v2/alerts", b"{", 422),
        ("POST", "/v2/alerts/a/snooze?identifierType=alias", b'{"endTime": "soon"}', 422),
        ("POST", "/v2/alerts/a/assign", b"{}", 422),
        ("POST", "/v2/alerts/a/notes", b"", 422),
        ("GET", "/v2/alerts?query=teams:x", b"", 422),
        ("GET", "/v2/alerts?limit=many", b"", 422),
        ("GET", "/v2/alerts/999999999999999999999", b"", 404),
        ("GET", "/v2/alerts/requests/nonsense", b"", 404),
        ("PATCH", "/v2/alerts/a", b"", 404),
        ("GET", "/v2/alerts/a/b/c/d", b"", 404),
        ("POST", "/v2/alerts/a/explode", b"", 404),
    ],
)
def test_what_opsgenie_refuses_is_refused_in_its_form(
    desk: EscalationHarness, url: str, method: str, path: str, body: bytes, status: int
) -> None:
    token = secrets.token_of(integration(desk, "opsgenie"))
    reply = httpx.request(method, url + path, content=body, headers={"Authorization": f"GenieKey {token}"})
    assert reply.status_code == status
    assert {"message", "took", "requestId"} <= reply.json().keys()


@pytest.mark.parametrize("body", [b'{"message": "Disk "full""}', b"[{}, {}]", b"\xff\xfe"])
def test_unreadable_opsgenie_request_is_kept_and_opens_an_alert(desk: EscalationHarness, url: str, body: bytes) -> None:
    token = secrets.token_of(integration(desk, "opsgenie"))
    reply = httpx.post(f"{url}/v2/alerts", content=body, headers={"Authorization": f"GenieKey {token}"})
    assert reply.status_code == 422
    (row,) = rows()
    assert (row.status, bytes(row.raw)) == ("Mapping Failed", body)
    assert "could not be parsed" in alert().subject


@pytest.mark.parametrize("given", ["", "Bearer x", "GenieKey ", "GenieKey " + "0" * 32])
def test_a_wrong_key_is_refused_in_opsgenies_form(node: InboundServer, given: str) -> None:
    reply = node.post("/v2/alerts", {"message": "x"}, authorization=given)
    assert (reply.status, reply.body["message"]) == (401, "Could not authenticate")
    assert rows() == []


# --- Slack's slash command


def slack(text: str, secret: str, at: float) -> tuple[bytes, dict[str, str]]:
    fields = {"token": "t0ken-of-slack", "command": "/page", "text": text, "user_name": "steve", "channel_name": "ops"}
    body = urlencode({**fields, "response_url": "https://hooks.slack.example/x", "trigger_id": "1.2"}).encode()
    stamp = str(int(at))
    made = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return body, {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={made}",
    }


def test_slash_command_opens_and_closes_and_confirms_to_its_user(desk: EscalationHarness, node: InboundServer) -> None:
    chat = integration(desk, "slack", "Chat")
    secrets.put_credentials(chat, {"hmac": {"header": "X-Slack-Signature", "secret": "s3cret"}})
    chat.save()
    settings_store.bump()
    now = clock.now().timestamp()

    def typed(text: str, secret: str = "s3cret", at: float = now) -> Any:
        body, headers = slack(text, secret, at)
        return node.post(chat, body, **headers)

    opened = typed("VPN is down #vpn")
    assert (opened.status, opened.body) == (
        200,
        {"response_type": "ephemeral", "text": f"Alert {alert().pk} is open."},
    )
    assert (alert().subject, alert().source_id) == ("VPN is down #vpn", "vpn")
    assert "counted" in typed("#vpn still down").body["text"]
    assert "is closed" in typed("close #vpn").body["text"]
    assert typed("close #vpn").body["text"] == "No alert: nothing was open for id vpn."
    assert "describe the problem" in typed("").body["text"]
    assert all(b"t0ken-of-slack" not in bytes(row.raw) and b"hooks.slack" not in bytes(row.raw) for row in rows())
    before = len(rows())
    for wrong in (typed("x", secret="other"), typed("x", at=now - 3600), node.post(chat, b"text=x")):
        assert wrong.status == 401
    assert len(rows()) == before


# --- GET and forms by the general API


def test_get_with_query_is_a_message_and_without_is_not(desk: EscalationHarness, url: str) -> None:
    token = secrets.token_of(integration(desk, "api", "Anything"))
    answer = httpx.get(f"{url}/in/{token}", params={"id": "7", "title": "Disk full", "status": "firing"})
    assert answer.json()["status"] == "Mapped Opened"
    assert (alert().subject, alert().source_id) == ("Disk full", "7")
    for response in (
        httpx.get(f"{url}/in/{token}"),
        httpx.head(f"{url}/in/{token}?id=8"),
        httpx.put(f"{url}/in/{token}"),
    ):
        assert response.status_code == 405
    halo = secrets.token_of(make_integration())
    assert httpx.get(f"{url}/in/{halo}?id=7&status=New").status_code == 405
    assert Alert.objects.count() == 1


# --- PagerDuty's agent for Nagios


def nagios_notification(token: str, kind: str, **macros: str) -> bytes:
    """What `pagerduty_nagios.pl` posts: the macros of the notification."""
    fields = {
        "CONTACTPAGER": token, "NOTIFICATIONTYPE": kind, "pd_nagios_object": "service", "HOSTNAME": "db1",
        "SERVICEDESC": "Disk", "SERVICESTATE": "CRITICAL", "SERVICEOUTPUT": "DISK CRITICAL - /var 98%", **macros,
    }  # fmt: skip
    return urlencode(fields).encode()


NAGIOS = "/nagios/2010-04-15/create_event"
FORM = "application/x-www-form-urlencoded"


def test_nagios_agent_opens_acknowledges_and_closes(desk: EscalationHarness, node: InboundServer) -> None:
    token = secrets.token_of(integration(desk, "pagerduty"))
    reply = node.post(NAGIOS, nagios_notification(token, "PROBLEM"), content_type=FORM)
    assert (reply.status, reply.body["status"]) == (200, "success")
    opened = alert()
    assert (opened.subject, opened.priority, opened.status) == ("Disk on db1 is CRITICAL", "critical", "open")
    assert token not in str(opened.custom)
    node.post(NAGIOS, nagios_notification(token, "FLAPPINGSTART"), content_type=FORM)
    node.post(NAGIOS, nagios_notification(token, "PROBLEM", SERVICEDESC="Load"), content_type=FORM)
    node.post(NAGIOS, nagios_notification(token, "ACKNOWLEDGEMENT"), content_type=FORM)
    opened.refresh_from_db()
    assert opened.owner_name == "Nagios"
    node.post(NAGIOS, nagios_notification(token, "RECOVERY", SERVICESTATE="OK"), content_type=FORM)
    assert sorted(Alert.objects.values_list("status", flat=True)) == ["closed", "open"]


def test_nagios_host_is_its_own_problem(desk: EscalationHarness, node: InboundServer) -> None:
    token = secrets.token_of(integration(desk, "pagerduty"))
    macros = {"pd_nagios_object": "host", "HOSTSTATE": "DOWN", "HOSTOUTPUT": "no ping"}
    node.post(NAGIOS, nagios_notification(token, "PROBLEM", **macros), content_type=FORM)
    assert (alert().subject, alert().long_text) == ("db1 is DOWN", "no ping")
    refused = node.post(NAGIOS, nagios_notification(token, "PROBLEM", HOSTNAME=""), content_type=FORM)
    assert (refused.status, refused.body["errors"]) == (400, ["'HOSTNAME' is missing or blank"])


# --- Alertmanager's own API

FIRING = {
    "labels": {"alertname": "HostDown", "instance": "web1", "severity": "critical"},
    "annotations": {"summary": "web1 is down"}, "startsAt": "2026-11-24T09:00:00Z",
    "endsAt": "2099-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph",
}  # fmt: skip
RESOLVED = {**FIRING, "endsAt": "2026-11-24T09:10:00.123456789Z"}


@pytest.mark.parametrize(
    ("path", "authentication"),
    [
        ("/api/v2/alerts", {"authorization": "Bearer {token}"}),
        ("/api/v2/alerts", {"authorization": "Basic {basic}"}),
        ("/api/v2/alerts/?token={token}", {}),
        ("/api/v1/alerts?token={token}", {}),
        ("/api/v1/alerts", {"authorization": "Basic {basic}"}),
    ],
)
def test_prometheus_posts_to_tocsin_as_to_alertmanager(
    desk: EscalationHarness, url: str, path: str, authentication: dict[str, str]
) -> None:
    token = secrets.token_of(integration(desk, "prometheus", "Prometheus"))
    values = {"token": token, "basic": base64.b64encode(f"prometheus:{token}".encode()).decode()}
    headers = {name: value.format(**values) for name, value in authentication.items()}
    for _repeat in range(2):
        reply = httpx.post(url + path.format(**values), json=[FIRING], headers=headers)
        assert (reply.status_code, reply.text) == (200, '{"status":"success"}' if "v1" in path else "")
    opened = Alert.objects.get()
    assert (opened.subject, opened.priority, opened.status) == ("web1 is down", "critical", "open")
    httpx.post(url + path.format(**values), json=[RESOLVED], headers=headers)
    opened.refresh_from_db()
    assert opened.status == "closed"


def test_alert_by_api_and_by_webhook_is_one(desk: EscalationHarness, node: InboundServer, url: str) -> None:
    made = integration(desk, "alertmanager", "Prometheus")
    httpx.post(f"{url}/api/v2/alerts", json=[FIRING], headers={"authorization": f"Bearer {secrets.token_of(made)}"})
    assert alert().source_id == alertmanager.fingerprint(FIRING["labels"]) == "1ae5a95afa3882ee"  # type: ignore[arg-type]
    webhook = {**RESOLVED, "status": "resolved", "fingerprint": alert().source_id}
    node.post(made, {"version": "4", "receiver": "team", "status": "resolved", "alerts": [webhook]})
    assert Alert.objects.get().status == "closed"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'[{"labels": '])
def test_unreadable_alerts_are_kept_and_open_an_alert(desk: EscalationHarness, url: str, body: bytes) -> None:
    token = secrets.token_of(integration(desk, "alertmanager", "Prometheus"))
    reply = httpx.post(f"{url}/api/v2/alerts?token={token}", content=body)
    assert (reply.status_code, type(reply.json())) == (400, str)
    assert [(row.status, bytes(row.raw)) for row in rows()] == [("Mapping Failed", body)]
    assert Alert.objects.count() == 1


def test_alertmanager_api_needs_a_token_of_its_type(desk: EscalationHarness, url: str) -> None:
    other = secrets.token_of(integration(desk, "pagerduty"))
    for headers in ({}, {"authorization": f"Bearer {other}"}, {"authorization": "Basic !"}):
        assert httpx.post(f"{url}/api/v2/alerts", json=[FIRING], headers=headers).status_code == 401
    assert httpx.get(f"{url}/api/v2/alerts").status_code == 405
    assert Alert.objects.count() == 0
