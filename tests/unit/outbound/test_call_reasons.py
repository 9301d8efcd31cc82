"""What HaloITSM or a system behind an HTTP call answers, and what the call's result says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tocsin.core.delivery.circuit_breaker import AttemptFailed
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.outbound.connectors.haloitsm.client import HaloClient
from tocsin.outbound.connectors.haloitsm.connector import HALOITSM
from tocsin.outbound.connectors.http import HTTP
from tocsin.outbound.connectors.interfaces import CallJob, IntegrationAccount, RecordedClient
from tocsin.outbound.connectors.tickets import ReferenceEntry, ReferenceLists
from tocsin.outbound.delivery import dispatcher

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
ACCOUNT = IntegrationAccount(1, "Halo", {"base_url": "https://halo.example.org"}, {"client_secret": "secret"})


class Server:
    """Answers the last part of a path as given; anything else with an empty object."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = {"token": {"access_token": "t", "expires_in": 3600}, **answers}
        self.bodies: list[Any] = []

    def request(self, method: str, url: str, *, content: bytes = b"", **_: Any) -> EgressResponse:
        self.bodies.append(content)
        answer = self.answers.get(url.partition("?")[0].rpartition("/")[2], {})
        if isinstance(answer, EgressResponse):
            return answer
        return EgressResponse(200, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def job(action: str, content: dict[str, Any]) -> CallJob:
    return CallJob(1, 1, 7, "alert:7", action, "", content, 0, False, NOW)


def line(server: Server) -> RecordedClient:
    return RecordedClient(cast(HttpClient, server), lambda: NOW)


def read_ticket(halo: HaloClient, client: RecordedClient) -> None:
    halo.session(client, NOW).get_ticket("5")


@pytest.mark.parametrize(
    ("answers", "codes", "data"),
    [
        ({"5": [1]}, ["halo.not_a_ticket"], {"ticket": "5"}),
        ({"5": b"oops"}, ["halo.not_json", "halo.check_for_proxy"], {"message": "oops"}),
        (
            {"token": EgressResponse(400, {}, b'{"error": "invalid_grant"}')},
            ["halo.sign_in_rejected", "halo.configure_sign_in"],
            {},
        ),
    ],
)
def test_odd_answer_of_halo_has_its_reason(answers: dict[str, Any], codes: list[str], data: dict[str, str]) -> None:
    with pytest.raises((Permanent, Temporary)) as raised:
        read_ticket(HaloClient(ACCOUNT), line(Server(answers)))
    remedy = getattr(raised.value, "remedy_reason", None)
    assert [reason.code for reason in (raised.value.reason, remedy) if reason] == codes
    assert raised.value.reason.data == {**raised.value.reason.data, **data}


def test_created_ticket_without_a_number_has_an_unknown_outcome() -> None:
    server = Server({"Tickets": {"id": None}})
    sender = HALOITSM.open_sender(ACCOUNT, cast(HttpClient, server))
    with pytest.raises(Temporary) as raised:
        sender.send(job("create", {"summary": "VPN down"}), line(server), NOW)
    assert raised.value.reason.code == "halo.no_ticket_number"


def test_sign_in_of_an_unnamed_agent_is_shown() -> None:
    server = Server({"me": {"id": 7}, "Tickets": {"record_count": 3, "tickets": []}, "Status": []})
    sender = HALOITSM.open_sender(ACCOUNT, cast(HttpClient, server))
    assert sender.verify(line(server), NOW).data["agent"]["code"] == "an agent without a name"


LISTS = ReferenceLists([ReferenceEntry("agent", "7", "Zoe Halo", {})])


@pytest.mark.parametrize(
    ("content", "lists", "assignees", "key", "code"),
    [
        ({"agent": {"user": 3}}, ReferenceLists([]), {}, "wait", "ticket.lists_not_read"),
        ({"agent": {"user": 3}}, LISTS, {7: (4, "Bob", "")}, "remark", "ticket.assigned_meanwhile"),
        ({"agent": {"name": "Nobody"}}, LISTS, {7: (None, "Nobody", "")}, "remark", "ticket.no_agent_named"),
    ],
)
def test_agent_that_cannot_be_set_has_its_reason(
    content: dict[str, Any], lists: ReferenceLists, assignees: Any, key: str, code: str
) -> None:
    context = dispatcher._load_context(job("write", content), HALOITSM, {}, lists, {}, {}, {}, assignees)
    assert context[key].code == code


def http_sender(settings: dict[str, Any], server: Server) -> Any:
    return HTTP.open_sender(
        IntegrationAccount(1, "Desk", {"url": "https://93.184.216.34", **settings}, {"client_secret": "secret"}),
        cast(HttpClient, server),
    )


def test_invalid_json_of_a_template_is_to_be_corrected() -> None:
    server = Server({})
    settings = {"headers": {"Content-Type": "application/json"}, "body": '{"t": <subject>}'}
    with pytest.raises(Permanent) as raised:
        http_sender(settings, server).send(job("call", {"values": {"subject": "VPN down"}}), line(server), NOW)
    assert (raised.value.reason.code, raised.value.remedy_reason.code) == (
        "outbound.invalid_body", "outbound.correct_template",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, "outbound.settings_complete"),
        ({"auth": "oauth2", "token_url": "https://93.184.216.34/token", "client_id": "c"}, "outbound.token_accepted"),
    ],
)
def test_check_of_an_http_call_says_what_it_checked(settings: dict[str, str], code: str) -> None:
    server = Server({})
    assert http_sender(settings, server).verify(line(server), NOW).code == code


def test_disabled_integration_blocks_its_calls() -> None:
    class Pool:
        def get(self, _integration_id: int) -> None:
            return None

    result = dispatcher.make_call(cast(Any, Pool()), job("call", {}), lambda: NOW)
    assert isinstance(result.outcome, AttemptFailed)
    assert result.outcome.error.code == "outbound.integration_disabled"


def test_error_in_a_connector_fails_its_call_only() -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    outcome = dispatcher._outcome(job("call", {}), broken)
    assert isinstance(outcome, AttemptFailed)
    assert (outcome.error.code, outcome.error.data) == ("outbound.internal_error", {"error": "ZeroDivisionError"})
