"""Messages expire by age or size cap, oldest first, without reading all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from tests.support.ingest import make_integration
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.db import database, partitions
from tocsin.core.ids import uuid7
from tocsin.inbound.models import DedupKey, InboundMessage, Integration, ProcessedDelivery
from tocsin.inbound.storage import retention
from tocsin.inbound.storage.retention import RetentionTask

pytestmark = pytest.mark.usefixtures("database")

DAY = timedelta(days=1)


@pytest.fixture
def integration(database: object) -> Integration:
    return make_integration()


def uuid_at(at: datetime) -> UUID:
    """A UUIDv7 as one made at that moment."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (uuid7().int & ((1 << 80) - 1)))


def message(
    integration: Integration,
    at: datetime,
    *,
    size: int = 10,
    alert: Alert | None = None,
    status: str = "Mapped Ignored",
) -> InboundMessage:
    return InboundMessage.objects.create(
        id=uuid_at(at), integration=integration, received_at=at, status=status, raw=os.urandom(size), alert=alert
    )


def rows_read(table: str, work: Callable[[], object]) -> int:
    """How many rows of the table the pool's connection reads for it."""
    before = _read(table)
    work()
    return _read(table) - before


def _read(table: str) -> int:
    with database.pool().connection() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        results = connection.execute(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables "
            "WHERE relname = %s OR relname LIKE %s",
            (table, f"{table}\\_%"),
        ).fetchone()
    assert results is not None
    return int(results[0])


def remaining_ids() -> set[UUID]:
    return set(InboundMessage.objects.values_list("pk", flat=True))


def test_messages_expire_with_their_month_unless_pending_or_active(integration: Integration, now: datetime) -> None:
    alert = Alert.objects.create(subject="VPN", status="open", opened_at=now, last_message_at=now)
    over = Alert.objects.create(subject="VPN", status="closed", opened_at=now, last_message_at=now)
    old = now - 121 * DAY
    message(integration, old)
    message(integration, old, alert=over)
    stored_ids = {
        message(integration, (now - 90 * DAY).replace(day=1)).pk,
        message(integration, old, alert=alert).pk,
        message(integration, old, status="Pending").pk,
        message(integration, old, status="Mapped Delayed").pk,
    }
    assert RetentionTask().run_once(now) is False
    assert remaining_ids() == stored_ids


def test_there_may_be_more_when_a_whole_chunk_went(integration: Integration, now: datetime) -> None:
    for hours in range(3):
        message(integration, now - 121 * DAY + timedelta(hours=hours))
    keeper = RetentionTask()
    assert [keeper.run_once(now, chunk=2), keeper.run_once(now, chunk=2)] == [True, False]
    assert not remaining_ids()


def test_size_cap_removes_only_the_oldest_excess_messages(integration: Integration, now: datetime) -> None:
    settings_store.set(settings_store.MESSAGE_SIZE_CAP_MB, 10)
    made = [message(integration, now - DAY + timedelta(minutes=n), size=200_000).pk for n in range(60)]
    keeper = RetentionTask()
    for _attempt in range(20):
        keeper.run_once(now, chunk=5)
    stored_ids = [pk for pk in made if pk in remaining_ids()]
    assert stored_ids == made[-len(stored_ids) :]
    assert 45 <= len(stored_ids) <= 52  # of 0.2 MB each
    with database.transaction() as connection:
        assert partitions.size(connection, retention.MESSAGES).total > 10 * 1024 * 1024


def test_chunk_over_size_cap_is_removed_only_partially(integration: Integration, now: datetime) -> None:
    settings_store.set(settings_store.MESSAGE_SIZE_CAP_MB, 10)
    made = [message(integration, now - DAY + timedelta(minutes=n), size=1_000_000).pk for n in range(15)]
    keeper = RetentionTask()
    assert keeper.run_once(now) is False
    assert [pk for pk in made if pk in remaining_ids()] == made[-10:]
    keeper.run_once(now)
    assert len(remaining_ids()) == 10


def test_of_large_messages_fewer_go_in_one_transaction(
    integration: Integration, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_BYTES_PER_RUN", 2_500_000)
    for hours in range(5):
        message(integration, now - 121 * DAY + timedelta(hours=hours), size=1_000_000)
    keeper = RetentionTask()
    assert [(keeper.run_once(now), len(remaining_ids())) for _ in range(2)] == [(True, 2), (False, 0)]


def test_what_messages_left_beside_them_goes_with_them(integration: Integration, now: datetime) -> None:
    kept_message = message(integration, now)
    ProcessedDelivery.objects.create(integration=integration, hash=b"1" * 32, message=kept_message.pk)
    ProcessedDelivery.objects.create(integration=integration, hash=b"2" * 32, message=uuid7())
    Alert.objects.create(
        subject="VPN", status="open", opened_at=now, last_message_at=now, key_hash=b"1" * 32, holds_key=True
    )
    for key, age in ((b"1", 121), (b"2", 121), (b"3", 89)):
        DedupKey.objects.create(key_hash=key * 32, touched_at=now - age * DAY)
    RetentionTask().run_once(now)
    assert [bytes(seen.hash) for seen in ProcessedDelivery.objects.all()] == [b"1" * 32]
    assert {bytes(one.key_hash) for one in DedupKey.objects.all()} == {b"1" * 32, b"3" * 32}


def test_run_reads_only_old_rows_and_a_slice(
    integration: Integration, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MIN_BLOCKS", 1)
    with database.transaction() as connection:
        connection.execute(
            "WITH young AS (INSERT INTO inbound_inboundmessage (id, integration_id, received_at, status, raw) "
            "SELECT overlay(%s::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, %s, %s, 'Mapped Ignored', '' "
            "FROM generate_series(1, 10000) AS n RETURNING id, integration_id) "
            "INSERT INTO inbound_processeddelivery (integration_id, hash, message) "
            "SELECT integration_id, sha256(id::text::bytea), id FROM young",
            (uuid_at(now), integration.pk, now),
        )
    stale = ProcessedDelivery.objects.create(integration=integration, hash=b"9" * 32, message=uuid7())
    keeper = RetentionTask()
    # The first run moves the rows to their month.
    keeper.run_once(now)
    message(integration, now - 121 * DAY)
    with database.pool().connection() as connection:
        connection.execute("ANALYZE inbound_inboundmessage")
    assert rows_read("inbound_inboundmessage", lambda: keeper.run_once(now)) < 500
    assert rows_read("inbound_processeddelivery", lambda: keeper.run_once(now)) < 500
    assert len(remaining_ids()) == 10_000
    for _attempt in range(150):
        keeper.run_once(now)
    assert ProcessedDelivery.objects.count() == 10_000
    assert not ProcessedDelivery.objects.filter(hash=stale.hash).exists()
