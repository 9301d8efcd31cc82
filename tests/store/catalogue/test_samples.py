"""Samples through the public URL: a real HTTP request, a real row, and an alert that pages only its sender."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.doubles.certificates import make_certificate
from tests.doubles.http import Request, Response, http_double
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, Ingest, halo, make_integration
from tests.support.integrations import (
    InboundServer,
    inbound_server,
    path_of,
    publish,
    rows,
    served,
    tls_context_trusting,
)
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.alerts.models import Alert
from tocsin.catalogue.kinds import load_kinds
from tocsin.core.config import settings_store
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.egress import HttpClient
from tocsin.core.runtime import clock
from tocsin.inbound import ingest_service
from tocsin.inbound.admin import secrets
from tocsin.inbound.admin.sample import send_sample
from tocsin.inbound.models import Integration
from tocsin.notify.models import Notification


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def desk() -> EscalationHarness:
    return EscalationHarness(clock.now())


@pytest.fixture
def integration(desk: EscalationHarness) -> Integration:
    """An integration that pages Alice by the desk's policy."""
    integration = make_integration(policy=desk.policy)
    integration.recipient_groups.add(desk.group)
    settings_store.bump()
    return integration


@pytest.fixture
def bob(desk: EscalationHarness) -> AuditActor:
    return AuditActor.from_user(desk.users["bob"], "web", limits=None)


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


