"""A Slack workspace on loopback: `chat.postMessage`, `auth.test`, response URLs, and requests signed as Slack does
(https://api.slack.com/authentication/verifying-requests-from-slack)."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from tests.doubles.http import HttpDouble, Request, Response, http_double

_TYPES = {"header", "section", "context", "actions", "divider"}


@dataclass
class SlackDouble:
    """`answers` are given to the next messages instead of taking them; `errors` are Slack's own, with status 200."""

    http: HttpDouble
    token: str = "xoxb-1"
    signing_secret: str = "8f742231b10e8888abcd99yyyzzz85a5"
    messages: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    responses: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    #: User groups with their members, in the order in which they were set; `group_errors` are answered instead.
    user_groups: list[tuple[str, list[str]]] = field(default_factory=list)
    group_errors: list[str] = field(default_factory=list)
    responded: threading.Event = field(default_factory=threading.Event)

    @property
    def api(self) -> str:
        return f"{self.http.url}/api"

    def answer(self, request: Request) -> Response:
        if request.path.startswith("/actions/"):
            self.responses.append(request.json())
            self.responded.set()
            return Response(200, b"ok")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _json_response({"ok": False, "error": "invalid_auth"})
        if request.path == "/api/auth.test":
            return _json_response({"ok": True, "team": "Acme", "user": "tocsin"})
        if request.path == "/api/chat.update":
            return self.answers.pop(0) if self.answers else self._update(request.json())
        if request.path == "/api/usergroups.users.update":
            return self._set_members(request.json())
        if request.path != "/api/chat.postMessage" or request.method != "POST":
            return _json_response({"ok": False, "error": "unknown_method"})
        if self.answers:
            return self.answers.pop(0)
        if self.errors:
            return _json_response({"ok": False, "error": self.errors.pop(0)})
        return self._post(request.json())

    def _post(self, message: dict[str, Any]) -> Response:
        if not message.get("text") or not all(_is_within_limits(block) for block in message.get("blocks", [])):
            return _json_response({"ok": False, "error": "invalid_blocks"})
        self.messages.append(message)
        return _json_response({"ok": True, "channel": message["channel"], "ts": f"1700000000.{len(self.messages):06}"})

    def _update(self, message: dict[str, Any]) -> Response:
        if not all(_is_within_limits(block) for block in message.get("blocks", [])):
            return _json_response({"ok": False, "error": "invalid_blocks"})
        if message["ts"] not in {f"1700000000.{number + 1:06}" for number in range(len(self.messages))}:
            return _json_response({"ok": False, "error": "message_not_found"})
        self.updates.append(message)
        return _json_response({"ok": True, "channel": message["channel"], "ts": message["ts"]})

    def _set_members(self, body: dict[str, Any]) -> Response:
        """https://docs.slack.dev/reference/methods/usergroups.users.update"""
        members = [member for member in str(body.get("users", "")).split(",") if member]
        if self.group_errors:
            return _json_response({"ok": False, "error": self.group_errors.pop(0)})
        if not members:
            return _json_response({"ok": False, "error": "no_users_provided"})
        if not all(member[0] in "UW" for member in members):
            return _json_response({"ok": False, "error": "invalid_users"})
        self.user_groups.append((body["usergroup"], members))
        return _json_response({"ok": True, "usergroup": {"id": body["usergroup"], "users": members}})

    def press(self, message: dict[str, Any], command: str, member: str) -> bytes:
        """The body with which Slack tells of a pressed button."""
        button = next(
            element
            for block in message["blocks"]
            if block["type"] == "actions"
            for element in block["elements"]
            if element["action_id"].endswith(command)
        )
        payload = {
            "type": "block_actions",
            "user": {"id": member, "name": "ann"},
            "channel": _channel(message["channel"]),
            "actions": [{"action_id": button["action_id"], "value": button["value"], "type": "button"}],
            "message": {"text": message["text"], "blocks": message["blocks"]},
            "response_url": f"{self.http.url}/actions/T1/{len(self.responses)}",
        }
        return urlencode({"payload": json.dumps(payload)}).encode()

    def signed(self, body: bytes, at: datetime, secret: str | None = None) -> dict[str, str]:
        """The headers of a request that Slack makes."""
        stamp = str(int(at.timestamp()))
        key = (self.signing_secret if secret is None else secret).encode()
        digest = hmac.new(key, f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}


def _channel(address: str) -> dict[str, str]:
    """What a member is written to in is a direct message, with an id of its own."""
    return {"id": f"D{address[1:]}", "name": "directmessage"} if address[0] in "UW" else {"id": address, "name": "desk"}


def _is_within_limits(block: dict[str, Any]) -> bool:
    """The limits of Block Kit that a message could break."""
    text = block.get("text", {}).get("text", "x")
    most = {"header": 150, "section": 3000}.get(block["type"], 3000)
    return block["type"] in _TYPES and 0 < len(text) <= most


def _json_response(body: dict[str, Any]) -> Response:
    return Response(200, json.dumps(body).encode())


@contextmanager
def slack_double() -> Iterator[SlackDouble]:
    """A running workspace."""
    with http_double() as http:
        double = SlackDouble(http)
        http.answering = double.answer
        yield double
