"""Providers whose servers fail at random. Their sent messages can be inspected, answered and reported on."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import AddressRejected, NoSuchAddress
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import Reason, as_reason
from tocsin.notify.interfaces import Rendered
from tocsin.notify.providers.pool import ProviderPool

#: Most failures are temporary.
_FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: Temporary(as_reason("It is away.")),
    lambda: Temporary(as_reason("It is away.")),
    lambda: OutcomeUnknown(as_reason("No answer came.")),
    lambda: Permanent(as_reason("There is no such topic.")),
    lambda: AddressRejected(as_reason("It does not carry there.")),
    lambda: NoSuchAddress(as_reason("There is no such address.")),
)


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that arrived, and its provider."""

    at: datetime
    provider: str
    channel: str
    address: str
    key: str
    rendered: Rendered


@dataclass
class ProviderConditions:
    """The failure rates of providers. `on_send` is called before each message and returns the current time."""

    rng: random.Random
    on_send: Callable[[], datetime]
    #: The share of failing attempts by provider; "" applies to all others.
    fail_rates: dict[str, float]
    #: The last messages that arrived.
    sent_messages: deque[SentMessage] = field(default_factory=lambda: deque(maxlen=20))

    def fails(self, provider: str) -> bool:
        return self.rng.random() < self.fail_rates.get(provider, self.fail_rates[""])


@dataclass
class RandomSender:
    """The sender of one provider."""

    name: str
    conditions: ProviderConditions

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        at = self.conditions.on_send()
        failure = self.conditions.rng.choice(_FAILURES)() if self.conditions.fails(self.name) else None
        # A message with an unknown outcome may have arrived.
        if failure is None or isinstance(failure, OutcomeUnknown):
            self.conditions.sent_messages.append(
                SentMessage(at, self.name, channel, address, idempotency_key, rendered)
            )
        if failure is not None:
            raise failure
        return ""

    def verify(self) -> Reason:
        if self.conditions.fails(self.name):
            raise Temporary(as_reason("It is away."))
        return as_reason("It works.")

    def close(self) -> None:
        pass


class RandomProviderPool(ProviderPool):
    """The configured providers with simulated servers."""

    def __init__(self, conditions: ProviderConditions) -> None:
        super().__init__()
        self._conditions = conditions

    def _load(self, connection: Connection) -> None:
        super()._load(connection)
        self._providers = tuple(
            replace(one, sender=RandomSender(one.name, self._conditions)) for one in self._providers
        )
