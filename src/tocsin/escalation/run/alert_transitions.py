"""Applies alert commands to a run: assign, acknowledge, hold, escalate, raised priority. Pure.

Compares the alert before and after a command, so that an undo is handled like any other change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from tocsin.alerts.change_handlers import PagingMode, PagingStart
from tocsin.alerts.commands import SYSTEM, AlertState, NewEvent
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind
from tocsin.core.validation.durations import describe
from tocsin.escalation.policy.policy import AcknowledgeEffect, CompiledPolicy
from tocsin.escalation.run.run_state import (
    CancelPages,
    NoticeReason,
    RunDecision,
    RunState,
    RunStatus,
    SendNotice,
    with_progress,
)
from tocsin.escalation.run.run_status import begin_run, continue_run, has_enough, restart_run, settle


@dataclass(slots=True)
class _TransitionState:
    """Mutable state while one change is applied to a run."""

    run: RunState
    alert: AlertState
    now: datetime
    cancels: list[CancelPages] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)

    def cancel(self, reason: str, users: frozenset[int] | None = None) -> None:
        """Cancels unsent pages; affected users are no longer busy."""
        self.cancels.append(CancelPages(users, reason))
        kept = {} if users is None else {u: until for u, until in self.run.progress.busy.items() if u not in users}
        self.run = with_progress(self.run, busy=kept)

    def say(self, kind: EventKind, reason: str) -> None:
        self.events.append(NewEvent(self.alert.id, kind, self.now, SYSTEM, reason, CommandChannel.POLICY))


def follow(
    run: RunState, before: AlertState, after: AlertState, events: Iterable[NewEvent], now: datetime
) -> RunDecision:
    """Returns the run after a command turned `before` into `after` with `events`.

    Needs no on-call data: a change that must page somebody makes the run due now.
    """
    happened = {event.kind: event for event in events if event.alert_id == after.id}
    work = _TransitionState(run, after, now)
    reason = next((event.reason for event in happened.values()), "")
    if after.status not in ACTIVE:
        if before.status in ACTIVE:
            work.cancel(reason)
        return RunDecision(settle(work.run, after, now), cancels=tuple(work.cancels))
    if before.status not in ACTIVE:
        _returned(work, happened)
    elif before.is_owned != after.is_owned:
        _owner_changed(work, happened, reason)
    elif (before.owner_id, before.owner_name) != (after.owner_id, after.owner_name):
        # Reassigning cancelled pages; an undo restores them, so nothing is cancelled here.
        if EventKind.UNDONE not in happened:
            work.cancel(reason)
    elif before.acknowledged != after.acknowledged:
        _acknowledgements_changed(work, before, happened, reason)
    _hold_changed(work, before)
    _heard(work, happened)
    return RunDecision(settle(work.run, after, now), cancels=tuple(work.cancels), events=tuple(work.events))


def raise_priority(run: RunState, alert: AlertState, fresh: RunState | None, now: datetime) -> RunDecision:
    """Restarts escalation when the priority rose above the one for which `run` started; otherwise returns it unchanged.

    `fresh` is the run that the routes would start now, as `begin` makes it; None keeps policy and recipients. Policy
    and recipients are also kept where `fresh` would page nobody but `run` pages: recipients are never dropped silently.
    The new run replaces the old one. Escalation starts again, once, if nobody is assigned or acknowledged; otherwise
    the responders are notified.
    """
    if alert.status not in ACTIVE or not alert.priority.is_above(run.priority):
        return RunDecision(run)
    is_dropped = fresh is not None and run.mode is PagingMode.PAGE and fresh.mode is not PagingMode.PAGE
    new = replace(_anew(run, now) if fresh is None or is_dropped else fresh, priority=alert.priority)
    if new.mode is PagingMode.RECORD and run.mode is PagingMode.RECORD:
        return RunDecision(replace(run, priority=alert.priority))
    rose = f"The priority rose from {run.priority} to {alert.priority}"
    return _replaced(run, new, alert, rose, NoticeReason.PRIORITY_ROSE, now)


def reroute(run: RunState, alert: AlertState, fresh: RunState, moved: str, now: datetime) -> RunDecision:
    """Replaces a run by `fresh` after its alert moved to where routes name other recipients.

    The same policy for the same people leaves the run alone, and so does a dry run or what only records: who is being
    paged is never silently dropped. If somebody has the alert, they are told, and nobody else is paged.
    """
    is_same = fresh.plan == run.plan and _recipients(fresh) == _recipients(run)
    is_dropped = fresh.mode is PagingMode.RECORD or (run.mode is PagingMode.PAGE and fresh.mode is not PagingMode.PAGE)
    if alert.status not in ACTIVE or is_dropped or (is_same and fresh.mode is run.mode):
        return RunDecision(run)
    return _replaced(run, fresh, alert, f"{moved}, and the routes name others for it", NoticeReason.MOVED, now)


def resume_run(run: RunState, alert: AlertState, fresh: RunState, waking: PagingStart, now: datetime) -> RunDecision:
    """Replaces a log-only or dry-run run by `fresh` when a message would open its alert and page.

    Responders who are assigned or have acknowledged already know and are not notified; paging starts once that no
    longer applies. A run that already pages is left alone.
    """
    if alert.status not in ACTIVE or run.mode is PagingMode.PAGE or fresh.mode is not PagingMode.PAGE:
        return RunDecision(run)
    reason = f"{waking.why}; a newer run replaced this one."
    old = replace(run, status=RunStatus.ENDED, due_at=None, reason=reason)
    new = settle(with_progress(fresh, asked=run.progress.asked, heard=run.progress.heard), alert, now)
    said = f"Escalation starts at step 1{f' {waking.when}' if waking.when else ''}."
    if alert.is_owned or has_enough(fresh.plan, alert):
        said = f"Nobody is paged now: {new.reason}"
    elif alert.status is AlertStatus.ON_HOLD:
        said = "Escalation starts at step 1 at the end of the hold."
    event = NewEvent(
        alert.id, EventKind.ESCALATION_STARTED, now, SYSTEM, f"{waking.why}. {said}", CommandChannel.POLICY
    )
    return RunDecision(old, events=(event,), successor=new)


def _recipients(run: RunState) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return run.recipient_users, run.recipient_groups


def _replaced(
    run: RunState, new: RunState, alert: AlertState, why: str, told: NoticeReason, now: datetime
) -> RunDecision:
    """Replaces a run. Escalation starts again, unless somebody is responsible for the alert: they are notified
    instead."""
    old = replace(run, status=RunStatus.ENDED, due_at=None, reason=f"{why}; a newer run replaced this one.")
    if alert.is_owned or has_enough(run.plan, alert):
        new = with_progress(new, asked=run.progress.asked, heard=run.progress.heard)
        return _tell_who_has_it(old, settle(new, alert, now), alert, why, told, now)
    reason = f"{why}: escalation starts again at step 1."
    event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, SYSTEM, reason, CommandChannel.POLICY)
    return RunDecision(old, cancels=(CancelPages(None, reason),), events=(event,), successor=settle(new, alert, now))


def _anew(run: RunState, now: datetime) -> RunState:
    return begin_run(
        run.alert_id,
        run.plan,
        run.mode,
        run.priority,
        now,
        recipient_users=run.recipient_users,
        recipient_groups=run.recipient_groups,
        why=run.progress.why,
    )


def _tell_who_has_it(
    old: RunState, new: RunState, alert: AlertState, why: str, told_why: NoticeReason, now: datetime
) -> RunDecision:
    names = alert.owner_name or " and ".join(entry.name for entry in alert.acknowledged.values())
    people = tuple(alert.acknowledged)
    if alert.is_owned:
        people = (alert.owner_id,) if alert.owner_id is not None else ()
    is_dry_run = new.mode is PagingMode.DRY_RUN
    does = "would be" if is_dry_run else "is" if len(people) == 1 else "are"
    told = f"{names} {does} told" if people else f"{names} has it and cannot be told"
    event = NewEvent(
        alert.id, EventKind.TOLD, now, SYSTEM, f"{why}. {told}.", CommandChannel.POLICY, {"people": list(people)}
    )
    tells = (SendNotice(people, told_why, f"{why}."),) if people and not is_dry_run else ()
    return RunDecision(old, tells=tells, events=(event,), successor=new)


def _returned(work: _TransitionState, happened: dict[EventKind, NewEvent]) -> None:
    """A closed, cancelled or merged alert is active again: reopened, it restarts; undone, it continues where it was."""
    if EventKind.REOPENED in happened:
        work.run = with_progress(work.run, busy={})
        _start_again(work)
    else:
        work.run = continue_run(work.run, work.alert, work.now)


def _owner_changed(work: _TransitionState, happened: dict[EventKind, NewEvent], reason: str) -> None:
    if work.alert.is_owned:
        work.cancel(reason)
        work.run = with_progress(work.run, asked={}, heard={})
    elif EventKind.UNASSIGNED in happened:
        _start_again(work)
    else:
        work.run = continue_run(work.run, work.alert, work.now)


def _start_again(work: _TransitionState) -> None:
    work.run = restart_run(work.run, work.now)
    if work.run.mode is not PagingMode.RECORD:
        work.say(EventKind.ESCALATION_STARTED, "Escalation starts again at step 1; nobody counts as having acted.")


def _acknowledgements_changed(
    work: _TransitionState, before: AlertState, happened: dict[EventKind, NewEvent], reason: str
) -> None:
    then, now = before.acknowledged, work.alert.acknowledged
    changed = frozenset(user for user in {*then, *now} if then.get(user) != now.get(user))
    progress = work.run.progress
    work.run = with_progress(
        work.run,
        asked={user: at for user, at in progress.asked.items() if user not in changed},
        heard={user: at for user, at in progress.heard.items() if user not in changed},
    )
    added = frozenset(user for user in changed if user in now)
    had, has = len(then) >= work.run.plan.people, has_enough(work.run.plan, work.alert)
    if added:
        stops = has and work.run.plan.effect is not AcknowledgeEffect.CONTINUE
        work.cancel(reason, None if stops else added | frozenset(progress.soft))
        work.run = with_progress(work.run, soft=())
        is_news = not then or (has and not had)
        if is_news and work.run.status in (RunStatus.ACTIVE, RunStatus.PAUSED):
            said = _effect(work.run.plan) if has else _too_few(work.run.plan, len(now))
            work.say(EventKind.ESCALATION_STOPPED if has else EventKind.ESCALATION_GOES_ON, said)
    elif not now and EventKind.ACKNOWLEDGEMENT_EXPIRED in happened:
        _start_again(work)
    elif not now or (had and not has):
        work.run = continue_run(work.run, work.alert, work.now)
        if settle(work.run, work.alert, work.now).status is RunStatus.ACTIVE:
            work.say(EventKind.ESCALATION_GOES_ON, "Escalation goes on: the step then due fires.")


def _effect(plan: CompiledPolicy) -> str:
    match plan.effect:
        case AcknowledgeEffect.STOP:
            does = "Escalation stops"
        case AcknowledgeEffect.PAUSE:
            does = f"Escalation pauses for {describe(plan.pause)}"
        case AcknowledgeEffect.CONTINUE:
            does = "Escalation goes on until somebody takes it"
    return f'{does}; "Still on it?" is asked in {describe(plan.acknowledge_timeout)} if it is neither taken nor closed.'


def _too_few(plan: CompiledPolicy, have: int) -> str:
    return f"{have} of {plan.people} people have acknowledged it; escalation goes on until {plan.people} have."


def _hold_changed(work: _TransitionState, before: AlertState) -> None:
    was, held = before.status is AlertStatus.ON_HOLD, work.alert.status is AlertStatus.ON_HOLD
    if held and not was:
        # Reminders are repeated after the hold: nobody can be expected to answer meanwhile.
        work.run = with_progress(work.run, still_since=work.run.progress.still_since or work.now, asked={})
    elif was and not held:
        work.run = continue_run(work.run, work.alert, work.now)


def _heard(work: _TransitionState, happened: dict[EventKind, NewEvent]) -> None:
    """Escalate makes the run due now; any command by a user who got an acknowledgement reminder answers it."""
    escalated = happened.get(EventKind.ESCALATED)
    if escalated is not None:
        work.run = with_progress(work.run, wake_at=work.now, wake_by=escalated.actor.user_id)
    for event in happened.values():
        user = event.actor.user_id
        if user is not None and user in work.run.progress.asked:
            progress = work.run.progress
            work.run = with_progress(
                work.run,
                heard={**progress.heard, user: work.now},
                asked={other: at for other, at in progress.asked.items() if other != user},
            )
