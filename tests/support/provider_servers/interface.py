"""What the conformance test needs of each kind of provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from tests.doubles.http import Response
from tocsin.notify.interfaces import ProviderAccount

SECRET = "s3cret-Of-The-Provider"

#: What every kind of provider is refused for until a person acts, and what makes an address final.
REFUSALS = ("credentials", "unpaid", "sender", "policy", "quota")
NO_SUCH_ADDRESS = "no such address"


@dataclass
class ProviderServer:
    """A kind of provider with a real server behind it, which can be told how to answer the next message."""

    account: ProviderAccount
    address: str
    channel: str
    answer: Callable[[str], None]
    #: The idempotency keys that the server saw, and everything it saw as text.
    keys_seen: Callable[[], list[str]]
    accepted: Callable[[], int]
    #: Gives the next message this very answer; None for what does not speak HTTP.
    give: Callable[[Response], None] | None = None
    #: Makes the server refuse the next message for one of REFUSALS, or NO_SUCH_ADDRESS, as the vendor words it.
    refuse: Mapping[str, Callable[[], None]] = field(default_factory=dict)


def refusals[T](give: Callable[[T], None], answers: Mapping[str, T]) -> dict[str, Callable[[], None]]:
    """For `ProviderServer.refuse`: `give` answers the next message."""
    return {why: partial(give, answer) for why, answer in answers.items()}
