"""Derives a run's status, its timer and their reason from its progress and the alert. Pure.

This is the only place that derives them, so undoing a command restores exactly the timer that was due.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import AlertState
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.validation.durations import describe
from tocsin.escalation.policy.policy import AcknowledgeEffect, CompiledPolicy
from tocsin.escalation.run.run_state import ActivePause, RunProgress, RunState, RunStatus, with_progress

#: An acknowledgement reminder without an answer within this time counts as unanswered.
ACK_REMINDER_TIMEOUT = timedelta(minutes=5)


class TimerKind(Enum):
    """The purpose of a timer."""

    STEP = auto()
    END = auto()
    ASK = auto()
    EXPIRE = auto()


@dataclass(frozen=True, slots=True)
class Timer:
    """The next action of a run, and when."""

    at: datetime
    kind: TimerKind
    user_id: int = 0


def begin_run(
    alert_id: int,
    plan: CompiledPolicy,
    mode: PagingMode,
    priority: Priority,
    now: datetime,
    *,
    recipient_users: tuple[int, ...] = (),
    recipient_groups: tuple[int, ...] = (),
    why: str = "",
) -> RunState:
    """A new run of an alert created at `now`: step 1 is due after its delay. `why` is the reason for the policy, or for
    paging nobody."""
    due = None if mode is PagingMode.RECORD else now + plan.steps[0].after
    return RunState(
        alert_id=alert_id,
        plan=plan,
        mode=mode,
        status=RunStatus.STOPPED if mode is PagingMode.RECORD else RunStatus.ACTIVE,
        started_at=now,
        due_at=due,
        reason=_recorded(why) if mode is PagingMode.RECORD else _position(plan, 0),
        recipient_users=recipient_users,
        recipient_groups=recipient_groups,
        priority=priority,
        progress=RunProgress(step_due_at=due, why=why),
    )


def restart_run(run: RunState, at: datetime) -> RunState:
    """The run at step 1 again, as if the alert had been created at `at`, with all responses forgotten.

    Users with pending pages stay busy. A log-only run is returned unchanged.
    """
    if run.mode is PagingMode.RECORD:
        return run
    busy = {user: until for user, until in run.progress.busy.items() if until > at}
    fresh = RunProgress(
        step_due_at=at + run.plan.steps[0].after,
        busy=busy,
        soft=tuple(user for user in run.progress.soft if user in busy),
        why=run.progress.why,
    )
    return replace(run, started_at=at, status=RunStatus.ACTIVE, progress=fresh)


def settle(run: RunState, alert: AlertState, now: datetime, pause: ActivePause | None = None) -> RunState:
    """`run` with status, timer and reason for the alert's current state. This is the only place that derives them."""
    wake_at = run.progress.wake_at
    status, due, reason = _standing(run, alert, now, pause)
    if wake_at is not None and status is not RunStatus.ENDED:
        due = wake_at if due is None else min(due, wake_at)
    return replace(run, status=status, due_at=due, reason=reason)


def _standing(
    run: RunState, alert: AlertState, now: datetime, pause: ActivePause | None
) -> tuple[RunStatus, datetime | None, str]:
    match alert.status:
        case AlertStatus.CLOSED | AlertStatus.CANCELLED:
            return RunStatus.ENDED, None, f"The alert is {alert.status}."
        case AlertStatus.MERGED:
            return RunStatus.ENDED, None, f"The alert is merged into {alert.merged_into}."
        case AlertStatus.ON_HOLD:
            return RunStatus.PAUSED, alert.hold_until, "On hold; at its end the step then due fires."
        case AlertStatus.OPEN | AlertStatus.ASSIGNED:
            pass
    if run.mode is PagingMode.RECORD:
        return RunStatus.STOPPED, None, _recorded(run.progress.why)
    if alert.is_owned:
        return RunStatus.STOPPED, None, f"{alert.owner_name} has it."
    timer = next_timer(run, alert)
    due = timer.at if timer else None
    if pause is not None and due is not None:
        return RunStatus.PAUSED, max(due, pause.until), f"All paging is paused: {pause.reason}"
    names = " and ".join(entry.name for entry in alert.acknowledged.values())
    if has_enough(run.plan, alert) and run.plan.effect is AcknowledgeEffect.STOP:
        return RunStatus.STOPPED, due, f'{names} acknowledged it; "Still on it?" is asked next.'
    paused_until = _pause_end(run, alert)
    if paused_until is not None and now < paused_until:
        return RunStatus.PAUSED, due, f"{names} acknowledged it: escalation pauses for {describe(run.plan.pause)}."
    if run.progress.step_due_at is None:
        return RunStatus.FINISHED, due, "Nobody answered, and the policy is at its end."
    return RunStatus.ACTIVE, due, _position(run.plan, run.progress.step)


