"""Manual interventions in an alert's escalation: start another policy, or page additional responders.

Everything runs in the caller's transaction, which holds the alert's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tocsin.access import boundary
from tocsin.alerts import commands, lifecycle, store
from tocsin.alerts.commands import Actor, AlertChange, AlertState, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.service import create_manual_alert
from tocsin.alerts.states import ACTIVE, CommandChannel, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Reason, ReasonType, as_reason, joined
from tocsin.escalation import policy as policies
from tocsin.escalation import reasons
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import POLICY_UNREADABLE, RECIPIENTS_ONLY
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import (
    CancelPages,
    RunDecision,
    RunStatus,
    begin_run,
    derive_status,
    from_row,
    with_progress,
)
from tocsin.escalation.run.run_store import load_plans
from tocsin.notify.pages import load_recipients, queue_pages
from tocsin.notify.rules.page_planner import PageRequest

# ---------- manual alerts
# Creates alerts by hand, from the API or the web: whom they page, and their first timeline entry.


#: The source name of a manually created alert.
SOURCE = "manual"


@dataclass(frozen=True, slots=True)
class ManualAlert:
    """A problem as a user describes it, and whom to notify."""

    subject: str
    #: None: the policy's default priority, or high without a policy.
    priority: Priority | None = None
    policy: Policy | None = None
    user_ids: tuple[int, ...] = ()
    group_ids: tuple[int, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def open_alert(new: ManualAlert, *, actor: Actor, username: str, via: CommandChannel, now: datetime) -> int:
    """Creates the alert, starts paging as requested, and returns the alert's id.

    Without a policy and recipient users the alert pages nobody.
    """
    paging = _paging(new)
    alert = NewAlert(
        id=0,
        priority=new.priority or _default_priority(new.policy),
        subject=new.subject,
        opened_at=now,
        source=SOURCE,
        source_name=username,
        columns=new.columns,
        tags=new.tags,
        custom=new.custom,
        group_ids=_owners(new),
    )
    user = actor.person
    if new.note:
        reason = reasons.CREATED_WITH_NOTE(actor=user, note=new.note.rstrip("."))
    else:
        reason = reasons.CREATED_BY(actor=user)
    if paging.mode is PagingMode.LOG_ONLY:
        reason = joined(reason, as_reason(paging.reason), separator=" ")
    data = {"note": new.note} if new.note else {}
    event = NewEvent(0, EventKind.OPENED, now, actor, reason, via, data)
    return create_manual_alert(alert, paging, event, now=now)


def _owners(new: ManualAlert) -> tuple[int, ...]:
    """Returns the groups to which the alert belongs, besides those that it notifies."""
    if new.policy is not None and new.policy.group_id is not None:
        return (new.policy.group_id,)
    limit = boundary.current()
    # Whoever opens an alert must see it.
    return tuple(sorted(limit.groups)) if limit is not None and not new.group_ids else ()


def _paging(new: ManualAlert) -> PagingConfig:
    if new.policy is None and not new.user_ids:
        reason = reasons.MANUAL_WITHOUT_RECIPIENTS()
        return PagingConfig(PagingMode.LOG_ONLY, None, new.user_ids, new.group_ids, reason)
    reason = reasons.MANUAL_BY_POLICY(policy=new.policy.name) if new.policy else reasons.MANUAL_BY_RECIPIENTS()
    version = new.policy.current_version_id if new.policy else None
    return PagingConfig(PagingMode.PAGE, version, new.user_ids, new.group_ids, reason)


def _default_priority(policy: Policy | None) -> Priority:
    if policy is None or policy.current_version is None:
        return Priority.HIGH
    return policies.load(policy.current_version.definition).default_priority


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
        run_store.apply_effects(
            connection, [(current_row["id"], RunDecision(ended, cancellations=(CancelPages(None, started),)))], now
        )
    paging = PagingConfig(new.mode, version, new.recipient_users, new.recipient_groups, started)
    commands.call_handlers(connection, [AlertChange(alert, alert, (event,), paging=paging)], now)
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
