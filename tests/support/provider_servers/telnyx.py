"""Telnyx behind the kind `telnyx`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.doubles.http import Response
from tests.doubles.telnyx import refusal, telnyx_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, SECRET, ProviderServer, refusals
from tocsin.notify.interfaces import ProviderAccount


@contextmanager
def telnyx_server() -> Iterator[ProviderServer]:
    with telnyx_double(SECRET) as double:

        def answer(how: str) -> None:
            answers = {
                "temporary": Response(503),
                "permanent": refusal(422, "40300", "Blocked due to STOP message"),
                "unknown": Response(hangs_up=True),
            }
            double.answers.append(answers[how])

        def keys() -> list[str]:
            return [r.headers["idempotency-key"] for r in double.http.requests if r.method == "POST"]

        callbacks = "https://tocsin.example.org/hooks/telnyx"
        account = ProviderAccount("Telnyx", double.settings, {"api_key": SECRET}, callback_base_url=callbacks)
        answers = {
            "credentials": refusal(401, "10009", "Authentication failed"),
            "unpaid": refusal(403, "20100", "Unpaid balance"),
            "sender": refusal(400, "40305", "Invalid 'from' address"),
            "policy": refusal(403, "40331", "Destination country not allowed"),
            "quota": refusal(403, "40333", "Spending limit reached"),
            NO_SUCH_ADDRESS: refusal(400, "40310", "Invalid 'to' address"),
        }
        yield ProviderServer(
            account, "+41790000001", "sms", answer, keys, lambda: len(double.messages), double.answers.append,
            refuse=refusals(double.answers.append, answers),
        )  # fmt: skip


sms_double = hotline_double = telnyx_double
