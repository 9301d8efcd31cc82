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
from tocsin.core.reasons import Person, Reason, ReasonType, as_reason, joined
from tocsin.escalation import reasons
from tocsin.escalation.policy.policy import POLICY_UNREADABLE, RECIPIENTS_ONLY
from tocsin.escalation.policy.policy_cache import load_plans
from tocsin.escalation.run import effects, run_store
from tocsin.escalation.run.run_state import CancelPages, RunDecision, RunStatus, from_row, with_progress
from tocsin.escalation.run.run_status import begin_run, derive_status
from tocsin.notify.enqueue.pages import queue_pages
from tocsin.notify.enqueue.recipients import load_recipients
from tocsin.notify.rules.page_planner import PageRequest

POLICY_DELETED = ReasonType("policy.deleted", "That escalation policy no longer exists.")
_ALL_ACKNOWLEDGED = ReasonType("alert.acknowledged_by_all", "All of these users have already acknowledged the alert.")
_NOBODY_TO_PAGE = ReasonType("alert.nobody_to_page", "No one to page.")


def start_policy(
    connection: Connection, alert: AlertState, policy_id: int, actor: Actor, via: CommandChannel, now: datetime
) -> Reason:
    """Starts another policy on an active alert at its first step, and ends the current run. Returns the result.

    Roles are looked up in the same recipient groups as before. Raises Rejected("not_found"), Rejected("not_possible")
    for a policy version that cannot be read, or Rejected("already_…") when the alert is not active.
    """
    _require_active(alert, now)
    policy = database.row(
        connection, "SELECT name, current_version_id FROM escalation_policy WHERE id = %s", (policy_id,)
    )
    if policy is None:
        raise Rejected("not_found", POLICY_DELETED())
    current_row = run_store.current_rows(connection, [alert.id]).get(alert.id)
    version = policy["current_version_id"]
    plans = load_plans(connection, {version, *([current_row["version_id"]] if current_row else ())})
    if version not in plans:
        raise Rejected("not_possible", POLICY_UNREADABLE(policy=policy["name"]))
    started = reasons.POLICY_STARTED_BY(actor=actor.person, policy=policy["name"])
    new = begin_run(
        alert.id,
        plans[version],
        PagingMode.PAGE,
        alert.priority,
        now,
        recipient_groups=tuple(current_row["recipient_groups"]) if current_row else (),
        policy_reason=started,
    )
    event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, actor, started, via)
    if current_row is None or current_row["status"] == RunStatus.TERMINATED:
        new = derive_status(new, alert, now)
        run_store.insert(connection, [run_store.NewRun(alert.id, new, version)])
        store.insert_events(connection, [event])
    else:
        old = from_row(current_row, plans.get(current_row["version_id"], RECIPIENTS_ONLY))
        new = with_progress(
            new, ack_reminder_sent_at=old.progress.ack_reminder_sent_at, ack_confirmed_at=old.progress.ack_confirmed_at
        )
        new = derive_status(new, alert, now)
        replaced = joined(started, reasons.RUN_REPLACED(), separator=" ")
        ended = replace(old, status=RunStatus.TERMINATED, due_at=None, reason=replaced)
        run_store.update(connection, {current_row["id"]: ended})
        run_store.insert(connection, [run_store.NewRun(alert.id, new, version)])
        store.insert_events(connection, [event])
        effects.apply_effects(
            connection, [(current_row["id"], RunDecision(ended, cancellations=(CancelPages(None, started),)))], now
        )
    paging = PagingConfig(new.mode, version, new.recipient_users, new.recipient_groups, started)
    change_handlers.call_handlers(connection, [AlertChange(alert, alert, (event,), paging=paging)], now)
    database.notify(connection, "runs")
    if new.status is RunStatus.ACTIVE:
        return reasons.POLICY_STARTED(policy=policy["name"])
    return reasons.POLICY_WAITS(policy=policy["name"], why=new.reason)


def add_responders(
    connection: Connection,
    alert: AlertState,
    user_ids: Sequence[int],
    capacities: Mapping[int, Reason],
    actor: Actor,
    via: CommandChannel,
    now: datetime,
) -> Reason:
    """Pages additional users about an active alert at once, by their own notification rules. Returns the result.

    It does not matter whom the alert is assigned to. `capacities` says in which capacity each user is paged. A user who
    acknowledged the alert or is assigned to it is skipped. Raises Rejected when the alert is not active or nobody can
    be paged.
    """
    _require_active(alert, now)
    requested_ids = [user for user in user_ids if user not in alert.acknowledged and user != alert.owner_id]
    if user_ids and not requested_ids:
        raise Rejected("not_possible", _ALL_ACKNOWLEDGED())
    recipients = load_recipients(connection, requested_ids)
    active = [user for user in requested_ids if user in recipients and recipients[user].is_active]
    if not active:
        raise Rejected("not_possible", _NOBODY_TO_PAGE())
    run_row = run_store.current_rows(connection, [alert.id]).get(alert.id)
    person = actor.person
    requests = [
        PageRequest(
            alert.id,
            now,
            reasons.RESPONDER_ADDED(actor=person, capacity=capacities.get(user, reasons.NAMED_BY_STEP())),
            user_id=user,
            run_id=run_row["id"] if run_row else None,
            data={"as": str(capacities.get(user, reasons.NAMED_BY_STEP())), "wake": True},
            priority=alert.priority,
        )
        for user in active
    ]
    queued = queue_pages(connection, requests, now)
    names = {user: recipients[user].name for user in active}
    unreachable_ids = {one.request.user_id for one in queued.unreachable}
    paged = tuple(Person(name, user) for user, name in names.items() if user not in unreachable_ids)
    events = [
        NewEvent(alert.id, EventKind.PAGE_FAILED, now, actor, one.reason, via, {"user_id": one.request.user_id})
        for one in queued.unreachable
    ]
    if paged:
        added = reasons.RESPONDERS_ADDED(actor=person, users=paged)
        events.append(NewEvent(alert.id, EventKind.STEP_FIRED, now, actor, added, via, {"people": sorted(names)}))
    store.insert_events(connection, events)
    if not paged:
        raise Rejected("not_possible", joined(*(as_reason(one.reason) for one in queued.unreachable), separator=" "))
    return reasons.RESPONDERS_PAGED(users=paged)


def _require_active(alert: AlertState, now: datetime) -> None:
    if alert.status not in ACTIVE:
        raise Rejected(f"already_{alert.status}", lifecycle.describe_state(alert, now))
