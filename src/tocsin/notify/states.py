"""The states of a delivery and the purposes of a notification."""

from __future__ import annotations

from enum import StrEnum


class DeliveryStatus(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Purpose(StrEnum):
    """What a notification is for. Only pages are re-checked against the alert just before they are sent."""

    PAGE = "page"
    ALL_CLEAR = "all_clear"
    STILL_ON_IT = "still_on_it"
    NOTICE = "notice"
    TEST = "test"
