"""Workflows terminate, respect permissions, and never delay paging."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.people import ACTOR
from tests.support.workflow_harness import WorkflowHarness, workflows_enabled
from tocsin.access.audit import AuditActor
from tocsin.alerts.commands import Close, PagingMode, Reply
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.service import find_alert
from tocsin.core.config import settings_store
from tocsin.core.db import database as connections
from tocsin.core.errors import Rejected
from tocsin.core.reasons import reason_from_json
from tocsin.core.runtime import clock
from tocsin.inbound.admin import commands as integrations
from tocsin.notify.models import Notification
from tocsin.operate.doctor import examine
from tocsin.outbound import commands as outbound
from tocsin.outbound.models import Call
from tocsin.workflows import commands, reasons, views
from tocsin.workflows.models import Limit, Workflow, WorkflowRun
from tocsin.workflows.run import listener as workflow_reactor
from tocsin.workflows.run import run_store, tasks
from tocsin.workflows.run.engine import MAX_DEPTH, MAX_RUNS_PER_MINUTE


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[WorkflowHarness]:
    with workflows_enabled():
        yield WorkflowHarness(now)


def test_workflows_that_cause_each_other_end_after_a_few(desk: WorkflowHarness) -> None:
    desk.workflow("Again", {"do": "open_alert", "subject": "<subject>!"})
    desk.open()
    desk.go(0)
    assert desk.did() == [f"Created alert {n}: VPN down{'!' * (n - 1)}." for n in range(2, MAX_DEPTH + 3)]
    assert (
        desk.outcomes()[-1][2]
        == f"Workflows triggered each other {MAX_DEPTH + 1} times in a row. The chain is stopped."
    )


def test_workflow_restarting_its_policy_repeatedly_is_stopped(
    desk: WorkflowHarness,
) -> None:
    desk.workflow("Over again", {"do": "start_policy", "policy": "Standard"}, trigger="escalated")
    alert = desk.open()
    for minute in range(60):
        desk.go(minute)
    started = [text for text in desk.timeline(alert) if text == "Workflow Over again started policy Standard."]
    assert len(started) == MAX_DEPTH + 1
    assert (
        desk.outcomes()[-1][2]
        == f"Workflows triggered each other {MAX_DEPTH + 1} times in a row. The chain is stopped."
    )
    assert desk.run(alert).status == "finished"


def test_frequently_triggered_workflow_is_rate_limited_per_minute(desk: WorkflowHarness) -> None:
    desk.workflow(trigger="reply")
    alert = desk.open()
    for number in range(MAX_RUNS_PER_MINUTE + 3):
        desk.act(alert, Reply(actor=desk.actor("bob"), text=str(number)), number / 100)
        desk.go(number / 100)
    assert len(desk.noticed_users(alert)) == MAX_RUNS_PER_MINUTE
    assert desk.outcomes()[-1][1:] == (
        "stopped",
        f"Skipped: already ran {MAX_RUNS_PER_MINUTE} times on this alert within a minute.",
    )
    desk.act(alert, Reply(actor=desk.actor("bob"), text="later"), 5)
    desk.go(5)
    assert len(desk.noticed_users(alert)) == MAX_RUNS_PER_MINUTE + 1


def test_loop_through_another_system_stops_and_is_reported_once(desk: WorkflowHarness) -> None:
    outbound.save_outbound({"name": "Other", "kind": "http", "url": "https://other.example.org"}, actor=ACTOR,
                           now=desk.start)  # fmt: skip
    flow = desk.workflow("Echo", {"do": "call", "outbound": "Other"}, limit=5)
    desk.workflow("Beside it", {"do": "call", "outbound": "Other"}, trigger="closed")
    opened: list[int] = []
    for number in range(20):
        # The other system answers each call with an alert of its own.
        if number and Call.objects.count() < number:
            break
        opened.append(desk.open(mode=PagingMode.LOG_ONLY))
        desk.go(number / 60)
    assert (len(opened), Call.objects.count()) == (6, 5)
    (body,) = (step for run in desk.runs(opened[-1]) for step in run.steps)
    assert body["failed"]
    assert reason_from_json(body["result"]) == reasons.LIMIT_REACHED(limit=5, period=timedelta(minutes=10))
    # What is wrong is asked by the database's own clock.
    assert Limit.objects.filter(workflow=flow).update(refused_at=clock.now()) == 1
    with connections.transaction() as connection:
        (wrong,) = views.find_problems(connection)
    assert (wrong.kind, wrong.workflow_id) == ("limited", flow.pk)
    for minute in (1, 2):
        desk.open(mode=PagingMode.LOG_ONLY)
        desk.go(minute)
    notices = Notification.objects.filter(purpose="notice", data__about=f"workflow:limit:{flow.pk}")
    assert [notice.user.username for notice in notices if notice.user] == ["erin"]
    # Another workflow has a count of its own, and this one may again later.
    desk.act(opened[0], Close(actor=desk.actor("bob")), 2)
    desk.go(2)
    assert Call.objects.count() == 6
    last = desk.open(mode=PagingMode.LOG_ONLY)
    desk.go(11)
    assert [step.get("failed", False) for run in desk.runs(last) for step in run.steps] == [False]


def test_group_workflow_changes_only_alerts_of_its_group(
    desk: WorkflowHarness,
) -> None:
    own = {"group": desk.group.name}
    desk.workflow("Close", {"do": "close", "text": "Done."}, **own)
    desk.workflow("Tell", {"do": "notify", "users": ["carol"]}, **own)
    desk.workflow("Admins", {"do": "set_tags", "tags": {"seen": "yes"}})
    button = desk.workflow("Hold", {"do": "hold", "for": "10m"}, trigger="manual", **own)
    foreign, routed = desk.open(mode=PagingMode.LOG_ONLY, recipient_groups=()), desk.open()
    desk.go(0)
    assert Alert.objects.get(pk=foreign).status == "open"
    assert Alert.objects.get(pk=routed).status == "closed"
    assert {name: status for name, status, _why in desk.outcomes(foreign)} == {
        "Close": "skipped", "Tell": "done", "Admins": "done",
    }  # fmt: skip
    (why,) = (why for name, _status, why in desk.outcomes(foreign) if name == "Close")
    assert why.startswith(f"The alert does not belong to {desk.group.name}. A group's workflow runs only on alerts")
    # Nothing of it is on the alert, and its button is not offered there.
    assert not AlertEvent.objects.filter(alert=foreign, reason__icontains="Close").exists()
    assert views.available_buttons(find_alert(foreign), desk.at(1)) == []
    with pytest.raises(Rejected, match="does not belong to"):
        commands.run_manual_workflow(button, find_alert(foreign), desk.users["alice"], "web", now=desk.at(1))
    assert not views.dry_run(button, find_alert(foreign), desk.at(1)).would_act
    # Once the group owns the alert's integration, it is the group's alert.
    integration = integrations.save_integration(
        {"name": "Door", "kind": "api", "group": desk.group.name, "anyway": True}, actor=ACTOR, now=desk.start
    )
    Alert.objects.filter(pk=foreign).update(integration=integration.pk)
    assert [one.workflow.name for one in views.available_buttons(find_alert(foreign), desk.at(1))] == ["Hold"]


def test_group_workflow_ignores_alerts_beyond_its_boundary(desk: WorkflowHarness) -> None:
    settings_store.set(settings_store.VISIBILITY, "groups")
    desk.workflow("Tell", {"do": "notify", "users": ["carol"]}, group=desk.group.name)
    desk.workflow("Admins", {"do": "set_tags", "tags": {"seen": "yes"}})
    foreign, routed = desk.open(mode=PagingMode.LOG_ONLY, recipient_groups=()), desk.open()
    desk.go(0)
    assert {name for name, _status, _why in desk.outcomes(foreign)} == {"Admins"}
    assert {name for name, _status, _why in desk.outcomes(routed)} == {"Tell", "Admins"}


def test_calling_an_outbound_integration_requires_permission_to_change_it(
    desk: WorkflowHarness,
) -> None:
    for name in ("Ours", "Theirs"):
        outbound.save_outbound({"name": name, "kind": "http", "url": "https://x.example.org"}, actor=ACTOR,
                               now=desk.start)  # fmt: skip
    flow = desk.workflow("Call", {"do": "call", "outbound": "Ours"})
    spec = commands.workflow_spec(flow)
    bob = AuditActor.from_user(desk.users["bob"], "web", limits=None)

    def save(*names: str) -> None:
        actions = [{"do": "call", "outbound": name} for name in names]
        commands.save_workflow({**spec, "actions": actions}, existing=flow, actor=bob, now=desk.start)

    save("Ours", "Ours")
    with pytest.raises(Rejected) as refused:
        save("Ours", "Theirs")
    assert "actions[1].outbound" in refused.value.fields


def test_a_broken_workflow_delays_nobodys_page_and_no_other_workflow(desk: WorkflowHarness) -> None:
    broken = desk.workflow("Broken")
    worse = desk.workflow("Worse")
    desk.workflow("Good")
    Workflow.objects.filter(pk=broken.pk).update(definition={"trigger": {"on": "opened"}, "actions": [{"do": "fly"}]})
    Workflow.objects.filter(pk=worse.pk).update(definition=["nonsense"])
    workflow_reactor.re_evaluate()
    alert = desk.open()
    desk.run_until(0)
    assert [row[:3] for row in desk.pages(alert)] == [("alice", "email", 0), ("alice", "sms", 3)]
    desk.go(0)
    assert desk.noticed_users(alert) == ["carol"]
    (stuck, _good) = desk.runs(alert)
    assert stuck.status == "stuck"
    assert "The workflow is not valid" in str(stuck.reason)
    notice = Notification.objects.get(purpose="notice", alert=None)
    assert (notice.user, str(notice.title)) == (desk.users["erin"], "Workflow Broken is stuck")
    desk.open(1)
    desk.go(1)
    assert Notification.objects.filter(purpose="notice", alert=None).count() == 1, "told once in a while"
    with connections.transaction() as connection:
        results = [(one.kind, one.name) for one in views.find_problems(connection)]
    assert results == [("unreadable", "Broken"), ("unreadable", "Worse"), ("stuck", "Broken")]
    assert {"workflow.stuck", "workflow.unreadable"} <= {finding.id for finding in examine(desk.start)}
    # Mended and tried again.
    commands.save_workflow(
        {"name": "Broken", "trigger": "opened", "actions": [{"do": "reply", "text": "Hi"}]},
        existing=broken, actor=ACTOR, now=desk.at(2),
    )  # fmt: skip
    commands.try_again(stuck, actor=ACTOR, now=desk.at(2))
    desk.go(2)
    stuck.refresh_from_db()
    assert stuck.status == "done"


def test_failing_action_is_retried_and_then_needs_attention(
    desk: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.workflow("Bad", {"do": "reply", "text": "First"}, {"do": "notify", "users": ["carol"]})
    desk.workflow("Good", {"do": "reply", "text": "Good"})
    real = tasks.perform

    def failing(work: Any, action: Any) -> Any:
        if action.do == "notify":
            raise RuntimeError("boom")
        return real(work, action)

    monkeypatch.setattr(tasks, "perform", failing)
    alert = desk.open()
    desk.go(0)
    assert len(desk.did(alert)) == 2
    (bad, good) = desk.runs(alert)
    assert (bad.status, bad.failures, good.status) == ("waiting", 1, "done")
    for minute in (1, 2, 3, 4, 5):
        desk.go(minute)
    bad.refresh_from_db()
    assert (bad.status, bad.failures, str(bad.reason)) == ("stuck", 5, "Stuck: RuntimeError: boom")
    monkeypatch.setattr(tasks, "perform", real)
    commands.try_again(bad, actor=ACTOR, now=desk.at(6))
    desk.go(6)
    assert desk.noticed_users(alert) == ["carol"]
    assert len([text for text in desk.timeline(alert) if "added a note" in text]) == 2, (
        "what was done is not done again"
    )


def test_kill_between_steps_loses_and_repeats_nothing(desk: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = [{"do": "reply", "text": f"Number {number}"} for number in range(4)]
    desk.workflow("Four", *actions)

    class Killed(BaseException):
        pass

    for name in ("write_step", "write"):
        for after in (True, False):
            for survives in range(6):
                alert = desk.open()
                real, count = getattr(run_store, name), [0]

                def dying(
                    *args: Any,
                    real: Any = real,
                    count: list[int] = count,
                    after: bool = after,
                    survives: int = survives,
                ) -> None:
                    count[0] += 1
                    if count[0] > survives:
                        if after:
                            real(*args)
                        raise Killed
                    real(*args)

                with monkeypatch.context() as patch:
                    patch.setattr(run_store, name, dying)
                    with contextlib.suppress(Killed):
                        desk.go(0)
                desk.go(0)
                alert_events = list(desk.alert(alert).events.filter(kind="replied").order_by("id"))
                assert [event.data["text"] for event in alert_events] == [action["text"] for action in actions]


def test_two_workers_at_once_do_everything_once(desk: WorkflowHarness) -> None:
    desk.workflow("One", {"do": "reply", "text": "a"}, {"do": "reply", "text": "b"})
    desk.workflow("Two", {"do": "notify", "users": ["carol"]})
    alerts = [desk.open() for _ in range(12)]

    def work(_number: int) -> None:
        for _ in range(30):
            if not tasks.delete_expired(desk.at(0)) and not WorkflowRun.objects.filter(due_at__isnull=False).exists():
                return

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    for alert in alerts:
        texts = [event.data["text"] for event in desk.alert(alert).events.filter(kind="replied").order_by("id")]
        assert (texts, desk.noticed_users(alert)) == (["a", "b"], ["carol"])


def test_workflow_deleted_during_message_processing_rejects_nothing(desk: WorkflowHarness) -> None:
    flow = desk.workflow()
    desk.open()
    number = flow.pk
    commands.delete_workflow(flow, actor=ACTOR, now=desk.start)
    # What another node's ingest, whose knowledge is a second old, writes meanwhile.
    with connections.transaction() as connection:
        connection.execute(
            "INSERT INTO workflows_run (workflow_id, alert_id, status, created_at, due_at) VALUES (%s, 1, 'waiting', "
            "%s, %s)", (number, desk.start, desk.start),
        )  # fmt: skip
    desk.go(0)
    assert list(WorkflowRun.objects.values_list("status", "reason__code")) == [("stopped", reasons.DELETED.code)]


def test_run_of_a_deleted_alert_is_stopped(desk: WorkflowHarness) -> None:
    flow = desk.workflow()
    with connections.transaction() as connection:
        connection.execute(
            "INSERT INTO workflows_run (workflow_id, alert_id, status, created_at, due_at) VALUES (%s, 999, 'waiting', "
            "%s, %s)", (flow.pk, desk.start, desk.start),
        )  # fmt: skip
    desk.go(0)
    assert list(WorkflowRun.objects.values_list("status", "reason__code")) == [("stopped", reasons.ALERT_DELETED.code)]
