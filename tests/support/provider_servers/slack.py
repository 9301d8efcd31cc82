"""A workspace behind the kind `slack`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.doubles.http import Response
from tests.doubles.slack import slack_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, SECRET, ProviderServer, refusals
from tocsin.notify.interfaces import ProviderAccount


@contextmanager
def slack_server() -> Iterator[ProviderServer]:
    with slack_double() as double:
        double.token = SECRET

        def answer(how: str) -> None:
            if how == "permanent":
                double.errors.append("msg_too_long")
            else:
                double.answers.append(Response(503) if how == "temporary" else Response(hangs_up=True))

        def keys() -> list[str]:
            return [request.headers.get("idempotency-key", "") for request in double.http.requests]

        def accepted() -> int:
            return len(double.messages)

        account = ProviderAccount("Slack", {"api_base": double.api}, {"bot_token": SECRET, "signing_secret": SECRET})
        errors = {
            "credentials": "token_revoked", "unpaid": "account_inactive", "sender": "not_in_channel",
            "policy": "restricted_action", "quota": "org_login_required", NO_SUCH_ADDRESS: "user_not_found",
        }  # fmt: skip
        yield ProviderServer(
            account, "slack:U012AB3CD", "chat", answer, keys, lambda: len(double.messages), double.answers.append,
            refuse=refusals(double.errors.append, errors),
        )  # fmt: skip
