"""What the conformance test needs of each kind of provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from tests.doubles.http import HttpDouble, Response
from tests.doubles.phone_exchange import Exchange
from tocsin.notify.interfaces import Callback, ProviderAccount

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


@dataclass(frozen=True, slots=True)
class Signing:
    """An account of a vendor, how the vendor signs a callback, and what it calls."""

    account: ProviderAccount
    #: Returns the signature's headers.
    headers: Callable[[Callback], Mapping[str, str]]
    what: tuple[str, ...]
    #: What a right body looks like: its places are filled with odd values.
    shapes: tuple[Any, ...]
    is_form: bool = False
    #: Returns the body with its signature, for a vendor that signs there.
    signed_body: Callable[[bytes], bytes] = bytes


class HotlineDouble(Protocol):
    """A vendor that carries calls to a hotline, on loopback. It calls back to `server`."""

    http: HttpDouble
    server: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, str]
    exchange: Exchange
    #: The number that people call.
    hotline: str
    is_down: bool
    recordings: dict[str, bytes]
    recording: bytes

    def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, str]:
        """Posts a signed request. Returns status and body of the answer."""
        ...


class SmsDouble(Protocol):
    """A vendor of texts on loopback that calls back to `server`."""

    server: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, str]
    #: Each with `to`, and `text` or `body`.
    messages: list[dict[str, Any]]

    def received(
        self, url: str, sender: str, text: str, at: float, number: str = "in-1", *, forged: bool = False
    ) -> int:
        """Somebody sends a text. Returns the HTTP status that the server answers."""
        ...

    def finalized(self, message: Mapping[str, Any], status: str, at: float) -> int:
        """Sends the receipt of a message."""
        ...
