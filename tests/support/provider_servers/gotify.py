"""A Gotify server on loopback behind the kind `gotify` (https://gotify.net/api-docs)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.doubles.http import Request, Response, http_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, ProviderServer, refusals
from tocsin.notify.integrations.gotify import GotifyChannel
from tocsin.notify.interfaces import ProviderAccount

TOKEN = GotifyChannel.example


@contextmanager
def gotify_server(messages: list[dict[str, Any]] | None = None) -> Iterator[ProviderServer]:
    """`messages` gets what the server accepted."""
    accepted: list[dict[str, Any]] = [] if messages is None else messages
    given: list[Response] = []

    def answering(request: Request) -> Response:
        if request.path == "/health":
            return Response(200, b'{"health": "green", "database": "green"}')
        if given:
            return given.pop(0)
        if request.method != "POST" or request.path != "/message":
            return refusal(404, "page not found")
        if request.headers.get("x-gotify-key") != TOKEN:
            return refusal(401, "you need to provide a valid access token or user credentials to access this api")
        message = request.json()
        if not message.get("message"):
            return refusal(400, "Field 'message' is required")
        accepted.append(message)
        return Response(200, json.dumps({"id": len(accepted), "appid": 1, **message}).encode())

    with http_double(answering) as http:

        def answer(how: str) -> None:
            answers = {"temporary": Response(503), "permanent": refusal(400, "bad"), "unknown": Response(hangs_up=True)}
            given.append(answers[how])

        def keys() -> list[str]:
            return [request.headers["idempotency-key"] for request in http.requests if request.method == "POST"]

        answers = {
            "credentials": Response(401), "unpaid": Response(402), "sender": refusal(403, "you are not allowed"),
            "policy": Response(451), "quota": Response(413), NO_SUCH_ADDRESS: refusal(401, "you need a valid token"),
        }  # fmt: skip
        yield ProviderServer(
            ProviderAccount("Gotify", {"api_base": http.url}), GotifyChannel().normalize_address(TOKEN), "gotify",
            answer, keys, lambda: len(accepted), given.append, refuse=refusals(given.append, answers),
        )  # fmt: skip


def refusal(status: int, description: str) -> Response:
    body = {"error": "Unauthorized", "errorCode": status, "errorDescription": description}
    return Response(status, json.dumps(body).encode())
