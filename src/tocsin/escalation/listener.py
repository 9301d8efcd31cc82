"""Reacts to changed alerts by starting, updating and replacing runs, in bulk and in the transaction of the change.

New alerts start runs; every other change is applied to the alert's existing run. The listener never looks up on-call
users: a change that must page somebody makes the run due now, and a hint wakes the periodic task for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from tocsin.alerts import store
from tocsin.alerts.commands import AlertChange, PagingConfig, PagingMode
from tocsin.alerts.states import AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import as_reason
from tocsin.escalation.policy import AcknowledgeEffect, CompiledPolicy
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import (
    RunDecision,
    RunState,
    has_required_acks,
    raise_priority,
    reroute,
    resume_run,
    with_progress,
)
from tocsin.escalation.run.run_state import apply_transition as apply_run_transition
from tocsin.escalation.run.run_store import NewRun, begin, load_plans
from tocsin.notify.pages import ReversedAction, release_pages, restore_pages

#: Events that affect a run although the alert's state stays the same.
_RUN_EVENTS = frozenset({EventKind.ESCALATED, EventKind.REPLIED})


def handle_changes(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """The change handler: starts, stops and replaces runs.

    Changes made by the periodic task itself also arrive here; their runs are left alone.
    """
    created = [change for change in changes if change.before is None]
    transitions = [change for change in changes if _affects_run(change)]
    if created:
        _start_runs(connection, created, now)
    if transitions:
        _apply_changes(connection, transitions, now)
    # Also when the periodic task ended the hold: pages that waited may be scheduled for a later end.
    resumed = [change.alert_id for change in changes if _has_resumed(change)]
    if resumed:
        release_pages(connection, resumed, now)


def _affects_run(change: AlertChange) -> bool:
    if change.before is None or (change.command is not None and change.command.via is CommandChannel.POLICY):
        return False
    has_run_event = any(event.kind in _RUN_EVENTS for event in change.events)
    return (
        change.before != change.after
        or has_run_event
        or bool(change.reassignment_reason)
        or change.paging_start is not None
    )


def _start_runs(connection: Connection, created: Sequence[AlertChange], now: datetime) -> None:
    # Every created alert has one: see `AlertCreation`.
    configs = [change.paging for change in created if change.paging is not None]
    plans = load_plans(connection, {paging.version_id for paging in configs})
    # Most alerts of a batch start with the same settings, so each distinct run is built once.
    runs_by_config: dict[tuple[PagingConfig, Priority], RunState] = {}
    runs = []
    for change, paging in zip(created, configs, strict=True):
        run = runs_by_config.get((paging, change.after.priority))
        if run is None:
            run = runs_by_config[paging, change.after.priority] = begin(change.after, paging, plans, now)
        runs.append(NewRun(change.alert_id, run, paging.version_id))
    run_store.insert(connection, runs)
    if any(run.due_at is not None and run.due_at <= now for run in runs_by_config.values()):
        database.notify(connection, "runs")


def _apply_changes(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """Applies each alert's changes to its run, then writes all runs and their effects at once."""
    rows = run_store.current_rows(connection, [change.alert_id for change in changes])
    version_ids = {row["version_id"] for row in rows.values()}
    version_ids |= {change.paging.version_id for change in changes if change.paging is not None}
    plans = load_plans(connection, version_ids)
    runs = {alert_id: run_store.readable_run(row, plans) for alert_id, row in rows.items()}
    for alert_id, users in restore_pages(connection, _reversed_actions(changes, runs, now)).items():
        # They have pages pending again.
        runs[alert_id] = with_progress(runs[alert_id], paging_until={**runs[alert_id].progress.paging_until, **users})
    written: dict[int, RunState] = {}
    successors: dict[int, tuple[RunState, int | None]] = {}
    versions: dict[int, int | None] = {alert_id: row["version_id"] for alert_id, row in rows.items()}
    decisions: list[tuple[int | None, RunDecision]] = []
    for change in changes:
        run = runs.get(change.alert_id)
        if run is None:
            continue
        row = rows[change.alert_id]
        for decision in _decide(change, run, plans, now):
            decisions.append((row["id"], decision))
            run = decision.successor or decision.run
            if change.alert_id not in successors:
                written[row["id"]] = decision.run
            if decision.successor is not None:
                paging = change.paging
                if paging is not None and paging.mode is decision.successor.mode:
                    versions[change.alert_id] = paging.version_id
                successors[change.alert_id] = (run, versions[change.alert_id])
            elif change.alert_id in successors:
                successors[change.alert_id] = (run, successors[change.alert_id][1])
        runs[change.alert_id] = run
    run_store.update(connection, written)
    run_store.insert(connection, [NewRun(alert_id, *new) for alert_id, new in successors.items()])
    were_dry_runs = [alert for alert in successors if rows[alert]["mode"] == PagingMode.DRY_RUN]
    store.end_dry_run(connection, [alert for alert in were_dry_runs if successors[alert][0].mode is PagingMode.PAGE])
    store.insert_events(connection, [event for _row, decision in decisions for event in decision.events])
    run_store.apply_effects(connection, decisions, now)
    if any(run.due_at is not None and run.due_at <= now for run in runs.values()):
        database.notify(connection, "runs")


def _reversed_actions(
    changes: Sequence[AlertChange], runs: Mapping[int, RunState], now: datetime
) -> dict[int, ReversedAction]:
    """What was reversed, by alert id: an undone command, or a withdrawn acknowledgement."""
    actions: dict[int, ReversedAction] = {}
    for change in changes:
        before, run = change.before, runs.get(change.alert_id)
        if before is None or run is None:
            continue
        for event in change.events:
            acknowledgement = before.acknowledged.get(event.actor.user_id or 0)
            if event.kind is EventKind.UNDONE and before.last_event is not None:
                actions[change.alert_id] = ReversedAction(before.last_event.at, event.reason)
            elif event.kind is EventKind.UNACKNOWLEDGED and acknowledgement is not None:
                if run.plan.effect is not AcknowledgeEffect.CONTINUE and has_required_acks(run.plan, change.after):
                    continue  # the remaining acknowledgements still stop everybody's pages
                # The acknowledgement may be old: pages due in the meantime are not sent late.
                actions[change.alert_id] = ReversedAction(acknowledgement.at, event.reason, due_after=now)
    return actions


def _has_resumed(change: AlertChange) -> bool:
    return (
        change.before is not None
        and change.before.status is AlertStatus.ON_HOLD
        and change.after.status in (AlertStatus.OPEN, AlertStatus.ASSIGNED)
    )


def _decide(
    change: AlertChange, run: RunState, plans: dict[int | None, CompiledPolicy], now: datetime
) -> list[RunDecision]:
    assert change.before is not None
    decisions = [apply_run_transition(run, change.before, change.after, change.events, now)]
    run = decisions[0].run
    has_risen = change.after.priority.is_above(change.before.priority) and not change.is_echoed_priority
    if has_risen and change.after.priority.is_above(run.priority):
        routed_run = begin(change.after, change.paging, plans, now) if change.paging is not None else None
        decisions.append(raise_priority(run, change.after, routed_run, now))
    elif change.reassignment_reason and change.paging is not None:
        routed_run = begin(change.after, change.paging, plans, now)
        decisions.append(reroute(run, change.after, routed_run, as_reason(change.reassignment_reason), now))
    elif change.paging_start is not None and change.paging is not None:
        routed_run = begin(change.after, change.paging, plans, change.paging_start.at or now)
        decisions.append(resume_run(run, change.after, routed_run, change.paging_start, now))
    return decisions
