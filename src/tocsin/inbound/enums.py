"""States and modes of inbound messages, integrations and heartbeats, with the values that senders and users see."""

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
    #: The alert's opening is delayed: by a delay, a maintenance window, or because it flaps.
    DELAYED = "Mapped Delayed"


class IntegrationMode(StrEnum):
    """Whether an integration pages, is in dry run (`watch`), or is disabled."""

    PAGE = "page"
    DRY_RUN = "dry_run"
    DISABLED = "disabled"


class HeartbeatHealth(StrEnum):
    """The health of a monitored sender."""

    NEW = "new"
    UP = "up"
    RUNNING = "running"
    LATE = "late"
    FAILED = "failed"


class WindowAction(StrEnum):
    SUPPRESS = "suppress"  # messages open nothing
    HOLD = "hold"  # alerts open when the window ends, unless they closed before
