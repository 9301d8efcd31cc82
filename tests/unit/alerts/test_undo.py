"""Undo of a user's own last command within a minute."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tocsin.alerts import states
from tocsin.alerts.commands import (
    Acknowledge,
    Acknowledged,
    Actor,
    AlertState,
    Assign,
    BaseCommand,
    Cancel,
    Close,
    Command,
    Escalate,
    Hold,
    LastEvent,
    Merge,
    Reply,
    Resume,
    Transition,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.lifecycle import _NOT_UNDOABLE, apply
from tocsin.alerts.states import ActorKind, AlertStatus, EventKind, Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason

NOW = datetime(2026, 11, 24, 3, 14, tzinfo=UTC)
ALICE = Actor(ActorKind.USER, "Alice Andersson", 1)
BOB = Actor(ActorKind.USER, "Bob Brown", 2)
PARENT = AlertState(7, AlertStatus.OPEN, Priority.LOW, NOW)
OPEN = AlertState(42, AlertStatus.OPEN, Priority.HIGH, NOW)
BUSY = replace(
    OPEN,
    status=AlertStatus.ON_HOLD,
    hold_until=NOW + timedelta(hours=1),
    owner_id=2,
    owner_name="Bob Brown",
    acknowledged={1: Acknowledged(NOW, "Alice Andersson"), 2: Acknowledged(NOW, "Bob Brown")},
)

UNDOABLE: list[Command] = [
    Acknowledge(actor=ALICE),
    Unacknowledge(actor=ALICE),
    Assign(actor=ALICE, user_id=1, name="Alice Andersson"),
    Unassign(actor=ALICE),
    Hold(actor=ALICE, until=NOW + timedelta(minutes=30)),
    Resume(actor=ALICE),
    Close(actor=ALICE),
    Cancel(actor=ALICE),
    Merge(actor=ALICE, into=PARENT),
]


def then(transition: Transition) -> AlertState:
    """The state as read back from rows: the event's data went through JSON."""
    event = transition.events[0]
    data = json.loads(json.dumps(event.data))
    return replace(
        transition.state,
        last_event=LastEvent(event.kind, event.at, event.actor.kind, event.actor.name, event.actor.user_id, data),
    )


@given(st.sampled_from([OPEN, BUSY]), st.sampled_from(UNDOABLE), st.integers(min_value=0, max_value=60))
def test_undo_brings_back_exactly_what_was(state: AlertState, command: Command, seconds: int) -> None:
    done = apply(state, command, NOW)
    if not done.is_change:
        return
    back = apply(then(done), Undo(actor=ALICE), NOW + timedelta(seconds=seconds))
    assert replace(back.state, last_event=None) == state
    event = back.events[0]
    assert event.kind is EventKind.UNDONE
    assert event.data["undone"] == done.events[0].kind
    assert isinstance(event.reason, Reason)
    assert event.reason.code == "alert.undone"


def test_undo_works_for_a_minute() -> None:
    closed = then(apply(OPEN, Close(actor=ALICE), NOW))
    with pytest.raises(Rejected, match="one minute"):
        apply(closed, Undo(actor=ALICE), NOW + timedelta(seconds=61))


def test_undo_takes_back_ones_own_command_only() -> None:
    closed = then(apply(OPEN, Close(actor=BOB), NOW))
    with pytest.raises(Rejected, match="Bob Brown changed alert 42 after you"):
        apply(closed, Undo(actor=ALICE), NOW)


def test_undo_by_token_reverts_its_users_command() -> None:
    closed = then(apply(OPEN, Close(actor=ALICE), NOW))
    assert apply(closed, Undo(actor=Actor(ActorKind.TOKEN, "Alice Andersson", 1)), NOW).state.status == "open"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (Reply(actor=ALICE, text="hello"), "A note cannot be undone"),
        (Escalate(actor=ALICE), "may already have been paged"),
    ],
)
def test_sent_notifications_prevent_undo_with_a_reason(command: Command, sentence: str) -> None:
    done = then(apply(OPEN, command, NOW))
    with pytest.raises(Rejected, match=sentence):
        apply(done, Undo(actor=ALICE), NOW)


@pytest.mark.parametrize("kind", [*_NOT_UNDOABLE, EventKind.WORKFLOW])
def test_event_without_undo_says_why(kind: EventKind) -> None:
    last = LastEvent(kind, NOW, ActorKind.USER, ALICE.name, ALICE.user_id, {})
    with pytest.raises(Rejected) as caught:
        apply(replace(OPEN, last_event=last), Undo(actor=ALICE), NOW)
    expected = _NOT_UNDOABLE[kind].code if kind in _NOT_UNDOABLE else "command.not_undoable"
    assert caught.value.reason.code == expected


def test_an_undo_is_not_undone() -> None:
    closed = then(apply(OPEN, Close(actor=ALICE), NOW))
    back = then(apply(closed, Undo(actor=ALICE), NOW))
    with pytest.raises(Rejected, match="already undone"):
        apply(back, Undo(actor=ALICE), NOW)


def test_empty_undo_is_reported() -> None:
    with pytest.raises(Rejected, match="no command to undo"):
        apply(OPEN, Undo(actor=ALICE), NOW)
    closed = then(apply(OPEN, Close(actor=ALICE), NOW))
    with pytest.raises(Rejected, match="no command to undo"):
        apply(closed, Undo(actor=Actor(ActorKind.CONTACT, "ops@example.org")), NOW)


def test_close_is_not_undone_beside_newer_alert_with_same_key() -> None:
    closed = replace(then(apply(OPEN, Close(actor=ALICE), NOW)), key_owner_id=43)
    with pytest.raises(Rejected) as refused:
        apply(closed, Undo(actor=ALICE), NOW)
    assert refused.value.code == "key_taken"


def test_undone_merge_reclaims_key_after_parent_closed() -> None:
    merged = then(apply(OPEN, Merge(actor=ALICE, into=PARENT), NOW))
    orphan = replace(merged, holds_key=False, is_parent_ended=True)
    assert apply(orphan, Undo(actor=ALICE), NOW).state.holds_key
    with pytest.raises(Rejected) as refused:
        apply(replace(orphan, key_owner_id=43), Undo(actor=ALICE), NOW)
    assert refused.value.code == "key_taken"


def test_merged_alert_with_undone_close_has_key_during_parents_life() -> None:
    merged = replace(OPEN, status=AlertStatus.MERGED, merged_into=7)
    closed = then(apply(merged, Close(actor=ALICE), NOW))
    assert apply(closed, Undo(actor=ALICE), NOW).state.holds_key
    assert not apply(replace(closed, is_parent_ended=True), Undo(actor=ALICE), NOW).state.holds_key


def test_both_timelines_tell_of_an_undone_merge() -> None:
    merged = then(apply(OPEN, Merge(actor=ALICE, into=PARENT), NOW))
    back = apply(merged, Undo(actor=ALICE), NOW)
    assert [event.alert_id for event in back.events] == [42, 7]


def test_every_command_is_an_order() -> None:
    assert all(isinstance(command, BaseCommand) for command in UNDOABLE)


def test_undone_false_alarm_is_named() -> None:
    cancelled = then(apply(OPEN, Cancel(actor=ALICE), NOW))
    (event,) = apply(cancelled, Undo(actor=ALICE), NOW).events
    assert event.reason == states.UNDONE(actor=ALICE.person, command=states.CANCEL())
