"""A company's own gateway behind the kind `http_gateway`: JSON in, JSON out, a token in a header."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.doubles.http import Request, Response, http_double
from tests.support.provider_servers.interface import SECRET, ProviderServer, refusals
from tocsin.notify.interfaces import ProviderAccount


@contextmanager
def http_gateway_server() -> Iterator[ProviderServer]:
    specs: list[dict[str, Any]] = []
    answers: list[Response] = []

    def answering(request: Request) -> Response:
        if request.headers.get("x-token") != f"Key {SECRET}":
            return Response(401)
        if request.method == "HEAD":
            return Response(405, b"")
        if answers:
            return answers.pop(0)
        message = request.json()
        assert set(message) == {"to", "from", "text"}
        specs.append(message)
        return Response(200, json.dumps({"messages": [{"status": "queued", "id": f"m{len(specs)}"}]}).encode())

    def answer(how: str) -> None:
        refused = json.dumps({"messages": [{"status": "rejected"}], "error": {"message": "no such number"}}).encode()
        known = {"temporary": Response(503), "permanent": Response(200, refused), "unknown": Response(hangs_up=True)}
        answers.append(known[how])

    with http_double(answering) as http:
        settings = {
            "api_base": http.url, "body": '{"to": "<to>", "from": "<from>", "text": "<text>"}', "from_number": "Acme",
            "secret_header": "X-Token", "secret_prefix": "Key", "ok_path": "messages^0^status", "ok_value": "queued",
            "id_path": "messages^0^id", "error_path": "error^message",
        }  # fmt: skip

        def keys() -> list[str]:
            return [r.headers["idempotency-key"] for r in http.requests if r.method == "POST"]

        account = ProviderAccount("Gateway", settings, {"secret": SECRET})
        # A gateway of one's own has no code for an address that does not exist.
        known = {
            "credentials": Response(401), "unpaid": Response(402), "sender": Response(403), "quota": Response(400),
            "policy": Response(200, json.dumps({"messages": [{"status": "rejected"}]}).encode()),
        }  # fmt: skip
        yield ProviderServer(
            account, "+41790000001", "sms", answer, keys, lambda: len(specs), answers.append,
            refuse=refusals(answers.append, known),
        )  # fmt: skip
