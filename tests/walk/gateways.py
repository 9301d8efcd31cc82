"""Providers whose servers fail as dice say. What they took can be looked at, answered and reported on."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.notify.interfaces import AddressRejected, Rendered, SendReceipt
from tocsin.notify.providers.pool import ProviderPool

#: A try that fails mostly fails for a while only.
_FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: Temporary("It is away."),
    lambda: Temporary("It is away."),
    lambda: OutcomeUnknown("No answer came."),
    lambda: Permanent("There is no such topic."),
    lambda: AddressRejected("It does not carry there."),
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that arrived, and by which provider."""

    at: datetime
    provider: str
    channel: str
    address: str
    key: str
    rendered: Rendered


@dataclass
class Weather:
    """How providers are doing. `leaving` is called before each message, and says what time it is."""

    rng: random.Random
    leaving: Callable[[], datetime]
    #: What part of the tries fails, by provider; "" is every other's.
    fail_rates: dict[str, float]
    #: The last that arrived.
    letters: deque[Letter] = field(default_factory=lambda: deque(maxlen=20))

    def fails(self, provider: str) -> bool:
        return self.rng.random() < self.fail_rates.get(provider, self.fail_rates[""])


@dataclass
class DiceSender:
    """One provider's."""

    name: str
    weather: Weather

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> SendReceipt:
        at = self.weather.leaving()
        failure = self.weather.rng.choice(_FAILURES)() if self.weather.fails(self.name) else None
        # What nothing was heard of may have arrived.
        if failure is None or isinstance(failure, OutcomeUnknown):
            self.weather.letters.append(Letter(at, self.name, channel, address, idempotency_key, rendered))
        if failure is not None:
            raise failure
        return SendReceipt()

    def verify(self) -> str:
        if self.weather.fails(self.name):
            raise Temporary("It is away.")
        return "It works."

    def close(self) -> None:
        pass


class Gateways(ProviderPool):
    """What is configured, but for the servers."""

    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self._weather = weather

    def _load(self, connection: Connection) -> None:
        super()._load(connection)
        self._carriers = tuple(replace(one, sender=DiceSender(one.name, self._weather)) for one in self._carriers)
