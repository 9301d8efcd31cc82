"""`POST /in/{token}`: authentication, rejections and responses."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.ingest import halo, make_integration
from tests.support.integrations import InboundResponse, InboundServer, inbound_server, path_of, rows
from tocsin.access.audit import AuditActor
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.db import database as db
from tocsin.core.net.asgi import MAX_BODY_BYTES, BodyReader
from tocsin.core.runtime import clock
from tocsin.inbound.admin import secrets
from tocsin.inbound.ingest_service import ADDRESS_NOT_ALLOWED, MAX_PATHS_PER_ADDRESS
from tocsin.inbound.models import Integration, RefusedSender, UnmatchedPost
from tocsin.inbound.tasks import write_expired
from tocsin.operate.checks import integrations
from tocsin.operate.finding import HealthFinding

pytestmark = pytest.mark.usefixtures("database")

ACTOR = AuditActor(None, "Test", "cli")


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


@pytest.fixture
def halo_integration() -> Integration:
    return make_integration()


@pytest.fixture
def api_integration() -> Integration:
    return make_integration("Tool", "api")


# --- answers


def test_message_is_stored_before_its_result_is_returned(node: InboundServer, halo_integration: Integration) -> None:
    reply = node.post(halo_integration, halo())
    (row,) = rows()
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.body == {
        "status": "Mapped Opened",
        "message_id": str(row.pk),
        "alert_id": Alert.objects.get().pk,
        "reason": str(row.reason),
        "reason_code": "message.opened",
    }


def test_unreadable_body_is_kept_and_rejected_with_location(node: InboundServer, api_integration: Integration) -> None:
    reply = node.post(api_integration, b'{"title": "Disk full" "host": "db01"}')
    assert (reply.status, reply.body["error"]) == (400, "invalid_json")
    assert "line 1 column 23" in reply.body["detail"]
    (row,) = rows()
    assert (str(row.pk), row.status, bytes(row.raw)[:9]) == (reply.body["message_id"], "Mapping Failed", b'{"title":')


def test_halo_always_gets_200_to_keep_its_webhook_enabled(node: InboundServer, halo_integration: Integration) -> None:
    for body in (b"<html>", b"", b"\xff\xfe", b"[]", b"null", b"{}"):
        reply = node.post(halo_integration, body)
        assert (reply.status, reply.body["status"]) == (200, "Mapping Failed"), body
        assert reply.body["reason"]
    assert len(rows()) == 6


def test_a_message_without_an_id_is_readable_and_answered_200(
    node: InboundServer, halo_integration: Integration
) -> None:
    reply = node.post(halo_integration, {"event": "new ticket logged"})
    assert (reply.status, reply.body["status"]) == (200, "Mapping Failed")
    assert "no ticket id" in reply.body["reason"]


def test_disabled_integration_stores_messages_and_reports_its_state(node: InboundServer) -> None:
    reply = node.post(make_integration(mode="disabled"), halo())
    assert (reply.status, reply.body["status"], reply.body["reason"]) == (
        200,
        "Mapped Ignored",
        "the integration is disabled",
    )
    assert len(rows()) == 1


def test_a_message_that_must_wait_is_answered_202(node: InboundServer, halo_integration: Integration) -> None:
    first = node.post(halo_integration, halo(7))
    with db.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.body["alert_id"],))
        reply = node.post(halo_integration, halo(7, "Closed"))
        several = node.post(halo_integration, [halo(8), halo(7)])
    assert (reply.status, reply.body["status"]) == (202, "Pending")
    assert reply.body["message_id"] == str(rows(source_id="7")[1].pk)
    assert several.status == 202
    assert [one["status"] for one in several.body["messages"]] == ["Mapped Opened", "Pending"]


# --- arrays


def test_array_elements_are_separate_messages_with_separate_errors(
    node: InboundServer, halo_integration: Integration
) -> None:
    reply = node.post(halo_integration, [halo(1), "text", 7, None, [halo(2)], {}, halo(3)])
    assert reply.status == 200
    results = reply.body["messages"]
    assert [one["status"] for one in results] == ["Mapped Opened", *["Mapping Failed"] * 5, "Mapped Opened"]
    assert "This element of the array is a text" in results[1]["reason"]
    stored = rows()
    assert [str(row.pk) for row in stored] == [one["message_id"] for one in results]
    assert json.loads(bytes(stored[6].raw)) == halo(3)
    assert bytes(stored[1].raw) == b'"text"'


@pytest.mark.parametrize("kind", ["haloitsm", "api"])
def test_array_of_1000_is_accepted_and_a_larger_one_rejected(node: InboundServer, kind: str) -> None:
    integration = make_integration("Many", kind)
    reply = node.post(integration, [{"id": number, "status": "x"} for number in range(1, 1002)])
    assert (reply.status, reply.body["error"]) == (413, "too_many")
    assert not rows()
    reply = node.post(integration, [{"id": number, "status": "x"} for number in range(1, 1001)])
    assert (reply.status, len(reply.body["messages"])) == (200, 1000)
    assert len(rows()) == 1000


def test_empty_array_contains_no_message(node: InboundServer, api_integration: Integration) -> None:
    reply = node.post(api_integration, b"[]")
    assert (reply.status, reply.body["error"]) == (400, "invalid_json")
    assert "empty" in reply.body["detail"]
    assert len(rows()) == 1


# --- who is let in


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_is_accepted(node: InboundServer, halo_integration: Integration, method: str) -> None:
    reply = node.post(halo_integration, halo(), method=method)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/in/", "/in/" + "0" * 32, "/in/" + "x" * 5000, "/in/\x00\udcff", "/in//"])
def test_a_token_that_never_was_is_unknown(node: InboundServer, path: str) -> None:
    assert node.post(path, halo()).status == 404
    assert not rows()


def test_new_token_works_immediately_despite_earlier_invalid_requests(node: InboundServer) -> None:
    for number in range(3):
        assert node.post("/in/" + f"{number}" * 32, halo()).status == 404
        assert node.post(make_integration(f"Door {number}"), halo(number + 1)).status == 200


def test_concurrent_invalid_tokens_share_one_lookup_and_valid_token_passes(node: InboundServer) -> None:
    node.post("/in/" + "0" * 32, halo())
    integration = make_integration()
    wrong = [("/in/" + f"{number:032x}", halo()) for number in range(50)]
    responses = node.post_at_once(*wrong, (integration, halo()), *wrong)
    assert [reply.status for reply in responses] == [404] * 50 + [200] + [404] * 50


def test_rotated_token_works_during_overlap_and_requests_are_counted(
    node: InboundServer, halo_integration: Integration
) -> None:
    old = path_of(halo_integration)
    secrets.rotate_token(halo_integration, overlap=timedelta(hours=1), actor=ACTOR, now=clock.now())
    assert node.post(old, halo(1)).status == 200
    assert node.post(halo_integration, halo(2)).status == 200
    Integration.objects.filter(pk=halo_integration.pk).update(old_token_until=clock.now())
    settings_store.bump()
    node.registry.refresh()
    for _ in range(3):
        reply = node.post(old, halo(3))
        assert (reply.status, "rotated" in reply.body["detail"]) == (404, True)
    assert node.post(f"{old}/test/nonsense", halo(3)).status == 404
    assert node.post(halo_integration, halo(4)).status == 200

    def counted() -> int:
        return Integration.objects.get(pk=halo_integration.pk).previous_token_requests

    assert counted() == 0
    write_expired(node.registry)
    assert counted() == 4
    write_expired(node.registry)
    assert counted() == 4
    node.post(old, halo(3))
    write_expired(node.registry)
    assert counted() == 5


def test_posts_that_nothing_receives_are_findings(node: InboundServer, database: str) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    for path in (f"/in/{secret}", f"/in/{secret}", "/v2/alerts"):
        assert node.post(path, {"id": 1}).status in (401, 404)
    node.post("/v2/enqueue", {"routing_key": secret, "event_action": "trigger"})
    unmatched = node.app.service.refused_requests
    unmatched.count_unmatched({"path": "/hook/0123456789abcdef0123", "headers": [], "client": ("10.0.0.5", 1)})
    for number in range(MAX_PATHS_PER_ADDRESS + 1):
        unmatched.count_unmatched({"path": f"/scan{number}", "headers": [], "client": ("10.0.0.6", 1)})
    unmatched.write(clock.now())
    unmatched.write(clock.now())
    with db.transaction() as connection:
        findings = [one for one in integrations.check(connection, clock.now()) if one.id == "messages.unmatched"]
        later = [*integrations.check(connection, clock.now() + timedelta(days=2))]
    assert [(one.about, one.detail["count"]) for one in findings] == [
        ("/in/0123…", 2),
        ("/hook/0123…", 1),
        ("/v2/alerts", 1),
    ]
    assert not [one for one in later if one.id == "messages.unmatched"]
    assert UnmatchedPost.objects.count() == 3 + 1 + MAX_PATHS_PER_ADDRESS + 1
    assert not UnmatchedPost.objects.filter(path__contains=secret[:8]).exists()
    unmatched.count_unmatched({"path": "/late", "headers": [], "client": ("10.0.0.5", 1)})
    unmatched.write(clock.now() + timedelta(days=8))
    assert [row.path for row in UnmatchedPost.objects.all()] == ["/late"]


def test_refused_senders_are_a_finding_of_their_integration(node: InboundServer, halo_integration: Integration) -> None:
    secrets.put_credentials(halo_integration, {"basic": {"username": "halo", "password": "right"}})
    halo_integration.save()
    settings_store.bump()
    node.registry.refresh()

    def findings(at: datetime) -> list[HealthFinding]:
        with db.transaction() as connection:
            return [one for one in integrations.check(connection, at) if one.id == "integration.refused"]

    for _ in range(2):
        assert node.post(halo_integration, halo(), authorization=_basic("halo:wrong")).status == 401
    refused, before = node.app.service.refused_requests, clock.now()
    refused.write(before)
    assert node.post(halo_integration, halo(), authorization=_basic("halo:right")).status == 200
    refused.count_refused(halo_integration.pk, "192.0.2.9", ADDRESS_NOT_ALLOWED(address="192.0.2.9"), clock.now())
    refused.write(clock.now())
    refused.write(clock.now())
    (finding,) = findings(clock.now())
    assert (finding.object_id, finding.is_urgent, finding.detail["count"]) == (halo_integration.pk, True, 3)
    assert finding.detail["addresses"] == ("192.0.2.9", "127.0.0.1")
    assert before <= finding.detail["at"] <= clock.now()
    assert str(finding.detail).endswith("192.0.2.9 may not send here")
    first = RefusedSender.objects.get(address="127.0.0.1")
    assert (first.requests, str(first.reason)) == (2, "authorization: present, not valid")
    assert findings(clock.now() + timedelta(days=2)) == []


def test_unwritable_rotated_token_requests_are_recorded_later(
    node: InboundServer, halo_integration: Integration, database: str
) -> None:
    node.registry.count_expired(halo_integration.pk)
    with db.transaction() as connection:
        connection.execute("ALTER TABLE inbound_integration ADD CONSTRAINT held CHECK (previous_token_requests = 0)")
    with pytest.raises(Exception, match="held"):
        write_expired(node.registry)
    with db.transaction() as connection:
        connection.execute("ALTER TABLE inbound_integration DROP CONSTRAINT held")
    write_expired(node.registry)
    assert Integration.objects.get(pk=halo_integration.pk).previous_token_requests == 1


def _basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


class TestCredentials:
    """Each on top of the secret URL; all that are asked must be right."""

    @pytest.fixture
    def requested(self, node: InboundServer, halo_integration: Integration) -> Any:
        def ask(credentials: dict[str, Any], **headers: str) -> InboundResponse:
            secrets.put_credentials(halo_integration, credentials)
            halo_integration.save()
            settings_store.bump()
            node.registry.refresh()
            return node.post(halo_integration, halo(), **headers)

        return ask

    @pytest.mark.parametrize(
        ("header", "status"),
        [
            (_basic("halo:pass:wörd"), 200),
            (_basic("halo:pass:wörd").replace("Basic", "basic"), 200),
            (_basic("halo:wrong"), 401),
            (_basic("other:pass:wörd"), 401),
            ("Basic !!!", 401),
            ("Bearer halo", 401),
            ("", 401),
            (None, 401),
        ],
    )
    def test_basic(self, requested: Any, header: str | None, status: int) -> None:
        credentials = {"basic": {"username": "halo", "password": "pass:wörd"}}
        reply = requested(credentials, **({} if header is None else {"authorization": header}))
        assert reply.status == status
        assert len(rows()) == (1 if status == 200 else 0)
        if status == 401:
            assert reply.body["error"] == "bad_credentials"
            assert ("missing" in reply.body["detail"]) is (header is None)

    @pytest.mark.parametrize(("value", "status"), [("s3cret", 200), ("s3cre", 401), ("S3CRET", 401), (None, 401)])
    def test_a_header(self, requested: Any, value: str | None, status: int) -> None:
        credentials = {"header": {"name": "X-Halo-Secret", "value": "s3cret"}}
        assert requested(credentials, **({} if value is None else {"x_halo_secret": value})).status == status
        for row in rows():
            assert "s3cret" not in str(row.headers)
            assert row.headers["x-halo-secret"] == "present, valid"

    def test_a_signature_over_the_very_bytes(self, requested: Any) -> None:
        credentials = {"hmac": {"header": "X-Signature", "secret": "key"}}
        digest = hmac.new(b"key", json.dumps(halo()).encode(), hashlib.sha256)
        other = hmac.new(b"key", b"other bytes", hashlib.sha256)
        assert requested(credentials, x_signature=digest.hexdigest()).status == 200
        assert requested(credentials, x_signature=f"sha256={digest.hexdigest().upper()}").status == 200
        assert requested(credentials, x_signature=base64.b64encode(digest.digest()).decode()).status == 200
        assert requested(credentials, x_signature=other.hexdigest()).status == 401
        assert requested(credentials, x_signature="").status == 401
        assert requested(credentials).status == 401
        assert len(rows()) == 3

    def test_signed_time_must_be_fresh(self, requested: Any) -> None:
        credentials = {"hmac": {"header": "X-Signature", "secret": "key", "timestamp_header": "X-Time"}}

        def sent(late: int) -> Any:
            time = str(int(clock.now().timestamp()) - late)
            text = f"{time}:{json.dumps(halo())}".encode()
            return requested(credentials, x_signature=hmac.new(b"key", text, hashlib.sha256).hexdigest(), x_time=time)

        assert sent(0).status == 200
        replayed = sent(600)
        assert replayed.status == 401
        assert "x-time: present, not valid" in replayed.body["detail"]

    def test_all_required_credentials_are_checked(self, requested: Any) -> None:
        credentials = {
            "basic": {"username": "halo", "password": "p"},
            "header": {"name": "X-Halo-Secret", "value": "s3cret"},
        }
        assert requested(credentials, authorization=_basic("halo:p")).status == 401
        assert requested(credentials, x_halo_secret="s3cret").status == 401
        assert requested(credentials, authorization=_basic("halo:p"), x_halo_secret="s3cret").status == 200

    def test_undecryptable_credentials_reject_every_request(
        self, node: InboundServer, halo_integration: Integration
    ) -> None:
        Integration.objects.filter(pk=halo_integration.pk).update(credentials="nonsense")
        settings_store.bump()
        assert node.post(halo_integration, halo()).status == 401


# --- size and time


def test_body_limit_is_exactly_five_mebibytes(node: InboundServer, api_integration: Integration) -> None:
    frame = b'{"title": ""}'
    largest = b'{"title": "' + b"x" * (MAX_BODY_BYTES - len(frame)) + b'"}'
    assert node.post(api_integration, largest).status == 200
    assert len(bytes(rows()[0].raw)) == MAX_BODY_BYTES
    halves = largest[: MAX_BODY_BYTES // 2], largest[MAX_BODY_BYTES // 2 :]
    assert node.post(api_integration, *halves).status == 200
    for parts in ([largest + b" "], [*halves, b" "]):
        reply = node.post(api_integration, *parts)
        assert (reply.status, reply.body["error"]) == (413, "too_large")
    assert node.post(api_integration, b"{}", content_length=str(MAX_BODY_BYTES + 1)).status == 413
    assert len(rows()) == 2
    assert node.bodies.in_flight == 0


@pytest.mark.parametrize("coming", [[], [{"type": "http.request", "body": b'{"id"', "more_body": True}]])
def test_a_sender_that_is_too_slow_is_given_up(api_integration: Integration, coming: list[dict[str, Any]]) -> None:
    with inbound_server(bodies=BodyReader(deadline=0.01)) as node:
        reply = asyncio.run(node.ask(path_of(api_integration), coming))
        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert node.bodies.in_flight == 0
    assert not rows()


def test_compressed_body_is_processed_and_stored_as_sent(node: InboundServer, api_integration: Integration) -> None:
    body = b'{"id": "1", "title": "Disk full"}'
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        assert node.post(api_integration, packed, content_encoding=encoding).status == 200
    assert [bytes(row.raw) for row in rows()] == [body] * 3
    assert node.bodies.in_flight == 0


def test_decompression_bomb_is_rejected_early_without_trace(node: InboundServer, api_integration: Integration) -> None:
    bomb = gzip.compress(b"\0" * (4 * MAX_BODY_BYTES))
    reply = node.post(api_integration, bomb, content_encoding="gzip")
    assert (reply.status, reply.body["error"]) == (413, "too_large")
    assert not rows()
    assert node.bodies.in_flight == 0


@pytest.mark.parametrize(("encoding", "code"), [("br", "unknown_encoding"), ("gzip", "invalid_encoding")])
def test_undecodable_body_is_kept_and_rejected_with_accepted_encodings(
    node: InboundServer, api_integration: Integration, encoding: str, code: str
) -> None:
    reply = node.post(api_integration, b'{"id": "1"}', content_encoding=encoding)
    assert (reply.status, reply.body["error"]) == (400, code)
    (row,) = rows()
    assert (row.status, bytes(row.raw), str(row.pk)) == ("Mapping Failed", b'{"id": "1"}', reply.body["message_id"])
    assert row.reason.code == f"body.{code}"
    assert "gzip" in str(row.reason)


def test_a_signature_is_of_the_bytes_that_were_sent(node: InboundServer, api_integration: Integration) -> None:
    secrets.put_credentials(api_integration, {"hmac": {"header": "X-Signature", "secret": "key"}})
    api_integration.save()
    settings_store.bump()
    packed = gzip.compress(b'{"id": "1"}')
    signature = hmac.new(b"key", packed, hashlib.sha256).hexdigest()
    assert node.post(api_integration, packed, content_encoding="gzip", x_signature=signature).status == 200


def test_a_sender_that_leaves_in_the_middle_stores_nothing(node: InboundServer, api_integration: Integration) -> None:
    coming = [{"type": "http.request", "body": b'{"id": 1}', "more_body": True}, {"type": "http.disconnect"}]
    assert asyncio.run(node.ask(path_of(api_integration), coming)).status == 0
    assert asyncio.run(node.ask(path_of(api_integration), [{"type": "http.disconnect"}])).status == 0
    assert node.bodies.in_flight == 0
    assert not rows()


def test_excess_bytes_in_flight_are_rejected_with_retry_after(api_integration: Integration) -> None:
    with inbound_server(bodies=BodyReader(max_in_flight=100)) as node:
        assert node.post(api_integration, b'{"id": 1}').status == 200
        assert node.post(api_integration, b'{"id": 2, "t": "', b"x" * 100, b'"}').status == 503
        reply = node.post(api_integration, b"{}", content_length="101")
        assert (reply.status, reply.body["error"]) == (503, "busy")
        assert int(reply.headers["retry-after"]) > 0
        assert node.bodies.in_flight == 0


def test_sender_metadata_is_kept_only_when_harmless(node: InboundServer, api_integration: Integration) -> None:
    node.post(api_integration, {"id": 1}, user_agent="Tool/1", cookie="a=b", x_api_key="k", authorization="Bearer t")
    assert rows()[0].headers == {"content-type": "application/json", "user-agent": "Tool/1"}
