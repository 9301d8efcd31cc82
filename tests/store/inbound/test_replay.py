"""Replays on real PostgreSQL: a new row by the current rules, which pages only when appropriate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, Ingest, halo, make_integration
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.inspect import explain_message, replay
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.processing.drain import drain

ACTOR = AuditActor(None, "Alice", "web", "127.0.0.1")


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def desk() -> EscalationHarness:
    return EscalationHarness(NOW)


@pytest.fixture
def integration(desk: EscalationHarness) -> Integration:
    """An integration that pages Alice by the desk's policy."""
    integration = make_integration(policy=desk.policy)
    integration.recipient_groups.add(desk.group)
    settings_store.bump()
    return integration


def last_message() -> InboundMessage:
    return InboundMessage.objects.latest("pk")


def later(integration: Integration, **definition: object) -> None:
    """Gives the integration a second version."""
    integration.current_version = IntegrationVersion.objects.create(
        integration=integration, number=2, definition=definition, created_at=NOW
    )
    integration.save()
    settings_store.bump()


def test_replay_creates_new_row_and_keeps_the_original(integration: Integration) -> None:
    Ingest().send(integration, halo(status="Logged"))
    old = last_message()
    assert old.status == "Mapped Ignored"
    later(integration, rules={"open": {"field": "source_status", "operator": "equals", "value": "Logged"}})
    made = replay(old.pk, None, ACTOR, NOW + timedelta(minutes=5))
    assert (made.status, made.replay_of, made.version_id) == ("Mapped Opened", old.pk, integration.current_version_id)
    assert (bytes(made.raw), made.received_at) == (bytes(old.raw), NOW + timedelta(minutes=5))
    old.refresh_from_db()
    assert (old.status, old.version.number) == ("Mapped Ignored", 1)  # type: ignore[union-attr]
    entry = AuditEntry.objects.get(action="replay")
    assert (entry.object_id, entry.actor_name, entry.after["message"]) == (str(old.pk), "Alice", str(made.pk))


def test_unreadable_message_is_replayed_after_mapping_fix(integration: Integration) -> None:
    Ingest().send(integration, {"case_of": 77, "status": "New"})
    failed = last_message()
    assert failed.status == "Mapping Failed"
    later(integration, mapping={"source_id": "case_of"})
    made = replay(failed.pk, None, ACTOR, NOW)
    assert (made.status, made.source_id) == ("Mapped Opened", "77")


def test_replay_is_neither_duplicate_nor_late(integration: Integration) -> None:
    ingest = Ingest()
    delivery = "8e25bc7b-e07e-4102-9398-5d6647e1e79d"
    ingest.send(integration, {**halo(delivery=delivery), "timestamp": "2026-11-24T09:00:00Z"})
    new = last_message()
    ingest.send(integration, {**halo(status="Closed"), "timestamp": "2026-11-24T09:10:00Z"})
    assert replay(new.pk, None, ACTOR, NOW).status == "Mapped Opened"
    # Had the replay moved the newest time back, this one would count.
    late = {**halo(status="In Progress"), "timestamp": "2026-11-24T09:05:00Z"}
    (stored,) = ingest.send(integration, late)
    assert "arrived late" in str(stored.reason)


@pytest.mark.parametrize(
    ("age", "page", "mode"),
    [
        (timedelta(minutes=59), None, "page"),
        (timedelta(hours=1), None, "page"),
        (timedelta(hours=1, seconds=1), None, "record"),
        (timedelta(days=3), True, "page"),
        (timedelta(minutes=1), False, "record"),
    ],
)
def test_replay_of_old_message_is_log_only_by_default(
    desk: EscalationHarness, integration: Integration, age: timedelta, page: bool | None, mode: str
) -> None:
    Ingest().send(integration, halo(status="Logged"))
    old = last_message()
    later(integration, rules={"open": True})
    made = replay(old.pk, page, ACTOR, NOW + age)
    run = EscalationRun.objects.get(alert=made.alert_id)
    assert run.mode == mode
    desk.keeper.run_once(NOW + age)
    assert bool(desk.pages(made.alert_id or 0)) is (mode == "page")


