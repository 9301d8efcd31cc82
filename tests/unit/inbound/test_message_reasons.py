"""What the log says of a message whose sender, form or client is odd."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest

from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.egress import EgressResponse
from tocsin.inbound import ingest_service, inspect, webhook_endpoint
from tocsin.inbound.compat import pagerduty
from tocsin.inbound.config.compiled_integration import ADDRESS, ClientMap, CredentialStatus, apply_client_table
from tocsin.inbound.config.rules import NO_ROUTES, RouteChoice
from tocsin.inbound.deciding import noise_reduction
from tocsin.inbound.storage.messages import element_of


class Stub:
    """An object with these attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes


@pytest.mark.parametrize(
    ("status", "address", "code", "data"),
    [
        (CredentialStatus.VALID, "192.0.2.1", "request.address_allowed", {"address": "192.0.2.1"}),
        (CredentialStatus.MISSING, None, "request.address_not_allowed",
         {"address": {"code": "request.unknown_address", "data": {}}}),
    ],
)  # fmt: skip
def test_address_of_a_sender_is_told(
    status: CredentialStatus, address: str | None, code: str, data: dict[str, object]
) -> None:
    reason = ingest_service._describe_credential(ADDRESS, status, address)
    assert (reason.code, reason.data) == (code, data)


def test_keys_of_a_sender_come_by_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Permanent) as raised:
        webhook_endpoint.fetch("http://keys.example.org")
    assert raised.value.reason.code == "The address is not https."
    client = Stub(request=lambda *arguments, **more: EgressResponse(404, {}, b""))
    monkeypatch.setattr(webhook_endpoint, "_client", lambda: client)
    with pytest.raises(Permanent) as raised:
        webhook_endpoint.fetch("https://keys.example.org/1")
    assert (raised.value.reason.code, raised.value.reason.data) == (
        "{host} answered {status}.", {"host": "keys.example.org", "status": "404"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tables", "code"),
    [
        ({}, "its client table was deleted"),
        ({7: ClientMap("Clients")}, "a message without a client is not in client table {table}"),
    ],
)
def test_route_by_a_client_table_says_why_it_stays(tables: dict[int, ClientMap], code: str) -> None:
    integration = Stub(directory=Stub(client_tables=tables))
    event = Stub(mapped=Stub(text=lambda field: ""))
    route = apply_client_table(
        cast(Any, integration), RouteChoice(0, "", NO_ROUTES(), client_table=7), cast(Any, event)
    )
    assert [part["code"] for part in route.reason.data["parts"]][-1] == code


def test_message_without_subject_and_id_is_a_message() -> None:
    event = Stub(source_id="", mapped=Stub(text=lambda field: ""))
    assert noise_reduction.describe_message(cast(Any, event)).code == "message.untitled"


def test_stored_message_of_several_objects_is_none() -> None:
    rejected = element_of(b'[{"a": 1}, {"a": 2}]', "application/json", lenient=False)
    assert isinstance(rejected, Rejected)
    assert rejected.reason.code == "The message is not one object."


def test_event_type_that_pagerduty_has_not_is_rejected() -> None:
    assert [problem.code for problem in pagerduty._problems_v1({"event_type": "page"})] == [
        "Event type is invalid (must be one of the following: trigger, acknowledge or resolve)"
    ]


def test_too_many_messages_are_not_replayed() -> None:
    ids = [UUID(int=0)] * (inspect.MAX_REPLAYED_MESSAGES + 1)
    with pytest.raises(Rejected) as rejected:
        inspect.replay_many(ids, None, cast(Any, None), cast(Any, None))
    assert (rejected.value.reason.code, rejected.value.reason["selected"]) == (
        "At most {limit} messages can be replayed at once; you selected {selected}.",
        len(ids),
    )
