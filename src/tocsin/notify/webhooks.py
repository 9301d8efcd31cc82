"""What vendors tell Tocsin at `/hooks/{provider}/{what}`: the contract between a kind of provider, which knows its
vendor's signature and format, and Tocsin, which knows people and alerts. Decides and stores nothing itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from tocsin.notify.interfaces import CallScript, ProviderAccount


class InvalidWebhookSignature(Exception):
    """The request does not carry the vendor's valid signature: it is answered 403, and nothing else happens."""


@dataclass(frozen=True, slots=True)
class Callback:
    """One request of a vendor."""

    #: The last part of its path, such as `sms`, `voice` or `status`.
    what: str
    method: str
    #: As the vendor called it: the public address, with the query. Signatures are computed on it.
    url: str
    #: By lower-case name.
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class CallbackResponse:
    """What the vendor is answered."""

    status: int = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """One address that a person enters at the vendor's."""

    what: str
    label: str
    help: str


class ReceiptState(StrEnum):
    """The vendor's word on a message that it had accepted."""

    #: On its way: nothing is known yet. Nothing follows from it.
    ON_ITS_WAY = "on_its_way"
    DELIVERED = "delivered"
    #: A person picked up and was told, or pressed a key.
    ANSWERED = "answered"
    FAILED = "failed"
    #: Rang, was busy, or a machine answered: nobody was reached, and no provider is to blame.
    NOT_REACHED = "not_reached"
    #: A call is over. Whoever was told something is known by then; where nobody was, nobody was reached.
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a message. Found by `key`, the idempotency key that was sent along, else by the vendor's id."""

    state: ReceiptState
    key: str = ""
    external_id: str = ""
    #: Why it failed or reached nobody: a sentence.
    reason: str = ""
    #: Whether it is the address that fails, and not the provider.
    is_address: bool = False
    #: Whether it ends by itself within minutes.
    is_passing: bool = False


@dataclass(frozen=True, slots=True)
class InboundText:
    """A text message, or a line in a chat, that somebody sent to Tocsin."""

    channel: str
    sender: str
    text: str
    #: The vendor's id of it: one that comes twice is answered alike and acts once.
    external_id: str = ""
    #: STOP or START, where the vendor has understood it so already.
    opt_out: bool | None = None


@dataclass(frozen=True, slots=True)
class CallState:
    """Where a phone call stands: somebody picked up, or pressed a key."""

    #: The idempotency key of the message, else empty.
    key: str
    external_id: str = ""
    #: The number that was called.
    number: str = ""
    digits: str = ""
    #: What was asked before: a digit that needs to be pressed again.
    asked: str = ""
    #: Whether a machine answered.
    is_machine: bool = False


@dataclass(frozen=True, slots=True)
class CallPrompt:
    """What the call says next. With `script`, it is said (its text twice) and keys are awaited; else it ends."""

    say: str = ""
    script: CallScript | None = None
    #: Keys are awaited, and this digit confirms.
    asked: str = ""
    language: str = "en-GB"


@dataclass(frozen=True, slots=True)
class ButtonResult:
    """What came of a button: a sentence, also where it was refused."""

    #: In English, for a room in which others read it too.
    sentence: str
    #: In the language of whoever pressed it.
    told: str
    language: str = ""


class EventReceiver(Protocol):
    """Whom a kind tells what came. Every method is one transaction or several; none raises for what a person said."""

    def receipt(self, receipt: Receipt) -> None:
        """Notes what became of a message, and does what follows."""
        ...

    def text(self, said: InboundText) -> str:
        """Does what a text says; the answer to its sender, in plain words and their language. Empty: no answer."""
        ...

    def mail(self, raw: bytes) -> str:
        """Does what an answer by mail asks for, once; the outcome as a sentence. Raises Temporary while another process
        handles the same mail."""
        ...

    def call(self, turn: CallState) -> CallPrompt:
        """Goes on with a phone call."""
        ...

    def button(self, user_id: int, alert_id: int, command: str, via: str) -> ButtonResult:
        """Does what a button says, for a person the kind has made sure of (by `user_of` or a signed token)."""
        ...

    def user_of(self, channel: str, address: str) -> int | None:
        """The id of the active user who has this address on this channel, or None."""
        ...


@runtime_checkable
class WebhookProvider(Protocol):
    """A kind of provider whose vendor calls back."""

    #: What a person enters at the vendor's; the others are sent along with each message.
    points: tuple[WebhookEndpoint, ...]

    @abstractmethod
    def listen(self, account: ProviderAccount, callback: Callback, ears: EventReceiver) -> CallbackResponse:
        """Checks the signature, tells `ears` what came, and puts the answer in the vendor's form.

        Raises NotGenuine before anything else is done, and Rejected ("not_found", "invalid") for what cannot be read.
        """
        ...
