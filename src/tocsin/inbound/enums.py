"""States and modes of inbound messages, integrations and heartbeats, with the values that senders and users see."""

from __future__ import annotations

from enum import StrEnum

from tocsin.core.reasons import translatable


class MessageStatus(StrEnum):
    OPENED = translatable("Mapped Opened")
    APPENDED = translatable("Mapped Appended")
    UPDATED = translatable("Mapped Updated")
    CLOSED = translatable("Mapped Closed")
    IGNORED = translatable("Mapped Ignored")
    FAILED = translatable("Mapping Failed")
    PENDING = translatable("Pending")
    #: The alert's opening is delayed: by a delay, a maintenance window, or because it flaps.
    DELAYED = translatable("Mapped Delayed")


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
