"""The states of a delivery and the purposes of a notification."""

from __future__ import annotations

from enum import StrEnum

from tocsin.core.reasons import translatable


class DeliveryStatus(StrEnum):
    QUEUED = translatable("queued")
    SENDING = translatable("sending")
    SENT = translatable("sent")
    DELIVERED = translatable("delivered")
    FAILED = translatable("failed")
    CANCELLED = translatable("cancelled")
    #: Its channel has no provider: it was stored on this machine, and reached nobody.
    SANDBOXED = translatable("sandboxed")


class Purpose(StrEnum):
    """The purpose of a notification. Only pages are checked against the alert again just before they are sent."""

    PAGE = "page"
    ALL_CLEAR = "all_clear"
    ACK_REMINDER = "still_on_it"
    NOTICE = "notice"
    TEST = "test"
