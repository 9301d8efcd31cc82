"""What is written when an alert opens, and when its messages come again. Plain data; `alerts.store` writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, field

from tocsin.alerts.change_handlers import PagingConfig
from tocsin.alerts.commands import NewEvent
from tocsin.alerts.states import Priority

#: The columns of an alert that a source's messages fill and refresh, in the order of their change on a timeline.
SOURCE_COLUMNS = (
    "source_status",
    "subject",
    "source_priority",
    "source_agent",
    "source_url",
    "client",
    "site",
    "team",
    "requester",
    "requester_phone",
    "short_text",
    "long_text",
)


class NewAlert(Struct, frozen=True):
    """The row of an alert that opens."""

    id: int
    priority: Priority
    subject: str
    opened_at: datetime
    key_hash: bytes | None = None
    source: str = ""
    source_name: str = ""
    source_id: str = ""
    #: By name, of SOURCE_COLUMNS; what is missing is empty.
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)
    integration_id: int | None = None
    previous_alert_id: int | None = None
    count: int = 1
    last_message_at: datetime | None = None
    dry_run: bool = False
    is_test: bool = False


class AlertCreation(Struct, frozen=True):
    """An alert to open: its row, by what it pages, and the first line of its timeline."""

    alert: NewAlert
    paging: PagingConfig
    event: NewEvent


class RepeatedMessages(Struct, frozen=True):
    """That messages of one alert came again: how many, the newest, and the fields that they changed."""

    alert_id: int
    count: int
    last_message_at: datetime
    #: By column name, `tags` and `custom` whole; None: nothing changed.
    changes: Mapping[str, object] | None = None
