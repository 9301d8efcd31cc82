"""Telegram's servers behind the kind `telegram`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.doubles.http import Response
from tests.doubles.telegram import telegram_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, SECRET, ProviderServer, refusals
from tocsin.notify.interfaces import ProviderAccount


@contextmanager
def telegram_server() -> Iterator[ProviderServer]:
    with telegram_double() as double:
        double.token = SECRET

        def answer(how: str) -> None:
            refused = b'{"ok": false, "error_code": 400, "description": "Bad Request: message is too long"}'
            answers = {
                "temporary": Response(502),
                "permanent": Response(400, refused),
                "unknown": Response(hangs_up=True),
            }
            double.answers.append(answers[how])

        def keys() -> list[str]:
            return [request.headers.get("idempotency-key", "") for request in double.http.requests]

        def accepted() -> int:
            return len(double.messages)

        account = ProviderAccount("Telegram", {"api_base": double.http.url}, {"bot_token": SECRET})

        def refused(status: int, description: str) -> Response:
            body = {"ok": False, "error_code": status, "description": description}
            return Response(status, json.dumps(body).encode())

        texts = {
            "credentials": refused(401, "Unauthorized"),
            "unpaid": refused(402, "Payment Required"),
            "sender": refused(403, "Forbidden: bot was kicked from the group chat"),
            "policy": refused(400, "Bad Request: not enough rights to send text messages to the chat"),
            "quota": refused(400, "Bad Request: too much messages in the queue"),
            NO_SUCH_ADDRESS: refused(403, "Forbidden: user is deactivated"),
        }
        yield ProviderServer(
            account, "telegram:123456789", "chat", answer, keys, lambda: len(double.messages), double.answers.append,
            refuse=refusals(double.answers.append, texts),
        )  # fmt: skip
