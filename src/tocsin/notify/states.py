"""The states of a delivery, as stored and as shown, and the purposes of a notification."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from tocsin.core.reasons import local_term, translatable

#: Replaces the provider on a channel without one. Messages are stored and never leave the machine.
SANDBOX = "sandbox"


class DeliveryStatus(StrEnum):
    """What the outbox stores. Readers see a `DeliveryState`."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Its channel has no provider: it was stored on this machine, and reached nobody.
    SANDBOXED = "sandboxed"


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


class DeliveryState(StrEnum):
    """How far a delivery came: the seven states that every page, export and API answer shows, furthest first."""

    #: A person answered the call and pressed a key.
    ANSWERED = translatable("answered")
    DELIVERED = translatable("delivered")
    #: A provider accepted it, and has not reported more.
    SENT = translatable("sent")
    #: It waits for its time or for a provider, is being sent or is retried.
    QUEUED = translatable("queued")
    #: It was not sent, or the call reached nobody.
    FAILED = translatable("failed")
    #: Nothing left this machine.
    SANDBOXED = "sandboxed"
    CANCELLED = translatable("cancelled")

    @property
    def label(self) -> str:
        """The word in the reader's language."""
        return local_term(translatable("kept in the sandbox") if self is DeliveryState.SANDBOXED else self)


_LEFT = (DeliveryStatus.SENT, DeliveryStatus.DELIVERED)

#: Which stored columns make which state: the first row that matches decides, in Python and in SQL.
STORED_STATES: tuple[tuple[DeliveryState, dict[str, tuple[str, ...]]], ...] = (
    (DeliveryState.ANSWERED, {"status": _LEFT, "receipt": (ReceiptState.ANSWERED,)}),
    (DeliveryState.SANDBOXED, {"status": (DeliveryStatus.SANDBOXED,)}),
    (DeliveryState.SANDBOXED, {"status": _LEFT, "provider_name": (SANDBOX,)}),
    (DeliveryState.FAILED, {"status": _LEFT, "receipt": (ReceiptState.NOT_REACHED,)}),
    (DeliveryState.DELIVERED, {"status": (DeliveryStatus.DELIVERED,)}),
    (DeliveryState.SENT, {"status": (DeliveryStatus.SENT,)}),
    (DeliveryState.QUEUED, {"status": (DeliveryStatus.QUEUED, DeliveryStatus.SENDING)}),
    (DeliveryState.CANCELLED, {"status": (DeliveryStatus.CANCELLED,)}),
)


class _StoredDelivery(Protocol):
    status: str
    receipt: str
    provider_name: str


def state_of(delivery: _StoredDelivery) -> DeliveryState:
    """Return how far a delivery came."""
    for state, columns in STORED_STATES:
        if all(getattr(delivery, column) in values for column, values in columns.items()):
            return state
    return DeliveryState.FAILED


def furthest(states: Iterable[DeliveryState]) -> DeliveryState:
    """Return the state of several deliveries of one message, or of several messages to one person; of none, that they
    were cancelled."""
    order = list(DeliveryState)
    return min(states, key=order.index, default=DeliveryState.CANCELLED)


class Purpose(StrEnum):
    """The purpose of a notification. Only pages are checked against the alert again just before they are sent."""

    PAGE = "page"
    ALL_CLEAR = "all_clear"
    ACK_REMINDER = "still_on_it"
    NOTICE = "notice"
    TEST = "test"