def test_sample_opens_test_alert_that_pages_only_its_sender(
    desk: EscalationHarness,
    integration: Integration,
    bob: AuditActor,
    node: InboundServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served(node.app, monkeypatch):
        sent = send_sample(integration, bob, now=clock.now())
    assert (sent.sample, sent.status) == ("new-ticket-linked", "Mapped Opened")
    (row,) = rows()
    assert (row.pk, row.test, row.source_id, row.alert_id) == (sent.message_id, True, sent.source_id, sent.alert_id)
    alert = Alert.objects.get()
    assert (alert.pk, alert.is_test, alert.source_id) == (sent.alert_id, True, sent.source_id)
    desk.keeper.run_once(clock.now())
    assert {one.user_id for one in Notification.objects.all()} == {bob.user_id}
    entry = AuditEntry.objects.get(action="send_sample")
    assert (entry.actor_id, entry.object_name, entry.after["message"]) == (
        bob.user_id,
        integration.name,
        str(sent.message_id),
    )


def test_unanswered_test_alert_notifies_no_one_else(
    desk: EscalationHarness,
    integration: Integration,
    bob: AuditActor,
    node: InboundServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served(node.app, monkeypatch):
        sent = send_sample(integration, bob, now=clock.now())
    for minute in range(0, 30, 5):
        desk.keeper.run_once(desk.at(minute + 1))
    assert any("is exhausted" in line for line in desk.timeline(sent.alert_id or 0))
    assert {one.user_id for one in Notification.objects.all()} == {bob.user_id}


def test_second_sample_is_separate_and_claims_no_real_key(
    integration: Integration, bob: AuditActor, node: InboundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the integration's key is the same for all tickets of a client."""
    integration.current_version.definition = {"dedup_key": "<ticket^client_name>"}  # type: ignore[union-attr]
    integration.current_version.save()  # type: ignore[union-attr]
    settings_store.bump()
    with served(node.app, monkeypatch):
        first = send_sample(integration, bob, now=clock.now())
        second = send_sample(integration, bob, now=clock.now())
    assert first.alert_id != second.alert_id
    assert first.source_id != second.source_id
    (real,) = Ingest().send(integration, halo(client_name="Nordlicht GmbH"), now=clock.now())
    assert real.status.value == "Mapped Opened"
    assert Alert.objects.get(pk=real.alert_id).is_test is False


@pytest.mark.long
def test_every_catalogue_sample_pages_only_its_sender(
    desk: EscalationHarness, bob: AuditActor, node: InboundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unreadable ones too, whose alert would page everybody if they came from outside."""
    with served(node.app, monkeypatch):
        for kind in load_kinds().values():
            integration = make_integration(kind.title, kind.name, policy=desk.policy)
            integration.recipient_groups.add(desk.group)
            settings_store.bump()
            for sample in kind.samples:
                assert send_sample(integration, bob, sample.name, now=clock.now()).sample == sample.name
    assert all(row.test for row in rows())
    assert Alert.objects.exists()
    assert not Alert.objects.filter(is_test=False).exists()
    desk.keeper.run_once(clock.now())
    assert {one.user_id for one in Notification.objects.all()} == {bob.user_id}


def test_each_kind_has_a_sample_that_opens_an_alert() -> None:
    for kind in load_kinds().values():
        if kind.first_sample:
            (sample,) = (one for one in kind.samples if one.name == kind.first_sample)
            assert (sample.expect[0].status, sample.before) == ("Mapped Opened", ())


def test_a_sample_knows_what_the_integration_asks_of_its_senders(
    integration: Integration, bob: AuditActor, node: InboundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets.put_credentials(
        integration,
        {
            "basic": {"username": "halo", "password": "pässword"},
            "header": {"name": "X-Halo-Secret", "value": "s3cret"},
            "hmac": {"header": "X-Signature", "secret": "key"},
        },
    )
    integration.save()
    settings_store.bump()
    with served(node.app, monkeypatch):
        assert send_sample(integration, bob, now=clock.now()).status == "Mapped Opened"
    (row,) = rows()
    assert row.headers["x-signature"] == "present, valid"


def test_expired_forged_or_foreign_test_token_is_rejected(
    integration: Integration, bob: AuditActor, node: InboundServer
) -> None:
    other = make_integration("Other", "api")
    now = clock.now()
    assert bob.user_id is not None
    texts = [
        ingest_service.issue_test_token(integration.pk, bob.user_id, now - ingest_service.TEST_TOKEN_VALID_FOR)[0],
        ingest_service.issue_test_token(other.pk, bob.user_id, now)[0],
        "A" * 64,
        "",
    ]
    for text in texts:
        reply = node.post(f"{path_of(integration)}/test/{text}", halo())
        assert (reply.status, reply.body["error"]) == (401, "bad_pass")
    assert node.post(f"{path_of(integration)}/tests/{texts[0]}", halo()).status == 404
    assert node.post(f"{path_of(integration)}/", halo()).status == 404
    assert not rows()


def test_a_pass_that_is_used_twice_opens_one_alert(
    integration: Integration, bob: AuditActor, node: InboundServer
) -> None:
    assert bob.user_id is not None
    text, _ = ingest_service.issue_test_token(integration.pk, bob.user_id, clock.now())
    replies = [node.post(f"{path_of(integration)}/test/{text}", halo()).body for _ in range(2)]
    assert [one["status"] for one in replies] == ["Mapped Opened", "Mapped Appended"]


def test_unknown_sample_and_unreachable_sender_are_rejected(integration: Integration, bob: AuditActor) -> None:
    with pytest.raises(Rejected, match="new-ticket-linked") as caught:
        send_sample(integration, bob, "nonsense", now=NOW)
    assert caught.value.field == "sample"
    with pytest.raises(Rejected) as caught:
        send_sample(integration, AuditActor(None, "command line", "cli"), now=NOW)
    assert caught.value.code == "needs_person"


def test_integration_of_an_unknown_kind_has_no_sample(integration: Integration, bob: AuditActor) -> None:
    integration.kind = "of_a_plugin_that_is_gone"
    with pytest.raises(Rejected) as caught:
        send_sample(integration, bob, now=NOW)
    assert (caught.value.code, caught.value.reason.code) == (
        "not_possible",
        "The catalogue has no sample for {integration}.",
    )


class TestAPublicUrlThatDoesNotLeadHere:
    """Each trouble is told in words, with what to look at."""

    def rejection_of(self, integration: Integration, actor: AuditActor, client: HttpClient | None = None) -> str:
        with pytest.raises(Permanent) as caught:
            send_sample(integration, actor, now=clock.now(), client=client)
        assert secrets.token_of(integration) not in str(caught.value)
        assert not rows()
        return str(caught.value)

    def test_unreachable_webhook_url_is_reported(
        self, integration: Integration, bob: AuditActor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish("http://127.0.0.1:9", monkeypatch)
        text = self.rejection_of(integration, bob)
        assert text.startswith("http://127.0.0.1:9 cannot be reached from here:")
        assert "refused" in text
        assert "Check the public URL" in text

    def test_the_name_is_unknown(
        self, integration: Integration, bob: AuditActor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish("http://tocsin.invalid", monkeypatch)
        assert "cannot be resolved" in self.rejection_of(integration, bob)

    def test_public_url_that_cannot_be_requested_is_reported(
        self, integration: Integration, bob: AuditActor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish("http://user:password@127.0.0.1:9", monkeypatch)
        assert "cannot be requested: A URL must not contain a user name" in self.rejection_of(integration, bob)

    def test_the_certificate_is_not_one_to_trust(
        self,
        integration: Integration,
        bob: AuditActor,
        node: InboundServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        certificate = make_certificate(tmp_path)
        files = (str(certificate.file), str(tmp_path / "key.pem"))
        with served(node.app, monkeypatch, files, host="localhost"):
            text = self.rejection_of(integration, bob)
            assert "certificate" in text.split(":", 2)[-1]
            assert "Senders that check certificates cannot reach https://localhost" in text
            client = HttpClient(trusted=True, context=tls_context_trusting(str(certificate.file)))
            assert send_sample(integration, bob, now=clock.now(), client=client).status == "Mapped Opened"
            client.close()

    @pytest.mark.parametrize(
        ("response", "part"),
        [
            (
                Response(502, b"<html><h1>502 Bad Gateway</h1></html>"),
                "returned 502, which is not a response from Tocsin",
            ),
            (Response(200, b"<title>Welcome to nginx</title>"), "\u201cWelcome to nginx\u201d"),
            (Response(200, b"{}"), "returned 200, which is not a response from Tocsin"),
            (Response(204, b""), "returned 204"),
            (Response(200, b'{"message_id": 7}'), "not a response from Tocsin"),
            (Response(403, b'{"error": "forbidden", "detail": "Blocked."}'), "answered 403: Blocked."),
            (Response(401, b'{"error": "denied", "detail": "x-key: missing"}'), "answered 401: x-key: missing. If"),
            (Response(301, b"", {"Location": "https://other.example/in/secret"}), "redirects to https://other"),
            (Response(301, b""), "redirects to another address"),
            (
                Response(200, b'{"message_id": "01939e3b-0000-7000-8000-000000000000", "status": "Mapped Opened"}'),
                "the sample did not arrive here",
            ),
            (Response(hangs_up=True), "received the request and did not answer"),
        ],
    )
    def test_something_else_answers(
        self, integration: Integration, bob: AuditActor, monkeypatch: pytest.MonkeyPatch, response: Response, part: str
    ) -> None:
        with http_double(lambda request: response) as double:
            publish(double.url, monkeypatch)
            text = self.rejection_of(integration, bob)
        assert part in text
        assert "/in/secret" not in text


def test_a_proxy_that_sends_headers_and_query_away_changes_nothing(
    integration: Integration, bob: AuditActor, node: InboundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only path and body go through, as through a cache that forwards nothing it was not told of."""

    def forward(request: Request) -> Response:
        # In a thread of its own, because the proxy's has a loop that runs.
        with ThreadPoolExecutor(1) as thread:
            reply = thread.submit(node.post, request.path.partition("?")[0], request.body).result(10)
        return Response(reply.status, json.dumps(reply.body).encode())

    with http_double(forward) as proxy:
        publish(proxy.url, monkeypatch)
        assert send_sample(integration, bob, now=clock.now()).status == "Mapped Opened"
    assert Alert.objects.get().is_test is True
