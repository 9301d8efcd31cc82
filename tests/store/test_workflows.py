"""Workflows on real rows: what pulls them, what they do, that they end, and that no paging waits for any of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.store.people import ACTOR
from tests.store.workflows import Desk, wired
from tocsin.access.models import AuditEntry
from tocsin.alerts import rows
from tocsin.alerts.commands import write
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.orders import Acknowledge, Assign, Close, Hold, NewEvent, Reply, Resume, Unacknowledge
from tocsin.alerts.orders import Actor as AlertActor
from tocsin.alerts.reactors import AlertChange, PagingMode
from tocsin.alerts.states import ActorKind, EventKind, Priority, Via
from tocsin.core import clock, dependents
from tocsin.core import database as connections
from tocsin.core.errors import Rejected
from tocsin.core.json_text import as_json
from tocsin.escalation.commands import save_policy
from tocsin.inbound import commands as integrations
from tocsin.notify.models import Notification
from tocsin.operate import retention
from tocsin.operate.doctor import examine
from tocsin.outbound import commands as outbound
from tocsin.outbound.models import Call
from tocsin.people import groups
from tocsin.workflows import acting, buttons, commands, loop, reading, ready_made, standings, table, trial
from tocsin.workflows import reactor as workflow_reactor
from tocsin.workflows.decide import MOST_A_MINUTE, MOST_DEPTH, End
from tocsin.workflows.models import Limit, Run, Workflow
from tocsin.workflows.states import RunStatus


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[Desk]:
    with wired():
        yield Desk(now)


def message(desk: Desk, alert: int, minute: float, **custom: str) -> None:
    """What ingest does when a message changes custom fields of an alert."""
    with connections.transaction() as connection:
        rows.lock(connection, [alert])
        state = rows.load(connection, [alert])[alert]
        actor = AlertActor(ActorKind.INTEGRATION, "Halo")
        changes = {f"custom.{name}": ["", text] for name, text in custom.items()}
        event = NewEvent(
            alert, EventKind.UPDATED, desk.at(minute), actor, "Halo changed it.", Via.INBOUND, {"changes": changes}
        )
        held = Alert.objects.get(pk=alert).custom
        connection.execute("UPDATE alerts_alert SET custom = %s WHERE id = %s", (as_json(held | custom), alert))
        write(connection, [AlertChange(state, state, (event,))], desk.at(minute))


# What pulls them


def test_an_alert_that_nobody_acknowledges_for_five_minutes_is_told_to_the_manager(desk: Desk) -> None:
    desk.workflow(trigger={"on": "unacknowledged", "for": "5m"}, start={"field": "priority", "operator": "equals",
                  "value": "high"})  # fmt: skip
    forgotten, seen, taken, held = desk.open(), desk.open(), desk.open(), desk.open()
    desk.act(seen, Acknowledge(actor=desk.actor("alice")), 2)
    desk.act(taken, Assign(actor=desk.actor("bob"), name="Bob", user_id=desk.users["bob"].pk), 3)
    desk.act(held, Hold(actor=desk.actor("bob"), until=desk.at(20)), 3)
    desk.go(4.9)
    assert desk.told(forgotten) == []
    desk.go(5)
    assert (desk.told(forgotten), desk.told(seen), desk.told(taken), desk.told(held)) == (["carol"], [], [], [])
    assert [reason for _name, _status, reason in desk.said()] == [
        'Its conditions hold: priority "high" equals high.',
        "Somebody answered in time: Alice.",
        "Somebody answered in time: Bob.",
        "The alert is on hold: it looks again at the end of that.",
    ]
    assert desk.did() == ["Told Carol."]
    assert "Workflow Flow: Told Carol." in desk.timeline(forgotten)
    # The hold ended and still nobody: now it does.
    desk.act(held, Resume(actor=desk.actor("bob")), 10)
    desk.go(20)
    assert desk.told(held) == ["carol"]
    # The time counts anew from when an acknowledgement is taken back.
    desk.act(seen, Unacknowledge(actor=desk.actor("alice")), 30)
    desk.go(34.9)
    assert desk.told(seen) == []
    desk.go(35)
    assert desk.told(seen) == ["carol"]


def test_each_thing_that_happens_pulls_its_own_workflows_in_their_order(desk: Desk) -> None:
    for place, trigger in enumerate(
        ("opened", "acknowledged", "assigned", "reply", "closed", "status_changed", "updated", "escalated", "exhausted")
    ):
        desk.workflow(trigger, {"do": "notify", "users": ["carol"]}, trigger=trigger, order=100 - place)
    alert = desk.open()
    actor = desk.actor("alice")
    desk.go(0)
    desk.act(alert, Reply(actor=actor, text="Looking"), 1)
    desk.go(1)
    message(desk, alert, 2, vip="yes")
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
    assert {run.status for run in desk.runs()} == {RunStatus.DONE}
    assert len(desk.told(alert)) == 12 + 1, "and as a manager, when the policy came to its end"
    assert desk.runs()[-1].cause == "Alice closed it."


def test_an_sla_moment_is_awaited_moves_with_the_ticket_and_is_acted_for_once(desk: Desk) -> None:
    desk.workflow("Soon", trigger={"on": "before_sla", "moment": "fix_by", "by": "1h"})
    desk.workflow("Over", trigger={"on": "after_sla", "moment": "respond_by"})
    desk.workflow("Half an hour", trigger={"on": "before_sla", "moment": "opening", "within": "30m", "by": "10m"})
    alert = desk.open()
    desk.go(0)
    assert sorted(desk.said()) == [
        ("Half an hour", "waiting", "It waits for its time limit, 2026-11-24 09:45 UTC."),
        ("Over", "skipped", "The alert has no date for the respond-by time."),
        ("Soon", "skipped", "The alert has no date for the fix-by time."),
    ]
    # Halo's dates carry no offset; 9999 and 1900 stand for "not set".
    message(desk, alert, 1, fix_by="2026-11-24T11:15:00", respond_by="1899-12-30T00:00:00")
    message(desk, alert, 2, fix_by="2026-11-24T12:15:00", respond_by="2026-11-24T09:45:00")
    desk.go(20)
    assert desk.did() == ["Told Carol."]
    desk.go(30)
    assert desk.did() == ["Told Carol."] * 2
    desk.go(60)
    assert desk.did() == ["Told Carol."] * 2, "the date moved: an hour before the old one nothing happens"
    message(desk, alert, 100, fix_by="2026-11-24T12:15:00", team="Network")
    desk.go(120)
    desk.go(121)
    assert desk.did() == ["Told Carol."] * 3
    done = [run.workflow.name for run in desk.runs() if run.status == RunStatus.DONE]
    assert sorted(done) == ["Half an hour", "Over", "Soon"]
    message(desk, alert, 130, fix_by="2026-11-24T12:15:00")
    desk.go(131)
    assert "It has acted for the fix-by time already, 2026-11-24 12:15 UTC." in [s[2] for s in desk.said()[-3:]]


def test_the_policys_own_sla_counts_where_the_ticket_brings_no_date(desk: Desk) -> None:
    desk.save(sla={"respond_by": "15m", "fix_by": "4h"})
    desk.workflow("Soon", trigger={"on": "before_sla", "moment": "respond_by", "by": "5m"})
    desk.workflow("Over", trigger={"on": "after_sla", "moment": "fix_by"})
    alert = desk.open()
    desk.go(0)
    assert [reason for _name, _status, reason in desk.said(alert)] == [
        "It waits for the respond-by time, 2026-11-24 09:30 UTC.",
        "It waits for the fix-by time, 2026-11-24 13:15 UTC.",
    ]
    message(desk, alert, 1, fix_by="2026-11-24T10:15:00")
    desk.go(9)
    assert desk.did() == []
    desk.go(10)
    desk.go(60)
    assert sorted(run.workflow.name for run in desk.runs() if run.status == RunStatus.DONE) == ["Over", "Soon"]


@pytest.mark.parametrize("how", ["workflow", "hand over", "rise"])
def test_an_sla_that_comes_with_a_policy_that_is_started_later_is_waited_for(desk: Desk, how: str) -> None:
    own: dict[str, Any] = {"steps": [{"notify": {"roles": ["primary"]}, "after": "0m"}], "end_after": "1m"}
    dated = save_policy({"name": "Dated", **own, "sla": {"respond_by": "30m"}}, actor=ACTOR, now=desk.start)
    desk.save(**own, **({"end": {"then": "hand_over", "policy": "Dated"}} if how == "hand over" else {}))
    if how == "workflow":
        desk.workflow("Start", {"do": "start_policy", "policy": "Dated"}, trigger={"on": "every", "every": "1m"})
    desk.workflow("Soon", trigger={"on": "before_sla", "moment": "respond_by", "by": "5m"})
    alert = desk.open()
    desk.go(0)
    assert ("Soon", RunStatus.SKIPPED, "The alert has no date for the respond-by time.") in desk.said(alert)
    if how == "rise":
        with connections.transaction() as connection:
            state = rows.load(connection, [alert])[alert]
            risen = replace(state, priority=Priority.CRITICAL)
            change = AlertChange(state, risen, (), paging=desk.paging(version_id=dated.current_id))
            write(connection, [change], desk.at(1))
    desk.go(2)
    waits = ("Soon", RunStatus.WAITING, "It waits for the respond-by time, 2026-11-24 09:45 UTC.")
    assert waits in desk.said(alert)
    desk.go(25)
    assert [run.workflow.name for run in desk.runs() if run.status == RunStatus.DONE].count("Soon") == 1


def test_what_recurs_goes_on_while_the_alert_lives_and_ends_by_its_stop_condition_or_with_it(desk: Desk) -> None:
    owned = {"field": "owner", "operator": "exists"}
    desk.workflow(trigger={"on": "every", "every": "10m"}, stop=owned)
    taken, closed = desk.open(), desk.open()
    for minute in range(0, 31, 5):
        desk.go(minute)
    assert (len(desk.did(taken)), len(desk.did(closed))) == (3, 3)
    bob = desk.actor("bob")
    desk.act(taken, Assign(actor=bob, name="Bob", user_id=bob.user_id), 31)
    desk.act(closed, Close(actor=bob), 31)
    for minute in range(35, 71, 5):
        desk.go(minute)
    assert (len(desk.did(taken)), len(desk.did(closed))) == (3, 3)
    assert desk.said(taken)[-1][2] == 'A stop condition holds: owner "Bob" exists.'
    assert desk.said(closed)[-1][2] == "The alert is closed."
    assert not Run.objects.filter(due_at__isnull=False).exists()


def test_conditions_ask_any_field_and_say_which_value_decided(desk: Desk) -> None:
    desk.workflow(
        start={"all": [{"field": "client", "operator": "equals", "value": "acme"},
                       {"any": [{"field": "tags^environment", "operator": "equals", "value": "production"},
                                {"field": "vip", "operator": "equals", "value": "yes"}]}]},
    )  # fmt: skip
    alert = desk.open()
    desk.go(0)
    assert desk.said() == [
        ("Flow", "skipped", "Its conditions do not hold: no value at tags^environment and no value at vip.")
    ]
    assert desk.told(alert) == []


def test_workflows_with_the_same_order_go_as_they_are_listed(desk: Desk) -> None:
    for name in ("Charlie", "Alpha", "Bravo"):
        desk.workflow(name, order=3)
    alert = desk.open()
    desk.go(0)
    listed = list(Workflow.objects.values_list("name", flat=True))
    assert listed == ["Alpha", "Bravo", "Charlie"]
    assert [run.workflow.name for run in desk.runs(alert)] == listed


def test_tests_watched_alerts_and_what_is_switched_off_are_left_alone(desk: Desk) -> None:
    flow = desk.workflow()
    watched, tested, off = desk.open(mode=PagingMode.WATCH), desk.open(), desk.open()
    Alert.objects.filter(pk=watched).update(watch=True)
    Alert.objects.filter(pk=tested).update(test=True)
    desk.go(0)
    assert [(desk.told(alert), len(desk.runs(alert))) for alert in (watched, tested)] == [([], 1), ([], 1)]
    assert desk.told(off) == ["carol"]
    waiting = desk.open(1)
    commands.set_enabled(flow, False, actor=ACTOR, now=desk.at(1))
    desk.go(1)
    assert desk.said(waiting) == [("Flow", "skipped", "The workflow is switched off.")]
    assert desk.runs(desk.open(2)) == []


def test_runs_that_wait_go_on_by_what_the_workflow_is_now_or_say_that_it_no_longer_fits(desk: Desk) -> None:
    def change(flow: Workflow, *actions: dict[str, Any], **spec: Any) -> None:
        whole = commands.workflow_spec(flow) | ({"actions": [*actions]} if actions else {}) | spec
        commands.save_workflow(whole, existing=flow, actor=ACTOR, now=desk.at(1))

    wait, carol, bob = {"do": "wait", "for": "10m"}, *({"do": "notify", "users": [one]} for one in ("carol", "bob"))
    longer = desk.workflow("Longer", trigger={"on": "unacknowledged", "for": "5m"})
    other = desk.workflow("Other", trigger={"on": "unacknowledged", "for": "5m"})
    rest, begun = desk.workflow("Rest", wait, carol), desk.workflow("Begun", wait, carol)
    alert = desk.open()
    desk.go(0)
    change(longer, trigger={"on": "unacknowledged", "for": "20m"})
    change(other, trigger="closed")
    change(rest, wait, bob)
    change(begun, carol)
    desk.go(6)
    desk.go(11)
    assert desk.told(alert) == ["bob"]
    desk.go(20)
    assert desk.told(alert) == ["bob", "carol"]
    assert {name: (how, why) for name, how, why in desk.said(alert) if name in ("Other", "Begun")} == {
        "Other": ("skipped", "The workflow was changed, and waits for something else since."),
        "Begun": ("stopped", "The workflow was changed while it waited: what was left of it is not done."),
    }


def test_a_run_that_is_stuck_goes_on_where_it_was_mended_or_ends_where_its_place_is_another(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, bad, last = (
        {"do": "reply", "text": "First"}, {"do": "reply", "text": "Second"}, {"do": "notify", "users": ["carol"]},
        {"do": "reply", "text": "Last"},
    )  # fmt: skip
    mended, moved = desk.workflow("Mended", first, second, bad, last), desk.workflow("Moved", first, second, bad, last)
    real = acting.perform

    def failing(work: Any, action: Any) -> Any:
        if action.do == "notify":
            raise RuntimeError("boom")
        return real(work, action)

    monkeypatch.setattr(acting, "perform", failing)
    alert = desk.open()
    for minute in range(6):
        desk.go(minute)
    assert [run.status for run in desk.runs(alert)] == ["stuck", "stuck"]
    monkeypatch.setattr(acting, "perform", real)

    def change(flow: Workflow, *actions: dict[str, Any]) -> None:
        whole = commands.workflow_spec(flow) | {"actions": [*actions]}
        commands.save_workflow(whole, existing=flow, actor=ACTOR, now=desk.at(6))

    change(mended, first, second, {"do": "notify", "users": ["bob"]}, last)
    # By its number it would go on with the last and leave out the one that it is stuck at.
    change(moved, second, bad, last)
    one, other = desk.runs(alert)
    assert (other.status, other.reason) == (
        "stopped", "The workflow was changed while it waited: what was left of it is not done.",
    )  # fmt: skip
    commands.try_again(one, actor=ACTOR, now=desk.at(7))
    with pytest.raises(Rejected, match="Only a run that is stuck"):
        commands.try_again(other, actor=ACTOR, now=desk.at(7))
    desk.go(7)
    assert desk.told(alert) == ["bob"]
    assert [len(run.steps) for run in desk.runs(alert)] == [4, 2]


# What they do


def test_all_actions_in_one_run_each_once_in_order_with_what_came_of_it(desk: Desk) -> None:
    desk.save()
    other = commands_policy(desk, "Managers", ["manager"])
    desk.workflow(
        "All",
        {"do": "set_priority", "priority": "critical"},
        {"do": "set_tags", "tags": {"seen_by": "<workflow>"}, "remove": ["nothing"]},
        {"do": "add_responders", "groups": ["Service Desk"], "roles": ["secondary"]},
        {"do": "reply", "text": "A workflow looks at <subject> of <client>."},
        {"do": "wait", "for": "10m"},
        {"do": "start_policy", "policy": other},
        {"do": "notify", "groups": ["Service Desk"], "roles": ["manager"], "subject": "<priority>: <subject>"},
        {"do": "hold", "for": "30m"},
        {"do": "open_alert", "subject": "Look into <subject>", "users": ["bob"], "priority": "low"},
        {"do": "close", "text": "Nothing more to do"},
        {"do": "hold", "for": "5m"},
    )
    alert = desk.open()
    desk.go(0)
    (run,) = desk.runs(alert)
    assert (run.status, run.step) == ("waiting", 5)
    assert run.reason == "It waits for 10 minutes."
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
        "The priority is critical, it was high.",
        "Tags: seen_by = All.",
        "Paged Bob.",
        f"Your reply is on alert {alert}.",
        "Policy Managers started.",
        "Told Carol.",
        f"Alert {alert} is on hold for 30 minutes.",
        f"Opened alert {alert + 1}: Look into VPN down.",
        f"Alert {alert} is closed.",
        f"Alert {alert} was already closed by Workflow All just now.",
    ]
    run.refresh_from_db()
    assert run.status == RunStatus.DONE
    assert [step.get("failed", False) for step in run.steps] == [False] * 9 + [True]
    notice = Notification.objects.get(purpose="notice", alert=alert)
    assert notice.data["title"] == "critical: VPN down"
    opened = desk.alert(alert + 1)
    assert (opened.client, opened.priority, opened.source, opened.tags) == (
        "Acme", "low", "workflow", {"seen_by": "All"},
    )  # fmt: skip
    told = desk.timeline(alert)
    assert "Workflow All started policy Managers." in told
    assert "Workflow All closed it: Nothing more to do" in told
    assert f"All could not hold: Alert {alert} was already closed by Workflow All just now." in told


def commands_policy(desk: Desk, name: str, roles: list[str]) -> str:
    from tocsin.escalation.commands import save_policy

    save_policy({"name": name, "steps": [{"notify": {"roles": roles}}]}, actor=ACTOR, now=desk.start)
    return name


def test_another_policy_takes_over_and_pages_its_own_people(desk: Desk) -> None:
    other = commands_policy(desk, "Managers", ["manager"])
    desk.workflow("Over", {"do": "start_policy", "policy": other}, trigger={"on": "unassigned", "for": "3m"})
    alert = desk.open()
    desk.go(0)
    desk.go(3)
    assert [row[0] for row in desk.pages(alert)] == ["alice", "alice", "carol"]
    states = {row[:2]: row[3] for row in desk.pages(alert)}
    assert states["alice", "sms"] == "cancelled"
    desk.go(5)
    assert [row[0] for row in desk.pages(alert)] == ["alice", "alice", "carol"], "the old policy's second step is gone"


def test_a_notice_goes_by_the_label_and_says_who_cannot_be_told(desk: Desk) -> None:
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
        "Told Alice by sms-official. Not told: Bob has no sms-official.",
        "Told Network: List.",
        "There is nobody to tell.",
        "Told Alice.",
    ]
    sent = {(row[0], row[1]) for row in desk.pages(alert, "notice")}
    assert sent == {("alice", "sms"), ("List", "email"), ("alice", "email")}


def test_a_call_is_queued_with_the_alerts_values_and_the_run_knows_its_number(desk: Desk) -> None:
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
        "at": "", "do": "halo", "failed": True, "said": "Its integration is not connected with a HaloITSM.",
    }  # fmt: skip
    with pytest.raises(Rejected, match="workflow Call still needs it"):
        outbound.delete_outbound(pager, actor=ACTOR, now=desk.start)
    desk.workflow("Tell", {"do": "notify", "users": ["carol"]})
    assert dependents.of("user", desk.users["carol"].pk) == ["workflow Tell"]


# Buttons


def test_a_button_acts_at_once_as_the_person_who_pressed_it(desk: Desk) -> None:
    live = {"field": "status", "operator": "one of", "value": ["open", "assigned"]}
    button = desk.workflow("Restart", {"do": "reply", "text": "Restarted"}, {"do": "close"}, start=live,
                           trigger={"on": "manual", "confirm": "Restart it now?"})  # fmt: skip
    alert = desk.open()
    assert desk.runs() == [], "nothing but a person presses it"
    run = commands.press(button, alert, desk.users["alice"], "web", now=desk.at(1))
    assert (run.status, run.user_name, run.cause) == ("done", "Alice", "Alice pressed Restart.")
    events = list(desk.alert(alert).events.order_by("-id")[:3])
    assert {(event.actor_name, event.via) for event in events if event.kind in ("replied", "closed")} == {
        ("Alice", "workflow")
    }
    assert desk.alert(alert).status == "closed"
    with pytest.raises(Rejected, match='Its conditions do not hold: status "closed"'):
        commands.press(button, alert, desk.users["alice"], "web", now=desk.at(2))
    with pytest.raises(Rejected, match="There is no alert 999"):
        commands.press(button, 999, desk.users["alice"], "web", now=desk.at(2))
    with pytest.raises(Rejected, match="it runs by itself"):
        commands.press(desk.workflow(), alert, desk.users["alice"], "web", now=desk.at(2))


# Bounds


def test_workflows_that_cause_each_other_end_after_a_few(desk: Desk) -> None:
    desk.workflow("Again", {"do": "open_alert", "subject": "<subject>!"})
    desk.open()
    desk.go(0)
    assert desk.did() == [f"Opened alert {n}: VPN down{'!' * (n - 1)}." for n in range(2, MOST_DEPTH + 3)]
    assert desk.said()[-1][2] == f"Workflows caused each other {MOST_DEPTH + 1} times in a row: it goes no further."


def test_a_workflow_that_starts_the_policy_over_and_over_ends_although_the_escalation_is_between(desk: Desk) -> None:
    desk.workflow("Over again", {"do": "start_policy", "policy": "Standard"}, trigger="escalated")
    alert = desk.open()
    for minute in range(60):
        desk.go(minute)
    started = [text for text in desk.timeline(alert) if text == "Workflow Over again started policy Standard."]
    assert len(started) == MOST_DEPTH + 1
    assert desk.said()[-1][2] == f"Workflows caused each other {MOST_DEPTH + 1} times in a row: it goes no further."
    assert desk.run(alert).status == "finished"


def test_a_workflow_that_is_pulled_too_often_acts_so_often_a_minute_and_no_more(desk: Desk) -> None:
    desk.workflow(trigger="reply")
    alert = desk.open()
    for number in range(MOST_A_MINUTE + 3):
        desk.act(alert, Reply(actor=desk.actor("bob"), text=str(number)), number / 100)
        desk.go(number / 100)
    assert len(desk.told(alert)) == MOST_A_MINUTE
    assert desk.said()[-1][1:] == (
        "stopped",
        f"It has acted on this alert {MOST_A_MINUTE} times in a minute: no more now.",
    )
    desk.act(alert, Reply(actor=desk.actor("bob"), text="later"), 5)
    desk.go(5)
    assert len(desk.told(alert)) == MOST_A_MINUTE + 1


# Faults


def test_a_loop_through_another_system_ends_at_the_limit_and_is_told_of_once(desk: Desk) -> None:
    outbound.save_outbound({"name": "Other", "kind": "http", "url": "https://other.example.org"}, actor=ACTOR,
                           now=desk.start)  # fmt: skip
    flow = desk.workflow("Echo", {"do": "call", "outbound": "Other"}, limit=5)
    desk.workflow("Beside it", {"do": "call", "outbound": "Other"}, trigger="closed")
    opened: list[int] = []
    for number in range(20):
        # The other system answers each call with an alert of its own.
        if number and Call.objects.count() < number:
            break
        opened.append(desk.open(mode=PagingMode.RECORD))
        desk.go(number / 60)
    assert (len(opened), Call.objects.count()) == (6, 5)
    (said,) = (step for run in desk.runs(opened[-1]) for step in run.steps)
    assert said["failed"]
    assert said["said"] == (
        "It has made 5 calls, notes and alerts in 10 minutes, as many as it may. Does what it calls open alerts again?"
    )
    # What is wrong is asked by the database's own clock.
    assert Limit.objects.filter(workflow=flow).update(refused_at=clock.now()) == 1
    with connections.transaction() as connection:
        (wrong,) = standings.wrong(connection)
    assert (wrong.kind, wrong.workflow_id) == ("limited", flow.pk)
    for minute in (1, 2):
        desk.open(mode=PagingMode.RECORD)
        desk.go(minute)
    notices = Notification.objects.filter(purpose="notice", data__about=f"workflow:limit:{flow.pk}")
    assert [notice.user.username for notice in notices if notice.user] == ["erin"]
    # Another workflow has a count of its own, and this one may again later.
    desk.act(opened[0], Close(actor=desk.actor("bob")), 2)
    desk.go(2)
    assert Call.objects.count() == 6
    last = desk.open(mode=PagingMode.RECORD)
    desk.go(11)
    assert [step.get("failed", False) for run in desk.runs(last) for step in run.steps] == [False]


def test_a_groups_workflow_changes_only_alerts_of_its_integrations_and_those_that_page_it(desk: Desk) -> None:
    own = {"group": desk.group.name}
    desk.workflow("Close", {"do": "close", "text": "Done."}, **own)
    desk.workflow("Tell", {"do": "notify", "users": ["carol"]}, **own)
    desk.workflow("Admins", {"do": "set_tags", "tags": {"seen": "yes"}})
    button = desk.workflow("Hold", {"do": "hold", "for": "10m"}, trigger="manual", **own)
    foreign, routed = desk.open(mode=PagingMode.RECORD, recipient_groups=()), desk.open()
    desk.go(0)
    assert Alert.objects.get(pk=foreign).status == "open"
    assert Alert.objects.get(pk=routed).status == "closed"
    assert {name: status for name, status, _why in desk.said(foreign)} == {
        "Close": "skipped", "Tell": "done", "Admins": "done",
    }  # fmt: skip
    (why,) = (why for name, _status, why in desk.said(foreign) if name == "Close")
    assert why.startswith(f"The alert is not one of {desk.group.name}: a group's workflow changes only alerts")
    # Nothing of it is on the alert, and its button is not offered there.
    assert not AlertEvent.objects.filter(alert=foreign, reason__contains="Close").exists()
    assert buttons.offered(foreign, desk.at(1)) == []
    with pytest.raises(Rejected, match="not one of"):
        commands.press(button, foreign, desk.users["alice"], "web", now=desk.at(1))
    assert not trial.of(button, foreign, desk.at(1)).would_act
    # Once the group owns the alert's integration, it is the group's alert.
    door = integrations.save_integration(
        {"name": "Door", "kind": "api", "group": desk.group.name, "anyway": True}, actor=ACTOR, now=desk.start
    )
    Alert.objects.filter(pk=foreign).update(integration=door.pk)
    assert [one.workflow.name for one in buttons.offered(foreign, desk.at(1))] == ["Hold"]


def test_only_whoever_may_change_an_outbound_integration_has_a_workflow_call_it_that_did_not_before(desk: Desk) -> None:
    for name in ("Ours", "Theirs"):
        outbound.save_outbound({"name": name, "kind": "http", "url": "https://x.example.org"}, actor=ACTOR,
                               now=desk.start)  # fmt: skip
    flow = desk.workflow("Call", {"do": "call", "outbound": "Ours"})
    spec = commands.workflow_spec(flow)

    def save(*names: str) -> None:
        actions = [{"do": "call", "outbound": name} for name in names]
        commands.save_workflow({**spec, "actions": actions}, existing=flow, actor=ACTOR, now=desk.start,
                               may_call=lambda group: False)  # fmt: skip

    save("Ours", "Ours")
    with pytest.raises(Rejected) as refused:
        save("Ours", "Theirs")
    assert "actions[1].outbound" in refused.value.fields


def test_a_broken_workflow_delays_nobodys_page_and_no_other_workflow(desk: Desk) -> None:
    broken = desk.workflow("Broken")
    worse = desk.workflow("Worse")
    desk.workflow("Good")
    Workflow.objects.filter(pk=broken.pk).update(definition={"trigger": {"on": "opened"}, "actions": [{"do": "fly"}]})
    Workflow.objects.filter(pk=worse.pk).update(definition=["nonsense"])
    workflow_reactor.look_again()
    alert = desk.open()
    desk.turn(0)
    assert [row[:3] for row in desk.pages(alert)] == [("alice", "email", 0), ("alice", "sms", 3)]
    desk.go(0)
    assert desk.told(alert) == ["carol"]
    (stuck, _good) = desk.runs(alert)
    assert stuck.status == "stuck"
    assert "The workflow cannot be read" in stuck.reason
    notice = Notification.objects.get(purpose="notice", alert=None)
    assert (notice.user, notice.data["title"]) == (desk.users["erin"], "The workflow Broken is stuck")
    desk.open(1)
    desk.go(1)
    assert Notification.objects.filter(purpose="notice", alert=None).count() == 1, "told once in a while"
    with connections.transaction() as connection:
        found = [(one.kind, one.name) for one in standings.wrong(connection)]
    assert found == [("unreadable", "Broken"), ("unreadable", "Worse"), ("stuck", "Broken")]
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


def test_an_action_that_fails_is_tried_again_later_and_then_waits_for_a_person(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.workflow("Bad", {"do": "reply", "text": "First"}, {"do": "notify", "users": ["carol"]})
    desk.workflow("Good", {"do": "reply", "text": "Good"})
    real = acting.perform

    def failing(work: Any, action: Any) -> Any:
        if action.do == "notify":
            raise RuntimeError("boom")
        return real(work, action)

    monkeypatch.setattr(acting, "perform", failing)
    alert = desk.open()
    desk.go(0)
    assert len(desk.did(alert)) == 2
    (bad, good) = desk.runs(alert)
    assert (bad.status, bad.failures, good.status) == ("waiting", 1, "done")
    for minute in (1, 2, 3, 4, 5):
        desk.go(minute)
    bad.refresh_from_db()
    assert (bad.status, bad.failures, bad.reason) == ("stuck", 5, "Stuck: RuntimeError: boom")
    monkeypatch.setattr(acting, "perform", real)
    commands.try_again(bad, actor=ACTOR, now=desk.at(6))
    desk.go(6)
    assert desk.told(alert) == ["carol"]
    assert len([text for text in desk.timeline(alert) if "replied" in text]) == 2, "what was done is not done again"


def test_killed_between_any_two_steps_nothing_is_lost_and_nothing_done_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = [{"do": "reply", "text": f"Number {number}"} for number in range(4)]
    desk.workflow("Four", *actions)

    class Killed(BaseException):
        pass

    from tocsin.workflows import table

    for name in ("write_step", "write"):
        for after in (True, False):
            for survives in range(6):
                alert = desk.open()
                real, count = getattr(table, name), [0]

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
                    patch.setattr(table, name, dying)
                    with contextlib.suppress(Killed):
                        desk.go(0)
                desk.go(0)
                said = list(desk.alert(alert).events.filter(kind="replied").order_by("id"))
                assert [event.data["text"] for event in said] == [action["text"] for action in actions]


def test_two_workers_at_once_do_everything_once(desk: Desk) -> None:
    desk.workflow("One", {"do": "reply", "text": "a"}, {"do": "reply", "text": "b"})
    desk.workflow("Two", {"do": "notify", "users": ["carol"]})
    alerts = [desk.open() for _ in range(12)]

    def work(_number: int) -> None:
        for _ in range(30):
            if not loop.turn(desk.at(0)) and not Run.objects.filter(due_at__isnull=False).exists():
                return

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    for alert in alerts:
        texts = [event.data["text"] for event in desk.alert(alert).events.filter(kind="replied").order_by("id")]
        assert (texts, desk.told(alert)) == (["a", "b"], ["carol"])


def test_a_workflow_deleted_while_a_message_brings_work_for_it_refuses_nothing(desk: Desk) -> None:
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
    assert list(Run.objects.values_list("status", "reason")) == [("stopped", "The workflow is gone.")]


# Everything else


def test_it_is_tried_against_a_past_alert_without_doing_anything(desk: Desk) -> None:
    flow = desk.workflow(
        "Try", {"do": "notify", "groups": ["Service Desk"], "roles": ["manager"]}, {"do": "close"},
        start={"field": "client", "operator": "equals", "value": "Acme"},
        stop={"field": "status", "operator": "equals", "value": "closed"},
        trigger={"on": "unacknowledged", "for": "5m"},
    )  # fmt: skip
    alert = desk.open()
    found = trial.of(flow, alert, desk.at(1))
    assert (found.would_act, found.verdict) == (True, 'Its conditions hold: client "Acme" equals Acme.')
    assert found.actions == ("tell Carol by e-mail", "close it")
    assert found.texts[0].startswith("Try: VPN down")
    desk.act(alert, Acknowledge(actor=desk.actor("alice")), 2)
    found = trial.of(flow, alert, desk.at(3))
    assert (found.would_act, found.verdict) == (False, "Somebody answered in time: Alice.")
    desk.act(alert, Close(actor=desk.actor("alice")), 4)
    # One that is over is looked at as it opened, which is when it would have waited.
    found = trial.of(flow, alert, desk.at(5))
    assert (found.would_act, found.as_opened) == (True, True)
    assert found.verdict == 'Its conditions hold: client "Acme" equals Acme.'
    assert desk.told(alert) == []
    with pytest.raises(Rejected, match="There is no alert 77"):
        trial.of(flow, 77, desk.at(5))


def test_what_is_written_is_read_the_same_and_recorded(desk: Desk) -> None:
    desk.save()
    policy = commands_policy(desk, "Managers", ["manager"])
    spec = {"name": "Pager", "kind": "http", "url": "https://example.org/x"}
    outbound.save_outbound(spec, actor=ACTOR, now=desk.start)
    for one in ready_made.ready_made("Service Desk", "Pager", policy, has_halo=True):
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


def test_old_runs_go_when_their_alert_is_over(desk: Desk) -> None:
    desk.workflow()
    over, live = desk.open(), desk.open()
    desk.go(0)
    desk.act(over, Close(actor=desk.actor("bob")), 1)
    desk.go(1)
    retention.turn(desk.start + timedelta(days=399))
    assert Run.objects.count() == 2
    retention.turn(desk.start + timedelta(days=401))
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
        ({"actions": [{"do": "notify", "users": ["zoe"]}]}, "actions[0].users"),
        ({"actions": [{"do": "hold"}]}, "actions[0].for"),
        ({"actions": [{"do": "reply", "txt": "x", "text": "y"}]}, "actions[0].txt"),
        ({"actions": [{"do": "call", "outbound": "Nowhere"}]}, "actions[0].outbound"),
        ({"actions": [{"do": "wait", "for": "1m"}] * 21}, "actions"),
        ({"order": -1}, "order"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(desk: Desk, spec: dict[str, Any], place: str) -> None:
    with pytest.raises(Rejected) as refused:
        desk.workflow(**spec)
    assert refused.value.field == place
    assert not Workflow.objects.exists()


def test_priorities_that_a_workflow_raises_page_again(desk: Desk) -> None:
    desk.workflow("Rise", {"do": "set_priority", "priority": "critical"}, trigger={"on": "unassigned", "for": "2m"})
    alert = desk.open()
    desk.go(0)
    desk.go(2)
    assert desk.alert(alert).priority == Priority.CRITICAL
    assert [row[:3] for row in desk.pages(alert) if row[1] == "email"] == [("alice", "email", 0), ("alice", "email", 2)]


def test_an_update_while_an_earlier_one_is_being_looked_at_is_looked_at_too(desk: Desk) -> None:
    desk.workflow(trigger={"on": "updated"}, start={"field": "custom^room", "operator": "equals", "value": "cold"})
    alert = desk.open()
    message(desk, alert, 1, room="warm")
    with connections.transaction() as connection:
        # A worker has read how the alert stands, and not yet written what follows.
        (run,) = table.claim_looking(connection, desk.at(1), 10)
        known = reading.facts(connection, [alert])
        with ThreadPoolExecutor(1) as other:
            other.submit(message, desk, alert, 1.1, room="cold").result(20)
        found = loop._next(run, known, desk.at(1))
        assert isinstance(found, End)
        table.write(connection, [(run, found)], desk.at(1))
    desk.go(2)
    assert desk.told(alert) == ["carol"]


def test_an_update_that_is_not_committed_yet_keeps_its_run_from_being_looked_at(desk: Desk) -> None:
    desk.workflow(trigger={"on": "updated"}, start={"field": "custom^room", "operator": "equals", "value": "cold"})
    alert = desk.open()
    message(desk, alert, 1, room="warm")
    with connections.transaction() as connection:
        rows.lock(connection, [alert])
        state = rows.load(connection, [alert])[alert]
        event = NewEvent(alert, EventKind.UPDATED, desk.at(1), AlertActor(ActorKind.INTEGRATION, "Halo"), "Cold.",
                         Via.INBOUND, {"changes": {"custom.room": ["warm", "cold"]}})  # fmt: skip
        connection.execute("UPDATE alerts_alert SET custom = %s WHERE id = %s", (as_json({"room": "cold"}), alert))
        write(connection, [AlertChange(state, state, (event,))], desk.at(1))
        with ThreadPoolExecutor(1) as other:
            other.submit(loop.turn, desk.at(1)).result(20)
    desk.go(2)
    assert desk.told(alert) == ["carol"]
