"""The changes that a source's messages make to an active alert."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from tocsin.alerts import states
from tocsin.alerts.commands import Acknowledged, Actor, AlertState
from tocsin.alerts.lifecycle import TicketAgent, apply_agent_change, compare_fields
from tocsin.alerts.states import ActorKind, AlertStatus, EventKind, Priority
from tocsin.core.reasons import Reason, Term, joined

NOW = datetime(2026, 11, 24, 3, 14, tzinfo=UTC)
HALO = Actor(ActorKind.INTEGRATION, "HaloITSM")
OPEN = AlertState(42, AlertStatus.OPEN, Priority.HIGH, NOW)
NOBODY = TicketAgent()
ALICE = TicketAgent("alice@example.org", 1, "Alice Andersson")
BOB = TicketAgent("Bob Brown", 2, "Bob Brown")
VENDOR = TicketAgent("Vendor hotline")


def test_changes_of_one_message_are_one_listed_event() -> None:
    current = {"priority": "high", "source_status": "New", "subject": "VPN down"}
    got = compare_fields(
        42, current, {"priority": "critical", "source_status": "In Progress", "subject": "VPN down"}, HALO, NOW
    )
    assert got.changes == {"priority": "critical", "source_status": "In Progress"}
    assert got.event is not None
    priority = states.FIELD_CHANGED(field=Term("priority"), old=Term("high"), new=Term("critical"))
    status = states.FIELD_CHANGED(field=Term("status"), old="New", new="In Progress")
    assert got.event.reason == states.SOURCE_CHANGED(actor=HALO.person, changes=joined(priority, status))
    assert str(got.event.reason) == "HaloITSM updated the alert: priority high → critical; status New → In Progress"
    assert got.event.data == {"changes": {"priority": ["high", "critical"], "source_status": ["New", "In Progress"]}}


def test_missing_field_is_kept_and_empty_field_is_removed() -> None:
    got = compare_fields(42, {"client": "Acme", "site": "Basel"}, {"client": None, "site": ""}, HALO, NOW)
    assert got.changes == {"site": ""}
    assert got.event is not None
    assert str(got.event.reason) == "HaloITSM updated the alert: site removed"


def test_nothing_new_is_no_event() -> None:
    assert compare_fields(42, {"client": "Acme"}, {"client": "Acme", "tags": {}}, HALO, NOW) == compare_fields(
        42, {}, {}, HALO, NOW
    )


def test_tags_and_custom_fields_are_compared_by_name() -> None:
    current = {"custom": {"category": "Network", "vip": "no"}, "tags": {}}
    got = compare_fields(
        42, current, {"custom": {"vip": "yes", "category": None}, "tags": {"environment": "prod"}}, HALO, NOW
    )
    assert got.changes == {"custom": {"category": "Network", "vip": "yes"}, "tags": {"environment": "prod"}}
    assert got.event is not None
    assert str(got.event.reason) == "HaloITSM updated the alert: vip no → yes; environment prod"


def test_long_text_changes_are_named_and_values_truncated() -> None:
    got = compare_fields(42, {"long_text": "a"}, {"long_text": "b" * 9000, "subject": "s" * 300}, HALO, NOW)
    assert got.event is not None
    assert "long text changed" in str(got.event.reason)
    assert len(str(got.event.reason)) < 200
    assert len(str(got.event.data)) < 400


def test_change_from_unassigned_to_known_user_is_an_assignment() -> None:
    got = apply_agent_change(OPEN, NOBODY, ALICE, HALO, NOW)
    assert (got.state.status, got.state.owner_id, got.state.owner_name) == ("assigned", 1, "Alice Andersson")
    assert got.events[0].reason == states.ASSIGNED(actor=HALO.person, user=ALICE.person)


def test_unassigning_an_unassigned_alert_changes_nothing() -> None:
    got = apply_agent_change(OPEN, ALICE, NOBODY, HALO, NOW)
    assert (got.state, got.answer.code, got.events) == (OPEN, "alert.not_assigned", ())


def test_unknown_owner_appears_by_the_sources_name() -> None:
    got = apply_agent_change(OPEN, NOBODY, VENDOR, HALO, NOW)
    assert (got.state.owner_id, got.state.owner_name) == (None, "Vendor hotline")


def test_change_to_unassigned_reopens_without_counted_responders() -> None:
    owned = replace(
        apply_agent_change(OPEN, NOBODY, ALICE, HALO, NOW).state, acknowledged={2: Acknowledged(NOW, "Bob")}
    )
    got = apply_agent_change(owned, ALICE, NOBODY, HALO, NOW)
    assert got.state == OPEN
    assert got.events[0].kind is EventKind.UNASSIGNED
    assert got.events[0].reason == states.UNASSIGNED_AT_SOURCE(actor=HALO.person, user=ALICE.person)
    outside = apply_agent_change(OPEN, NOBODY, VENDOR, HALO, NOW).state
    assert apply_agent_change(outside, VENDOR, NOBODY, HALO, NOW).state == OPEN


def test_from_one_to_another_hands_it_over() -> None:
    owned = apply_agent_change(OPEN, NOBODY, ALICE, HALO, NOW).state
    got = apply_agent_change(owned, ALICE, BOB, HALO, NOW)
    assert got.state.owner_id == 2
    assert got.events[0].reason == states.REASSIGNED(actor=HALO.person, previous=ALICE.person, user=BOB.person)


def test_owner_set_in_tocsin_survives_unassignment_by_source() -> None:
    bobs = replace(OPEN, status=AlertStatus.ASSIGNED, owner_id=2, owner_name="Bob Brown")
    got = apply_agent_change(bobs, ALICE, NOBODY, HALO, NOW)
    assert not got.is_change
    assert got.state == bobs


def test_the_same_agent_again_changes_nothing() -> None:
    assert not apply_agent_change(OPEN, ALICE, ALICE, HALO, NOW).is_change
    bobs = replace(OPEN, status=AlertStatus.ASSIGNED, owner_id=2, owner_name="Bob Brown")
    assert not apply_agent_change(bobs, NOBODY, BOB, HALO, NOW).is_change, "the source repeats what Tocsin told it"


def test_an_agent_does_not_end_a_hold() -> None:
    alert = replace(OPEN, status=AlertStatus.ON_HOLD, hold_until=NOW)
    taken_alert = apply_agent_change(alert, NOBODY, BOB, HALO, NOW).state
    assert (taken_alert.status, taken_alert.owner_id) == ("on_hold", 2)
    assert apply_agent_change(taken_alert, BOB, NOBODY, HALO, NOW).state == alert


@pytest.mark.parametrize("status", [AlertStatus.CLOSED, AlertStatus.CANCELLED, AlertStatus.MERGED])
def test_agent_changes_nothing_on_a_closed_alert(status: AlertStatus) -> None:
    assert not apply_agent_change(replace(OPEN, status=status), NOBODY, BOB, HALO, NOW).is_change


def test_changed_fields_are_shown_in_the_readers_language() -> None:
    got = compare_fields(42, {"priority": "high"}, {"priority": "critical", "tags": {"status page": "up"}}, HALO, NOW)
    assert got.event is not None
    assert isinstance(got.event.reason, Reason)
    assert got.event.reason.localized("de") == (
        "HaloITSM hat den Alarm aktualisiert: Priorität hoch → kritisch; status page up"
    )
