"""What the API of another product answers, and the reason that a user reads."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from tests.doubles.http import HttpDouble, Response, http_double
from tests.support.outbox_harness import configured
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import Reason, as_reason, reason_as_json
from tocsin.importers import api_reader
from tocsin.importers.api_reader import ApiReader


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpDouble]:
    configured(monkeypatch, allow_targets=(ip_network("127.0.0.0/8"),))
    with http_double() as double:
        yield double


def reason_of(server: HttpDouble, response: Response) -> Reason:
    """Why the account cannot be read if each answer is `response`."""
    server.answering = lambda request: response
    reader = ApiReader("Opsgenie", server.url, {}, sleep=lambda seconds: None)
    try:
        with pytest.raises((Permanent, Temporary)) as raised:
            reader.get("v2/users", limit=2)
    finally:
        reader.close()
    return raised.value.full_reason


@pytest.mark.parametrize(
    ("response", "code", "data"),
    [
        (Response(503), "{product} answered {status} at {path}, {attempts} times. Try again later.",
        {"status": 503, "attempts": api_reader.MAX_ATTEMPTS}),
        (Response(422, b'{"error": {"message": "No such  team."}}'), "{product} answered {status} at {path}: "
        "{message}.",
         {"status": 422, "message": reason_as_json(as_reason("No such team"))}),
        (Response(422, b'{"took": 1}'), "{product} answered {status} at {path}: {message}.",
         {"message": {"code": "it does not say why", "data": {}}}),
        (Response(422, b"<html>"), "{product} answered {status} at {path}: {message}.",
         {"message": {"code": "it does not say why", "data": {}}}),
    ],
)  # fmt: skip
def test_error_answer_names_path_and_message(
    server: HttpDouble, response: Response, code: str, data: dict[str, object]
) -> None:
    reason = reason_of(server, response)
    assert reason.code == code
    assert reason.data == {**reason.data, "path": "/v2/users", "product": "Opsgenie", **data}


def test_redirect_names_the_setting_to_change(server: HttpDouble) -> None:
    reason = reason_of(server, Response(301, headers={"Location": "https://elsewhere.example"}))
    assert [part["code"] for part in reason.data["parts"]] == [
        "{product} redirects from {path}.",
        "Set the address of the API itself.",
    ]


def test_account_of_too_many_objects_is_not_read_on(server: HttpDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_reader, "MAX_REQUESTS", 0)
    reason = reason_of(server, Response(200, b"[]"))
    assert (reason.code, reason.data) == (
        "{product} has more than {limit} objects to read, which is too many to import.",
        {"product": "Opsgenie", "limit": 0},
    )
