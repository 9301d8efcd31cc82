"""Reacts to changed alerts by starting, updating and replacing runs, in bulk and in the transaction of the change.

New alerts start runs; every other change is applied to the alert's existing run. The listener never looks up on-call
users: a change that must page somebody makes the run due now, and a hint wakes the periodic task for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tocsin.alerts import store
from tocsin.alerts.change_handlers import AlertChange, PagingConfig, PagingMode
from tocsin.alerts.states import AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY, AcknowledgeEffect, CompiledPolicy
from tocsin.escalation.policy.policy_cache import load_plans
from tocsin.escalation.run import effects, run_store
from tocsin.escalation.run.alert_transitions import follow as follow_change
from tocsin.escalation.run.alert_transitions import raise_priority, reroute, resume_run
from tocsin.escalation.run.run_state import RunDecision, RunState, from_row, with_progress
from tocsin.escalation.run.run_status import begin_run, has_enough
from tocsin.escalation.run.run_store import NewRun
from tocsin.notify.enqueue import queue
from tocsin.notify.enqueue.queue import ReversedAction

#: Events that affect a run although the alert's state stays the same.
_TOLD = frozenset({EventKind.ESCALATED, EventKind.REPLIED})

_NO_PAGING = PagingConfig(PagingMode.RECORD, reason="Nothing says whom it pages.")


def follow(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """The change handler: starts, stops and replaces runs.

    Changes made by the periodic task itself also arrive here; their runs are left alone.
    """
    openings = [change for change in changes if change.before is None]
    others = [change for change in changes if _concerns_a_run(change)]
    if openings:
        _start(connection, openings, now)
    if others:
        _follow(connection, others, now)
    # Also when the periodic task ended the hold: pages that waited may be scheduled for a later end.
    resumed = [change.alert_id for change in changes if _has_resumed(change)]
    if resumed:
        queue.release(connection, resumed, now)


def _concerns_a_run(change: AlertChange) -> bool:
    if change.before is None or (change.command is not None and change.command.via is CommandChannel.POLICY):
        return False
    is_told = any(event.kind in _TOLD for event in change.events)
    return change.before != change.after or is_told or bool(change.moved) or change.waking is not None


def _start(connection: Connection, openings: Sequence[AlertChange], now: datetime) -> None:
    ways = [change.paging or _NO_PAGING for change in openings]
    known = load_plans(connection, {way.version_id for way in ways})
    # Most alerts of a batch start with the same settings, so each distinct run is built once.
    alike: dict[tuple[PagingConfig, Priority], RunState] = {}
    runs = []
    for change, way in zip(openings, ways, strict=True):
        run = alike.get((way, change.after.priority))
        if run is None:
            run = alike[way, change.after.priority] = _begin(change, way, known, now)
        runs.append(NewRun(change.alert_id, run, way.version_id))
    run_store.insert(connection, runs)
    if any(run.due_at is not None and run.due_at <= now for run in alike.values()):
        database.notify(connection, "runs")


def _begin(
    change: AlertChange, way: PagingConfig, known: Mapping[int | None, CompiledPolicy], now: datetime
) -> RunState:
    return begin_run(
        change.alert_id,
        # A version that cannot be read: the run is due at once, and the periodic task reports the error.
        known.get(way.version_id, RECIPIENTS_ONLY),
        way.mode,
        change.after.priority,
        now,
        recipient_users=way.recipient_users,
        recipient_groups=way.recipient_groups,
        why=way.reason,
    )


def _follow(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """Applies each alert's changes to its run, then writes all runs and their effects at once."""
    held = run_store.current(connection, [change.alert_id for change in changes])
    wanted = {row["version_id"] for row in held.values()}
    wanted |= {change.paging.version_id for change in changes if change.paging is not None}
    known = load_plans(connection, wanted)
    runs = {alert_id: _readable(row, known) for alert_id, row in held.items()}
    for alert_id, users in queue.restore(connection, _undone(changes, runs, now)).items():
        # They have pages pending again.
        runs[alert_id] = with_progress(runs[alert_id], busy={**runs[alert_id].progress.busy, **users})
    written: dict[int, RunState] = {}
    successors: dict[int, tuple[RunState, int | None]] = {}
    versions: dict[int, int | None] = {alert_id: row["version_id"] for alert_id, row in held.items()}
    decisions: list[tuple[int | None, RunDecision]] = []
    for change in changes:
        run = runs.get(change.alert_id)
        if run is None:
            continue
        row = held[change.alert_id]
        for decision in _decide(change, run, known, now):
            decisions.append((row["id"], decision))
            run = decision.successor or decision.run
            if change.alert_id not in successors:
                written[row["id"]] = decision.run
            if decision.successor is not None:
                by = change.paging
                if by is not None and by.mode is decision.successor.mode:
                    versions[change.alert_id] = by.version_id
                successors[change.alert_id] = (run, versions[change.alert_id])
            elif change.alert_id in successors:
                successors[change.alert_id] = (run, successors[change.alert_id][1])
        runs[change.alert_id] = run
    run_store.update(connection, written)
    run_store.insert(connection, [NewRun(alert_id, *new) for alert_id, new in successors.items()])
    store.end_dry_run(connection, [alert for alert, new in successors.items() if _ends_dry_run(held[alert], new)])
    store.insert_events(connection, [event for _row, decision in decisions for event in decision.events])
    effects.apply_effects(connection, decisions, now)
    if any(run.due_at is not None and run.due_at <= now for run in runs.values()):
        database.notify(connection, "runs")