def _recorded(why: str) -> str:
    return f"Only recorded, nobody is paged. {why}".strip()


def _position(plan: CompiledPolicy, step: int) -> str:
    if step >= len(plan.steps):
        return "All steps of this pass have fired; what comes after them follows."
    return f"Step {step + 1} of {len(plan.steps)} is next."


def _pause_end(run: RunState, alert: AlertState) -> datetime | None:
    """Until when acknowledgements pause the steps; None when they do not."""
    if run.plan.effect is not AcknowledgeEffect.PAUSE or not has_enough(run.plan, alert):
        return None
    return max(entry.at for entry in alert.acknowledged.values()) + run.plan.pause


def has_enough(plan: CompiledPolicy, alert: AlertState) -> bool:
    """Whether enough users have acknowledged for the policy's acknowledgement effect."""
    return len(alert.acknowledged) >= plan.people


def groups_of(run: RunState) -> tuple[tuple[int, ...], ...]:
    """The recipient groups in the order in which the steps are executed: one by one, or all as one."""
    if run.plan.groups_sequential is None or len(run.recipient_groups) < 2:
        return (run.recipient_groups,)
    return tuple((group,) for group in run.recipient_groups)


def is_past_all(run: RunState) -> bool:
    """Whether every step of every pass has fired for every group, so that the end follows."""
    progress = run.progress
    return (
        progress.step >= len(run.plan.steps)
        and progress.group + 1 >= len(groups_of(run))
        and progress.passes >= run.plan.repeat_times
    )


def next_timer(run: RunState, alert: AlertState) -> Timer | None:
    """The earliest timer of an unassigned alert; at equal times, acknowledgement timers come first."""
    progress, plan = run.progress, run.plan
    timers = []
    for user_id, entry in alert.acknowledged.items():
        heard = max(entry.at, progress.heard.get(user_id, entry.at))
        asked = progress.asked.get(user_id)
        if asked is not None and asked >= heard:
            timers.append(Timer(asked + ACK_REMINDER_TIMEOUT, TimerKind.EXPIRE, user_id))
        else:
            timers.append(Timer(heard + plan.acknowledge_timeout, TimerKind.ASK, user_id))
    stopped = has_enough(plan, alert) and plan.effect is AcknowledgeEffect.STOP
    if progress.step_due_at is not None and not stopped:
        at = max(progress.step_due_at, _pause_end(run, alert) or progress.step_due_at)
        timers.append(Timer(at, TimerKind.END if is_past_all(run) else TimerKind.STEP))
    return min(timers, key=lambda timer: timer.at, default=None)


def continue_run(run: RunState, alert: AlertState, now: datetime) -> RunState:
    """Continues a run after a hold or pause.

    An exhausted run starts again if the alert is unassigned and has too few acknowledgements, since it must page
    somebody. Pages that waited are sent now, so their users stay busy until now.
    """
    since = run.progress.still_since
    if run.progress.finished_at is not None and not alert.is_owned and not has_enough(run.plan, alert):
        return restart_run(run, now)
    busy = {
        user: max(until, now) if since is not None and until > since else until
        for user, until in run.progress.busy.items()
    }
    return with_progress(run, busy=busy, still_since=None, pause_until=None)
