"""Stored workflows: validated, saved, pruned, and evaluated again when their alert changes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.people import ACTOR
from tests.support.workflow_harness import WorkflowHarness, workflows_enabled
from tocsin.access.models import AuditEntry
from tocsin.alerts import store
from tocsin.alerts.commands import Acknowledge, AlertChange, Close, NewEvent
from tocsin.alerts.commands import Actor as AlertActor
from tocsin.alerts.service import find_alert, write
from tocsin.alerts.states import ActorKind, CommandChannel, EventKind, Priority
from tocsin.core.db import database as connections
from tocsin.core.db.database import as_json
from tocsin.core.errors import Rejected
from tocsin.operate import tasks
from tocsin.outbound import commands as outbound
from tocsin.workflows import commands, definition, views
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run import run_store
from tocsin.workflows.run import tasks as run_tasks
from tocsin.workflows.run.engine import FinishRun


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[WorkflowHarness]:
    with workflows_enabled():
        yield WorkflowHarness(now)


def test_it_is_tried_against_a_past_alert_without_doing_anything(desk: WorkflowHarness) -> None:
    flow = desk.workflow(
        "Try", {"do": "notify", "groups": ["Service Desk"], "roles": ["lead"], "contacts": True}, {"do": "close"},
        start={"field": "client", "operator": "equals", "value": "Acme"},
        stop={"field": "status", "operator": "equals", "value": "closed"},
        trigger={"on": "unacknowledged", "for": "5m"},
    )  # fmt: skip
    alert = desk.open()
    dry_run_result = views.dry_run(flow, find_alert(alert), desk.at(1))
    assert (dry_run_result.would_act, str(dry_run_result.reason)) == (
        True,
        'Conditions matched: client "Acme" equals Acme.',
    )
    assert tuple(map(str, dry_run_result.actions)) == (
        "notify Carol and the groups' contacts by email",
        "close the alert",
    )
    assert dry_run_result.texts[0].startswith("Try: VPN down")
    desk.act(alert, Acknowledge(actor=desk.actor("alice")), 2)
    dry_run_result = views.dry_run(flow, find_alert(alert), desk.at(3))
    assert (dry_run_result.would_act, str(dry_run_result.reason)) == (False, "Acknowledged in time by Alice.")
    desk.act(alert, Close(actor=desk.actor("alice")), 4)
    # One that is over is looked at as it opened, which is when it would have waited.
    dry_run_result = views.dry_run(flow, find_alert(alert), desk.at(5))
    assert (dry_run_result.would_act, dry_run_result.as_opened) == (True, True)
    assert str(dry_run_result.reason) == 'Conditions matched: client "Acme" equals Acme.'
    assert desk.noticed_users(alert) == []
    with pytest.raises(Rejected, match="Alert 77 not found"):
        views.dry_run(flow, find_alert(77), desk.at(5))


def test_what_is_written_is_read_the_same_and_recorded(desk: WorkflowHarness) -> None:
    desk.save()
    policy = desk.policy_of("Leads", ["lead"])
    spec = {"name": "Pager", "kind": "http", "url": "https://example.org/x"}
    outbound.save_outbound(spec, actor=ACTOR, now=desk.start)
    for one in definition.workflow_templates("Pager", policy, has_halo=True):
        row = commands.save_workflow({"name": one.name, **one.spec}, actor=ACTOR, now=desk.start)
        written = commands.workflow_spec(row)
        row.refresh_from_db()
        before = row.definition
        commands.save_workflow(written, existing=row, actor=ACTOR, now=desk.start)
        row.refresh_from_db()
        assert row.definition == before
        assert written["trigger"] == one.spec["trigger"]
    assert AuditEntry.objects.filter(object_type="workflow").count() == Workflow.objects.count(), "no change, no entry"
    third = Workflow.objects.all()[2]
    commands.move(third, -1, actor=ACTOR, now=desk.start)
    assert Workflow.objects.all()[1] == third


def test_old_runs_go_when_their_alert_is_over(desk: WorkflowHarness) -> None:
    desk.workflow()
    over, live = desk.open(), desk.open()
    desk.go(0)
    desk.act(over, Close(actor=desk.actor("bob")), 1)
    desk.go(1)
    tasks.delete_expired(desk.start + timedelta(days=399))
    assert WorkflowRun.objects.count() == 2
    tasks.delete_expired(desk.start + timedelta(days=401))
    assert [run.alert_id for run in desk.runs()] == [live]


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"trigger": "sometimes"}, "trigger.on"),
        ({"trigger": {"on": "unacknowledged"}}, "trigger.for"),
        ({"trigger": {"on": "unacknowledged", "for": "10s"}}, "trigger.for"),
        ({"trigger": {"on": "before_sla", "by": "1h", "moment": "tomorrow"}}, "trigger.moment"),
        ({"trigger": {"on": "before_sla", "by": "1h", "moment": "opening"}}, "trigger.within"),
        ({"start": {"field": "x", "operator": "resembles"}}, "start.operator"),
        ({"stop": {"field": "x", "operator": "matches", "value": "("}}, "stop.value"),
        ({"actions": []}, "actions"),
        ({"actions": [{"do": "fly"}]}, "actions[0].do"),
        ({"actions": [{"do": "notify"}]}, "actions[0].users"),
        ({"actions": [{"do": "notify", "users": ["zoe"]}]}, "actions[0].users[0]"),
        ({"actions": [{"do": "hold"}]}, "actions[0].for"),
        ({"actions": [{"do": "reply", "txt": "x", "text": "y"}]}, "actions[0].txt"),
        ({"actions": [{"do": "call", "outbound": "Nowhere"}]}, "actions[0].outbound"),
        ({"actions": [{"do": "wait", "for": "1m"}] * 21}, "actions"),
        ({"order": -1}, "order"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(desk: WorkflowHarness, spec: dict[str, Any], place: str) -> None:
    with pytest.raises(Rejected) as refused:
        desk.workflow(**spec)
    assert refused.value.field == place
    assert not Workflow.objects.exists()


def test_priorities_that_a_workflow_raises_page_again(desk: WorkflowHarness) -> None:
    desk.workflow("Rise", {"do": "set_priority", "priority": "critical"}, trigger={"on": "unassigned", "for": "2m"})
    alert = desk.open()
    desk.go(0)
    desk.go(2)
    assert desk.alert(alert).priority == Priority.CRITICAL
    assert [row[:3] for row in desk.pages(alert) if row[1] == "email"] == [("alice", "email", 0), ("alice", "email", 2)]


def test_update_during_evaluation_of_earlier_one_is_evaluated_too(desk: WorkflowHarness) -> None:
    desk.workflow(trigger={"on": "updated"}, start={"field": "custom^room", "operator": "equals", "value": "cold"})
    alert = desk.open()
    desk.message(alert, 1, room="warm")
    with connections.transaction() as connection:
        # A worker has read how the alert stands, and not yet written what follows.
        (run,) = run_store.claim_undecided(connection, desk.at(1), 10)
        known = run_store.facts(connection, [alert])
        with ThreadPoolExecutor(1) as other:
            other.submit(desk.message, alert, 1.1, room="cold").result(20)
        finish = run_tasks._next(run, known, desk.at(1))
        assert isinstance(finish, FinishRun)
        run_store.write(connection, [(run, finish)], desk.at(1))
    desk.go(2)
    assert desk.noticed_users(alert) == ["carol"]


def test_uncommitted_update_delays_evaluation_of_its_run(desk: WorkflowHarness) -> None:
    desk.workflow(trigger={"on": "updated"}, start={"field": "custom^room", "operator": "equals", "value": "cold"})
    alert = desk.open()
    desk.message(alert, 1, room="warm")
    with connections.transaction() as connection:
        store.lock(connection, [alert])
        state = store.load(connection, [alert])[alert]
        event = NewEvent(alert, EventKind.UPDATED, desk.at(1), AlertActor(ActorKind.INTEGRATION, "Halo"), "Cold.",
                         CommandChannel.INBOUND, {"changes": {"custom.room": ["warm", "cold"]}})  # fmt: skip
        connection.execute("UPDATE alerts_alert SET custom = %s WHERE id = %s", (as_json({"room": "cold"}), alert))
        write(connection, [AlertChange(state, state, (event,))], desk.at(1))
        with ThreadPoolExecutor(1) as other:
            other.submit(run_tasks.run_once, desk.at(1)).result(20)
    desk.go(2)
    assert desk.noticed_users(alert) == ["carol"]
