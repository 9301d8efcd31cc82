"""A mail server behind the kind `smtp`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.doubles.smtp import smtp_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, SECRET, ProviderServer, refusals
from tocsin.notify.interfaces import ProviderAccount


@contextmanager
def smtp_server() -> Iterator[ProviderServer]:
    with smtp_double(login=("tocsin", SECRET)) as double:

        def answer(how: str) -> None:
            double.answers.append({"temporary": "451 later", "permanent": "554 no", "unknown": ""}[how])

        def keys() -> list[str]:
            return [str(mail.message["Message-ID"]) for mail in double.mails]

        settings = {"host": "127.0.0.1", "port": double.port, "username": "tocsin", "sender": "T <t@example.org>"}
        account = ProviderAccount("Mail", settings, {"password": SECRET})
        refuse = {
            "credentials": lambda: double.refuse_logins.extend(["535 5.7.8 authentication failed"] * 2),
            **refusals(
                double.answer_recipients.append,
                {
                    "sender": "550 5.1.8 <t@example.org>: Sender address rejected: Domain not found",
                    "policy": "550 relaying denied",
                    NO_SUCH_ADDRESS: "550 5.1.1 <alice@example.org>: no such user",
                },
            ),
            **refusals(double.answers.append, {"unpaid": "550 not permitted", "quota": "554 5.2.2 quota exceeded"}),
        }
        yield ProviderServer(
            account, "alice@example.org", "email", answer, keys, lambda: len(double.mails), refuse=refuse
        )
