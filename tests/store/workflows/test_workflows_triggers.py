"""Workflow triggers: events, deadlines, conditions and order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.people import ACTOR
from tests.support.workflow_harness import WorkflowHarness, workflows_enabled
from tocsin.alerts import store
from tocsin.alerts.commands import (
    Acknowledge,
    AlertChange,
    Assign,
    Close,
    Hold,
    PagingMode,
    Reply,
    Resume,
    Unacknowledge,
)
from tocsin.alerts.models import Alert
from tocsin.alerts.service import write
from tocsin.alerts.states import Priority
from tocsin.core.db import database as connections
from tocsin.core.errors import Rejected
from tocsin.escalation.commands import save_policy
from tocsin.workflows import commands, reasons
from tocsin.workflows.definition import WorkflowRunStatus
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run import tasks


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[WorkflowHarness]:
    with workflows_enabled():
        yield WorkflowHarness(now)


def test_alert_unacknowledged_for_five_minutes_notifies_manager(desk: WorkflowHarness) -> None:
    desk.workflow(trigger={"on": "unacknowledged", "for": "5m"}, start={"field": "priority", "operator": "equals",
                  "value": "high"})  # fmt: skip
    forgotten, seen, count, held = desk.open(), desk.open(), desk.open(), desk.open()
    desk.act(seen, Acknowledge(actor=desk.actor("alice")), 2)
    desk.act(count, Assign(actor=desk.actor("bob"), name="Bob", user_id=desk.users["bob"].pk), 3)
    desk.act(held, Hold(actor=desk.actor("bob"), until=desk.at(20)), 3)
    desk.go(4.9)
    assert desk.noticed_users(forgotten) == []
    desk.go(5)
    assert (
        desk.noticed_users(forgotten),
        desk.noticed_users(seen),
        desk.noticed_users(count),
        desk.noticed_users(held),
    ) == (["carol"], [], [], [])
    assert [reason for _name, _status, reason in desk.outcomes()] == [
        'Conditions matched: priority "high" equals high.',
        "Acknowledged in time by Alice.",
        "Acknowledged in time by Bob.",
        "The alert is snoozed. It is checked again when the snooze ends.",
    ]
    assert desk.did() == ["Notified Carol."]
    assert "Workflow Flow: Notified Carol." in desk.timeline(forgotten)
    # The hold ended and still nobody: now it does.
    desk.act(held, Resume(actor=desk.actor("bob")), 10)
    desk.go(20)
    assert desk.noticed_users(held) == ["carol"]
    # The time counts anew from when an acknowledgement is taken back.
    desk.act(seen, Unacknowledge(actor=desk.actor("alice")), 30)
    desk.go(34.9)
    assert desk.noticed_users(seen) == []
    desk.go(35)
    assert desk.noticed_users(seen) == ["carol"]


def test_each_event_triggers_its_workflows_in_order(desk: WorkflowHarness) -> None:
    for place, trigger in enumerate(
        ("opened", "acknowledged", "assigned", "reply", "closed", "status_changed", "updated", "escalated", "exhausted")
    ):
        desk.workflow(trigger, {"do": "notify", "users": ["carol"]}, trigger=trigger, order=100 - place)
    alert = desk.open()
    actor = desk.actor("alice")
    desk.go(0)
    desk.act(alert, Reply(actor=actor, text="Looking"), 1)
    desk.go(1)
    desk.message(alert, 2, vip="yes")
    desk.go(2)
    for minute in (5, 15, 20):
        desk.go(minute)
    desk.act(alert, Acknowledge(actor=actor), 21)
    desk.act(alert, Assign(actor=actor, name="Alice", user_id=actor.user_id), 22)
    desk.act(alert, Close(actor=actor), 23)
    desk.go(23)
    assert [run.workflow.name for run in desk.runs()] == [
        "opened", "reply", "updated", "escalated", "escalated", "exhausted",
        "status_changed", "acknowledged", "status_changed", "assigned", "status_changed", "closed",
    ]  # fmt: skip
    assert {run.status for run in desk.runs()} == {WorkflowRunStatus.DONE}
    assert len(desk.noticed_users(alert)) == 12 + 1, "and as a manager, when the policy came to its end"
    assert str(desk.runs()[-1].cause) == "Alice closed the alert"


def test_sla_deadline_is_awaited_moved_and_acted_on_once(desk: WorkflowHarness) -> None:
    desk.workflow("Soon", trigger={"on": "before_sla", "moment": "fix_by", "by": "1h"})
    desk.workflow("Over", trigger={"on": "after_sla", "moment": "respond_by"})
    desk.workflow("Half an hour", trigger={"on": "before_sla", "moment": "opening", "within": "30m", "by": "10m"})
    alert = desk.open()
    desk.go(0)
    assert sorted(desk.outcomes()) == [
        ("Half an hour", "waiting", "Waiting for the time limit, 2026-11-24 09:45 UTC."),
        ("Over", "skipped", "The alert has no date for the respond-by time."),
        ("Soon", "skipped", "The alert has no date for the fix-by time."),
    ]
    # Halo's dates carry no offset; 9999 and 1900 stand for "not set".
    desk.message(alert, 1, fix_by="2026-11-24T11:15:00", respond_by="1899-12-30T00:00:00")
    desk.message(alert, 2, fix_by="2026-11-24T12:15:00", respond_by="2026-11-24T09:45:00")
    desk.go(20)
    assert desk.did() == ["Notified Carol."]
    desk.go(30)
    assert desk.did() == ["Notified Carol."] * 2
    desk.go(60)
    assert desk.did() == ["Notified Carol."] * 2, "the date moved: an hour before the old one nothing happens"
    desk.message(alert, 100, fix_by="2026-11-24T12:15:00", team="Network")
    desk.go(120)
    desk.go(121)
    assert desk.did() == ["Notified Carol."] * 3
    done = [run.workflow.name for run in desk.runs() if run.status == WorkflowRunStatus.DONE]
    assert sorted(done) == ["Half an hour", "Over", "Soon"]
    desk.message(alert, 130, fix_by="2026-11-24T12:15:00")
    desk.go(131)
    assert "Already ran for the fix-by time, 2026-11-24 12:15 UTC." in [s[2] for s in desk.outcomes()[-3:]]


def test_policy_sla_applies_when_ticket_has_no_date(desk: WorkflowHarness) -> None:
    desk.save(sla={"respond_by": "15m", "fix_by": "4h"})
    desk.workflow("Soon", trigger={"on": "before_sla", "moment": "respond_by", "by": "5m"})
    desk.workflow("Over", trigger={"on": "after_sla", "moment": "fix_by"})
    alert = desk.open()
    desk.go(0)
    assert [reason for _name, _status, reason in desk.outcomes(alert)] == [
        "Waiting for the respond-by time, 2026-11-24 09:30 UTC.",
        "Waiting for the fix-by time, 2026-11-24 13:15 UTC.",
    ]
    desk.message(alert, 1, fix_by="2026-11-24T10:15:00")
    desk.go(9)
    assert desk.did() == []
    desk.go(10)
    desk.go(60)
    assert sorted(run.workflow.name for run in desk.runs() if run.status == WorkflowRunStatus.DONE) == ["Over", "Soon"]


def test_workflow_before_a_moment_that_is_past_is_skipped(desk: WorkflowHarness) -> None:
    desk.save(sla={"respond_by": "15m"})
    desk.workflow("Soon", trigger={"on": "before_sla", "moment": "respond_by", "by": "5m"})
    alert = desk.open()
    desk.go(20)
    assert desk.outcomes(alert) == [
        ("Soon", WorkflowRunStatus.SKIPPED, "Too late for the respond-by time, 2026-11-24 09:30 UTC.")
    ]


@pytest.mark.parametrize("how", ["workflow", "hand over", "rise"])
def test_sla_of_later_started_policy_is_awaited(desk: WorkflowHarness, how: str) -> None:
    own: dict[str, Any] = {"steps": [{"notify": {"roles": ["primary"]}, "after": "0m"}], "end_after": "1m"}
    dated = save_policy({"name": "Dated", **own, "sla": {"respond_by": "30m"}}, actor=ACTOR, now=desk.start)
    desk.save(**own, **({"end": {"then": "hand_over", "policy": "Dated"}} if how == "hand over" else {}))
    if how == "workflow":
        desk.workflow("Start", {"do": "start_policy", "policy": "Dated"}, trigger={"on": "every", "every": "1m"})
    desk.workflow("Soon", trigger={"on": "before_sla", "moment": "respond_by", "by": "5m"})
    alert = desk.open()
    desk.go(0)
    assert ("Soon", WorkflowRunStatus.SKIPPED, "The alert has no date for the respond-by time.") in desk.outcomes(alert)
    if how == "rise":
        with connections.transaction() as connection:
            state = store.load(connection, [alert])[alert]
            risen = replace(state, priority=Priority.CRITICAL)
            change = AlertChange(state, risen, (), paging=desk.paging(version_id=dated.current_version_id))
            write(connection, [change], desk.at(1))
    desk.go(2)
    waits = ("Soon", WorkflowRunStatus.WAITING, "Waiting for the respond-by time, 2026-11-24 09:45 UTC.")
    assert waits in desk.outcomes(alert)
    desk.go(25)
    assert [run.workflow.name for run in desk.runs() if run.status == WorkflowRunStatus.DONE].count("Soon") == 1


def test_recurring_workflow_stops_by_condition_or_with_its_alert(
    desk: WorkflowHarness,
) -> None:
    owned = {"field": "owner", "operator": "exists"}
    desk.workflow(trigger={"on": "every", "every": "10m"}, stop=owned)
    count, closed = desk.open(), desk.open()
    for minute in range(0, 31, 5):
        desk.go(minute)
    assert (len(desk.did(count)), len(desk.did(closed))) == (3, 3)
    bob = desk.actor("bob")
    desk.act(count, Assign(actor=bob, name="Bob", user_id=bob.user_id), 31)
    desk.act(closed, Close(actor=bob), 31)
    for minute in range(35, 71, 5):
        desk.go(minute)
    assert (len(desk.did(count)), len(desk.did(closed))) == (3, 3)
    assert desk.outcomes(count)[-1][2] == 'The exception matched: owner "Bob" exists.'
    assert desk.outcomes(closed)[-1][2] == "The alert is closed."
    assert not WorkflowRun.objects.filter(due_at__isnull=False).exists()


def test_conditions_ask_any_field_and_say_which_value_decided(desk: WorkflowHarness) -> None:
    desk.workflow(
        start={"all": [{"field": "client", "operator": "equals", "value": "acme"},
                       {"any": [{"field": "tags^environment", "operator": "equals", "value": "production"},
                                {"field": "vip", "operator": "equals", "value": "yes"}]}]},
    )  # fmt: skip
    alert = desk.open()
    desk.go(0)
    assert desk.outcomes() == [
        ("Flow", "skipped", "Conditions not matched: no value at tags^environment and no value at vip.")
    ]
    assert desk.noticed_users(alert) == []


def test_workflows_with_the_same_order_go_as_they_are_listed(desk: WorkflowHarness) -> None:
    for name in ("Charlie", "Alpha", "Bravo"):
        desk.workflow(name, order=3)
    alert = desk.open()
    desk.go(0)
    listed = list(Workflow.objects.values_list("name", flat=True))
    assert listed == ["Alpha", "Bravo", "Charlie"]
    assert [run.workflow.name for run in desk.runs(alert)] == listed


def test_test_dry_run_and_disabled_alerts_trigger_nothing(desk: WorkflowHarness) -> None:
    flow = desk.workflow()
    dry, tested, off = desk.open(mode=PagingMode.DRY_RUN), desk.open(), desk.open()
    Alert.objects.filter(pk=dry).update(dry_run=True)
    Alert.objects.filter(pk=tested).update(is_test=True)
    desk.go(0)
    assert [(desk.noticed_users(alert), len(desk.runs(alert))) for alert in (dry, tested)] == [([], 1), ([], 1)]
    assert desk.noticed_users(off) == ["carol"]
    waiting = desk.open(1)
    commands.set_enabled(flow, False, actor=ACTOR, now=desk.at(1))
    desk.go(1)
    assert desk.outcomes(waiting) == [("Flow", "skipped", "The workflow is disabled.")]
    assert desk.runs(desk.open(2)) == []


def test_waits_end_with_the_alert(desk: WorkflowHarness) -> None:
    wait, notify = {"do": "wait", "for": "10m"}, {"do": "notify", "users": ["carol"]}
    desk.workflow("Opened", wait, notify)
    desk.workflow("Unanswered", trigger={"on": "unassigned", "for": "30m"})
    desk.workflow("Closed", wait, notify, trigger="closed")
    alert = desk.open()
    desk.go(0)
    desk.act(alert, Close(actor=desk.actor("alice")), 1)
    desk.go(1)
    assert [(run.workflow.name, run.status, run.reason.code) for run in desk.runs(alert)] == [
        ("Opened", "stopped", "workflow.wait_ended"),
        ("Unanswered", "skipped", "escalation.alert_closed"),
        ("Closed", "waiting", "workflow.waits"),
    ]
    desk.go(11)
    assert desk.noticed_users(alert) == ["carol"]


def test_waiting_runs_use_current_definition_or_report_mismatch(desk: WorkflowHarness) -> None:
    def change(flow: Workflow, *actions: dict[str, Any], **spec: Any) -> None:
        whole = commands.workflow_spec(flow) | ({"actions": [*actions]} if actions else {}) | spec
        commands.save_workflow(whole, existing=flow, actor=ACTOR, now=desk.at(1))

    wait, carol, bob = {"do": "wait", "for": "10m"}, *({"do": "notify", "users": [one]} for one in ("carol", "bob"))
    longer = desk.workflow("Longer", trigger={"on": "unacknowledged", "for": "5m"})
    other = desk.workflow("Other", trigger={"on": "unacknowledged", "for": "5m"})
    rest, workflow = desk.workflow("Rest", wait, carol), desk.workflow("Begun", wait, carol)
    alert = desk.open()
    desk.go(0)
    change(longer, trigger={"on": "unacknowledged", "for": "20m"})
    change(other, trigger="closed")
    change(rest, wait, bob)
    change(workflow, carol)
    desk.go(6)
    desk.go(11)
    assert desk.noticed_users(alert) == ["bob"]
    desk.go(20)
    assert desk.noticed_users(alert) == ["bob", "carol"]
    assert {name: (how, why) for name, how, why in desk.outcomes(alert) if name in ("Other", "Begun")} == {
        "Other": ("skipped", "The workflow was changed and now has another trigger."),
        "Begun": ("stopped", "The workflow was changed while the run was waiting. Its remaining actions are skipped."),
    }


def test_stuck_run_resumes_after_repair_or_ends_when_moved(
    desk: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, bad, last = (
        {"do": "reply", "text": "First"}, {"do": "reply", "text": "Second"}, {"do": "notify", "users": ["carol"]},
        {"do": "reply", "text": "Last"},
    )  # fmt: skip
    mended, moved = desk.workflow("Mended", first, second, bad, last), desk.workflow("Moved", first, second, bad, last)
    real = tasks.perform

    def failing(work: Any, action: Any) -> Any:
        if action.do == "notify":
            raise RuntimeError("boom")
        return real(work, action)

    monkeypatch.setattr(tasks, "perform", failing)
    alert = desk.open()
    for minute in range(6):
        desk.go(minute)
    assert [run.status for run in desk.runs(alert)] == ["stuck", "stuck"]
    monkeypatch.setattr(tasks, "perform", real)

    def change(flow: Workflow, *actions: dict[str, Any]) -> None:
        whole = commands.workflow_spec(flow) | {"actions": [*actions]}
        commands.save_workflow(whole, existing=flow, actor=ACTOR, now=desk.at(6))

    change(mended, first, second, {"do": "notify", "users": ["bob"]}, last)
    # By its number it would go on with the last and leave out the one that it is stuck at.
    change(moved, second, bad, last)
    one, other = desk.runs(alert)
    assert (other.status, other.reason) == ("stopped", reasons.ACTIONS_CHANGED())
    commands.try_again(one, actor=ACTOR, now=desk.at(7))
    with pytest.raises(Rejected, match="Only a stuck run"):
        commands.try_again(other, actor=ACTOR, now=desk.at(7))
    desk.go(7)
    assert desk.noticed_users(alert) == ["bob"]
    assert [len(run.steps) for run in desk.runs(alert)] == [4, 2]
