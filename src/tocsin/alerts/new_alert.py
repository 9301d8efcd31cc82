"""The data written when an alert is created or its messages repeat. Plain; `alerts.store` writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, field

from tocsin.alerts.change_handlers import PagingConfig
from tocsin.alerts.commands import NewEvent
from tocsin.alerts.states import Priority

#: The columns that messages fill and update, in the order in which a timeline entry lists their changes.
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
    """The row of a new alert."""

    id: int
    priority: Priority
    subject: str
    opened_at: datetime
    key_hash: bytes | None = None
    source: str = ""
    source_name: str = ""
    source_id: str = ""
    #: By name, from SOURCE_COLUMNS; missing ones are empty.
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)
    integration_id: int | None = None
    previous_alert_id: int | None = None
    count: int = 1
    last_message_at: datetime | None = None
    dry_run: bool = False
    is_test: bool = False
    #: Groups to which it belongs besides those that it notifies.
    group_ids: tuple[int, ...] = ()


class AlertCreation(Struct, frozen=True):
    """An alert to create: its row, whom it pages, and the first entry of its timeline."""

    alert: NewAlert
    paging: PagingConfig
    event: NewEvent


class RepeatedMessages(Struct, frozen=True):
    """Repeated messages of one alert: their number, the time of the newest, and the fields that they changed."""

    alert_id: int
    count: int
    last_message_at: datetime
    #: By column name, with `tags` and `custom` complete; None if nothing changed.
    changes: Mapping[str, object] | None = None
