"""What became of an inbound message, in the words that senders and people see."""

from __future__ import annotations

from enum import StrEnum


class MessageStatus(StrEnum):
    OPENED = "Mapped Opened"
    APPENDED = "Mapped Appended"
    UPDATED = "Mapped Updated"
    CLOSED = "Mapped Closed"
    IGNORED = "Mapped Ignored"
    FAILED = "Mapping Failed"
    PENDING = "Pending"
    #: Its alert waits to open, by a delay, a maintenance window or because it flaps.
    DELAYED = "Mapped Delayed"


class IntegrationMode(StrEnum):
    """Whether an integration pages, is in dry-run mode, or is switched off."""

    PAGE = "page"
    DRY_RUN = "dry_run"
    DISABLED = "disabled"


class HeartbeatHealth(StrEnum):
    """How a monitored sender stands."""

    NEW = "new"
    UP = "up"
    RUNNING = "running"
    LATE = "late"
    FAILED = "failed"


class WindowAction(StrEnum):
    SUPPRESS = "suppress"  # what comes opens nothing
    HOLD = "hold"  # it opens at the end, unless it closed meanwhile
