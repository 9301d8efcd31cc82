"""An ntfy server: publishing as JSON at `/`, health, and access tokens, with the answers of the real one
(https://docs.ntfy.sh/publish)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.http import HttpDouble, Request, Response, http_double

_KNOWN = {"topic", "message", "title", "tags", "priority", "actions", "click", "attach", "markdown", "icon",
          "filename", "delay", "email", "call", "sequence_id"}  # fmt: skip


@dataclass
class NtfyDouble:
    """`answers` are given to the next messages instead of taking them; `token` is wanted if it is set."""

    http: HttpDouble
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    token: str = ""
    takes: float = 0.0

    @property
    def url(self) -> str:
        return self.http.url

    def answer(self, request: Request) -> Response:
        if request.path == "/v1/health":
            return Response(200, b'{"healthy":true}')
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "unauthorized")
        if request.path == "/v1/account":
            return Response(200, b'{"username":"tocsin"}')
        if request.method != "POST" or request.path != "/":
            return _error(404, "page not found")
        if self.answers:
            return self.answers.pop(0)
        return self._publish(request)

    def _publish(self, request: Request) -> Response:
        # The real one reads twice as much as its limit of a message, and refuses what is longer.
        if len(request.body) > 2 * 4096:
            return _error(413, "JSON body too large")
        try:
            message = json.loads(request.body)
        except ValueError:
            return _error(400, "request body must be valid JSON")
        if set(message) - _KNOWN or not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", message.get("topic", "")):
            return _error(400, "invalid request: topic invalid")
        if message.get("priority", 3) not in range(1, 6) or len(message.get("actions", [])) > 3:
            return _error(400, "invalid request")
        if len(message.get("message", "").encode()) > 4096:
            return _error(413, "message too large")
        self.messages.append(message)
        answer = {"id": f"m{len(self.messages)}", "event": "message", "topic": message["topic"]}
        return Response(200, json.dumps(answer).encode(), takes=self.takes)


def _error(status: int, text: str) -> Response:
    return Response(status, json.dumps({"code": status * 100, "http": status, "error": text}).encode())


@contextmanager
def ntfy_double() -> Iterator[NtfyDouble]:
    """A running server."""
    with http_double() as http:
        double = NtfyDouble(http)
        http.answering = double.answer
        yield double
