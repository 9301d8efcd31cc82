"""Forecasts what an alert's run does next, and when, in one sentence.

Pure: it calls the engine with a future time and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tocsin.alerts import lifecycle
from tocsin.alerts.commands import AlertState
from tocsin.core.reasons import NO_REASON, Reason, as_reason
from tocsin.escalation import reasons
from tocsin.escalation.run.engine import advance
from tocsin.escalation.run.run_state import ActivePause, NoticeReason, PageUser, RunDecision, RunState
from tocsin.escalation.run.target_resolution import TargetContext

#: Limits of a forecast: firings of a last step that repeats, and once-a-minute rechecks of a step that waits.
_MAX_LAST_STEP_FIRINGS = 3
_MAX_CONDITION_CHECKS = 24 * 60


@dataclass(frozen=True, slots=True)
class NextAction:
    """The next event of a run and its time, such as "pages Bob Brown (secondary, Service Desk)".

    `waits` means that possibly nothing happens at that time: a step waits until somebody is on call and only rechecks.
    """

    at: datetime
    summary: Reason
    is_recheck: bool = False


def forecast_next_action(
    run: RunState, alert: AlertState, context: TargetContext, now: datetime, pause: ActivePause | None = None
) -> NextAction | None:
    """The next action if nobody responds, or None when no timer is set. `context` is the on-call data for that
    moment."""
    if run.due_at is None:
        return None
    at = max(run.due_at, now)
    is_paused = pause is not None and pause.until > at
    if is_paused and pause is not None:
        at = pause.until
    decision = advance(run, alert, context, at)
    if (
        run.progress.is_waiting
        and decision.run.progress.is_waiting
        and not (decision.ack_reminders or decision.notices or is_paused)
    ):
        waits = reasons.WILL_WAIT(step=run.progress.step + 1, steps=len(run.plan.steps))
        return NextAction(at, waits, is_recheck=True)
    summary = _summary(decision, context)
    return NextAction(at, reasons.AFTER_PAUSE(action=summary) if is_paused else summary)


@dataclass(frozen=True, slots=True)
class RunForecast:
    """Everything a run does if nobody responds, with the time of each decision. `cut` says why the forecast was
    truncated."""

    decisions: tuple[tuple[datetime, RunDecision], ...]
    truncation_reason: Reason = NO_REASON


def forecast_run(
    run: RunState,
    alert: AlertState,
    context_at: Callable[[RunState, datetime], TargetContext],
    *,
    max_decisions: int = 1000,
) -> RunForecast:
    """Plays a run to its end on the assumption that nobody responds, for the simulator and previews.

    `context_at` returns the on-call data for a moment. The forecast has at most `max_decisions` decisions. A last step
    that repeats, and a step that waits until somebody is on call, are cut off after enough repetitions to show the
    pattern.
    """
    decisions: list[tuple[datetime, RunDecision]] = []
    last_step_firings = condition_checks = 0
    while run.due_at is not None and len(decisions) < max_decisions:
        at = run.due_at
        decision = advance(run, alert, context_at(run, at), at)
        if decision.events or decision.commands or decision.pages:
            decisions.append((at, decision))
        for command in decision.commands:
            alert = lifecycle.apply(alert, command, at).state
        run = decision.successor or decision.run
        last_step_firings += run.progress.is_repeating_last_step
        condition_checks += run.progress.is_waiting
        if last_step_firings > _MAX_LAST_STEP_FIRINGS:
            return RunForecast(tuple(decisions), reasons.REPEATS_LIKE_THIS())
        if condition_checks > _MAX_CONDITION_CHECKS:
            return RunForecast(tuple(decisions), reasons.WAITS_FOR_HOURS())
    truncation_reason = reasons.TRUNCATED(count=max_decisions) if run.due_at is not None else NO_REASON
    return RunForecast(tuple(decisions), truncation_reason)


def _summary(decision: RunDecision, context: TargetContext) -> Reason:
    actions = [reasons.WILL_ASK(user=context.person(reminder.user_id)) for reminder in decision.ack_reminders]
    if decision.pages or decision.contact_pages:
        contacts = tuple(contact.label for contact in decision.contact_pages)
        actions.append(reasons.WILL_PAGE(targets=(*_paged_users(decision.pages), *contacts)))
    if decision.dry_run_pages:
        actions.append(reasons.WOULD_PAGE(targets=_paged_users(decision.dry_run_pages)))
    for notice in decision.notices:
        users = tuple(context.person(user_id) for user_id in notice.user_ids)
        is_unpaged = notice.notice_reason is NoticeReason.NOBODY_TO_PAGE
        actions.append((reasons.WILL_NOTIFY_UNPAGED if is_unpaged else reasons.WILL_NOTIFY_UNANSWERED)(users=users))
    if actions:
        return actions[0] if len(actions) == 1 else reasons.WILL(actions=tuple(actions))
    # Every other change has a timeline entry of its own, so its sentence serves as the summary.
    return as_reason(decision.events[-1].reason) if decision.events else decision.run.reason


def _paged_users(pages: tuple[PageUser, ...]) -> tuple[Reason, ...]:
    return tuple(reasons.PAGED_USER(user=page.target.person, capacity=page.target.capacity) for page in pages)