def _ends_dry_run(row: Mapping[str, Any], successor: tuple[RunState, int | None]) -> bool:
    return row["mode"] == PagingMode.DRY_RUN and successor[0].mode is PagingMode.PAGE


def _undone(changes: Sequence[AlertChange], runs: Mapping[int, RunState], now: datetime) -> dict[int, ReversedAction]:
    """What was reversed, by alert id: an undone command, or a withdrawn acknowledgement."""
    found: dict[int, ReversedAction] = {}
    for change in changes:
        before, run = change.before, runs.get(change.alert_id)
        if before is None or run is None:
            continue
        for event in change.events:
            own = before.acknowledged.get(event.actor.user_id or 0)
            if event.kind is EventKind.UNDONE and before.last is not None:
                found[change.alert_id] = ReversedAction(before.last.at, event.reason)
            elif event.kind is EventKind.UNACKNOWLEDGED and own is not None and not _still_stops(run, change):
                # The acknowledgement may be old: pages due in the meantime are not sent late.
                found[change.alert_id] = ReversedAction(own.at, event.reason, due_after=now)
    return found


def _still_stops(run: RunState, change: AlertChange) -> bool:
    """Whether the remaining acknowledgements still stop everybody's pages."""
    return run.plan.effect is not AcknowledgeEffect.CONTINUE and has_enough(run.plan, change.after)


def _has_resumed(change: AlertChange) -> bool:
    return (
        change.before is not None
        and change.before.status is AlertStatus.ON_HOLD
        and change.after.status in (AlertStatus.OPEN, AlertStatus.ASSIGNED)
    )


def _readable(row: dict[str, Any], known: Mapping[int | None, CompiledPolicy]) -> RunState:
    """The run of a row. An unreadable run is treated as new: nothing may block people from working on an alert."""
    plan = known.get(row["version_id"], RECIPIENTS_ONLY)
    try:
        return from_row(row, plan)
    except (msgspec.ValidationError, ValueError, TypeError):
        return from_row({**row, "progress": {}}, plan)


def _decide(
    change: AlertChange, run: RunState, known: dict[int | None, CompiledPolicy], now: datetime
) -> list[RunDecision]:
    assert change.before is not None
    decisions = [follow_change(run, change.before, change.after, change.events, now)]
    run = decisions[0].run
    risen = change.after.priority.is_above(change.before.priority) and not change.is_own_priority
    if risen and change.after.priority.is_above(run.priority):
        way = change.paging
        fresh = _begin(change, way, known, now) if way is not None else None
        decisions.append(raise_priority(run, change.after, fresh, now))
    elif change.moved and change.paging is not None:
        decisions.append(reroute(run, change.after, _begin(change, change.paging, known, now), change.moved, now))
    elif change.waking is not None and change.paging is not None:
        fresh = _begin(change, change.paging, known, change.waking.at or now)
        decisions.append(resume_run(run, change.after, fresh, change.waking, now))
    return decisions
