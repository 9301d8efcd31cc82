"""Handover notes: planned a day ahead, editable, mailed once, with the facts of the shift."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.people import ACTOR, make_group, make_user
from tocsin.alerts.models import Alert
from tocsin.alerts.states import AlertStatus
from tocsin.core.errors import Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import reason_from_json
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.maintenance_commands import save_window
from tocsin.notify.models import Delivery, Notification
from tocsin.oncall.changes import commands, overrides
from tocsin.oncall.models import HandoverNote, Schedule
from tocsin.people import permissions
from tocsin.people.models import Group, User
from tocsin.people.permissions import Viewer
from tocsin.reports import handover

pytestmark = pytest.mark.usefixtures("database")

#: Alice has the week of Monday 23 November 2026, Bob the next.
WEEKLY = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob"]}
SPEC = {
    "name": "Desk 24x7",
    "group": "Desk",
    "time_zone": "UTC",
    "shifts": [{"name": "Weekly", "rotate": WEEKLY, "start": "2026-01-05"}],
}
MONDAY = datetime(2026, 11, 30, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def desk_group(database: str, now: datetime) -> Group:
    for name in ("alice", "bob", "carol"):
        make_user(name, now, name=name.title())
    return make_group("Desk", now, members=("alice", "bob"))


@pytest.fixture
def schedule(desk_group: Group, now: datetime) -> Schedule:
    return commands.save_schedule(SPEC, actor=ACTOR, now=now)


def user(name: str) -> User:
    return User.objects.get(username=name)


def viewer(name: str) -> Viewer:
    return permissions.viewer(user(name), None)


def recipients() -> list[str]:
    return sorted(one.user.username for one in Notification.objects.all() if one.user)


def open_alert(group: Group, at: datetime, **fields: object) -> Alert:
    alert = Alert.objects.create(**{"subject": "VPN down", "opened_at": at, "last_message_at": at, **fields})
    EscalationRun.objects.create(alert=alert, status="ended", mode="page", started_at=at, recipient_groups=[group.pk])
    return alert


def page(alert: Alert, name: str, at: datetime) -> None:
    number = first_uuid7(at)
    Notification.objects.create(
        id=number, alert=alert, user=user(name), purpose="page", channel="sms", address="+41790000001", created_at=at
    )
    Delivery.objects.create(
        id=number, notification_id=number, alert=alert, user=user(name), purpose="page", channel="sms",
        address="+41790000001", status="sent", provider_name="Twilio", queued_at=at, due_at=at, sent_at=at,
    )  # fmt: skip


def test_note_planned_a_day_ahead_is_mailed_to_both_once(schedule: Schedule) -> None:
    handover.plan_notes(MONDAY - 25 * HOUR)
    assert not HandoverNote.objects.exists()
    handover.plan_notes(MONDAY - 23 * HOUR)
    handover.plan_notes(MONDAY - 22 * HOUR)
    note = HandoverNote.objects.get()
    assert (note.at, note.since, note.outgoing, note.incoming) == (
        MONDAY, MONDAY - timedelta(days=7), [user("alice").pk], [user("bob").pk],
    )  # fmt: skip
    handover.send_due_notes(MONDAY - timedelta(seconds=1))
    assert recipients() == []
    for seconds in (0, 20, 40):
        handover.send_due_notes(MONDAY + timedelta(seconds=seconds))
    assert recipients() == ["alice", "bob"]
    assert str(Notification.objects.first().title) == "Handover of Desk 24x7: Alice to Bob"  # type: ignore[union-attr]


def test_two_nodes_mail_a_note_once(schedule: Schedule) -> None:
    handover.plan_notes(MONDAY - HOUR)
    with ThreadPoolExecutor(4) as nodes:
        list(nodes.map(lambda _node: handover.send_due_notes(MONDAY), range(4)))
    assert recipients() == ["alice", "bob"]


def test_a_note_sent_early_is_not_sent_again(schedule: Schedule) -> None:
    handover.plan_notes(MONDAY - HOUR)
    note = HandoverNote.objects.get()
    handover.save_text(note, " The backup of Acme fails. \n", viewer("alice"), MONDAY - HOUR)
    handover.send_now(note, viewer("alice"), MONDAY - HOUR / 2)
    for change in (
        lambda: handover.send_now(note, viewer("alice"), MONDAY),
        lambda: handover.save_text(note, "Late", viewer("alice"), MONDAY),
    ):
        with pytest.raises(Rejected) as rejected:
            change()
        assert rejected.value.code == "not_possible"
    handover.plan_notes(MONDAY - HOUR / 4)
    handover.send_due_notes(MONDAY)
    assert recipients() == ["alice", "bob"]
    text = reason_from_json(Notification.objects.all()[0].data["text"])
    assert str(text).startswith("The backup of Acme fails.\n\nNo open alerts\n\n")


def test_only_outgoing_users_and_managers_change_a_note(schedule: Schedule, desk_group: Group, now: datetime) -> None:
    handover.plan_notes(MONDAY - HOUR)
    note = HandoverNote.objects.get()
    for name in ("bob", "carol"):
        for change in (handover.send_now, lambda note, who, at: handover.save_text(note, "Mine", who, at)):
            with pytest.raises(Rejected) as rejected:
                change(note, viewer(name), now)
            assert rejected.value.code == "forbidden"
    make_user("root", now, role="admin")
    handover.save_text(note, "From above", viewer("root"), now)
    with pytest.raises(Rejected) as rejected:
        handover.save_text(note, "x" * 5001, viewer("alice"), now)
    assert rejected.value.field == "text"
    assert HandoverNote.objects.get().text == "From above"


def test_a_handover_that_is_cancelled_has_no_note(schedule: Schedule, now: datetime) -> None:
    handover.plan_notes(MONDAY - HOUR)
    whole = {"schedule": "Desk 24x7", "user": "alice", "from": "2026-11-30T08:00", "to": "2026-12-01T09:00"}
    overrides.save_override(whole, actor=ACTOR, now=now)
    handover.send_due_notes(MONDAY)
    assert not HandoverNote.objects.exists()
    assert recipients() == []


def test_a_written_note_is_sent_although_the_shift_moved(schedule: Schedule, now: datetime) -> None:
    handover.plan_notes(MONDAY - HOUR)
    handover.save_text(HandoverNote.objects.get(), "Important", viewer("alice"), now)
    whole = {"schedule": "Desk 24x7", "user": "alice", "from": "2026-11-30T08:00", "to": "2026-12-01T09:00"}
    overrides.save_override(whole, actor=ACTOR, now=now)
    handover.plan_notes(MONDAY - HOUR / 2)
    handover.send_due_notes(MONDAY)
    assert recipients() == ["alice", "bob"]


def test_disabled_notes_are_neither_planned_nor_sent(schedule: Schedule, now: datetime) -> None:
    handover.plan_notes(MONDAY - HOUR)
    commands.save_schedule({**SPEC, "handover_notes": False}, existing=schedule, actor=ACTOR, now=now)
    handover.send_due_notes(MONDAY)
    handover.plan_notes(MONDAY + timedelta(days=6, hours=20))
    assert not HandoverNote.objects.exists()
    assert recipients() == []


def test_a_note_missed_for_long_is_dropped(schedule: Schedule) -> None:
    handover.plan_notes(MONDAY - HOUR)
    handover.send_due_notes(MONDAY + 13 * HOUR)
    assert recipients() == []


def test_a_note_that_fails_holds_up_no_other(
    schedule: Schedule, desk_group: Group, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.save_schedule({**SPEC, "name": "Other"}, actor=ACTOR, now=now)
    handover.plan_notes(MONDAY - HOUR)
    whole: Callable[..., None] = handover._mail

    def failing(connection: object, row: dict[str, object], *about: object) -> None:
        if row["schedule"] == "Other":
            raise KeyError("whatever it is")
        whole(connection, row, *about)

    monkeypatch.setattr(handover, "_mail", failing)
    handover.send_due_notes(MONDAY)
    assert recipients() == ["alice", "bob"]


def test_facts_are_those_of_the_shift_and_stay_as_mailed(schedule: Schedule, desk_group: Group, now: datetime) -> None:
    night = MONDAY - timedelta(days=1, hours=7)
    vpn = open_alert(desk_group, night, priority="critical", owner=user("alice"), status=AlertStatus.ASSIGNED)
    open_alert(desk_group, night, subject="Disk", status=AlertStatus.ON_HOLD, hold_until=MONDAY + HOUR)
    open_alert(desk_group, night, status=AlertStatus.CLOSED, closed_at=night)
    open_alert(desk_group, night, status=AlertStatus.CANCELLED, closed_at=night)
    open_alert(desk_group, night - timedelta(days=30), subject="Old")
    open_alert(make_group("Net", now), night, subject="Not ours")
    open_alert(desk_group, night, subject="A test", is_test=True)
    page(vpn, "alice", night)
    spec = {"schedule": "Desk 24x7", "user": "carol", "instead_of": "bob"}
    overrides.save_override({**spec, "from": "2026-12-02T08:00", "to": "2026-12-02T12:00"}, actor=ACTOR, now=now)
    window = {"name": "Core switch", "time_zone": "UTC", "starts": "2026-12-01 20:00", "ends": "2026-12-01 22:00"}
    save_window(window, actor=ACTOR, now=now)
    handover.plan_notes(MONDAY - HOUR)
    handover.send_due_notes(MONDAY)
    note = HandoverNote.objects.select_related("schedule").get()
    assert str(handover.as_text(handover.current_facts(note, MONDAY + HOUR))).splitlines() == [
        "2 open alerts",
        f"- Alert {vpn.pk}: VPN down (critical, assigned to Alice)",
        f"- Alert {vpn.pk + 4}: Old (high, unassigned)",
        "",
        "1 snoozed alert",
        f"- Alert {vpn.pk + 1}: Disk (high, snoozed until 2026-11-30 10:00 UTC)",
        "",
        "4 alerts in the shift",
        "- 1 closed",
        "- 1 false alarm",
        "- 2 still active",
        "",
        "Pages in the shift",
        "- Alice: 1 alert, 1 at night",
        "",
        "Overrides in the next 7 days",
        "- Carol instead of Bob, 2026-12-02 08:00 UTC to 2026-12-02 12:00 UTC",
        "",
        "Maintenance in the next 7 days",
        "- Core switch, 2026-12-01 20:00 UTC to 2026-12-01 22:00 UTC",
    ]
    Alert.objects.all().delete()
    assert len(handover.current_facts(note, MONDAY + HOUR)) == 6
