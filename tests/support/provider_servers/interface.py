"""What the conformance test needs of each kind of provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.doubles.http import Response
from tocsin.notify.interfaces import ProviderAccount

SECRET = "s3cret-Of-The-Provider"


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
