"""An ntfy server behind the kind `ntfy`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.doubles.http import Response
from tests.doubles.ntfy import ntfy_double
from tests.support.provider_servers.interface import SECRET, ProviderServer, refusals
from tocsin.notify.interfaces import ProviderAccount


@contextmanager
def ntfy_server() -> Iterator[ProviderServer]:
    with ntfy_double() as double:
        double.token = SECRET

        def answer(how: str) -> None:
            answers = {"temporary": Response(503), "permanent": Response(400), "unknown": Response(hangs_up=True)}
            double.answers.append(answers[how])

        def keys() -> list[str]:
            return [request.headers["idempotency-key"] for request in double.http.requests]

        account = ProviderAccount("ntfy", {"api_base": double.url}, {"token": SECRET})
        # ntfy has no addresses that do not exist: the first message creates a topic.
        answers = {
            "credentials": Response(401), "unpaid": Response(403), "sender": Response(400),
            "policy": Response(403), "quota": Response(413),
        }  # fmt: skip
        yield ProviderServer(
            account, "alice-topic", "ntfy", answer, keys, lambda: len(double.messages), double.answers.append,
            refuse=refusals(double.answers.append, answers),
        )  # fmt: skip
