"""The effect of each command on an alert in every state, and its message to a second user."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tocsin.alerts import states
from tocsin.alerts.commands import (
    SYSTEM,
    Acknowledge,
    Actor,
    AlertState,
    Assign,
    Cancel,
    Close,
    Command,
    Escalate,
    ExpireAcknowledgement,
    Hold,
    LastEvent,
    Merge,
    Reopen,
    Reply,
    Resume,
    Transition,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.lifecycle import apply, describe_state, on_parent_ended, on_parent_reopened
from tocsin.alerts.states import ACTIVE, ActorKind, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Ago, AlertRef, Person, joined

NOW = datetime(2026, 11, 24, 3, 14, tzinfo=UTC)
ALICE = Actor(ActorKind.USER, "Alice Andersson", 1)
BOB = Actor(ActorKind.USER, "Bob Brown", 2)
HALO = Actor(ActorKind.INTEGRATION, "HaloITSM")
A42 = AlertRef(42)
STAFF = Actor(ActorKind.CONTACT, "ops@example.org")


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def alert(status: AlertStatus = AlertStatus.OPEN, **fields: object) -> AlertState:
    state = AlertState(42, status, Priority.HIGH, NOW - minutes(10))
    return replace(state, **fields)  # type: ignore[arg-type]


def then(transition: Transition) -> AlertState:
    """The state as the next command meets it: with the last event on record."""
    event = transition.events[0]
    last = LastEvent(event.kind, event.at, event.actor.kind, event.actor.name, event.actor.user_id, event.data)
    return replace(transition.state, last_event=last)


def closed_by_bob(at: datetime = NOW) -> AlertState:
    return then(apply(alert(), Close(actor=BOB), at))


def refused(state: AlertState, command: Command, now: datetime = NOW) -> Rejected:
    with pytest.raises(Rejected) as caught:
        apply(state, command, now)
    return caught.value


# Acknowledging


def test_acknowledging_is_recorded_for_that_person() -> None:
    one = apply(alert(), Acknowledge(actor=ALICE, via=CommandChannel.SMS), NOW)
    both = apply(one.state, Acknowledge(actor=BOB), NOW + minutes(1))
    assert set(both.state.acknowledged) == {1, 2}
    assert both.state.acknowledged[1].at == NOW
    assert both.state.status is AlertStatus.OPEN
    (event,) = one.events
    assert (event.kind, event.actor, event.via) == (EventKind.ACKNOWLEDGED, ALICE, CommandChannel.SMS)
    assert event.reason == states.ACKNOWLEDGED(actor=Person("Alice Andersson", 1))
    assert str(event.reason) == "Alice Andersson acknowledged the alert"


def test_acknowledging_twice_changes_nothing_and_says_since_when() -> None:
    once = apply(alert(), Acknowledge(actor=ALICE), NOW)
    again = apply(once.state, Acknowledge(actor=ALICE), NOW + minutes(3))
    assert not again.is_change
    assert again.state == once.state
    assert again.answer == states.YOU_ACKNOWLEDGED_ALREADY(alert=A42, ago=Ago(minutes(3)))
    assert str(again.answer) == "You already acknowledged alert 42 3 minutes ago."


def test_acknowledging_again_answers_the_acknowledgement_reminder() -> None:
    once = apply(alert(), Acknowledge(actor=ALICE), NOW).state
    again = apply(replace(once, reminded_user_ids=frozenset({1})), Acknowledge(actor=ALICE), NOW + minutes(31))
    assert again.state.acknowledged[1].at == NOW + minutes(31)
    assert again.state.reminded_user_ids == frozenset()
    assert again.events[0].reason == states.ACKNOWLEDGEMENT_CONFIRMED(actor=ALICE.person)


def test_acknowledging_closed_alert_reports_who_closed_it() -> None:
    answer = refused(closed_by_bob(), Acknowledge(actor=ALICE), NOW + minutes(2))
    assert answer.code == "already_closed"
    assert answer.detail == "Alert 42 was already closed by Bob Brown 2 minutes ago. Nothing to do."


@pytest.mark.parametrize("actor", [HALO, STAFF, SYSTEM])
def test_only_a_person_can_acknowledge(actor: Actor) -> None:
    assert refused(alert(), Acknowledge(actor=actor)).code == "needs_person"


def test_acknowledgement_is_reverted_only_by_its_user() -> None:
    state = apply(alert(), Acknowledge(actor=ALICE), NOW).state
    assert not apply(state, Unacknowledge(actor=BOB), NOW).is_change
    assert apply(state, Unacknowledge(actor=ALICE), NOW).state.acknowledged == {}


def test_expired_acknowledgement_names_its_user() -> None:
    state = apply(alert(), Acknowledge(actor=ALICE), NOW).state
    transition = apply(
        state, ExpireAcknowledgement(actor=SYSTEM, user_id=1, via=CommandChannel.POLICY), NOW + minutes(35)
    )
    assert transition.state.acknowledged == {}
    (event,) = transition.events
    assert event.kind is EventKind.ACKNOWLEDGEMENT_EXPIRED
    assert event.actor == SYSTEM
    assert event.reason == states.ACKNOWLEDGEMENT_EXPIRED(user=ALICE.person, ago=Ago(minutes(35)))
    late = apply(transition.state, ExpireAcknowledgement(actor=SYSTEM, user_id=1), NOW)
    assert not late.is_change


# Who has it


def test_taking_makes_the_person_the_owner() -> None:
    transition = apply(alert(), Assign(actor=ALICE, user_id=1, name="Alice Andersson", via=CommandChannel.VOICE), NOW)
    assert (transition.state.status, transition.state.owner_id) == (AlertStatus.ASSIGNED, 1)
    assert transition.events[0].reason == states.ASSIGNED_TO_SELF(actor=ALICE.person)
    assert transition.answer == states.ASSIGNED_TO_YOU(alert=A42)
    from_bob = replace(alert(AlertStatus.ASSIGNED), owner_id=2, owner_name="Bob Brown")
    again = apply(from_bob, Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW)
    assert again.events[0].reason == states.REASSIGNED_TO_SELF(actor=ALICE.person, previous=BOB.person)


def test_alert_is_assigned_to_user_or_external_name() -> None:
    to_bob = apply(alert(), Assign(actor=ALICE, user_id=2, name="Bob Brown", note="knows the VPN"), NOW)
    assigned = states.ASSIGNED(actor=ALICE.person, user=BOB.person)
    assert to_bob.events[0].reason == states.WITH_NOTE(event=assigned, note="knows the VPN")
    assert str(to_bob.events[0].reason) == "Alice Andersson assigned the alert to Bob Brown: knows the VPN"
    outside = apply(to_bob.state, Assign(actor=ALICE, name="Vendor hotline"), NOW + minutes(1))
    assert (outside.state.owner_id, outside.state.owner_name) == (None, "Vendor hotline")
    assert outside.state.status is AlertStatus.ASSIGNED
    assert outside.events[0].reason == states.REASSIGNED(
        actor=ALICE.person, previous=BOB.person, user=Person("Vendor hotline")
    )


def test_assigning_to_the_owner_changes_nothing() -> None:
    taken_alert = then(apply(alert(), Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW))
    again = apply(taken_alert, Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW)
    assert not again.is_change
    assert again.answer == states.ASSIGNED_TO_YOU_ALREADY(alert=A42)
    named = apply(taken_alert, Assign(actor=BOB, user_id=1, name="Alice Andersson"), NOW)
    assert named.answer == states.ASSIGNED_TO_ALREADY(alert=A42, user=ALICE.person)


def test_assigning_without_owner_is_rejected() -> None:
    assert refused(alert(), Assign(actor=ALICE, name="  ")).field == "user"


def test_second_of_two_concurrent_assignments_names_the_owner() -> None:
    taken_alert = then(apply(alert(), Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW))
    second = Assign(actor=BOB, user_id=2, name="Bob Brown")
    answer = refused(taken_alert, second, NOW + timedelta(seconds=2))
    assert answer.code == "already_assigned"
    assert answer.detail == "Alert 42 was assigned to Alice Andersson just now. Nothing to do."
    later = apply(taken_alert, second, NOW + minutes(1))
    assert later.state.owner_id == 2, "taking over a minute later is meant"


def test_stale_assignment_is_rejected_after_another_assignment() -> None:
    taken_alert = then(apply(alert(), Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW))
    by_sms = Assign(actor=BOB, user_id=2, name="Bob Brown", via=CommandChannel.SMS, seen_at=NOW - minutes(1))
    assert refused(taken_alert, by_sms, NOW + minutes(4)).code == "already_assigned"


def test_previous_assigner_may_reassign_immediately() -> None:
    taken_alert = then(apply(alert(), Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW))
    token = Actor(ActorKind.TOKEN, "Alice Andersson", 1)
    assert apply(taken_alert, Assign(actor=token, user_id=2, name="Bob Brown"), NOW).state.owner_id == 2


def test_unassigning_reopens_alert_without_counted_responders() -> None:
    state = apply(alert(), Acknowledge(actor=BOB), NOW).state
    state = apply(state, Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW).state
    given_back = apply(state, Unassign(actor=ALICE), NOW + minutes(9))
    assert given_back.state.status is AlertStatus.OPEN
    assert not given_back.state.is_owned
    assert given_back.state.acknowledged == {}
    assert given_back.events[0].reason == states.UNASSIGNED_SELF(actor=ALICE.person)
    assert given_back.answer == states.IS_UNASSIGNED(alert=A42)
    by_bob = apply(state, Unassign(actor=BOB), NOW + minutes(9))
    assert by_bob.events[0].reason == states.UNASSIGNED(actor=BOB.person, user=ALICE.person)


def test_unassigning_an_unassigned_alert_changes_nothing() -> None:
    assert not apply(alert(), Unassign(actor=ALICE), NOW).is_change


# Hold


def test_a_hold_ends_where_it_began_open_or_assigned() -> None:
    transition = apply(alert(), Hold(actor=ALICE, until=NOW + minutes(30)), NOW)
    assert (transition.state.status, transition.state.hold_until) == (AlertStatus.ON_HOLD, NOW + minutes(30))
    assert transition.events[0].reason == states.SNOOZED(actor=ALICE.person, duration=minutes(30))
    assert transition.answer == states.IS_SNOOZED(alert=A42, duration=minutes(30))
    assert apply(transition.state, Resume(actor=ALICE), NOW).state.status is AlertStatus.OPEN
    owned = apply(transition.state, Assign(actor=BOB, user_id=2, name="Bob Brown"), NOW).state
    assert owned.status is AlertStatus.ON_HOLD, "taking it does not end the hold"
    assert apply(owned, Resume(actor=BOB), NOW).state.status is AlertStatus.ASSIGNED


def test_a_hold_into_the_past_or_for_ever_is_refused() -> None:
    assert refused(alert(), Hold(actor=ALICE, until=NOW)).field == "until"
    assert refused(alert(), Hold(actor=ALICE, until=NOW + timedelta(days=400))).field == "until"


def test_hold_can_be_moved_and_same_end_changes_nothing() -> None:
    held_alert = apply(alert(), Hold(actor=ALICE, until=NOW + minutes(30)), NOW).state
    assert not apply(held_alert, Hold(actor=BOB, until=NOW + minutes(30)), NOW).is_change
    moved = apply(held_alert, Hold(actor=BOB, until=NOW + minutes(60)), NOW)
    assert moved.state.hold_until == NOW + minutes(60)
    assert moved.events[0].reason == states.SNOOZE_CHANGED(actor=BOB.person, duration=minutes(60))


def test_the_end_of_a_hold_is_tocsins_own_act() -> None:
    held_alert = apply(alert(), Hold(actor=ALICE, until=NOW + minutes(30)), NOW).state
    over = apply(held_alert, Resume(actor=SYSTEM, via=CommandChannel.POLICY), NOW + minutes(30))
    assert over.events[0].reason == states.SNOOZE_ENDED()
    assert over.events[0].actor == SYSTEM


def test_resuming_what_is_not_on_hold_changes_nothing() -> None:
    assert not apply(alert(), Resume(actor=ALICE), NOW).is_change


# The end


@pytest.mark.parametrize("status", [*sorted(ACTIVE), AlertStatus.MERGED])
def test_alert_closes_from_every_active_state(status: AlertStatus) -> None:
    done = apply(
        alert(status, merged_into=7 if status == "merged" else None), Close(actor=HALO, via=CommandChannel.INBOUND), NOW
    )
    assert (done.state.status, done.state.closed_at) == (AlertStatus.CLOSED, NOW)
    assert not done.state.holds_key
    assert done.events[0].reason == states.CLOSED(actor=HALO.person)


def test_cancelling_says_that_nothing_was_wrong() -> None:
    done = apply(alert(), Cancel(actor=HALO, note="deleted in Halo"), NOW)
    assert done.state.status is AlertStatus.CANCELLED
    assert done.events[0].reason == states.WITH_NOTE(event=states.CANCELLED(actor=HALO.person), note="deleted in Halo")
    assert done.events[0].data["note"] == "deleted in Halo"


def test_closing_twice_names_the_first_closer() -> None:
    again = apply(closed_by_bob(), Close(actor=BOB), NOW + minutes(1))
    assert not again.is_change
    assert again.answer == states.IS_CLOSED_ALREADY(alert=A42)
    assert refused(closed_by_bob(), Close(actor=ALICE)).detail == "Alert 42 was already closed by Bob Brown just now."
    assert refused(closed_by_bob(), Cancel(actor=BOB)).code == "already_closed"
    cancelled = then(apply(alert(), Cancel(actor=BOB), NOW))
    assert apply(cancelled, Cancel(actor=BOB), NOW).answer == states.IS_CANCELLED_ALREADY(alert=A42)


@pytest.mark.parametrize(
    "command",
    [
        Acknowledge(actor=ALICE),
        Unacknowledge(actor=ALICE),
        Assign(actor=ALICE, user_id=1, name="Alice Andersson"),
        Unassign(actor=ALICE),
        Escalate(actor=ALICE),
        Hold(actor=ALICE, until=NOW + minutes(5)),
        Resume(actor=ALICE),
        Merge(actor=ALICE, into=AlertState(7, AlertStatus.OPEN, Priority.LOW, NOW)),
    ],
)
def test_closing_beats_every_other_command(command: Command) -> None:
    assert refused(closed_by_bob(), command).code == "already_closed"
    merged = alert(AlertStatus.MERGED, merged_into=7)
    answer = refused(merged, command) if not isinstance(command, Merge) else None
    assert answer is None or (answer.code, answer.detail) == (
        "merged",
        "Alert 42 is merged into alert 7; use that one.",
    )


def test_escalating_keeps_state_and_records_requester() -> None:
    transition = apply(alert(), Escalate(actor=ALICE, via=CommandChannel.VOICE), NOW)
    assert transition.state == alert()
    assert transition.events[0].kind is EventKind.ESCALATED


@pytest.mark.parametrize("status", list(AlertStatus))
def test_a_reply_is_possible_in_every_state(status: AlertStatus) -> None:
    replied = apply(alert(status), Reply(actor=STAFF, text=" on my way "), NOW)
    assert replied.state == alert(status)
    assert replied.events[0].data["text"] == "on my way"


def test_an_empty_reply_is_refused() -> None:
    assert refused(alert(), Reply(actor=ALICE, text="  ")).field == "text"


# Reopening


def test_reopening_within_a_day_counts_no_responders() -> None:
    state = apply(alert(), Acknowledge(actor=ALICE), NOW).state
    state = then(apply(state, Assign(actor=ALICE, user_id=1, name="Alice Andersson"), NOW))
    state = then(apply(state, Close(actor=BOB), NOW))
    back = apply(state, Reopen(actor=BOB), NOW + timedelta(hours=24))
    assert back.state.status is AlertStatus.OPEN
    assert (back.state.owner_id, back.state.closed_at, back.state.acknowledged) == (None, None, {})
    assert back.state.holds_key


def test_after_a_day_an_alert_stays_closed() -> None:
    assert refused(closed_by_bob(), Reopen(actor=BOB), NOW + timedelta(hours=24, seconds=1)).code == "too_late"


def test_alert_is_not_reopened_beside_newer_alert_with_same_key() -> None:
    answer = refused(replace(closed_by_bob(), key_owner_id=43), Reopen(actor=BOB))
    assert answer.code == "key_taken"
    assert "Alert 43 is open for the same problem" in answer.detail


def test_only_people_reopen_and_only_what_is_over() -> None:
    assert refused(closed_by_bob(), Reopen(actor=HALO)).code == "needs_person"
    assert refused(alert(), Reopen(actor=BOB)).code == "not_closed"
    assert refused(alert(AlertStatus.MERGED, merged_into=7), Reopen(actor=BOB)).code == "merged"


# Merging


def test_a_merged_alert_keeps_its_key_and_both_timelines_tell() -> None:
    parent = AlertState(7, AlertStatus.ASSIGNED, Priority.HIGH, NOW, owner_id=2, owner_name="Bob Brown")
    merged = apply(alert(), Merge(actor=ALICE, into=parent), NOW)
    assert (merged.state.status, merged.state.merged_into) == (AlertStatus.MERGED, 7)
    assert merged.state.holds_key
    assert [(event.alert_id, event.kind) for event in merged.events] == [
        (42, EventKind.MERGED),
        (7, EventKind.MERGED_INTO_THIS),
    ]


def test_the_alerts_merged_into_it_move_along() -> None:
    parent = AlertState(7, AlertStatus.OPEN, Priority.HIGH, NOW)
    merged = apply(alert(children=(8, 9)), Merge(actor=ALICE, into=parent), NOW)
    assert merged.child_moves == ((8, 7), (9, 7))
    assert [(event.alert_id, event.reason) for event in merged.events][2:] == [
        (child, states.MERGED_ALONG(actor=ALICE.person, alert=A42, into=AlertRef(7))) for child in (8, 9)
    ]
    back = apply(then(merged), Undo(actor=ALICE), NOW)
    assert back.child_moves == ((8, 42), (9, 42))
    assert [event.alert_id for event in back.events][2:] == [8, 9]
    assert back.events[2].reason == states.MERGE_ALONG_UNDONE(actor=ALICE.person, alert=A42, into=AlertRef(7))
    assert back.state == replace(alert(children=(8, 9)), last_event=then(merged).last_event)


@pytest.mark.parametrize("status", [AlertStatus.CLOSED, AlertStatus.CANCELLED, AlertStatus.MERGED])
def test_an_alert_is_only_merged_into_one_that_lives(status: AlertStatus) -> None:
    parent = AlertState(7, status, Priority.HIGH, NOW, merged_into=42 if status == "merged" else None)
    assert refused(alert(), Merge(actor=ALICE, into=parent)).field == "into"


def test_an_alert_is_not_merged_into_itself() -> None:
    assert refused(alert(), Merge(actor=ALICE, into=alert())).field == "into"


def test_merging_twice_into_the_same_changes_nothing() -> None:
    parent = AlertState(7, AlertStatus.OPEN, Priority.HIGH, NOW)
    assert not apply(alert(AlertStatus.MERGED, merged_into=7), Merge(actor=BOB, into=parent), NOW).is_change


def test_merged_alerts_key_is_free_while_its_parent_is_closed() -> None:
    child = alert(AlertStatus.MERGED, merged_into=7)
    freed = on_parent_ended(child, NOW)
    assert not freed.state.holds_key
    assert freed.state.status is AlertStatus.MERGED
    assert freed.events[0].kind is EventKind.KEY_RELEASED
    assert not on_parent_ended(freed.state, NOW).is_change
    assert on_parent_reopened(freed.state, NOW).state.holds_key
    assert not on_parent_reopened(replace(freed.state, key_owner_id=50), NOW).is_change


def test_every_state_is_described_in_a_sentence() -> None:
    assert str(describe_state(alert(), NOW)) == "Alert 42 is open."
    held_alert = alert(AlertStatus.ON_HOLD, hold_until=NOW + minutes(20))
    assert str(describe_state(held_alert, NOW)) == "Alert 42 is snoozed for another 20 minutes."
    owned = replace(held_alert, owner_name="Bob Brown")
    assert str(describe_state(owned, NOW)) == "Alert 42 is snoozed for another 20 minutes, assigned to Bob Brown."
    assigned = alert(AlertStatus.ASSIGNED, owner_name="Bob")
    assert str(describe_state(assigned, NOW)) == "Alert 42 is assigned to Bob."
    cancelled = alert(AlertStatus.CANCELLED, closed_at=NOW)
    assert str(describe_state(cancelled, NOW)) == "Alert 42 was already closed as a false alarm just now."
    merged = alert(AlertStatus.MERGED, merged_into=7)
    assert str(describe_state(merged, NOW)) == "Alert 42 is merged into alert 7; use that one."


def test_expiry_names_the_reason_of_its_command() -> None:
    state = apply(alert(), Acknowledge(actor=ALICE), NOW).state
    transition = apply(state, ExpireAcknowledgement(actor=SYSTEM, user_id=1, note=states.SNOOZE_ENDED()), NOW)
    assert transition.events[0].reason == states.ACKNOWLEDGEMENT_ENDED(user=ALICE.person, reason=states.SNOOZE_ENDED())


def test_note_of_a_user_is_only_a_parameter() -> None:
    done = apply(alert(), Close(actor=ALICE, note="{actor} closed the alert"), NOW)
    assert done.events[0].reason == states.WITH_NOTE(
        event=states.CLOSED(actor=ALICE.person), note="{actor} closed the alert"
    )
    assert str(done.events[0].reason) == "Alice Andersson closed the alert: {actor} closed the alert"


def test_command_on_closed_alert_says_nothing_is_to_do() -> None:
    closed_by = states.WAS_CLOSED_BY(alert=A42, actor=BOB.person, ago=Ago(minutes(2)))
    rejected = refused(closed_by_bob(), Acknowledge(actor=ALICE), NOW + minutes(2))
    assert rejected.reason == joined(closed_by, states.NOTHING_TO_DO(), separator=" ")
