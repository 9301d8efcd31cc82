"""Providers whose servers fail as dice say."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tocsin.core.database import Connection
from tocsin.core.egress import OutcomeUnknown
from tocsin.core.errors import Permanent, Temporary
from tocsin.notify import health
from tocsin.notify.channels.contract import AddressRefused, Rendered, Sent
from tocsin.notify.channels.registry import KINDS
from tocsin.notify.providers import Carrier, Directory

#: A try that fails mostly fails for a while only.
_FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: Temporary("It is away."),
    lambda: Temporary("It is away."),
    lambda: OutcomeUnknown("No answer came."),
    lambda: Permanent("There is no such topic."),
    lambda: AddressRefused("It does not carry there."),
)


@dataclass
class DiceSender:
    """Accepts messages; a `fail_rate` of them fails. `leaving` is called before each."""

    rng: random.Random
    fail_rate: float
    leaving: Callable[[], None]

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> Sent:
        self.leaving()
        if self.rng.random() < self.fail_rate:
            raise self.rng.choice(_FAILURES)()
        return Sent()

    def verify(self) -> str:
        if self.rng.random() < self.fail_rate:
            raise Temporary("It is away.")
        return "It works."

    def close(self) -> None:
        pass


class Gateways(Directory):
    """One provider for e-mail and two for ntfy, of which the second stands in; text messages stay in the sandbox."""

    def __init__(self, sender: DiceSender) -> None:
        super().__init__()
        self._gateways = (
            Carrier("Mail", None, KINDS["smtp"], ("email",), sender),
            Carrier("Push 1", None, KINDS["ntfy"], ("ntfy",), sender),
            Carrier("Push 2", None, KINDS["ntfy"], ("ntfy",), sender),
        )
        self._late: frozenset[str] = frozenset()

    def refresh(self, connection: Connection) -> None:
        super().refresh(connection)
        self._late = health.passed_over(connection)

    def all(self) -> Sequence[Carrier]:
        return sorted(self._gateways, key=lambda gateway: gateway.name in self._late)

    def has_provider(self, channel: str) -> bool:
        return any(channel in gateway.channels for gateway in self._gateways)

    def get(self, name: str) -> Carrier | None:
        return next((gateway for gateway in self._gateways if gateway.name == name), None)
