"""Workflow actions on real rows, and the user of a manual run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.support.people import ACTOR
from tests.support.workflow_harness import WorkflowHarness, workflows_enabled
from tocsin.alerts.commands import Acknowledge, Assign
from tocsin.alerts.service import find_alert
from tocsin.core import hooks
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason
from tocsin.notify.models import Notification
from tocsin.outbound import commands as outbound
from tocsin.outbound.models import Call
from tocsin.people.changes import groups
from tocsin.resources import registry
from tocsin.workflows import commands, reasons
from tocsin.workflows.definition import WorkflowRunStatus


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[WorkflowHarness]:
    with workflows_enabled():
        yield WorkflowHarness(now)


def test_actions_run_once_in_order_with_recorded_results(desk: WorkflowHarness) -> None:
    desk.save()
    other = desk.policy_of("Leads", ["lead"])
    desk.workflow(
        "All",
        {"do": "set_priority", "priority": "critical"},
        {"do": "set_tags", "tags": {"seen_by": "<workflow>"}, "remove": ["nothing"]},
        {"do": "add_responders", "groups": ["Service Desk"], "roles": ["secondary"]},
        {"do": "reply", "text": "A workflow looks at <subject> of <client>."},
        {"do": "wait", "for": "10m"},
        {"do": "start_policy", "policy": other},
        {"do": "notify", "groups": ["Service Desk"], "roles": ["lead"], "subject": "<priority>: <subject>"},
        {"do": "hold", "for": "30m"},
        {"do": "open_alert", "subject": "Look into <subject>", "users": ["bob"], "priority": "low"},
        {"do": "close", "text": "Nothing more to do"},
        {"do": "hold", "for": "5m"},
    )
    alert = desk.open()
    desk.go(0)
    (run,) = desk.runs(alert)
    assert (run.status, run.step) == ("waiting", 5)
    assert run.reason == reasons.WAITS(duration=timedelta(minutes=10))
    # The priority that rose has escalation start again.
    pages = [(who, how, state) for who, how, _at, state in desk.pages(alert)]
    assert pages == [
        ("alice", "email", "cancelled"), ("alice", "sms", "cancelled"), ("bob", "email", "queued"),
        ("alice", "email", "queued"), ("alice", "sms", "queued"),
    ]  # fmt: skip
    desk.go(9.9)
    assert desk.run(alert).version != other
    desk.go(10)
    assert desk.did(alert) == [
        "The priority is critical; it was high.",
        "Tags: seen_by = All.",
        "Paged Bob.",
        f"Your note was added to alert {alert}.",
        "Policy Leads started.",
        "Notified Carol.",
        f"Alert {alert} is snoozed for 30 minutes.",
        f"Created alert {alert + 1}: Look into VPN down.",
        f"Alert {alert} is closed.",
        f"Alert {alert} was already closed by Workflow All just now.",
    ]
    run.refresh_from_db()
    assert run.status == WorkflowRunStatus.DONE
    assert [step.get("failed", False) for step in run.steps] == [False] * 9 + [True]
    notice = Notification.objects.get(purpose="notice", alert=alert)
    assert notice.title == as_reason("critical: VPN down")
    opened = desk.alert(alert + 1)
    assert (opened.client, opened.priority, opened.source, opened.tags) == (
        "Acme", "low", "workflow", {"seen_by": "All"},
    )  # fmt: skip
    notices = desk.timeline(alert)
    assert "Workflow All started policy Leads." in notices
    assert "Workflow All closed the alert: Nothing more to do" in notices
    assert (
        f'Workflow All: the action "Snooze" failed: Alert {alert} was already closed by Workflow All just now.'
        in notices
    )


def test_managers_of_the_alerts_groups_are_notified_and_paged(desk: WorkflowHarness) -> None:
    desk.workflow("Leads", {"do": "notify", "leads": True}, {"do": "add_responders", "leads": True})
    alert = desk.open()
    desk.go(0)
    assert desk.did(alert) == ["Notified Carol.", "Paged Carol."]
    nobody = desk.open(recipient_groups=())
    desk.go(0)
    assert [step["result"]["code"] for step in desk.runs(nobody)[0].steps] == [
        "workflow.nobody_to_notify", "workflow.nobody_has_role",
    ]  # fmt: skip


def test_another_policy_takes_over_and_pages_its_own_people(desk: WorkflowHarness) -> None:
    other = desk.policy_of("Leads", ["lead"])
    desk.workflow("Over", {"do": "start_policy", "policy": other}, trigger={"on": "unassigned", "for": "3m"})
    alert = desk.open()
    desk.go(0)
    desk.go(3)
    assert [row[0] for row in desk.pages(alert)] == ["alice", "alice", "carol"]
    states = {row[:2]: row[3] for row in desk.pages(alert)}
    assert states["alice", "sms"] == "cancelled"
    desk.go(5)
    assert [row[0] for row in desk.pages(alert)] == ["alice", "alice", "carol"], "the old policy's second step is gone"


def test_policy_started_on_a_snoozed_alert_waits(desk: WorkflowHarness) -> None:
    other = desk.policy_of("Leads", ["lead"])
    desk.workflow("Later", {"do": "hold", "for": "30m"}, {"do": "start_policy", "policy": other})
    desk.open()
    desk.go(0)
    (_, step) = desk.runs()[0].steps
    assert step["result"]["code"] == "escalation.policy_waits"


def test_notice_uses_labelled_contact_method_and_names_unreachable_users(desk: WorkflowHarness) -> None:
    groups.save_group(
        {"name": "Network", "members": [], "contacts": [{"label": "List", "channel": "email", "address": "n@x.org"}]},
        actor=ACTOR, now=desk.start,
    )  # fmt: skip
    desk.workflow(
        "Tell",
        {"do": "notify", "users": ["alice", "bob"], "by": "sms-official", "subject": "Look"},
        {"do": "notify", "groups": ["Network"], "contacts": True},
        {"do": "notify", "owner": True},
        {"do": "notify", "paged": True},
    )
    alert = desk.open()
    desk.go(0)
    assert desk.did() == [
        "Notified Alice by sms-official. Not notified: Bob has no sms-official.",
        "Notified Network: List.",
        "No one to notify.",
        "Notified Alice.",
    ]
    sent = {(row[0], row[1]) for row in desk.pages(alert, "notice")}
    assert sent == {("alice", "sms"), ("List", "email"), ("alice", "email")}


def test_assignee_is_notified_as_such(desk: WorkflowHarness) -> None:
    desk.workflow("Tell", {"do": "notify", "owner": True}, trigger="assigned")
    alert = desk.open()
    desk.act(alert, Assign(actor=desk.actor("bob"), name="Bob", user_id=desk.users["bob"].pk), 1)
    desk.go(1)
    assert desk.noticed_users(alert) == ["bob"]


def test_created_alert_pages_by_its_policy_with_reason(desk: WorkflowHarness) -> None:
    other = desk.policy_of("Leads", ["lead"])
    desk.workflow("More", {"do": "open_alert", "subject": "Look", "policy": other}, trigger="acknowledged")
    alert = desk.open()
    desk.act(alert, Acknowledge(actor=desk.actor("alice")), 1)
    desk.go(1)
    assert desk.run(alert + 1).progress["policy_reason_code"] == "workflow.created_for_policy"


def test_disabled_outbound_integration_is_not_called(desk: WorkflowHarness) -> None:
    spec = {"name": "Pager", "kind": "http", "url": "https://example.org/x"}
    pager = outbound.save_outbound(spec, actor=ACTOR, now=desk.start)
    desk.workflow("Call", {"do": "call", "outbound": "Pager"})
    outbound.save_outbound({**spec, "enabled": False}, existing=pager, actor=ACTOR, now=desk.start)
    desk.open()
    desk.go(0)
    (step,) = desk.runs()[0].steps
    assert (step["result"]["code"], step["failed"]) == ("workflow.integration_disabled", True)
    assert not Call.objects.exists()


def test_call_is_queued_with_alert_values_and_recorded_id(desk: WorkflowHarness) -> None:
    spec = {
        "name": "Pager",
        "kind": "http",
        "url": "https://example.org/x",
        "body": '{"s": "<subject>", "w": "<what>"}',
    }
    pager = outbound.save_outbound(spec, actor=ACTOR, now=desk.start)
    desk.workflow("Call", {"do": "call", "outbound": "Pager"}, {"do": "halo", "text": "Hello"})
    alert = desk.open()
    desk.go(0)
    (run,) = desk.runs()
    call = Call.objects.get()
    assert (run.steps[0]["calls"], call.alert_id, call.content["values"]["subject"]) == ([call.pk], alert, "VPN down")
    assert run.steps[1] | {"at": ""} == {
        "at": "", "do": "halo", "failed": True, "result": run.steps[1]["result"],
    }  # fmt: skip
    with pytest.raises(Rejected, match="it is used by workflow Call"):
        registry.OUTBOUND_INTEGRATIONS.delete(pager, actor=ACTOR, now=desk.start)
    desk.workflow("Tell", {"do": "notify", "users": ["carol"]})
    assert [str(one) for one in hooks.references_to("user", desk.users["carol"].pk)] == ["workflow Tell"]


def test_button_acts_immediately_as_its_user(desk: WorkflowHarness) -> None:
    live = {"field": "status", "operator": "one of", "value": ["open", "assigned"]}
    button = desk.workflow("Restart", {"do": "reply", "text": "Restarted"}, {"do": "close"}, start=live,
                           trigger={"on": "manual", "confirm": "Restart it now?"})  # fmt: skip
    alert = desk.open()
    assert desk.runs() == [], "nothing but a person presses it"
    run = commands.run_manual_workflow(button, find_alert(alert), desk.users["alice"], "web", now=desk.at(1))
    assert (run.status, run.user_name, str(run.cause)) == ("done", "Alice", "Alice pressed Restart.")
    events = list(desk.alert(alert).events.order_by("-id")[:3])
    assert {(event.actor_name, event.via) for event in events if event.kind in ("replied", "closed")} == {
        ("Alice", "workflow")
    }
    assert desk.alert(alert).status == "closed"
    with pytest.raises(Rejected, match='Conditions not matched: status "closed"'):
        commands.run_manual_workflow(button, find_alert(alert), desk.users["alice"], "web", now=desk.at(2))
    with pytest.raises(Rejected, match="Alert 999 not found"):
        commands.run_manual_workflow(button, find_alert(999), desk.users["alice"], "web", now=desk.at(2))
    with pytest.raises(Rejected, match="it runs automatically"):
        commands.run_manual_workflow(desk.workflow(), find_alert(alert), desk.users["alice"], "web", now=desk.at(2))
