"""Messages are stored by month; whole months go in one statement, without what is still needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ingest import make_integration
from tocsin.alerts.models import Alert
from tocsin.core.db import database, partitions
from tocsin.core.db.partitions import Month
from tocsin.core.ids import first_uuid7
from tocsin.inbound.models import InboundMessage, Integration, MessageText
from tocsin.inbound.storage.retention import MESSAGE_TEXTS, MESSAGES, RetentionTask

pytestmark = pytest.mark.usefixtures("database")

MAY = datetime(2026, 5, 20, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 4, tzinfo=UTC)


@pytest.fixture
def integration(database: object) -> Integration:
    return make_integration()


def message(
    integration: Integration, at: datetime, *, status: str = "Mapped Ignored", alert_id: int | None = None
) -> UUID:
    made = InboundMessage.objects.create(
        id=UUID(int=first_uuid7(at).int + 1),
        integration=integration,
        received_at=at,
        status=status,
        raw=b"{}",
        alert_id=alert_id,
    )
    MessageText.objects.create(message=made, subject="VPN", source_id="1")
    return made.pk


def rows_by_partition() -> dict[str, int]:
    """Numbers of messages by the end of their partition's name, without empty partitions."""
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT right(tableoid::regclass::text, 8), count(*) FROM inbound_inboundmessage GROUP BY 1"
        ).fetchall()
    return dict(rows)


def month_names() -> list[str]:
    with database.transaction() as connection:
        return [month.suffix for month in partitions.existing_months(connection, MESSAGES)]


@given(st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)), st.integers(0, 2_000))
def test_months_follow_each_other_without_gap(first: datetime, days: int) -> None:
    covered = list(partitions.months(first, first + timedelta(days=days)))
    assert covered[0].start <= first < covered[0].next.start
    assert covered[-1].start >= first + timedelta(days=days)
    assert all(a.next == b and a.next.start == b.start for a, b in pairwise(covered))


def test_months_are_made_ahead_and_filled_from_default(integration: Integration) -> None:
    message(integration, MAY)
    message(integration, DECEMBER)
    assert rows_by_partition() == {"_default": 2}
    partitions.maintain(MESSAGES, MAY, MAY - timedelta(days=90), "false")
    assert month_names() == ["_y2026m05", "_y2026m06", "_y2026m07"]
    assert rows_by_partition() == {"_y2026m05"[1:]: 1, "_default": 1}
    partitions.maintain(MESSAGES, MAY, MAY - timedelta(days=90), "false")
    assert month_names() == ["_y2026m05", "_y2026m06", "_y2026m07"]


def test_first_start_makes_the_months_of_all_tables(integration: Integration) -> None:
    partitions.create_current(DECEMBER)
    with database.transaction() as connection:
        made = {
            table.name: len(partitions.existing_months(connection, table))
            for table in partitions.partitioned_tables(connection)
        }
    assert made == {"inbound_inboundmessage": 3, "inbound_messagetext": 3}
    message(integration, DECEMBER)
    assert rows_by_partition() == {"y2026m12": 1}


def test_expired_month_goes_without_what_is_needed(integration: Integration) -> None:
    partitions.maintain(MESSAGES, MAY, MAY, "false")
    partitions.maintain(MESSAGE_TEXTS, MAY, MAY, "false")
    alert = Alert.objects.create(subject="VPN", status="open", opened_at=MAY, last_message_at=MAY)
    closed = Alert.objects.create(subject="VPN", status="closed", opened_at=MAY, last_message_at=MAY)
    message(integration, MAY)
    message(integration, MAY + timedelta(seconds=1), alert_id=closed.pk)
    kept = {
        message(integration, MAY + timedelta(seconds=2), alert_id=alert.pk),
        message(integration, MAY + timedelta(seconds=3), status="Pending"),
    }
    RetentionTask().run_once(MAY + timedelta(days=100))
    assert len(InboundMessage.objects.all()) == 4, "part of the month is younger than 90 days"
    RetentionTask().run_once(DECEMBER)
    assert "_y2026m05" not in month_names()
    assert rows_by_partition() == {"_default": 2}
    assert set(InboundMessage.objects.values_list("pk", flat=True)) == kept
    assert set(MessageText.objects.values_list("pk", flat=True)) == kept


def test_month_with_many_needed_rows_stays(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "MAX_MOVED_ROWS", 1)
    partitions.maintain(MESSAGES, MAY, MAY, "false")
    for second in range(2):
        message(integration, MAY + timedelta(seconds=second), status="Pending")
    message(integration, MAY + timedelta(seconds=2))
    RetentionTask().run_once(DECEMBER)
    assert rows_by_partition() == {"y2026m05": 2}


def test_above_size_cap_the_oldest_month_goes_first(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    partitions.maintain(MESSAGES, MAY, MAY, "false")
    message(integration, MAY)
    message(integration, MAY + timedelta(days=31))
    monkeypatch.setattr("tocsin.inbound.storage.retention._estimate_excess_bytes", lambda *_: 10**9)
    assert RetentionTask().run_once(MAY + timedelta(days=32)) is True
    assert rows_by_partition() == {"y2026m06": 1}


def test_locked_table_is_left_for_the_next_run(integration: Integration) -> None:
    with database.connect(name="test") as other:
        other.begin()
        other.execute("LOCK TABLE inbound_inboundmessage_default IN ROW EXCLUSIVE MODE")
        partitions.maintain(MESSAGES, MAY, MAY, "false")
        assert month_names() == []
        other.rollback()
    partitions.maintain(MESSAGES, MAY, MAY, "false")
    assert len(month_names()) == 3


def test_another_node_at_work_is_not_waited_for(integration: Integration) -> None:
    with database.connect(name="test") as other:
        other.begin()
        assert partitions.claim(other, MESSAGES)
        partitions.maintain(MESSAGES, MAY, MAY, "false")
        assert month_names() == []
        other.rollback()


def test_month_is_ordered_by_time() -> None:
    assert Month(2025, 12) < Month(2026, 1) == Month(2025, 12).next
