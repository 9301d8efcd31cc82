"""The interface for vendor callbacks at `/hooks/{provider}/{what}`. A provider kind knows its vendor's signature and
format; an `EventReceiver` knows users and alerts. Decides and stores nothing itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tocsin.core.delivery.failure import FailureKind
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.notify.interfaces import CallScript, ProviderAccount


class InvalidWebhookSignature(Exception):
    """The request has no valid signature of the vendor. The response is 403 and nothing else happens."""


@dataclass(frozen=True, slots=True)
class Callback:
    """One request from a vendor."""

    #: The last part of the path, such as `sms`, `voice` or `status`.
    endpoint: str
    method: str
    #: The URL that the vendor called: the public address with the query. Signatures are computed over it.
    url: str
    #: Keys are in lower case.
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class CallbackResponse:
    """The HTTP response to the vendor."""

    status: int = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A webhook URL that an administrator enters in the vendor's console."""

    name: str
    label: str
    help: str


class ReceiptState(StrEnum):
    """The vendor's report on a message that it had accepted."""

    #: In transit. The report changes nothing.
    IN_TRANSIT = "on_its_way"
    DELIVERED = "delivered"
    #: A person answered the call and pressed a key.
    ANSWERED = "answered"
    FAILED = "failed"
    #: It rang out, the line was busy or a machine answered. Nobody was reached; the provider did not fail.
    NOT_REACHED = "not_reached"
    #: The call is over. If the message was heard, a DELIVERED or ANSWERED receipt has arrived by then; without one,
    #: nobody was reached.
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery receipt. Matched by `key`, the idempotency key that was sent, else by the vendor's message id."""

    state: ReceiptState
    key: str = ""
    external_id: str = ""
    #: Why the message failed or reached nobody; set in these two states.
    reason: Reason = NO_REASON
    #: Whether the account failed, the address, or neither for long; see `integrations.error_codes`.
    failure: FailureKind = FailureKind.PERMANENT


@dataclass(frozen=True, slots=True)
class InboundText:
    """An inbound text message or chat message."""

    channel: str
    sender: str
    text: str
    #: The vendor's message id. A repeated message gets the same reply and acts once.
    external_id: str = ""
    #: True for STOP, False for START, if the vendor has already classified the message.
    opt_out: bool | None = None


@dataclass(frozen=True, slots=True)
class CallState:
    """The state of a phone call after someone picked up or pressed a key."""

    #: The idempotency key of the message, or empty.
    key: str
    external_id: str = ""
    #: The number that was called.
    number: str = ""
    digits: str = ""
    #: The digit that awaits confirmation by a second press.
    pending_digit: str = ""
    #: Whether a machine answered.
    is_machine: bool = False


@dataclass(frozen=True, slots=True)
class CallPrompt:
    """The next prompt of a call. With `script`, its text is spoken twice and a key press is awaited; without, the call
    ends.
    """

    speech: str = ""
    script: CallScript | None = None
    #: A key press is awaited, and this digit confirms.
    pending_digit: str = ""
    language: str = "en-GB"


@dataclass(frozen=True, slots=True)
class ButtonResult:
    """The result of a button: a sentence, also if the command was rejected."""

    #: In English, for a channel that others read too.
    sentence: str
    #: In the language of the user who pressed the button.
    localized_sentence: str
    language: str = ""


class EventReceiver(Protocol):
    """Receives the events that a provider kind has parsed. Each method is one transaction. No method raises because of
    what a user wrote.
    """

    def handle_receipt(self, receipt: Receipt) -> None:
        """Records a delivery receipt and applies its consequences."""
        ...

    def handle_text(self, message: InboundText) -> str:
        """Carries out the commands in a text, once. Returns the plain-text reply in the sender's language, for a
        repeated text the one that was stored; empty means no reply.
        """
        ...

    def handle_mail(self, raw: bytes) -> str:
        """Carries out the command in a mail reply, once. Returns the outcome as a sentence."""
        ...

    def handle_call(self, call_state: CallState) -> CallPrompt:
        """Continues a phone call and returns the next prompt."""
        ...

    def handle_button(self, user_id: int, alert_id: int, command: str, via: str) -> ButtonResult:
        """Carries out a button's command for a user whom the provider kind has authenticated (by `user_of` or a signed
        token).
        """
        ...

    def find_user_id(self, channel: str, address: str) -> int | None:
        """Returns the id of the active user with this address on this channel, or None."""
        ...


class WebhookProvider(ABC):
    """A provider kind whose vendor calls webhooks."""

    #: The URLs that an administrator enters in the vendor's console. Other callback URLs are sent with each message.
    webhook_endpoints: tuple[WebhookEndpoint, ...]

    @abstractmethod
    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        """Verifies the signature, passes the events to `receiver` and returns the reply in the vendor's format.

        Raises InvalidWebhookSignature before doing anything else, and Rejected("not_found") or Rejected("invalid") for
        an unreadable request.
        """
        ...
