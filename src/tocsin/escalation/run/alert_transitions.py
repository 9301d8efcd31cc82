"""Applies alert commands to a run: assign, acknowledge, hold, escalate, raised priority. Pure.

Compares the alert before and after a command, so that an undo is handled like any other change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from tocsin.alerts.commands import SYSTEM, AlertState, NewEvent, PagingMode, PagingStart
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind
from tocsin.core.reasons import NO_REASON, Person, Reason, Term, as_reason, joined
from tocsin.escalation import reasons
from tocsin.escalation.policy import AcknowledgeEffect, CompiledPolicy
from tocsin.escalation.run.run_state import (
    CancelPages,
    NoticeReason,
    RunDecision,
    RunState,
    RunStatus,
    SendNotice,
    acknowledgers,
    begin_run,
    continue_run,
    derive_status,
    has_required_acks,
    restart_run,
    with_progress,
)


@dataclass(slots=True)
class _TransitionState:
    """Mutable state while one change is applied to a run."""

    run: RunState
    alert: AlertState
    now: datetime
    cancels: list[CancelPages] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)

    def cancel(
        self, reason: Reason, users: frozenset[int] | None = None, *, queued_since: datetime | None = None
    ) -> None:
        """Cancels unsent pages; affected users are no longer busy, unless older pages remain."""
        self.cancels.append(CancelPages(users, reason, queued_since))
        if queued_since is not None:
            return
        paging_until = (
            {} if users is None else {u: until for u, until in self.run.progress.paging_until.items() if u not in users}
        )
        self.run = with_progress(self.run, paging_until=paging_until)

    def log(self, kind: EventKind, reason: Reason) -> None:
        self.events.append(NewEvent(self.alert.id, kind, self.now, SYSTEM, reason, CommandChannel.POLICY))


def apply_transition(
    run: RunState, before: AlertState, after: AlertState, events: Iterable[NewEvent], now: datetime
) -> RunDecision:
    """Returns the run after a command turned `before` into `after` with `events`.

    Needs no on-call data: a change that must page somebody makes the run due now.
    """
    events_by_kind = {event.kind: event for event in events if event.alert_id == after.id}
    state = _TransitionState(run, after, now)
    reason = next((as_reason(event.reason) for event in events_by_kind.values()), NO_REASON)
    if after.status not in ACTIVE:
        if before.status in ACTIVE:
            state.cancel(reason)
        return RunDecision(derive_status(state.run, after, now), cancellations=tuple(state.cancels))
    if before.status not in ACTIVE:
        _apply_reactivation(state, events_by_kind)
    elif before.is_owned != after.is_owned:
        _apply_owner_change(state, events_by_kind, reason)
        _request_acceptance(state, before, events_by_kind, reason)
    elif (before.owner_id, before.owner_name) != (after.owner_id, after.owner_name):
        # Reassigning cancelled pages; an undo restores them, so nothing is cancelled here.
        if EventKind.UNDONE not in events_by_kind:
            state.cancel(reason)
        _request_acceptance(state, before, events_by_kind, reason)
    elif before.acknowledged != after.acknowledged:
        _apply_acknowledgement_change(state, before, events_by_kind, reason)
    _apply_hold_change(state, before)
    _record_responses(state, events_by_kind)
    return RunDecision(
        derive_status(state.run, after, now), cancellations=tuple(state.cancels), events=tuple(state.events)
    )


def raise_priority(run: RunState, alert: AlertState, routed_run: RunState | None, now: datetime) -> RunDecision:
    """Restarts escalation when the priority rose above the one for which `run` started; otherwise returns it unchanged.

    `routed_run` is the run that the routes would start now, as `begin` makes it; None keeps policy and recipients.
    Policy and recipients are also kept where `routed_run` would page nobody but `run` pages: recipients are never
    dropped silently. The new run replaces the old one. Escalation starts again, once, if nobody is assigned or
    acknowledged; otherwise the responders are notified.
    """
    if alert.status not in ACTIVE or not alert.priority.is_above(run.priority):
        return RunDecision(run)
    is_dropped = routed_run is not None and run.mode is PagingMode.PAGE and routed_run.mode is not PagingMode.PAGE
    new = replace(_fresh_run(run, now) if routed_run is None or is_dropped else routed_run, priority=alert.priority)
    if new.mode is PagingMode.LOG_ONLY and run.mode is PagingMode.LOG_ONLY:
        return RunDecision(replace(run, priority=alert.priority))
    reason = reasons.PRIORITY_ROSE(before=Term(run.priority), after=Term(alert.priority))
    return _replace_run(run, new, alert, reason, NoticeReason.PRIORITY_ROSE, now)


def reroute(run: RunState, alert: AlertState, routed_run: RunState, move_reason: Reason, now: datetime) -> RunDecision:
    """Replaces a run by `routed_run` after its alert moved to where routes name other recipients.

    The same policy for the same people leaves the run alone, and so does a dry run or what only records: who is being
    paged is never silently dropped. If somebody has the alert, they are told, and nobody else is paged.
    """
    is_same = routed_run.plan == run.plan and _recipients(routed_run) == _recipients(run)
    is_dropped = routed_run.mode is PagingMode.LOG_ONLY or (
        run.mode is PagingMode.PAGE and routed_run.mode is not PagingMode.PAGE
    )
    if alert.status not in ACTIVE or is_dropped or (is_same and routed_run.mode is run.mode):
        return RunDecision(run)
    return _replace_run(run, routed_run, alert, reasons.MOVED(why=move_reason), NoticeReason.MOVED, now)


def resume_run(
    run: RunState, alert: AlertState, routed_run: RunState, paging_start: PagingStart, now: datetime
) -> RunDecision:
    """Replaces a log-only or dry-run run by `routed_run` when a message would open its alert and page.

    Responders who are assigned or have acknowledged already know and are not notified; paging starts once that no
    longer applies. A run that already pages is left alone.
    """
    if alert.status not in ACTIVE or run.mode is PagingMode.PAGE or routed_run.mode is not PagingMode.PAGE:
        return RunDecision(run)
    why = as_reason(paging_start.reason)
    reason = reasons.PAGING_STARTED_RUN(why=why)
    old = replace(run, status=RunStatus.TERMINATED, due_at=None, reason=reason)
    new = derive_status(
        with_progress(
            routed_run,
            ack_reminder_sent_at=run.progress.ack_reminder_sent_at,
            ack_confirmed_at=run.progress.ack_confirmed_at,
        ),
        alert,
        now,
    )
    started = reasons.PAGING_STARTS(why=why)
    if alert.is_owned or has_required_acks(routed_run.plan, alert):
        started = reasons.PAGING_NOT_NEEDED(why=why, status=new.reason)
    elif alert.status is AlertStatus.ON_HOLD:
        started = reasons.PAGING_STARTS_AFTER_HOLD(why=why)
    elif paging_start.time_text:
        started = reasons.PAGING_STARTS_AT(why=why, when=as_reason(paging_start.time_text))
    event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, SYSTEM, started, CommandChannel.POLICY)
    return RunDecision(old, events=(event,), successor=new)


def _recipients(run: RunState) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return run.recipient_users, run.recipient_groups


def _replace_run(
    run: RunState, new: RunState, alert: AlertState, cause: Reason, notice_reason: NoticeReason, now: datetime
) -> RunDecision:
    """Replaces a run. Escalation starts again, unless somebody is responsible for the alert: they are notified
    instead."""
    replaced = joined(cause, reasons.RUN_REPLACED(), separator=" ")
    old = replace(run, status=RunStatus.TERMINATED, due_at=None, reason=replaced)
    if alert.is_owned or has_required_acks(run.plan, alert):
        new = with_progress(
            new, ack_reminder_sent_at=run.progress.ack_reminder_sent_at, ack_confirmed_at=run.progress.ack_confirmed_at
        )
        return _notify_responders(old, derive_status(new, alert, now), alert, cause, notice_reason, now)
    reason = joined(cause, reasons.RESTARTED_AT_STEP_1(), separator=" ")
    event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, SYSTEM, reason, CommandChannel.POLICY)
    return RunDecision(
        old, cancellations=(CancelPages(None, reason),), events=(event,), successor=derive_status(new, alert, now)
    )


def _fresh_run(run: RunState, now: datetime) -> RunState:
    return begin_run(
        run.alert_id,
        run.plan,
        run.mode,
        run.priority,
        now,
        recipient_users=run.recipient_users,
        recipient_groups=run.recipient_groups,
        policy_reason=run.progress.policy_reason,
    )


def _notify_responders(
    old: RunState, new: RunState, alert: AlertState, cause: Reason, notice_reason: NoticeReason, now: datetime
) -> RunDecision:
    users = acknowledgers(alert)
    if alert.is_owned:
        users = (alert.owner,)
    user_ids = tuple(user.user_id for user in users if user.user_id is not None)
    is_dry_run = new.mode is PagingMode.DRY_RUN
    if not user_ids:
        reason = reasons.RESPONDER_UNREACHABLE(why=cause, user=Person(alert.owner_name))
    elif is_dry_run:
        reason = reasons.RESPONDERS_WOULD_BE_NOTIFIED(why=cause, users=users)
    else:
        reason = reasons.RESPONDERS_NOTIFIED(why=cause, users=users, count=len(users))
    event = NewEvent(
        alert.id,
        EventKind.NOTICE_SENT,
        now,
        SYSTEM,
        reason,
        CommandChannel.POLICY,
        {"people": list(user_ids)},
    )
    notices = (SendNotice(user_ids, notice_reason, cause),) if user_ids and not is_dry_run else ()
    return RunDecision(old, notices=notices, events=(event,), successor=new)


def _apply_reactivation(state: _TransitionState, events_by_kind: dict[EventKind, NewEvent]) -> None:
    """A closed, cancelled or merged alert is active again: reopened, it restarts; undone, it continues where it was."""
    if EventKind.REOPENED in events_by_kind:
        state.run = with_progress(state.run, paging_until={})
        _restart(state)
    else:
        state.run = continue_run(state.run, state.alert, state.now)


def _apply_owner_change(state: _TransitionState, events_by_kind: dict[EventKind, NewEvent], reason: Reason) -> None:
    if state.alert.is_owned:
        state.cancel(reason)
        state.run = with_progress(state.run, ack_reminder_sent_at={}, ack_confirmed_at={})
    elif EventKind.UNASSIGNED in events_by_kind:
        _restart(state)
    else:
        state.run = continue_run(state.run, state.alert, state.now)


def _request_acceptance(
    state: _TransitionState, before: AlertState, events_by_kind: dict[EventKind, NewEvent], reason: Reason
) -> None:
    """Has the assignee paged if somebody else assigned the alert to them in Tocsin; a source notifies its own agents.

    Otherwise, an acceptance that is still awaited ends with the assignment.
    """
    run, owner_id, event = state.run, state.alert.owner_id, events_by_kind.get(EventKind.ASSIGNED)
    if run.progress.accept_by is not None and before.owner_id is not None and EventKind.ASSIGNED not in events_by_kind:
        # An undo has just restored the pages from before the assignment, maybe to the same user.
        assigned_at = before.last_event.at if EventKind.UNDONE in events_by_kind and before.last_event else None
        state.cancel(reason, frozenset({before.owner_id}), queued_since=assigned_at)
    is_asked = (
        event is not None
        and owner_id is not None
        and event.actor.user_id != owner_id
        and event.via is not CommandChannel.INBOUND
        and run.plan.pages_assignee
        and not state.alert.is_test
    )
    must_accept = is_asked and run.mode is PagingMode.PAGE
    state.run = with_progress(
        state.run,
        assignee_page_at=state.now if is_asked else None,
        accept_by=state.now + run.plan.acknowledge_timeout if must_accept else None,
    )


def _restart(state: _TransitionState) -> None:
    state.run = restart_run(state.run, state.now)
    if state.run.mode is not PagingMode.LOG_ONLY:
        state.log(EventKind.ESCALATION_STARTED, reasons.RESTARTED())


def _apply_acknowledgement_change(
    state: _TransitionState, before: AlertState, events_by_kind: dict[EventKind, NewEvent], reason: Reason
) -> None:
    previous_acks, current_acks = before.acknowledged, state.alert.acknowledged
    changed = frozenset(
        user for user in {*previous_acks, *current_acks} if previous_acks.get(user) != current_acks.get(user)
    )
    progress = state.run.progress
    state.run = with_progress(
        state.run,
        ack_reminder_sent_at={user: at for user, at in progress.ack_reminder_sent_at.items() if user not in changed},
        ack_confirmed_at={user: at for user, at in progress.ack_confirmed_at.items() if user not in changed},
    )
    added = frozenset(user for user in changed if user in current_acks)
    was_satisfied, is_satisfied = (
        len(previous_acks) >= state.run.plan.required_acks,
        has_required_acks(state.run.plan, state.alert),
    )
    if added:
        stops_paging = is_satisfied and state.run.plan.effect is not AcknowledgeEffect.CONTINUE
        state.cancel(reason, None if stops_paging else added | frozenset(progress.cancel_on_ack_users))
        state.run = with_progress(state.run, cancel_on_ack_users=())
        is_news = not previous_acks or (is_satisfied and not was_satisfied)
        if is_news and state.run.status in (RunStatus.ACTIVE, RunStatus.PAUSED):
            if is_satisfied:
                state.log(EventKind.ESCALATION_STOPPED, _effect(state.run.plan))
            else:
                missing = reasons.MISSING_ACKS(acknowledged=len(current_acks), required=state.run.plan.required_acks)
                state.log(EventKind.ESCALATION_CONTINUED, missing)
    elif not current_acks and EventKind.ACKNOWLEDGEMENT_EXPIRED in events_by_kind:
        _restart(state)
    elif not current_acks or (was_satisfied and not is_satisfied):
        state.run = continue_run(state.run, state.alert, state.now)
        if derive_status(state.run, state.alert, state.now).status is RunStatus.ACTIVE:
            state.log(EventKind.ESCALATION_CONTINUED, reasons.CONTINUED())


def _effect(plan: CompiledPolicy) -> Reason:
    match plan.effect:
        case AcknowledgeEffect.STOP:
            effect = reasons.STOPS()
        case AcknowledgeEffect.PAUSE:
            effect = reasons.PAUSES(pause=plan.pause)
        case AcknowledgeEffect.CONTINUE:
            effect = reasons.CONTINUES_UNTIL_ASSIGNED()
    return joined(effect, reasons.ACK_REMINDER_FOLLOWS(timeout=plan.acknowledge_timeout), separator=" ")


def _apply_hold_change(state: _TransitionState, before: AlertState) -> None:
    was_on_hold, is_on_hold = before.status is AlertStatus.ON_HOLD, state.alert.status is AlertStatus.ON_HOLD
    if is_on_hold and not was_on_hold:
        # Reminders are repeated after the hold: nobody can be expected to answer meanwhile.
        state.run = with_progress(
            state.run, paused_since=state.run.progress.paused_since or state.now, ack_reminder_sent_at={}
        )
    elif was_on_hold and not is_on_hold:
        state.run = continue_run(state.run, state.alert, state.now)


def _record_responses(state: _TransitionState, events_by_kind: dict[EventKind, NewEvent]) -> None:
    """Escalate makes the run due now; any command by a user who got an acknowledgement reminder answers it."""
    escalated = events_by_kind.get(EventKind.ESCALATED)
    if escalated is not None:
        state.run = with_progress(
            state.run, escalate_requested_at=state.now, escalate_requested_by=escalated.actor.user_id
        )
    _record_acceptance(state, events_by_kind)
    for event in events_by_kind.values():
        user = event.actor.user_id
        if user is not None and user in state.run.progress.ack_reminder_sent_at:
            progress = state.run.progress
            state.run = with_progress(
                state.run,
                ack_confirmed_at={**progress.ack_confirmed_at, user: state.now},
                ack_reminder_sent_at={
                    other: at for other, at in progress.ack_reminder_sent_at.items() if other != user
                },
            )


def _record_acceptance(state: _TransitionState, events_by_kind: dict[EventKind, NewEvent]) -> None:
    """Any command by the assignee shows that they know: they are neither paged nor waited for any longer."""
    owner_id, progress = state.alert.owner_id, state.run.progress
    if owner_id is None or (progress.accept_by is None and progress.assignee_page_at is None):
        return
    answer = next((event for event in events_by_kind.values() if event.actor.user_id == owner_id), None)
    if answer is not None:
        state.cancel(as_reason(answer.reason), frozenset({owner_id}))
        state.run = with_progress(state.run, assignee_page_at=None, accept_by=None)
