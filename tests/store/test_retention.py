"""Expired rows are removed oldest first in chunks, and no others."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.contrib.sessions.models import Session

from tocsin.access import audit_log
from tocsin.access.models import AuditEntry
from tocsin.alerts.models import Alert
from tocsin.configure.models import ImportRun
from tocsin.core.config import settings_store
from tocsin.core.ids import uuid7
from tocsin.importers.reasons import EXPIRED
from tocsin.notify.models import Delivery, Notification, SandboxMessage
from tocsin.operate import tasks
from tocsin.outbound.models import Call, Exchange, OutboundIntegration

pytestmark = pytest.mark.usefixtures("database")

DAY = timedelta(days=1)


def uuid_at(at: datetime) -> UUID:
    """A UUIDv7 as one made at that moment."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (uuid7().int & ((1 << 80) - 1)))


def notification(at: datetime, *, status: str = "sent", alert: Alert | None = None) -> Notification:
    made = Notification.objects.create(
        id=uuid_at(at), alert=alert, purpose="page", channel="email", address="a@example.org", created_at=at
    )
    Delivery.objects.create(
        id=uuid_at(at),
        notification=made,
        alert=alert,
        channel="email",
        address="a@example.org",
        purpose="page",
        status=status,
        queued_at=at,
        due_at=at,
    )
    return made


def alert(status: str, at: datetime) -> Alert:
    return Alert.objects.create(subject="VPN", status=status, opened_at=at, last_message_at=at)


def test_notifications_and_their_deliveries_go_after_400_days(now: datetime) -> None:
    notification(now - 401 * DAY)
    kept_notification = notification(now - 399 * DAY)
    assert tasks.delete_expired(now) is False
    assert [one.pk for one in Notification.objects.all()] == [kept_notification.pk]
    assert [one.notification_id for one in Delivery.objects.all()] == [kept_notification.pk]


def test_pending_deliveries_and_active_alerts_data_are_retained(now: datetime) -> None:
    old = now - 500 * DAY
    queued = notification(old, status="queued")
    live = notification(old, alert=alert("on_hold", old))
    notification(old, alert=alert("closed", old))
    tasks.delete_expired(now)
    assert set(Notification.objects.values_list("pk", flat=True)) == {queued.pk, live.pk}


def test_the_settings_say_how_long(now: datetime) -> None:
    settings_store.write({"delivery_retention_days": 10, "audit_retention_days": 20})
    notification(now - 11 * DAY)
    AuditEntry.objects.create(at=now - 21 * DAY, actor_name="gone", action="update")
    AuditEntry.objects.create(at=now - 19 * DAY, actor_name="kept", action="update")
    audit_log.link_new()
    tasks.delete_expired(now)
    assert not Notification.objects.exists()
    assert [entry.actor_name for entry in AuditEntry.objects.all()] == ["kept"]


def test_run_removes_oldest_chunk_and_reports_remaining_rows(now: datetime) -> None:
    made = [notification(now - (410 - number) * DAY) for number in range(5)]
    assert tasks.delete_expired(now, chunk=2) is True
    assert set(Notification.objects.values_list("pk", flat=True)) == {one.pk for one in made[2:]}
    assert tasks.delete_expired(now, chunk=2) is True
    assert tasks.delete_expired(now, chunk=2) is False
    assert not Notification.objects.exists()


def test_outbound_calls_expire_with_content_unless_pending(now: datetime) -> None:
    integration = OutboundIntegration.objects.create(name="Hook", kind="http", created_at=now)

    def call(at: datetime, status: str) -> Call:
        made = Call.objects.create(
            integration=integration, order_key="1", action="call", status=status, queued_at=at, due_at=at
        )
        Exchange.objects.create(integration=integration, call=made, at=at, method="POST", url="https://example.org")
        return made

    old = now - 401 * DAY
    call(old, "sent")
    call(old, "dead")
    waits, young = call(old, "queued"), call(now - 399 * DAY, "sent")
    tasks.delete_expired(now)
    assert [one.pk for one in Call.objects.order_by("pk")] == [waits.pk, young.pk]
    assert [one.call_id for one in Exchange.objects.all()] == [young.pk]


def test_calls_about_active_alert_keep_their_content(now: datetime) -> None:
    integration = OutboundIntegration.objects.create(name="Hook", kind="http", created_at=now)
    old = now - 401 * DAY
    for one in (alert("open", old), alert("closed", old)):
        made = Call.objects.create(
            integration=integration, alert=one, order_key="1", action="call", status="sent", queued_at=old, due_at=old
        )
        Exchange.objects.create(integration=integration, call=made, at=old, method="POST", url="https://example.org")
    tasks.delete_expired(now)
    assert [one.alert.status for one in Call.objects.all() if one.alert] == ["open"]
    assert Exchange.objects.count() == 1


def test_the_sandbox_and_sessions_that_ran_out_go_too(now: datetime) -> None:
    for age in (401, 399):
        SandboxMessage.objects.create(
            delivery=uuid7(), channel="sms", address="+41790000000", content={}, at=now - age * DAY
        )
        Session.objects.create(session_key=f"key{age}", session_data="", expire_date=now - (age - 400) * DAY)
    tasks.delete_expired(now)
    assert [one.at for one in SandboxMessage.objects.all()] == [now - 399 * DAY]
    assert [one.session_key for one in Session.objects.all()] == ["key399"]


def test_import_data_expires_visibly_after_a_week(now: datetime) -> None:
    def read(age: timedelta, state: str = "ready") -> ImportRun:
        at = now - age
        return ImportRun.objects.create(
            product="opsgenie", source="x", started_by="alice", started_at=at, state=state, beat_at=at,
            configuration="encrypted", plan=["create user alice"],
        )  # fmt: skip

    old, young, applied = read(8 * DAY), read(6 * DAY), read(8 * DAY, "applied")
    ImportRun.objects.filter(pk=applied.pk).update(configuration="")
    tasks.delete_expired(now)
    old, young, applied = (ImportRun.objects.get(pk=one.pk) for one in (old, young, applied))
    assert (old.state, old.configuration, old.plan) == ("failed", "", [])
    assert old.problem == EXPIRED()
    assert (young.state, young.configuration, applied.state) == ("ready", "encrypted", "applied")
