"""The workflow pages: forms, tests, order, log and buttons."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from tests.doubles.http import HttpDouble, http_double
from tests.support.outbox_harness import allow_loopback
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.alerts.models import Alert
from tocsin.core.reasons import Reason
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.delivery.dispatcher import CallDispatcher
from tocsin.people.models import User
from tocsin.workflows.commands import save_workflow
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run import tasks

type BrowserOf = Callable[[User], Client]


def page_text(answer: object) -> str:
    return unescape(answer.content.decode())  # type: ignore[attr-defined]


def form(company: Company, **changes: Any) -> dict[str, Any]:
    """What a browser sends for "nobody acknowledged for five minutes: tell the managers"."""
    return {
        "name": "Nobody answers", "group": company.desk.pk, "enabled": "on", "on": "unacknowledged", "span": "5m",
        "start.type": "group", "start.join": "all", "start.0.type": "comparison", "start.0.field": "priority",
        "start.0.op": "one of", "start.0.values": "critical\r\nhigh", "stop.type": "group", "stop.join": "all",
        "actions-TOTAL_FORMS": "1", "actions-INITIAL_FORMS": "0", "actions-0-do": "notify",
        "actions-0-groups": [company.desk.pk], "actions-0-roles": ["lead"], "actions-0-subject": "Look: <subject>",
        # Of fields that do not count for what is chosen, nothing is said.
        "actions-0-span": "7m", "confirm": "Really?", **changes,
    }  # fmt: skip


def test_workflow_is_created_changed_tested_and_ordered_with_forms(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    alert = open_alert()
    admin = browser_of(company.admin)
    assert "Not acknowledged in 5 minutes" in page_text(admin.get("/workflows/")), "what is ready made is offered"
    begun = page_text(admin.get("/workflows/new/?from=sla"))
    assert 'value="1 hour before the SLA deadline"' in begun
    sent = form(company)
    # The buttons of rows send the whole form, and lose nothing of it.
    page = page_text(admin.post("/workflows/new/", {**sent, "do": "cond:start:add"}))
    assert 'name="start.1.field"' in page
    assert "Look: <subject>" in page
    assert 'value="5m"' in page
    assert not Workflow.objects.exists()
    # Tried before it is saved.
    page = page_text(admin.post("/workflows/new/", {**sent, "do": "try", "alert": f"#{alert}"}))
    assert "would run" in page
    assert "Notify Mia Manager by email" in page
    assert "Look: VPN down" in page
    assert "Alert 77 not found" in page_text(admin.post("/workflows/new/", {**sent, "do": "try", "alert": "77"}))
    # Problems stand where they are.
    wrong = {**sent, "span": "5 moments", "actions-0-groups": [], "start.0.op": "matches", "start.0.values": "("}
    answer = admin.post("/workflows/new/", wrong)
    assert answer.status_code == 422
    for problem in ("is not a duration", "t least one recipient is required", "missing"):
        assert problem in page_text(answer), problem
    admin.post("/workflows/new/", sent)
    row = Workflow.objects.get()
    assert row.definition["trigger"] == {"on": "unacknowledged", "span": 300}
    assert row.definition["start"] == {"field": "priority", "operator": "one of", "value": ["critical", "high"]}
    assert row.definition["actions"] == [
        {"do": "notify", "groups": [company.desk.pk], "roles": ["lead"], "subject": "Look: <subject>"}
    ]
    page = page_text(admin.get(f"/workflows/{row.pk}/?alert={alert}"))
    assert "When an alert is unacknowledged for 5 minutes" in page
    assert "priority is one of critical or high" in page
    assert "would run" in page
    assert WorkflowRun.objects.count() == 0
    # What the form shows is what it saves.
    edit = f"/workflows/{row.pk}/edit/"
    admin.post(edit, {**sent, "name": "Nobody answers at all"})
    row.refresh_from_db()
    assert (row.name, row.definition["trigger"]["span"]) == ("Nobody answers at all", 300)
    second = save_workflow({"name": "Two", "trigger": "opened", "actions": [{"do": "close"}]}, actor=COMMAND_LINE,
                           now=company.now)  # fmt: skip
    admin.post(f"/workflows/{second.pk}/move", {"by": "up"})
    assert list(Workflow.objects.values_list("name", flat=True)) == ["Two", "Nobody answers at all"]
    assert "Two disabled." in page_text(admin.post(f"/workflows/{second.pk}/switch", follow=True))
    assert "Two deleted." in page_text(admin.post(f"/workflows/{second.pk}/delete/", follow=True))
    assert AuditEntry.objects.filter(object_type="workflow", action="delete").exists()


def test_workflow_changes_require_permission(company: Company, browser_of: BrowserOf) -> None:
    row = save_workflow({"name": "Night's", "group": "Night", "trigger": "opened", "actions": [{"do": "close"}]},
                        actor=COMMAND_LINE, now=company.now)  # fmt: skip
    manager, responder = browser_of(company.manager), browser_of(company.responder)
    for path in ("edit/", "delete/"):
        assert manager.get(f"/workflows/{row.pk}/{path}").status_code == 403
    assert manager.post(f"/workflows/{row.pk}/switch").status_code == 403
    assert manager.post("/workflows/new/", form(company, group=company.night.pk)).status_code == 422
    assert responder.get("/workflows/new/").status_code == 403
    assert responder.get(f"/workflows/{row.pk}/").status_code == 200
    manager.post("/workflows/new/", form(company))
    assert Workflow.objects.filter(group=company.desk).count() == 1


def test_button_confirms_calls_another_system_and_shows_its_result(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    number = open_alert()
    with http_double() as other:
        save_outbound({"name": "VPN", "kind": "http", "url": f"{other.url}/restart", "body": '{"about": "<subject>"}'},
                      actor=COMMAND_LINE, now=company.now)  # fmt: skip
        live = {"field": "status", "operator": "equals", "value": "open"}
        button = save_workflow(
            {"name": "Restart the VPN", "trigger": {"on": "manual", "confirm": "Restart it for everybody?"},
             "start": live, "actions": [{"do": "call", "outbound": "VPN"}]},
            actor=COMMAND_LINE, now=company.now,
        )  # fmt: skip
        bob, olga = browser_of(company.responder), browser_of(company.observer)
        page = page_text(bob.get(f"/alerts/{number}/"))
        assert "Restart it for everybody?" in page
        assert "Call VPN" in page
        assert "Restart it for everybody?" not in page_text(olga.get(f"/alerts/{number}/"))
        press = f"/alerts/{number}/buttons/{button.pk}"
        assert bob.get(press).status_code == 405
        assert olga.post(press).status_code == 403
        assert "Restart the VPN: Queued a call to VPN." in page_text(bob.post(press, follow=True))
        _sent(other)
        page = page_text(bob.get(f"/alerts/{number}/"))
        assert "Bob Brown pressed Restart the VPN." in page
        assert "The other side answered 200" in page or "200" in page
        assert [request.json() for request in other.requests] == [{"about": "VPN down"}]
        Alert.objects.filter(pk=number).update(status="closed")
        assert "Conditions not matched" in page_text(bob.post(press, follow=True))
        assert bob.post(f"/alerts/999/buttons/{button.pk}").status_code == 404


def _sent(other: HttpDouble) -> None:
    box = CallDispatcher(jitter=lambda: 0.0)
    try:
        box.run_once()
        box.settle()
    finally:
        box.close()
    assert other.requests


def test_log_explains_every_run_and_retries_a_stuck_one(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    row = save_workflow({"name": "Flow", "trigger": "opened", "actions": [{"do": "reply", "text": "Hi"}],
                         "start": {"field": "client", "operator": "equals", "value": "Acme"}},
                        actor=COMMAND_LINE, now=company.now)  # fmt: skip
    from tocsin.core.runtime import clock

    acts, skips, stuck = open_alert("One", client="Acme"), open_alert("Two", client="Beta"), open_alert("Three")
    run = WorkflowRun.objects.get(alert=stuck)
    WorkflowRun.objects.filter(pk=run.pk).update(
        status="stuck", reason=Reason("workflow.stuck", (("error", "boom"),)), due_at=None
    )
    while tasks.run_once(clock.now()):
        pass
    admin = browser_of(company.admin)
    page = page_text(admin.get(f"/workflows/{row.pk}/log/"))
    assert 'Conditions matched: client "Acme" equals Acme.' in page
    assert "does not equal" in page or 'client "Beta"' in page
    assert f"Your note was added to alert {acts}." in page
    only = page_text(admin.get(f"/workflows/{row.pk}/log/?show=not&q={skips}"))
    assert ("Two" in only, "One" in only, "Three" in only) == (True, False, False)
    assert "Stuck: boom" in page_text(admin.get(f"/workflows/{row.pk}/log/?show=stuck"))
    assert "1 run is stuck" in page_text(admin.get("/"))
    assert "The run will be retried." in page_text(
        admin.post(f"/workflows/{row.pk}/runs/{run.pk}/try-again", follow=True)
    )
    assert "Only a stuck run" in page_text(admin.post(f"/workflows/{row.pk}/runs/{run.pk}/try-again", follow=True))
    assert "Run ended." in page_text(admin.post(f"/workflows/{row.pk}/runs/{run.pk}/end", follow=True))
    assert browser_of(company.responder).post(f"/workflows/{row.pk}/runs/{run.pk}/end").status_code == 403
    Workflow.objects.filter(pk=row.pk).update(definition={"actions": [{"do": "fly"}]})
    assert "not valid in this version" in page_text(admin.get("/workflows/"))
    assert "not valid in this version" in page_text(admin.get(f"/workflows/{row.pk}/"))
    assert "This workflow is not valid" in page_text(admin.get(f"/workflows/{row.pk}/edit/"))
    assert "is not valid" in page_text(admin.get("/"))
