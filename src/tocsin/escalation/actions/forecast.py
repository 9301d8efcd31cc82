"""Forecasts what an alert's run does next, and when, in one sentence.

Pure: it calls the engine with a future time and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tocsin.alerts import lifecycle
from tocsin.alerts.commands import AlertState
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
    summary: str
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
        step = f"step {run.progress.step + 1} of {len(run.plan.steps)}"
        return NextAction(at, f"{step} has nobody, and waits until somebody is on call", is_recheck=True)
    summary = _summary(decision, context)
    return NextAction(at, f"paging is paused until then; then {summary}" if is_paused else summary)


@dataclass(frozen=True, slots=True)
class RunForecast:
    """Everything a run does if nobody responds, with the time of each decision. `cut` says why the forecast was
    truncated."""

    decisions: tuple[tuple[datetime, RunDecision], ...]
    truncation_reason: str = ""


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
            return RunForecast(tuple(decisions), "The last step goes on like this until somebody answers.")
        if condition_checks > _MAX_CONDITION_CHECKS:
            return RunForecast(tuple(decisions), "For hours nobody is on call: the step goes on waiting.")
    truncation_reason = (
        f"Only the first {max_decisions} turns of the policy are shown." if run.due_at is not None else ""
    )
    return RunForecast(tuple(decisions), truncation_reason)


def _summary(decision: RunDecision, context: TargetContext) -> str:
    parts = [f'asks {context.display_name(reminder.user_id)} "Still on it?"' for reminder in decision.ack_reminders]
    if decision.pages or decision.contact_pages:
        contacts = [contact.label for contact in decision.contact_pages]
        parts.append(f"pages {', '.join([*_page_labels(decision.pages), *contacts])}")
    if decision.dry_run_pages:
        parts.append(f"would page {', '.join(_page_labels(decision.dry_run_pages))}")
    for notice in decision.notices:
        names = ", ".join(context.display_name(user_id) for user_id in notice.user_ids)
        topic = (
            "that nobody can be paged"
            if notice.notice_reason is NoticeReason.NOBODY_TO_PAGE
            else "that nobody answered"
        )
        parts.append(f"tells {names} {topic}")
    if parts:
        return " and ".join(parts)
    # Every other change has a timeline entry of its own, so its sentence serves as the summary.
    reasons = [str(event.reason) for event in decision.events]
    return reasons[-1] if reasons else decision.run.reason


def _page_labels(pages: tuple[PageUser, ...]) -> list[str]:
    return [f"{page.target.name} ({page.target.label})" for page in pages]