def test_log_only_replay_changes_no_active_alert_and_pages_nothing(
    desk: EscalationHarness, integration: Integration
) -> None:
    """The priority rises and the agent leaves in the old message: each would start escalation again, or end it."""
    ingest = Ingest()
    urgent = halo(priority={"name": "Critical"}, agent={"id": 1, "name": "Unassigned"})
    ingest.send(integration, urgent)
    old = last_message()
    ingest.send(integration, halo(status="Closed"))
    (opened,) = ingest.send(integration, halo(priority={"name": "Low"}, agent={"id": 9, "name": "Gerd"}))
    ingest.send(integration, halo(status="In Progress", agent={"id": 10, "name": "Hans"}))
    number = opened.alert_id or 0
    alert = Alert.objects.get(pk=number)
    assert (alert.status, alert.owner_name, alert.priority) == ("assigned", "Hans", "low")
    made = replay(old.pk, False, ACTOR, NOW)
    assert (made.status, made.alert_id) == ("Mapped Appended", number)
    alert.refresh_from_db()
    assert (alert.status, alert.owner_name, alert.priority, alert.source_agent) == ("assigned", "Hans", "low", "Hans")
    assert EscalationRun.objects.get(alert=number).mode == "page"


def test_replay_deferred_by_lock_stays_log_only(integration: Integration) -> None:
    ingest = Ingest()
    ingest.send(integration, halo(7))
    first = last_message()
    with database.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.alert_id,))
        closing = ingest.send(integration, halo(7, "Closed"), wait=False)
        made = replay(first.pk, False, ACTOR, NOW)
    assert [closing[0].status.value, made.status] == ["Pending", "Pending"]
    with pytest.raises(Rejected, match="still pending"):
        replay(made.pk, None, ACTOR, NOW)
    drain(ingest.registry, ingest.numbers, NOW)
    made.refresh_from_db()
    assert made.status == "Mapped Opened"
    assert EscalationRun.objects.get(alert=made.alert_id).mode == "record"


def test_what_cannot_be_replayed_says_why(integration: Integration) -> None:
    with pytest.raises(Rejected) as caught:
        replay(uuid7(), None, ACTOR, NOW)
    assert caught.value.code == "not_found"
    Ingest().send(integration, halo())
    message = last_message()
    Integration.objects.filter(pk=integration.pk).update(kind="gone")
    settings_store.bump()
    with pytest.raises(Rejected) as caught:
        replay(message.pk, None, ACTOR, clock.now())
    assert (caught.value.code, "configuration is invalid" in caught.value.detail) == ("not_possible", True)
    assert InboundMessage.objects.count() == 1


def test_message_is_explained_by_past_and_current_rules(integration: Integration, now: datetime) -> None:
    Ingest().send(integration, halo(status="Logged"))
    message = InboundMessage.objects.select_related("integration__current_version", "version").get()
    later(integration, rules={"open": {"field": "source_status", "operator": "equals", "value": "Logged"}})
    then = explain_message(message)
    today = explain_message(message, integration.current_version)
    assert then.trace is not None
    assert today.trace is not None
    assert (then.trace.intent, today.trace.intent) == ("update", "open")
    assert then.mapped is not None
    assert then.mapped["source_id"] == "20817"


def test_a_trace_knows_the_support_hours_of_the_messages_arrival(integration: Integration) -> None:
    from tocsin.oncall.changes import commands as oncall

    spec = {"name": "Office hours", "windows": [{"days": ["tue"], "from": "09:00", "to": "10:00"}]}
    hours = oncall.save_support_hours(spec, actor=ACTOR, now=NOW)
    later(integration, routes=[{"name": "By day", "during": hours.pk, "action": "record"}])
    for at, taken in ((NOW, True), (NOW + timedelta(hours=2), False)):
        Ingest().send(integration, halo(), now=at)
        message = InboundMessage.objects.select_related("integration__current_version", "version").latest("pk")
        trace = explain_message(message).trace
        assert trace is not None
        (route,) = trace.routes
        assert (route.is_true, "during Office hours" in str(route.reason)) == (taken, True)


def test_unreadable_bytes_are_explained_as_such(integration: Integration) -> None:
    Ingest().send(integration, b"<html>")
    explanation = explain_message(
        InboundMessage.objects.select_related("integration__current_version", "version").get()
    )
    assert explanation.mapped is None
    assert explanation.problem is not None
    assert explanation.trace is not None
    assert explanation.trace.problem == explanation.problem
