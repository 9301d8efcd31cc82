"""A workflow run advances through its actions once, waits only for the future, ends and gives reasons."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_state

from tocsin.alerts.commands import Acknowledged, AlertState
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.reasons import NO_REASON, as_reason
from tocsin.escalation.reasons import ALERT_CLOSED
from tocsin.workflows import reasons
from tocsin.workflows.definition import (
    ON_TERMINAL_ALERTS,
    TIMED,
    ActionKind,
    SlaMoment,
    Trigger,
    TriggerKind,
    WorkflowAction,
    WorkflowDefinition,
    WorkflowRunStatus,
)
from tocsin.workflows.run.engine import (
    MAX_DEPTH,
    FinishRun,
    RunAction,
    StartActions,
    WaitUntil,
    WorkflowFacts,
    WorkflowProgress,
    decide,
    moment_of,
)

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)

CONDITIONS = st.sampled_from(
    [
        None,
        {"field": "status", "operator": "equals", "value": "open"},
        {"field": "owner", "operator": "exists"},
        {"field": "minutes_open", "operator": "greater than", "value": 30},
        {"field": "nothing", "operator": "exists"},
        False,
    ]
)


@st.composite
def plans(draw: st.DrawFn) -> WorkflowDefinition:
    trigger = Trigger(
        draw(st.sampled_from(TriggerKind)), draw(st.integers(60, 7200)), draw(st.sampled_from(SlaMoment)), within=7300
    )
    kinds = draw(
        st.lists(st.sampled_from([ActionKind.WAIT, ActionKind.CLOSE, ActionKind.NOTIFY]), min_size=1, max_size=6)
    )
    actions = tuple(WorkflowAction(kind, span=draw(st.integers(1, 4000))) for kind in kinds)
    return WorkflowDefinition(trigger, draw(CONDITIONS), draw(CONDITIONS), actions)


@st.composite
def alerts(draw: st.DrawFn) -> WorkflowFacts:
    status = draw(st.sampled_from(AlertStatus))
    owner = draw(st.booleans()) or status is AlertStatus.ASSIGNED
    acknowledged = {1: Acknowledged(NOW, "Alice")} if draw(st.booleans()) else {}
    until = NOW + timedelta(seconds=draw(st.integers(-600, 7200))) if status is AlertStatus.ON_HOLD else None
    opened = NOW - timedelta(seconds=draw(st.integers(0, 7200)))
    state = AlertState(
        7, status, Priority.HIGH, opened, 2 if owner else None, "Bob" if owner else "", acknowledged, hold_until=until
    )
    texts = st.sampled_from(["", "soon", "2026-11-24T11:00:00", "2026-11-24T10:00:00+01:00", "1899-12-30T00:00:00"])
    custom = {"fix_by": draw(texts), "respond_by": draw(texts)}
    return WorkflowFacts(state, {"status": str(status), "owner": state.owner_name}, custom=custom, zone="Europe/Zurich")


@given(plans(), alerts(), st.data())
def test_every_run_ends_or_waits_and_repeats_no_action(
    plan: WorkflowDefinition, alert: WorkflowFacts, data: st.DataObject
) -> None:
    run, now, done, waits = WorkflowProgress(as_reason("Something happened.")), NOW, [], 0
    recurring = plan.trigger.on is TriggerKind.EVERY
    for _ in range(200):
        finish = decide(run, plan, alert, now)
        match finish:
            case FinishRun():
                assert finish.reason
                break
            case WaitUntil():
                assert finish.until > now
                assert finish.step >= run.step
                now, run, waits = finish.until, replace(run, step=finish.step), waits + 1
                if not run.is_started and waits > 3:
                    # Only what recurs and what is on hold looks again and again, and only while the alert lives.
                    assert recurring or alert.state.status is AlertStatus.ON_HOLD
                    break
            case StartActions():
                assert not run.is_started
                assert (finish.again_at is not None) == recurring
                run = replace(run, is_started=True)
            case RunAction():
                assert run.is_started
                assert finish.step == run.step
                done.append(finish.step)
                run = replace(run, step=run.step + 1)
    else:
        raise AssertionError("it neither ends nor waits")
    assert done == sorted(set(done))
    assert len(done) <= len(plan.actions)


_WAITS = WorkflowDefinition(
    Trigger(TriggerKind.STATUS_CHANGED),
    actions=tuple(WorkflowAction(kind, span=600) for kind in (ActionKind.NOTIFY, ActionKind.WAIT, ActionKind.NOTIFY)),
)


@pytest.mark.parametrize("step", [1, 2])
def test_waiting_run_ends_with_its_alert(step: int) -> None:
    closed = AlertState(7, AlertStatus.CLOSED, Priority.HIGH, NOW - timedelta(hours=1), closed_at=NOW)
    run = WorkflowProgress(NO_REASON, is_started=True, step=step, created_at=NOW - timedelta(minutes=5))
    decision = decide(run, _WAITS, WorkflowFacts(closed, {}), NOW)
    assert decision == FinishRun(WorkflowRunStatus.STOPPED, reasons.WAIT_ENDED(why=ALERT_CLOSED()))
    by_the_end = replace(run, created_at=NOW)
    assert isinstance(decide(by_the_end, _WAITS, WorkflowFacts(closed, {}), NOW), WaitUntil if step == 1 else RunAction)


def test_workflow_that_closes_goes_on_without_waiting() -> None:
    plan = WorkflowDefinition(Trigger(TriggerKind.OPENED), actions=(WorkflowAction(ActionKind.CLOSE), *_WAITS.actions))
    closed = AlertState(7, AlertStatus.CLOSED, Priority.HIGH, NOW - timedelta(hours=1), closed_at=NOW)
    run = WorkflowProgress(NO_REASON, is_started=True, step=1, created_at=NOW - timedelta(minutes=5))
    assert isinstance(decide(run, plan, WorkflowFacts(closed, {}), NOW), RunAction)
    assert isinstance(decide(replace(run, step=2), plan, WorkflowFacts(closed, {}), NOW), FinishRun)


@given(plans(), alerts(), st.integers(MAX_DEPTH + 1, 100))
def test_nothing_that_workflows_cause_in_too_long_a_row_acts(
    plan: WorkflowDefinition, alert: WorkflowFacts, depth: int
) -> None:
    assert isinstance(decide(WorkflowProgress("", depth), plan, alert, NOW), FinishRun)
    assert isinstance(decide(WorkflowProgress("", depth, is_started=True), plan, alert, NOW), FinishRun)


@given(plans(), alerts(), st.integers(10, 100))
def test_triggers_are_rate_limited_per_minute(plan: WorkflowDefinition, alert: WorkflowFacts, lately: int) -> None:
    assert not isinstance(decide(WorkflowProgress("", runs_last_minute=lately), plan, alert, NOW), StartActions)


@given(plans(), alerts(), st.integers(0, 9), st.integers(200, 900))
def test_actions_per_alert_are_limited_unless_recurring(
    plan: WorkflowDefinition, alert: WorkflowFacts, lately: int, in_all: int
) -> None:
    finish = decide(WorkflowProgress("", runs_last_minute=lately, run_count=in_all), plan, alert, NOW)
    if plan.trigger.on not in (TriggerKind.EVERY, TriggerKind.MANUAL):
        assert not isinstance(finish, StartActions)


@given(plans(), alerts())
def test_delayed_check_starts_only_while_alert_is_active(plan: WorkflowDefinition, alert: WorkflowFacts) -> None:
    finish = decide(WorkflowProgress(""), plan, alert, NOW)
    if plan.trigger.on in TIMED and alert.state.status in (AlertStatus.CLOSED, AlertStatus.CANCELLED):
        assert isinstance(finish, FinishRun)
    assert not (TIMED & ON_TERMINAL_ALERTS)


@given(plans(), alerts())
def test_test_dry_run_and_disabled_alerts_trigger_nothing(plan: WorkflowDefinition, alert: WorkflowFacts) -> None:
    tested = replace(alert, state=replace_state(alert.state, is_test=True))
    for run in (WorkflowProgress(""), WorkflowProgress("", is_started=True)):
        assert isinstance(decide(run, plan, tested, NOW), FinishRun)
        assert isinstance(decide(run, plan, replace(alert, dry_run=True), NOW), FinishRun)
        assert isinstance(decide(run, plan, alert, NOW, is_enabled=False), FinishRun)


def test_ticket_dates_use_its_zone_and_invalid_ones_are_empty() -> None:
    received: Any = [
        moment_of(text, "Europe/Zurich")
        for text in (
            "2026-11-24T11:00:00", "2026-11-24T11:00:00Z", "2026-07-24 11:00", " 2026-11-24 ", "1899-12-30T00:00:00",
            "tomorrow", "", "0001-01-01T00:00:00", "9999-12-31T23:59:59-12:00",
        )
    ]  # fmt: skip
    assert [one and f"{one:%m-%d %H:%M}" for one in received] == [
        "11-24 10:00", "11-24 11:00", "07-24 09:00", "11-23 23:00", None, None, None, None, None,
    ]  # fmt: skip
