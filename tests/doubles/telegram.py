"""Telegram's Bot API on loopback (https://core.telegram.org/bots/api): messages, webhooks, and the updates it sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.http import HttpDouble, Request, Response, http_double


@dataclass
class TelegramDouble:
    """`answers` are given to the next messages instead of taking them."""

    http: HttpDouble
    token: str = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
    messages: list[dict[str, Any]] = field(default_factory=list)
    edits: list[dict[str, Any]] = field(default_factory=list)
    webhook: dict[str, Any] = field(default_factory=dict)
    told: threading.Event = field(default_factory=threading.Event)
    answers: list[Response] = field(default_factory=list)

    def answer(self, request: Request) -> Response:
        bot, _, method = request.path.removeprefix("/bot").partition("/")
        if bot != self.token:
            return _refused(401, "Unauthorized")
        body = json.loads(request.body or b"{}")
        match method:
            case "getMe":
                return _result({"id": 1, "is_bot": True, "username": "acme_tocsin_bot"})
            case "setWebhook":
                self.webhook = body
                self.told.set()
                return _result(True)
            case "sendMessage":
                return self.answers.pop(0) if self.answers else self._send(body)
            case "editMessageText":
                if body in self.edits[-1:]:
                    return _refused(400, "Bad Request: message is not modified")
                self.edits.append(body)
                return _result({"message_id": body["message_id"]})
        return _refused(404, "Not Found")

    def _send(self, body: dict[str, Any]) -> Response:
        if not 0 < len(body.get("text", "")) <= 4096:
            return _refused(400, "Bad Request: message text is empty or too long")
        for row in body.get("reply_markup", {}).get("inline_keyboard", []):
            if any(len(button["callback_data"].encode()) > 64 for button in row):
                return _refused(400, "Bad Request: BUTTON_DATA_INVALID")
        self.messages.append(body)
        return _result({"message_id": len(self.messages), "chat": {"id": body["chat_id"]}})

    def press(self, message: dict[str, Any], command: str, sender: int) -> dict[str, Any]:
        """The update that tells of a pressed button."""
        row = message["reply_markup"]["inline_keyboard"][0]
        (data,) = [button["callback_data"] for button in row if button["callback_data"].startswith(command)]
        # The keyboard comes with the message: https://core.telegram.org/bots/api#message
        shown = {"message_id": 7, "chat": {"id": message["chat_id"], "type": "private"}, "text": message["text"],
                 "reply_markup": message["reply_markup"]}  # fmt: skip
        query = {"id": "q1", "from": {"id": sender, "first_name": "Ann"}, "message": shown, "data": data}
        return {"update_id": 900, "callback_query": query}

    def text_update(self, text: str, sender: int, update: int = 1, kind: str = "private") -> dict[str, Any]:
        """The update that tells of a line somebody wrote."""
        chat = {"id": sender if kind == "private" else -100123, "type": kind}
        return {"update_id": update, "message": {"message_id": 8, "from": {"id": sender}, "chat": chat, "text": text}}


def _result(found: Any) -> Response:
    return Response(200, json.dumps({"ok": True, "result": found}).encode())


def _refused(status: int, text: str) -> Response:
    return Response(status, json.dumps({"ok": False, "error_code": status, "description": text}).encode())


@contextmanager
def telegram_double() -> Iterator[TelegramDouble]:
    """A running server."""
    with http_double() as http:
        double = TelegramDouble(http)
        http.answering = double.answer
        yield double
