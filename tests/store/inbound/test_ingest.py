"""A batch of messages decided on real PostgreSQL: every outcome in arrival order."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace
from psycopg import errors

from tests.store.inbound.test_ingest_faults import SpoiledRegistry
from tests.support.ingest import NOW, Ingest, halo, make_integration, message
from tocsin.alerts.models import Alert
from tocsin.core.db import database as db
from tocsin.core.ids import advisory_lock_key, uuid7
from tocsin.inbound.deciding import decide
from tocsin.inbound.models import NOT_UNDERSTOOD_CODE, DedupKey, InboundMessage, Integration
from tocsin.inbound.processing import batch
from tocsin.inbound.processing.drain import MAX_FAILURES, drain
from tocsin.inbound.storage.messages import MessageResult
from tocsin.operate.checks.integrations import check, check_messages

pytestmark = pytest.mark.usefixtures("database")


def statuses(stored: list) -> list[str]:
    return [one.status.value for one in stored]


def test_new_ticket_opens_one_alert_with_the_messages_fields() -> None:
    stored = Ingest().send(make_integration(), halo(20817))
    assert statuses(stored) == ["Mapped Opened"]
    alert = Alert.objects.get(pk=stored[0].alert_id)
    assert (alert.status, alert.subject, alert.source_id, alert.client) == ("open", "VPN down 20817", "20817", "Acme")
    assert [event.kind for event in alert.events.all()] == ["opened"]
    message = InboundMessage.objects.get()
    assert message.alert_id == alert.pk
    assert message.verdict["rule"] == "open"


def test_the_same_ticket_again_is_counted_and_opens_nothing() -> None:
    integration, ingest = make_integration(), Ingest()
    first = ingest.send(integration, halo())
    again = ingest.send(integration, halo(), halo())
    assert statuses(again) == ["Mapped Appended"] * 2
    assert {one.alert_id for one in again} == {first[0].alert_id}
    assert Alert.objects.get().count == 3


def test_one_batch_may_open_close_and_open_the_same_key() -> None:
    stored = Ingest().send(make_integration(), halo(), halo(status="Closed"), halo(), halo())
    assert statuses(stored) == ["Mapped Opened", "Mapped Closed", "Mapped Opened", "Mapped Appended"]
    first, second = Alert.objects.order_by("pk")
    assert (first.status, second.status, second.previous_alert_id, second.count) == ("closed", "open", first.pk, 2)


def test_close_without_active_alert_is_ignored_but_updates_source_time() -> None:
    integration, ingest = make_integration(), Ingest()
    closed = {**halo(status="Closed"), "timestamp": "2026-11-24T09:20:00Z"}
    delayed = {**halo(), "timestamp": "2026-11-24T09:15:00Z"}
    assert statuses(ingest.send(integration, closed)) == ["Mapped Ignored"]
    late = ingest.send(integration, delayed)
    assert statuses(late) == ["Mapped Ignored"]
    assert late[0].reason.code == "message.arrived_late"
    assert not Alert.objects.exists()


def test_an_ignored_update_does_not_make_its_own_new_late() -> None:
    integration, ingest = make_integration(), Ingest()
    progress = {**halo(status="In Progress"), "timestamp": "2026-11-24T09:20:00Z"}
    new = {**halo(), "timestamp": "2026-11-24T09:15:00Z"}
    assert statuses(ingest.send(integration, progress, new)) == ["Mapped Ignored", "Mapped Opened"]


def test_duplicate_delivery_gets_the_first_deliverys_result() -> None:
    integration, ingest = make_integration(), Ingest()
    delivery = "8e25bc7b-e07e-4102-9398-5d6647e1e79d"
    first = ingest.send(integration, halo(delivery=delivery))
    again = ingest.send(integration, halo(delivery=delivery))
    assert statuses(again) == ["Mapped Ignored"]
    assert again[0].alert_id == first[0].alert_id
    assert again[0].reason.code == "message.duplicate_delivery"
    assert Alert.objects.get().count == 1


def test_another_message_with_a_used_delivery_id_is_decided() -> None:
    integration, ingest = make_integration(), Ingest()
    first = ingest.send(integration, halo(delivery="7"))
    closed = ingest.send(integration, halo(status="Closed", delivery="7"))
    assert statuses(closed) == ["Mapped Closed"]
    assert closed[0].alert_id == first[0].alert_id


def test_changed_field_is_updated_and_shown_on_timeline() -> None:
    integration, ingest = make_integration(), Ingest()
    ingest.send(integration, halo())
    updated = ingest.send(integration, halo(status="In Progress", summary="VPN down for everybody"))
    assert statuses(updated) == ["Mapped Updated"]
    alert = Alert.objects.get()
    assert (alert.subject, alert.source_status) == ("VPN down for everybody", "In Progress")
    assert "New → In Progress" in str(alert.events.last().reason)


def test_message_without_status_opens_and_is_reported() -> None:
    integration, ingest = make_integration("Checkmk", "checkmk"), Ingest()
    stored = ingest.send(integration, *[{"host": "db1", "output": "load 12.5"}] * 2)
    assert statuses(stored) == ["Mapped Opened", "Mapped Appended"]
    assert set(InboundMessage.objects.values_list("reason__code", flat=True)) == {NOT_UNDERSTOOD_CODE}
    with db.transaction() as connection:
        findings = [finding for finding in check(connection, NOW) if finding.id == "integration.not_understood"]
    assert [(finding.object_id, finding.detail.params) for finding in findings] == [
        (integration.pk, (("count", 2), ("integration", "Checkmk")))
    ]


def test_unknown_ticket_opens_once_and_is_reported() -> None:
    integration, at = make_integration(kind="freshservice"), Ingest()
    ticket = {"ticket_id": 9003, "summary": "Core switch down", "priority": "P1"}
    (opened,) = at.send(integration, ticket)
    (updated,) = at.send(integration, {**ticket, "summary": "Core switch is down"})
    (closed,) = at.send(integration, {**ticket, "event": "ticket closed"})
    (again,) = at.send(integration, ticket)
    assert statuses([opened, updated, closed, again]) == [
        "Mapped Opened", "Mapped Updated", "Mapped Closed", "Mapped Ignored",
    ]  # fmt: skip
    assert (opened.reason.code, Alert.objects.get().subject) == ("message.not_understood", "Core switch is down")
    with db.transaction() as connection:
        findings = [finding.id for finding in check(connection, NOW)]
    assert "integration.not_understood" in findings


def test_closing_messages_with_other_ids_are_reported() -> None:
    integration, ingest = make_integration("Scripts", "api"), Ingest()
    ingest.send(integration, {"id": "open-1", "status": "firing", "title": "Disk full"})
    ingest.send(integration, {"id": "over-1", "status": "resolved"}, {"id": "over-2", "status": "resolved"})
    assert ends_nothing() == []
    ingest.send(integration, {"id": "over-3", "status": "resolved"})
    assert ends_nothing() == [(integration.pk, (("count", 3), ("integration", "Scripts")))]
    ingest.send(integration, {"id": "open-1", "status": "resolved"})
    assert ends_nothing() == []


def ends_nothing() -> list[tuple[object, object]]:
    findings = [finding for finding in check_messages(NOW) if finding.id == "integration.ends_nothing"]
    return [(finding.object_id, finding.detail.params) for finding in findings]


def test_subject_of_unreadable_message_has_its_words() -> None:
    integration, ingest = make_integration(), Ingest()
    stored = ingest.send(integration, b'{"ticket_id": 7, "summary": "VPN "ALPHA" is down", "details": "')
    assert statuses(stored) == ["Mapping Failed"]
    subject = Alert.objects.get(pk=stored[0].alert_id).subject
    assert subject == 'HaloITSM sent a message that could not be parsed: VPN "ALPHA" is down'


def test_words_that_cannot_be_found_keep_no_alert_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_payload: object, _text: str) -> str:
        raise RecursionError

    monkeypatch.setattr(decide, "own_words", broken)
    integration, ingest = make_integration(), Ingest()
    (stored,) = ingest.send(integration, b"<html>")
    assert Alert.objects.get(pk=stored.alert_id).subject == "HaloITSM sent a message that could not be parsed"


def test_unreadable_messages_open_one_alert_per_ten_minutes() -> None:
    integration, ingest = make_integration(), Ingest()
    stored = ingest.send(integration, b"<html>", b"", halo(1))
    assert statuses(stored) == ["Mapping Failed", "Mapping Failed", "Mapped Opened"]
    alert = Alert.objects.get(pk=stored[0].alert_id)
    assert alert.subject == "HaloITSM sent a message that could not be parsed"
    assert alert.count == 2
    assert "<html>" in alert.long_text
    Alert.objects.filter(pk=alert.pk).update(status="closed", holds_key=False)
    assert ingest.send(integration, b"{", now=NOW + timedelta(minutes=9))[0].alert_id is None
    # That was told by a clock that was ahead: it keeps nothing from being told now.
    (before,) = ingest.send(integration, b"{", now=NOW - timedelta(hours=2))
    assert before.alert_id not in (None, alert.pk)
    Alert.objects.filter(pk=before.alert_id).update(status="closed", holds_key=False)
    later = ingest.send(integration, b"{", now=NOW + timedelta(minutes=11))
    assert later[0].alert_id not in (None, alert.pk)


def test_locked_key_waits_and_is_decided_in_order() -> None:
    integration, ingest = make_integration(), Ingest()
    (first,) = ingest.send(integration, halo(7))
    with db.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.alert_id,))
        with pytest.raises(errors.LockNotAvailable):
            ingest.send(integration, halo(7, "Closed"), halo(8))
        stored = ingest.send(integration, halo(7, "Closed"), halo(8), halo(7), wait=False)
        assert statuses(stored) == ["Pending", "Mapped Opened", "Pending"]
    # Behind an undecided message of its key, a later one waits too.
    assert statuses(ingest.send(integration, halo(7))) == ["Pending"]
    drain(ingest.registry, ingest.numbers, NOW)
    decided = InboundMessage.objects.filter(source_id="7").order_by("pk").values_list("status", flat=True)
    assert list(decided) == ["Mapped Opened", "Mapped Closed", "Mapped Opened", "Mapped Appended"]
    assert Alert.objects.filter(source_id="7", status="open").count() == 1


def test_message_that_always_fails_is_no_longer_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise ValueError("broken")

    integration, ingest = make_integration(), Ingest()
    (first,) = ingest.send(integration, halo(7))
    with db.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.alert_id,))
        ingest.send(integration, halo(7, "Closed"), wait=False)
    monkeypatch.setattr(batch, "process", fail)
    for _ in range(MAX_FAILURES):
        drain(ingest.registry, ingest.numbers, NOW)
    row = InboundMessage.objects.latest("pk")
    assert (row.status, row.reason.code) == ("Mapping Failed", "message.undecidable")
    assert "can be replayed" in str(row.reason)


def test_undecided_messages_of_two_nodes_keep_arrival_order() -> None:
    integration, ingest = make_integration(), Ingest()
    (first,) = ingest.send(integration, halo(7))
    ahead = UUID(int=uuid7().int + (1500 << 80))
    with db.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.alert_id,))
        # Its node's own clock is a second and a half ahead, which is within what is allowed.
        early = replace(message(integration, halo(7)), id=ahead)
        assert statuses(ingest.decide([early], wait=False)) == ["Pending"]
        ingest.send(integration, halo(7, "Closed"), now=NOW + timedelta(seconds=1), wait=False)
    drain(ingest.registry, ingest.numbers, NOW)
    assert not Alert.objects.filter(status="open").exists()


def test_undecided_message_that_raises_is_counted_and_blocks_no_other() -> None:
    integration, ingest = make_integration(), Ingest()
    (first, other) = ingest.send(integration, halo(7), halo(8))
    with db.transaction() as holder:
        holder.execute("SELECT 1 FROM alerts_alert FOR NO KEY UPDATE")
        poison = {**halo(7, "Closed"), "poison": True}
        stored = ingest.send(integration, poison, halo(8, "Closed"), wait=False)
        assert statuses(stored) == ["Pending", "Pending"]
    for _ in range(5):
        drain(SpoiledRegistry(), ingest.numbers, NOW)
    assert Alert.objects.get(pk=other.alert_id).status == "closed"
    failed = InboundMessage.objects.get(status="Mapping Failed")
    assert "Processing failed" in str(failed.reason)
    # Fail open: somebody is told that there is something to look at.
    assert Alert.objects.get(pk=failed.alert_id).subject == (
        "HaloITSM sent a message that could not be parsed: ticket status changed"
    )
    assert Alert.objects.get(pk=first.alert_id).status == "open"


def test_message_decided_by_another_node_is_not_decided_again() -> None:
    integration, ingest = make_integration(), Ingest()
    (first,) = ingest.send(integration, halo(7))
    waiting = [message(integration, halo(7)), message(integration, halo(7, "Closed")), message(integration, halo(7))]
    with db.connect(name="two nodes") as connection:

        def process(*, draining: bool) -> list[MessageResult]:
            return batch.process(
                connection, ingest.registry, ingest.numbers, waiting, NOW, wait=False, is_draining=draining
            )

        with db.transaction() as holder:
            holder.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (first.alert_id,))
            assert statuses(process(draining=False)) == ["Pending"] * 3
        # Both nodes looked them up before one of them decided.
        assert statuses(process(draining=True)) == ["Mapped Appended", "Mapped Closed", "Mapped Opened"]
        assert process(draining=True) == []
    assert list(Alert.objects.order_by("pk").values_list("status", "count")) == [("closed", 3), ("open", 1)]


def test_locked_key_delays_only_its_own_messages() -> None:
    integration, ingest = make_integration(), Ingest()
    ingest.send(integration, halo(7))
    key = DedupKey.objects.get() if DedupKey.objects.exists() else None
    hashed = bytes(Alert.objects.get().key_hash) if key is None else bytes(key.key_hash)
    with db.transaction() as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (advisory_lock_key(hashed),))
        stored = ingest.send(integration, halo(7), halo(9), wait=False)
    assert statuses(stored) == ["Pending", "Mapped Opened"]


def test_a_switched_off_integration_stores_and_ignores() -> None:
    stored = Ingest().send(make_integration(mode="disabled"), halo(), b"garbage")
    assert [(one.status.value, one.reason.code) for one in stored] == [
        ("Mapped Ignored", "message.integration_disabled")
    ] * 2
    assert InboundMessage.objects.count() == 2


def test_rolled_back_batch_wastes_no_alert_numbers() -> None:
    integration, ingest = make_integration(), Ingest()
    ingest.send(integration, halo(1))
    ingest.send(integration, halo(1), halo(1), halo(2))
    assert list(Alert.objects.order_by("pk").values_list("pk", flat=True)) == [1, 2]


def api(integration: Integration, ingest: Ingest, *bodies: dict) -> list[MessageResult]:
    return [ingest.send(integration, body)[0] for body in bodies]


POSTGRES = {"service": "Postgres main", "type": "incident", "message": "Connection refused"}


def test_recovery_without_id_closes_the_only_alert_about_the_same() -> None:
    integration, ingest = make_integration(kind="api"), Ingest()
    other = {"service": "Mail", "type": "incident", "message": "Connection refused"}
    recovery = {"service": "Postgres main", "type": "recovery", "message": "It accepts connections"}
    stored = api(integration, ingest, POSTGRES, other, recovery)
    assert statuses(stored) == ["Mapped Opened", "Mapped Opened", "Mapped Closed"]
    assert stored[2].alert_id == stored[0].alert_id
    assert "only one that is open is about the same thing" in str(stored[2].reason)


def test_recovery_that_fits_two_alerts_closes_neither() -> None:
    integration, ingest = make_integration(kind="api"), Ingest()
    recovery = {"service": "Postgres main", "type": "recovery"}
    stored = api(integration, ingest, POSTGRES, {**POSTGRES, "message": "Disk full"}, recovery)
    assert statuses(stored) == ["Mapped Opened", "Mapped Opened", "Mapped Ignored"]


def test_recovery_of_a_known_id_closes_no_other_alert() -> None:
    integration, ingest = make_integration(kind="api"), Ingest()
    first, second = ({"id": number, "monitor": "API latency", "state": "alarm"} for number in ("a1", "b2"))
    over = {**first, "state": "ok"}
    stored = api(integration, ingest, first, over, second, over)
    assert statuses(stored) == ["Mapped Opened", "Mapped Closed", "Mapped Opened", "Mapped Ignored"]
    assert statuses(api(integration, ingest, {**over, "id": "c3"})) == ["Mapped Closed"]


def test_recovery_in_the_batch_of_its_opening_closes_it() -> None:
    recovery = {"service": "Postgres main", "type": "recovery"}
    stored = Ingest().send(make_integration(kind="api"), POSTGRES, recovery)
    assert statuses(stored) == ["Mapped Opened", "Mapped Closed"]


def test_recovery_closes_no_alert_of_another_integration() -> None:
    ingest = Ingest()
    api(make_integration(kind="api"), ingest, POSTGRES)
    other = make_integration(kind="api", name="Other")
    assert statuses(api(other, ingest, {"service": "Postgres main", "type": "recovery"})) == ["Mapped Ignored"]
