"""Outbound calls: ordered, retried when useful, never after a permanent failure, and rate limited."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from psycopg import DataError

from tests.doubles.http import HttpDouble, Request, Response, http_double
from tests.support.outbound_harness import OutboundHarness, desk
from tests.support.outbox_harness import allow_loopback, outbox_harness
from tests.support.people import ACTOR
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.db import database
from tocsin.core.db import database as connections
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, as_reason
from tocsin.outbound import commands, reasons
from tocsin.outbound.delivery import dispatcher, queue, results
from tocsin.outbound.delivery.queue import NewCall
from tocsin.outbound.delivery.queue import queue as queue_queue
from tocsin.outbound.delivery.results import IntegrationPool
from tocsin.outbound.models import Call, Exchange, OutboundIntegration
from tocsin.outbound.states import CallStatus


@pytest.fixture
def at(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutboundHarness]:
    allow_loopback(monkeypatch)
    with desk(now) as made:
        yield made


@pytest.fixture
def other() -> Iterator[HttpDouble]:
    with http_double() as double:
        yield double


def received_numbers(double: HttpDouble) -> list[str]:
    return [request.json()["n"] for request in double.requests]


def test_calls_of_one_key_leave_in_order_without_blocking_others(at: OutboundHarness, other: HttpDouble) -> None:
    def answering(request: Request) -> Response:
        is_first_a = request.json()["n"] == "a0" and len([n for n in received_numbers(other) if n == "a0"]) == 1
        return Response(503 if is_first_a else 200)

    other.answering = answering
    pager = at.integration(url=other.url, body='{"n": "<n>"}')
    with database.transaction() as connection:
        queue_queue(
            connection,
            [
                NewCall(pager.pk, key, "call", as_reason("said"), content={"values": {"n": n}})
                for key, n in (("a", "a0"), ("a", "a1"), ("b", "b0"), ("a", "a2"))
            ],
            at.now,
        )
    at.go()
    assert sorted(received_numbers(other)) == ["a0", "b0"]
    at.go(10)
    assert [n for n in received_numbers(other) if n.startswith("a")] == ["a0", "a0", "a1", "a2"]
    assert {call.status for call in at.calls()} == {CallStatus.SENT}


def test_permanently_failing_call_becomes_a_dead_letter_and_is_resendable(
    at: OutboundHarness, other: HttpDouble
) -> None:
    other.answering = lambda request: Response(422, b'{"message": "no such service"}')
    pager = at.integration(url=other.url, body='{"n": "<n>"}')
    at.queue(pager, "a", "a")
    at.go()
    first, second = at.calls()
    assert first.status == second.status == CallStatus.DEAD
    assert "The server answered 422; expected is 200-299." in str(first.error)
    assert "no such service" in str(first.error)
    other.answering = lambda request: Response(200)
    commands.send_again(first, actor=ACTOR, now=at.now)
    with pytest.raises(Rejected):
        commands.send_again(first, actor=ACTOR, now=at.now)
    commands.drop(second, actor=ACTOR, now=at.now)
    at.go()
    assert [call.status for call in at.calls()] == [CallStatus.SENT, CallStatus.DROPPED]


def test_rate_limit_pauses_all_calls_without_counting_attempts(at: OutboundHarness, other: HttpDouble) -> None:
    other.answering = lambda request: Response(429, headers={"Retry-After": "40"})
    pager = at.integration(url=other.url, rate=5)
    at.queue(pager, *(f"k{number}" for number in range(12)))
    at.go(turns=1)
    before = len(other.requests)
    # The rate's burst at most, and then nobody asks any more; whoever looks hears what is waited for.
    assert 1 <= before <= 10
    with database.transaction() as connection:
        assert [str(one.reason) for one in reasons.find_problems(connection)] == [
            "Pager: The server is rate-limiting Tocsin (429). 12 calls queued."
        ]
    other.answering = lambda request: Response(200)
    at.go(39)
    assert len(other.requests) == before
    at.go(40)
    at.go(60)
    assert {(call.status, call.attempts) for call in at.calls()} == {(CallStatus.SENT, 1)}


def test_outage_is_probed_by_one_call_until_recovery(at: OutboundHarness, other: HttpDouble) -> None:
    other.answering = lambda request: Response(503)
    pager = at.integration(url=other.url, rate=100)
    at.queue(pager, *(f"k{number}" for number in range(8)))
    at.go()
    opened_at = len(other.requests)
    assert at.status(pager).open_until is not None
    assert at.status(pager).last_transient_error == reasons.SERVER_ERROR(status=503)
    for minute in range(1, 61):
        at.go(minute * 60)
    tries = len(other.requests) - opened_at
    assert 5 < tries < 30
    assert {call.status for call in at.calls()} == {CallStatus.QUEUED}
    other.answering = lambda request: Response(200)
    at.go(3600 + 301)
    assert {call.status for call in at.calls()} == {CallStatus.SENT}
    assert at.status(pager).failures == 0


def test_an_integration_with_many_calls_leaves_a_slot(at: OutboundHarness, other: HttpDouble) -> None:
    busy, pager = (at.integration(name=name, url=other.url, rate=100) for name in ("Busy", "Pager"))
    at.queue(busy, *(f"k{number}" for number in range(20)))
    at.queue(pager, "a")
    box = at.outbox()
    jobs = box._claim(dispatcher.MAX_CONCURRENT_CALLS)
    assert {job.integration_id for job in jobs} == {busy.pk, pager.pk}
    assert len(jobs) == dispatcher.MAX_CONCURRENT_CALLS
    box.in_flight.start(jobs)
    box.settle()


def test_after_a_day_without_success_a_call_is_given_up(at: OutboundHarness, other: HttpDouble) -> None:
    other.answering = lambda request: Response(503)
    pager = at.integration(url=other.url)
    at.queue(pager, "a")
    for hour in range(26):
        at.go(hour * 3600)
    (call,) = at.calls()
    assert call.status == CallStatus.DEAD
    assert call.error == reasons.SERVER_ERROR(status=503)


def test_refused_credentials_stop_all_calls_until_a_person_enters_others(
    at: OutboundHarness, other: HttpDouble
) -> None:
    def answering(request: Request) -> Response:
        return Response(200 if request.headers["authorization"] == "Bearer right-token" else 401)

    other.answering = answering
    pager = at.integration(url=other.url, auth="bearer", token="wrong-token")
    at.queue(pager, "a", "b", "c")
    at.go()
    request_count = len(other.requests)
    assert request_count <= 3
    assert "rejected the credentials" in str(at.status(pager).problem)
    at.go(1800)
    assert len(other.requests) == request_count
    spec = {**commands.outbound_spec(pager), "token": "right-token"}
    commands.save_outbound(spec, existing=pager, actor=ACTOR, now=at.now)
    assert at.status(pager).problem == NO_REASON
    at.go()
    assert {call.status for call in at.calls()} == {CallStatus.SENT}
    value = json.dumps(list(Exchange.objects.values("url", "request", "response", "error")))
    assert "right-token" not in value
    assert "wrong-token" not in value


def test_a_process_that_dies_leaves_its_calls_to_another(at: OutboundHarness, other: HttpDouble) -> None:
    pager = at.integration(url=other.url)
    (number,) = at.queue(pager, "a")
    with database.transaction() as connection:
        connection.execute(
            "UPDATE outbound_call SET status = 'sending', leased_by = 'gone', lease_until = clock_timestamp() "
            "- interval '1 second' WHERE id = %s", (number,)
        )  # fmt: skip
    box = at.outbox()
    at.go()
    assert other.requests == []
    box.keep_leases()
    assert str(at.calls()[0].error) == "The process that was sending it stopped."
    at.go()
    (call,) = at.calls()
    assert (call.status, call.attempts, call.is_uncertain) == (CallStatus.SENT, 2, True)


def test_a_stopped_process_makes_no_call_that_another_made(at: OutboundHarness, other: HttpDouble) -> None:
    at.queue(at.integration(url=other.url), "a")
    elapsed = [0.0]
    stopped = dispatcher.CallDispatcher(now=lambda: at.now, elapsed=lambda: elapsed[0])
    jobs = stopped._claim(1)
    with database.transaction() as connection:
        connection.execute("UPDATE outbound_call SET lease_until = clock_timestamp() - interval '1 second'")
    at.outbox().keep_leases()
    at.go()
    assert len(other.requests) == 1
    elapsed[0] = 120
    stopped.in_flight.start(jobs)
    assert stopped.in_flight.wait_until(lambda running: not running, 10)
    stopped.close()
    assert len(other.requests) == 1
    assert [call.status for call in at.calls()] == [CallStatus.SENT]


def test_templated_call_is_signed_and_captures_a_response_field(
    database: str, now: datetime, other: HttpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    other.answering = lambda request: Response(201, b'{"Data": {"tickets": [{"id": 77}]}}')
    with desk(now) as at, outbox_harness(now) as post:
        alert = post.alert('VPN "Zürich"\ndown')
        pager = at.integration(
            url=f"{other.url}/x/<client>?q=<subject>",
            body='{"text": "<subject>", "who": "<custom.nobody>", "p": "<priority>"}',
            headers={"X-Alert": "<alert>"},
            hmac_secret="a signing secret",
            expected_status=[201],
            capture={"jira_key": "data^tickets^0^id"},
        )
        with connections.transaction() as connection:
            queue.call_for_alerts(connection, pager.pk, [alert], at.now)
        at.go()
        (request,) = other.requests
        assert request.path == "/x/Acme?q=VPN%20%22Z%C3%BCrich%22%0Adown"
        assert request.json() == {"text": 'VPN "Zürich"\ndown', "who": "", "p": "critical"}
        assert request.headers["x-alert"] == str(alert)
        digest = hmac.new(b"a signing secret", request.body, hashlib.sha256).hexdigest()
        assert request.headers["x-tocsin-signature"] == f"sha256={digest}"
        assert Alert.objects.get(pk=alert).custom == {"jira_key": "77"}
        assert AlertEvent.objects.filter(alert=alert, reason__icontains="jira key").exists()
        assert Call.objects.get().result == reasons.ANSWERED(status=201)


@pytest.mark.parametrize(
    ("spec", "name", "value"),
    [
        ({"auth": "basic", "username": "ops", "password": "pass-word"}, "authorization", "Basic b3BzOnBhc3Mtd29yZA=="),
        ({"auth": "bearer", "token": "token-one"}, "authorization", "Bearer token-one"),
        ({"auth": "header", "header_name": "X-Key", "token": "token-two"}, "x-key", "token-two"),
    ],
)
def test_each_authentication_type_works_without_logging_secrets(
    at: OutboundHarness, other: HttpDouble, spec: dict[str, str], name: str, value: str
) -> None:
    pager = at.integration(url=other.url, **spec)
    at.queue(pager, "a")
    at.go()
    (request,) = other.requests
    assert request.headers[name] == value
    # Some servers say which credentials they do not like.
    other.answering = lambda request: Response(400, body=f"Bad {request.headers[name]}".encode())
    at.queue(pager, "b")
    at.go()
    kept_value = json.dumps(list(Exchange.objects.values("url", "request", "response", "error")))
    errors = [str(call.error) for call in at.calls()]
    assert "The server answered 400" in errors[-1]
    assert value.split()[-1] not in kept_value + str(errors)


def test_oauth_token_is_cached_and_renewed_after_early_expiry(at: OutboundHarness, other: HttpDouble) -> None:
    given: list[str] = []

    def answering(request: Request) -> Response:
        if request.path == "/token":
            if "authorization" not in request.headers:
                return Response(401, b'{"error": "invalid_client", "error_description": "use the header"}')
            given.append(f"token-{len(given)}")
            return Response(200, json.dumps({"access_token": given[-1], "expires_in": None}).encode())
        return Response(200 if request.headers["authorization"] == f"Bearer {given[-1]}" else 401)

    other.answering = answering
    pager = at.integration(
        url=other.url, auth="oauth2", token_url=f"{other.url}/token", client_id="tocsin", client_secret="a b&c-secret"
    )
    at.queue(pager, "a", "a")
    at.go()
    assert given == ["token-0"]
    form, header = [request for request in other.requests if request.path == "/token"]
    assert b"client_id=tocsin" in form.body
    assert b"secret" not in header.body
    assert header.headers["authorization"] == "Basic dG9jc2luOmErYiUyNmMtc2VjcmV0"
    # The server forgot it: a fresh one, and nobody has to act.
    given.append("of somebody else")
    at.queue(pager, "a")
    at.go()
    assert {call.status for call in at.calls()} == {CallStatus.SENT}
    assert at.status(pager).problem == NO_REASON
    # Refused in both ways: one sentence with the server's own words.
    other.answering = lambda request: Response(401, b'{"error": "invalid_client", "error_description": "expired"}')
    at.queue(pager, "a")
    at.go()
    assert "rejected the credentials (401, invalid_client: expired)" in str(at.status(pager).problem)
    value = json.dumps(list(Exchange.objects.values("url", "request", "response", "error")))
    assert "token-0" not in value
    assert "c-secret" not in value


def test_missing_captured_field_is_reported(at: OutboundHarness, other: HttpDouble) -> None:
    other.answering = lambda request: Response(200, b'{"key": null}')
    at.queue(at.integration(url=other.url, capture={"jira_key": "data^key"}), "a")
    at.go()
    assert str(at.calls()[0].result) == "Status 200. The response does not contain data^key."


def test_settings_that_cannot_be_used_are_refused_by_name(at: OutboundHarness) -> None:
    wrong: tuple[tuple[dict[str, object], str], ...] = (
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://x", "method": "BREW"}, "method"),
        ({"url": "https://x", "auth": "oauth2"}, "token_url"),
        ({"url": "https://x", "expected_status": ["no"]}, "expected_status"),
        ({"url": "https://x", "colour": "red"}, "colour"),
        ({"url": "https://x", "group": "Nobody"}, "group"),
        ({"url": "https://x", "kind": "telex"}, "kind"),
        (
            {"kind": "haloitsm", "base_url": "https://x", "client_id": "x", "create_ticket": {"client": "Acme"}},
            "create_ticket.client",
        ),
    )
    for spec, place in wrong:
        with pytest.raises(Rejected) as refused:
            at.integration(**spec)
        assert place in refused.value.fields
    with pytest.raises(Rejected) as refused:
        at.integration(url="https://x", auth="oauth2", client_id="x", client_secret="x")
    assert refused.value.fields == {"token_url": "token_url: is required."}


@pytest.mark.parametrize(
    ("spec", "secret"),
    [
        ({"kind": "haloitsm", "base_url": "https://x.haloitsm.com", "client_id": "x"}, "client_secret"),
        ({"url": "https://x", "auth": "bearer"}, "token"),
        ({"url": "https://x", "auth": "header", "header_name": "X-Key"}, "token"),
        ({"url": "https://x", "auth": "oauth2", "token_url": "https://x/t", "client_id": "x"}, "client_secret"),
        ({"url": "https://x", "hmac_header": "X-Signature"}, "hmac_secret"),
    ],
)
def test_required_secret_can_be_neither_omitted_nor_emptied(
    at: OutboundHarness, spec: dict[str, Any], secret: str
) -> None:
    with pytest.raises(Rejected) as refused:
        at.integration(**spec)
    assert refused.value.fields == {secret: f"{secret}: is required."}
    made = at.integration(**spec, **{secret: "hush"})
    for empty in ("", "  "):
        with pytest.raises(Rejected) as refused:
            commands.save_outbound(
                {**commands.outbound_spec(made), secret: empty}, existing=made, actor=ACTOR, now=at.now
            )
        assert refused.value.fields == {secret: f"{secret}: is required."}
    commands.save_outbound(commands.outbound_spec(made), existing=made, actor=ACTOR, now=at.now)
    assert commands.outbound_spec(made, with_secrets=True)[secret] == "hush"


def test_a_password_or_signature_that_nothing_needs_may_be_emptied(at: OutboundHarness) -> None:
    made = at.integration(url="https://x", auth="basic", username="key", password="hush", hmac_secret="s")
    spec = {**commands.outbound_spec(made), "password": "", "hmac_secret": ""}
    commands.save_outbound(spec, existing=made, actor=ACTOR, now=at.now)
    assert commands.secrets_set(made) == frozenset()


@pytest.mark.parametrize("url", ["https://evil.example/a", "http://pager.example/a", "https://pager.example:8443/a"])
def test_stored_secret_is_not_reused_for_another_origin(at: OutboundHarness, url: str) -> None:
    pager = at.integration(url="https://pager.example/a", auth="bearer", token="secret-token")
    spec = {**commands.outbound_spec(pager), "url": url}
    with pytest.raises(Rejected, match="token: enter the secret again: the address has changed"):
        commands.save_outbound(spec, existing=pager, actor=ACTOR, now=at.now)
    pager.refresh_from_db()
    assert commands.outbound_spec(pager, with_secrets=True)["url"] == "https://pager.example/a"
    commands.save_outbound({**spec, "token": "another"}, existing=pager, actor=ACTOR, now=at.now)
    same = {**spec, "url": f"{url}/elsewhere"}
    commands.save_outbound(same, existing=pager, actor=ACTOR, now=at.now)
    assert commands.outbound_spec(pager, with_secrets=True)["token"] == "another"


def test_unstorable_response_is_sanitized_and_blocks_no_other_call(
    database: str, now: datetime, other: HttpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    other.answering = lambda request: Response(200, b'{"key": "A\\u0000B\\ud800"}')
    with desk(now) as at, outbox_harness(now) as post:
        alert = post.alert("VPN down")
        pager = at.integration(url=other.url, capture={"jira_key": "key"})
        with connections.transaction() as connection:
            queue.call_for_alerts(connection, pager.pk, [alert], at.now)
        at.go()
        assert [call.status for call in at.calls()] == [CallStatus.SENT]
        assert Alert.objects.get(pk=alert).custom == {"jira_key": "A\ufffdB\ufffd"}


def test_a_result_that_cannot_be_written_down_stops_no_other(
    at: OutboundHarness, other: HttpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is about it: the call was made, so it counts as made, and is not made again."""
    pager = at.integration(url=other.url, body='{"n": "<n>"}')
    poison, *rest = at.queue(pager, "a", "b", "c")
    whole = results.record

    def failing(connection: object, directory: object, results: list[results.CallResult], *more: object) -> None:
        if any(result.job.id == poison for result in results):
            raise DataError("no database can hold it")
        whole(connection, directory, results, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatcher, "record", failing)
    at.go()
    assert {call.pk: call.status for call in at.calls()} == dict.fromkeys((poison, *rest), CallStatus.SENT)
    assert str(Call.objects.get(pk=poison).error) == "The result could not be stored."
    assert len(other.requests) == 3


def test_integration_of_a_removed_kind_is_reported(at: OutboundHarness, other: HttpDouble) -> None:
    pager = at.integration(url=other.url)
    OutboundIntegration.objects.filter(pk=pager.pk).update(kind="removed")
    pool = IntegrationPool()
    try:
        with database.transaction() as connection:
            pool.refresh(connection)
        assert pool.problems[pager.pk].code == "outbound.unknown_kind"
    finally:
        pool.close()


def test_call_of_a_deleted_integration_is_rejected(at: OutboundHarness) -> None:
    with database.transaction() as connection, pytest.raises(Rejected) as rejected:
        queue.call_for_alerts(connection, 77, [1], at.now)
    assert rejected.value.reason.code == "outbound.no_such_call"
