"""Twilio behind the kind `twilio`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from tests.doubles.http import Response
from tests.doubles.twilio import twilio_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, SECRET, ProviderServer, refusals
from tocsin.notify.interfaces import ProviderAccount

hotline_double = twilio_double


@contextmanager
def twilio_server() -> Iterator[ProviderServer]:
    with twilio_double(SECRET) as double:

        def answer(how: str) -> None:
            answers = {"temporary": Response(503), "permanent": "number", "unknown": Response(hangs_up=True)}
            double.refusals.append(answers[how])

        def keys() -> list[str]:
            fields = [parse_qs(request.body.decode()) for request in double.http.requests if request.method == "POST"]
            return [results["StatusCallback"][0] for results in fields]

        callbacks = "https://tocsin.example.org/hooks/twilio"
        account = ProviderAccount("Twilio", double.settings, {"auth_token": SECRET}, callback_base_url=callbacks)
        names = {
            "credentials": "auth", "unpaid": "suspended", "sender": "sender", "policy": "country", "quota": "spending",
            NO_SUCH_ADDRESS: "number",
        }  # fmt: skip
        yield ProviderServer(
            account, "+41790000001", "sms", answer, keys, lambda: len(double.messages), double.refusals.append,
            refuse=refusals(double.refusals.append, names),
        )  # fmt: skip
