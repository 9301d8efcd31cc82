"""Manual interventions in an alert's escalation: start another policy, or page additional responders.

Everything runs in the caller's transaction, which holds the alert's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tocsin.alerts import change_handlers, lifecycle, store
from tocsin.alerts.change_handlers import AlertChange, PagingConfig, PagingMode
from tocsin.alerts.commands import Actor, AlertState, NewEvent
from tocsin.alerts.states import ACTIVE, CommandChannel, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.escalation.policy.policy_cache import load_plans
from tocsin.escalation.run import effects, run_store
from tocsin.escalation.run.run_state import CancelPages, RunDecision, RunStatus, from_row, with_progress
from tocsin.escalation.run.run_status import begin_run, settle
from tocsin.notify.enqueue import queue
from tocsin.notify.rules.page_planner import PageRequest


def start_policy(
    connection: Connection, alert: AlertState, policy_id: int, actor: Actor, via: CommandChannel, now: datetime
) -> str:
    """Starts another policy on an active alert at its first step, and ends the current run. Returns a sentence.

    Roles are looked up in the same recipient groups as before. Raises Rejected("not_found"), Rejected("not_possible")
    for a policy version that cannot be read, or Rejected("already_…") when the alert is not active.
    """
    _require_live(alert, now)
    policy = database.row(
        connection, "SELECT name, current_version_id FROM escalation_policy WHERE id = %s", (policy_id,)
    )
    if policy is None:
        raise Rejected("not_found", "That escalation policy is gone.")
    held = run_store.current(connection, [alert.id]).get(alert.id)
    version = policy["current_version_id"]
    known = load_plans(connection, {version, *([held["version_id"]] if held else ())})
    if version not in known:
        raise Rejected("not_possible", f"Policy {policy['name']} cannot be read; save it again.")
    said = f"{actor.name} started policy {policy['name']}."
    new = begin_run(
        alert.id,
        known[version],
        PagingMode.PAGE,
        alert.priority,
        now,
        recipient_groups=tuple(held["recipient_groups"]) if held else (),
        why=said,
    )
    event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, actor, said, via)
    if held is None or held["status"] == RunStatus.ENDED:
        new = settle(new, alert, now)
        run_store.insert(connection, [run_store.NewRun(alert.id, new, version)])
        store.insert_events(connection, [event])
    else:
        old = from_row(held, known.get(held["version_id"], RECIPIENTS_ONLY))
        new = with_progress(new, asked=old.progress.asked, heard=old.progress.heard)
        new = settle(new, alert, now)
        ended = replace(old, status=RunStatus.ENDED, due_at=None, reason=f"{said} A newer run replaced this one.")
        run_store.update(connection, {held["id"]: ended})
        run_store.insert(connection, [run_store.NewRun(alert.id, new, version)])
        store.insert_events(connection, [event])
        effects.apply_effects(connection, [(held["id"], RunDecision(ended, cancels=(CancelPages(None, said),)))], now)
    by = PagingConfig(new.mode, version, new.recipient_users, new.recipient_groups, said)
    change_handlers.react(connection, [AlertChange(alert, alert, (event,), paging=by)], now)
    database.notify(connection, "runs")
    rest = "" if new.status is RunStatus.ACTIVE else f" It waits: {new.reason}"
    return f"Policy {policy['name']} started.{rest}"


def add_responders(
    connection: Connection,
    alert: AlertState,
    people: Sequence[int],
    labels: Mapping[int, str],
    actor: Actor,
    via: CommandChannel,
    now: datetime,
) -> str:
    """Pages additional users about an active alert at once, by their own notification rules. Returns a sentence.

    It does not matter whom the alert is assigned to. `labels` says in which capacity each user is paged. A user who
    acknowledged the alert or is assigned to it is skipped. Raises Rejected when the alert is not active or nobody can
    be paged.
    """
    _require_live(alert, now)
    wanted = [user for user in people if user not in alert.acknowledged and user != alert.owner_id]
    if people and not wanted:
        raise Rejected("not_possible", "Everybody named has acknowledged it already.")
    known = queue.people_of(connection, wanted)
    active = [user for user in wanted if user in known and known[user].is_active]
    if not active:
        raise Rejected("not_possible", "There is nobody to page.")
    held = run_store.current(connection, [alert.id]).get(alert.id)
    starts = [
        PageRequest(
            alert.id,
            now,
            f"{actor.name} asked for you: {labels.get(user, 'named')}.",
            user_id=user,
            run_id=held["id"] if held else None,
            data={"as": labels.get(user, "named"), "wake": True},
            priority=alert.priority,
        )
        for user in active
    ]
    queued = queue.queue(connection, starts, now)
    names = {user: known[user].name for user in active}
    missed = {one.start.user_id for one in queued.unreachable}
    reached = [name for user, name in names.items() if user not in missed]
    events = [
        NewEvent(alert.id, EventKind.PAGE_FAILED, now, actor, one.reason, via, {"user_id": one.start.user_id})
        for one in queued.unreachable
    ]
    if reached:
        said = f"{actor.name} had {' and '.join(reached)} paged too."
        events.append(NewEvent(alert.id, EventKind.STEP_FIRED, now, actor, said, via, {"people": sorted(names)}))
    store.insert_events(connection, events)
    if not reached:
        raise Rejected("not_possible", " ".join(one.reason for one in queued.unreachable))
    return f"Paged {' and '.join(reached)}."


def _require_live(alert: AlertState, now: datetime) -> None:
    if alert.status not in ACTIVE:
        raise Rejected(f"already_{alert.status}", lifecycle.describe_state(alert, now))
