"""Alert commands in one PostgreSQL transaction: state, timeline, run and merged alerts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.support.ingest import NOW, Ingest, halo, make_integration
from tests.support.locks import wait_for_waiters
from tests.support.people import ACTOR, while_deleted
from tocsin.alerts import service
from tocsin.alerts.commands import (
    SYSTEM,
    Acknowledge,
    Actor,
    Assign,
    Cancel,
    Close,
    Hold,
    NewAlert,
    NewEvent,
    PagingConfig,
    PagingMode,
    Reopen,
    Resume,
    Unassign,
    Undo,
)
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.escalation.commands import add_responders, save_policy, start_policy
from tocsin.escalation.models import EscalationRun, PolicyVersion
from tocsin.inbound.models import Integration
from tocsin.notify.inbound.responder_actions import press_button
from tocsin.notify.pages import queue_pages
from tocsin.notify.rules.page_planner import PageRequest
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod, User

pytestmark = pytest.mark.usefixtures("database")


def person(username: str) -> Actor:
    user = User.objects.create(
        username=username, email=f"{username}-{uuid4().hex[:6]}@example.org", name=username.title()
    )
    return Actor(ActorKind.USER, user.display_name, user.pk)


@pytest.fixture
def integration(database: str) -> Integration:
    return make_integration()


@pytest.fixture
def alice(database: str) -> Actor:
    return person("alice")


def opened(integration: Integration, ticket: int = 1) -> int:
    (stored,) = Ingest().send(integration, halo(ticket))
    assert stored.alert_id is not None
    return stored.alert_id


def test_each_users_acknowledgement_is_stored_and_shown_on_the_timeline(integration: Integration, alice: Actor) -> None:
    number = opened(integration)
    outcome = service.apply_command(FoundAlert.by_tocsin(number), Acknowledge(actor=alice), now=NOW)
    assert outcome.is_change
    assert set(service.load_state(FoundAlert.by_tocsin(number)).acknowledged) == {alice.user_id}
    again = service.apply_command(FoundAlert.by_tocsin(number), Acknowledge(actor=alice), now=NOW)
    assert not again.is_change
    assert Alert.objects.get(pk=number).events.filter(kind="acknowledged").count() == 1


def test_a_closed_alert_frees_its_key_and_ends_its_run(integration: Integration, alice: Actor) -> None:
    number = opened(integration)
    service.apply_command(FoundAlert.by_tocsin(number), Close(actor=alice), now=NOW)
    alert = Alert.objects.get(pk=number)
    assert (alert.status, alert.holds_key) == ("closed", False)
    assert EscalationRun.objects.get(alert=number).due_at is None
    with pytest.raises(Rejected, match="already closed by Alice"):
        service.apply_command(FoundAlert.by_tocsin(number), Acknowledge(actor=person("bob")), now=NOW)


def test_second_of_two_concurrent_commands_learns_the_current_state(integration: Integration) -> None:
    number = opened(integration)
    actors = [person(f"person{n}") for n in range(6)]

    def close(actor: Actor) -> str:
        try:
            service.apply_command(FoundAlert.by_tocsin(number), Close(actor=actor), now=NOW)
        except Rejected as rejected:
            return rejected.code
        return "closed"

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(close, actors))
    assert answers == ["already_closed"] * 5 + ["closed"]
    assert Alert.objects.get(pk=number).events.filter(kind="closed").count() == 1


def test_reopened_alert_reclaims_its_key_unless_a_newer_has_it(integration: Integration, alice: Actor) -> None:
    number = opened(integration)
    service.apply_command(FoundAlert.by_tocsin(number), Close(actor=alice), now=NOW)
    service.apply_command(FoundAlert.by_tocsin(number), Reopen(actor=alice), now=NOW + timedelta(minutes=5))
    assert Alert.objects.get(pk=number).holds_key
    service.apply_command(FoundAlert.by_tocsin(number), Close(actor=alice), now=NOW + timedelta(minutes=6))
    newer = opened(integration)
    assert newer != number
    with pytest.raises(Rejected) as refused:
        service.apply_command(FoundAlert.by_tocsin(number), Reopen(actor=alice), now=NOW + timedelta(minutes=7))
    assert refused.value.code == "key_taken"


def test_undo_restores_what_was_before_within_a_minute(integration: Integration, alice: Actor) -> None:
    number = opened(integration)
    service.apply_command(FoundAlert.by_tocsin(number), Close(actor=alice), now=NOW)
    outcome = service.apply_command(FoundAlert.by_tocsin(number), Undo(actor=alice), now=NOW + timedelta(seconds=30))
    assert outcome.alert.status is AlertStatus.OPEN
    assert Alert.objects.get(pk=number).holds_key
    service.apply_command(FoundAlert.by_tocsin(number), Close(actor=alice), now=NOW + timedelta(seconds=40))
    with pytest.raises(Rejected):
        service.apply_command(FoundAlert.by_tocsin(number), Undo(actor=alice), now=NOW + timedelta(seconds=101))


def test_undo_of_a_resume_names_the_end_of_the_snooze(integration: Integration, alice: Actor) -> None:
    number = opened(integration)
    service.apply_command(FoundAlert.by_tocsin(number), Hold(actor=alice, until=NOW + timedelta(hours=1)), now=NOW)
    service.apply_command(FoundAlert.by_tocsin(number), Resume(actor=alice), now=NOW)
    outcome = service.apply_command(FoundAlert.by_tocsin(number), Undo(actor=alice), now=NOW + timedelta(seconds=30))
    assert outcome.alert.status is AlertStatus.ON_HOLD
    event = Alert.objects.get(pk=number).events.get(kind="undone")
    assert "command.snooze_end" in str(event.reason.data)


def test_unchanged_or_too_many_values_make_no_event(integration: Integration, alice: Actor) -> None:
    number = opened(integration)
    alert = Alert.objects.get(pk=number)
    count = alert.events.count()
    with database.transaction() as connection:
        priority = service.set_priority_within(
            connection, FoundAlert.by_tocsin(number), Priority(alert.priority), alice, CommandChannel.WEB, NOW
        )
        tags = service.set_tags_within(
            connection, FoundAlert.by_tocsin(number), {}, ["absent"], alice, CommandChannel.WEB, NOW
        )
        too_many = {f"tag {index}": "x" for index in range(service.MAX_ALERT_TAGS + 1)}
        with pytest.raises(Rejected) as caught:
            service.set_tags_within(
                connection, FoundAlert.by_tocsin(number), too_many, [], alice, CommandChannel.WEB, NOW
            )
    assert (priority.code, tags.code) == ("command.priority_is_already", "command.tags_set_already")
    assert (caught.value.field, caught.value.reason.code) == ("tags", "alert.too_many_tags")
    assert alert.events.count() == count


@pytest.mark.parametrize(
    ("columns", "kind", "code"),
    [
        ({"is_active": False}, "acknowledge", "This account is disabled."),
        ({}, "merge", "This is not possible here. Open the alert."),
        (
            {"role": "observer"},
            "acknowledge",
            "Your role can view alerts but not respond to them. Ask an administrator.",
        ),
    ],
)
def test_button_that_does_nothing_says_why(
    integration: Integration, alice: Actor, columns: dict[str, object], kind: str, code: str
) -> None:
    assert alice.user_id is not None
    User.objects.filter(pk=alice.user_id).update(**{"role": "responder", **columns})
    result, _ = press_button(alice.user_id, opened(integration), kind, CommandChannel.PUSH, NOW)
    assert (result.done_count, result.answer.code) == (0, code)


def test_responders_who_cannot_be_added_are_rejected(integration: Integration, alice: Actor) -> None:
    number, bob = opened(integration), person("bob")
    assert alice.user_id is not None
    assert bob.user_id is not None
    User.objects.filter(pk=bob.user_id).update(is_active=False)
    state = service.apply_command(FoundAlert.by_tocsin(number), Acknowledge(actor=alice), now=NOW).alert
    for user_id, code in ((alice.user_id, "alert.acknowledged_by_all"), (bob.user_id, "alert.nobody_to_page")):
        with database.transaction() as connection, pytest.raises(Rejected) as caught:
            add_responders(connection, state, [user_id], {}, SYSTEM, CommandChannel.WEB, NOW)
        assert (caught.value.code, caught.value.reason.code) == ("not_possible", code)


def test_policy_that_is_deleted_or_unreadable_is_not_started(integration: Integration) -> None:
    state = service.load_state(FoundAlert.by_tocsin(opened(integration)))
    policy = save_policy({"name": "P", "steps": [{"notify": {"everybody": True}}]}, actor=ACTOR, now=NOW)
    PolicyVersion.objects.update(definition={"steps": 7})
    for policy_id, code in ((0, "policy.deleted"), (policy.pk, "Policy {policy} cannot be read. Save it again.")):
        with database.transaction() as connection, pytest.raises(Rejected) as caught:
            start_policy(connection, state, policy_id, SYSTEM, CommandChannel.WEB, NOW)
        assert caught.value.reason.code == code


@pytest.mark.parametrize("order", [Acknowledge, Close])
def test_undo_never_gives_a_key_to_an_alert_without_one(
    database: str, alice: Actor, order: type[Acknowledge | Close]
) -> None:
    alert = NewAlert(0, Priority.HIGH, "VPN down", NOW)
    opened = NewEvent(0, EventKind.OPENED, NOW, SYSTEM, "It was opened.")
    number = service.create_manual_alert(alert, PagingConfig(PagingMode.LOG_ONLY), opened, now=NOW)
    service.apply_command(FoundAlert.by_tocsin(number), order(actor=alice), now=NOW)
    service.apply_command(FoundAlert.by_tocsin(number), Undo(actor=alice), now=NOW)
    assert not Alert.objects.get(pk=number).holds_key


@pytest.mark.parametrize("order", [Close, Unassign])
def test_undo_leaves_alert_unassigned_when_previous_owner_was_deleted(
    integration: Integration, alice: Actor, order: type[Close | Unassign]
) -> None:
    number, dora = opened(integration), person("dora")
    service.apply_command(
        FoundAlert.by_tocsin(number), Assign(actor=dora, name=dora.name, user_id=dora.user_id), now=NOW
    )
    service.apply_command(FoundAlert.by_tocsin(number), order(actor=alice), now=NOW)
    people.delete_user(User.objects.get(pk=dora.user_id), actor=ACTOR, now=NOW)
    before = service.load_state(FoundAlert.by_tocsin(number))
    with pytest.raises(Rejected, match="previous responder was deleted"):
        service.apply_command(FoundAlert.by_tocsin(number), Undo(actor=alice), now=NOW + timedelta(seconds=30))
    assert service.load_state(FoundAlert.by_tocsin(number)) == before


@pytest.mark.parametrize("what", ["assign", "acknowledge", "undo"])
def test_alert_is_not_assigned_to_a_user_being_deleted(integration: Integration, alice: Actor, what: str) -> None:
    """Nobody would have it, and nobody be paged."""
    number, dora = opened(integration), person("dora")
    gives = Assign(actor=alice, name=dora.name, user_id=dora.user_id)
    if what == "undo":
        service.apply_command(FoundAlert.by_tocsin(number), gives, now=NOW)
        service.apply_command(FoundAlert.by_tocsin(number), Unassign(actor=alice), now=NOW)
    order = {"assign": gives, "acknowledge": Acknowledge(actor=dora), "undo": Undo(actor=alice)}[what]
    assert (
        _while_deleted(dora, lambda: service.apply_command(FoundAlert.by_tocsin(number), order, now=NOW))
        == "not_possible"
    )
    alert = Alert.objects.get(pk=number)
    assert (alert.status, alert.acknowledgements.count()) == ("open", 0)


def test_alert_closes_while_a_paged_user_is_being_deleted(integration: Integration, alice: Actor) -> None:
    number, dora = opened(integration), person("dora")
    ContactMethod.objects.create(user_id=dora.user_id, label="Mail", channel="email", address="dora@example.org")
    with database.transaction() as connection:
        queue_pages(connection, [PageRequest(number, NOW, "Dora is primary.", dora.user_id)], NOW)
        connection.execute(
            "UPDATE notify_delivery SET status = 'delivered', receipt = 'delivered', sent_at = %s", (NOW,)
        )
    assert (
        _while_deleted(dora, lambda: service.apply_command(FoundAlert.by_tocsin(number), Close(actor=alice), now=NOW))
        == "done"
    )
    assert Alert.objects.get(pk=number).status == "closed"


def _while_deleted(user: Actor, work: Callable[[], object]) -> str:
    """What becomes of `work` in the moment in which the user is deleted: done, or the code of its refusal."""

    def act() -> str:
        try:
            work()
        except Rejected as refused:
            return refused.code
        return "done"

    return while_deleted(User.objects.get(pk=user.user_id), act, now=NOW)


def test_undo_restores_no_acknowledgement_of_deleted_user(integration: Integration, alice: Actor) -> None:
    number, dora = opened(integration), person("dora")
    service.apply_command(FoundAlert.by_tocsin(number), Acknowledge(actor=dora), now=NOW)
    service.apply_command(
        FoundAlert.by_tocsin(number), Assign(actor=alice, name=alice.name, user_id=alice.user_id), now=NOW
    )
    service.apply_command(FoundAlert.by_tocsin(number), Unassign(actor=alice), now=NOW)
    people.delete_user(User.objects.get(pk=dora.user_id), actor=ACTOR, now=NOW)
    with pytest.raises(Rejected, match="previous responder was deleted"):
        service.apply_command(FoundAlert.by_tocsin(number), Undo(actor=alice), now=NOW + timedelta(seconds=30))
    assert service.load_state(FoundAlert.by_tocsin(number)).status is AlertStatus.OPEN


def test_a_merged_alert_keeps_its_key_until_its_parent_ends(integration: Integration, alice: Actor) -> None:
    child, parent = opened(integration, 1), opened(integration, 2)
    service.apply_command(
        FoundAlert.by_tocsin(child), service.merge_into(FoundAlert.by_tocsin(parent), Acknowledge(actor=alice)), now=NOW
    )
    ingest = Ingest()
    (again,) = ingest.send(integration, halo(1))
    assert (again.status.value, again.alert_id) == ("Mapped Appended", parent)
    assert Alert.objects.get(pk=parent).count == 2
    service.apply_command(FoundAlert.by_tocsin(parent), Cancel(actor=alice), now=NOW)
    assert not Alert.objects.get(pk=child).holds_key
    (fresh,) = ingest.send(integration, halo(1))
    assert fresh.status.value == "Mapped Opened"


def test_a_close_of_the_source_closes_the_merged_alert_only(integration: Integration, alice: Actor) -> None:
    child, parent = opened(integration, 1), opened(integration, 2)
    service.apply_command(
        FoundAlert.by_tocsin(child), service.merge_into(FoundAlert.by_tocsin(parent), Acknowledge(actor=alice)), now=NOW
    )
    (closed,) = Ingest().send(integration, halo(1, "Closed"))
    assert (closed.status.value, closed.alert_id) == ("Mapped Closed", child)
    assert [Alert.objects.get(pk=n).status for n in (child, parent)] == ["closed", "open"]


def test_merge_during_close_of_parent_leaves_no_key(integration: Integration, alice: Actor) -> None:
    child, parent = opened(integration, 1), opened(integration, 2)
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as connection:
            merged = service.merge_into(FoundAlert.by_tocsin(parent), Acknowledge(actor=alice))
            service.apply_command_within(connection, FoundAlert.by_tocsin(child), merged, NOW)
            closing = pool.submit(service.apply_command, FoundAlert.by_tocsin(parent), Close(actor=alice), now=NOW)
            wait_for_waiters()
        closing.result()
    assert [(a.status, a.holds_key) for a in Alert.objects.order_by("id")] == [("merged", False), ("closed", False)]
    (fresh,) = Ingest().send(integration, halo(1))
    assert fresh.status.value == "Mapped Opened"


def test_holding_an_alert_stops_its_timer_until_then(integration: Integration, alice: Actor) -> None:
    number = opened(integration)
    until = NOW + timedelta(minutes=30)
    service.apply_command(FoundAlert.by_tocsin(number), Hold(actor=alice, until=until), now=NOW)
    assert Alert.objects.get(pk=number).hold_until == until
    assert EscalationRun.objects.get(alert=number).due_at in (None, until)


def test_a_bulk_command_goes_on_after_one_that_is_refused(integration: Integration, alice: Actor) -> None:
    numbers = [opened(integration, ticket) for ticket in (1, 2, 3)]
    service.apply_command(FoundAlert.by_tocsin(numbers[1]), Close(actor=alice), now=NOW)
    answers = service.apply_command_to_many(
        [*map(FoundAlert.by_tocsin, [*numbers, 999])], Assign(actor=alice, name="Alice", user_id=alice.user_id), now=NOW
    )
    assert [isinstance(answer, Rejected) for answer in answers] == [False, True, False, True]
    assert list(Alert.objects.order_by("pk").values_list("status", flat=True)) == ["assigned", "closed", "assigned"]


def test_command_on_missing_alert_reports_not_found(alice: Actor) -> None:
    with pytest.raises(Rejected, match="Alert 42 not found"):
        service.apply_command(FoundAlert.by_tocsin(42), Close(actor=alice), now=NOW)
