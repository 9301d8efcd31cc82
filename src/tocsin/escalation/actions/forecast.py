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
_MAX_KEPT_STEP_FIRINGS = 3
_MAX_CONDITION_CHECKS = 24 * 60


@dataclass(frozen=True, slots=True)
class NextAction:
    """The next event of a run and its time, such as "pages Bob Brown (secondary, Service Desk)".

    `waits` means that possibly nothing happens at that time: a step waits until somebody is on call and only rechecks.
    """

    at: datetime
    summary: str
    waits: bool = False


def next_step(
    run: RunState, alert: AlertState, roster: TargetContext, now: datetime, pause: ActivePause | None = None
) -> NextAction | None:
    """The next action if nobody responds, or None when no timer is set. `roster` is the on-call data for that
    moment."""
    if run.due_at is None:
        return None
    at = max(run.due_at, now)
    paused = pause is not None and pause.until > at
    if paused and pause is not None:
        at = pause.until
    decision = advance(run, alert, roster, at)
    if run.progress.waiting and decision.run.progress.waiting and not (decision.asks or decision.tells or paused):
        step = f"step {run.progress.step + 1} of {len(run.plan.steps)}"
        return NextAction(at, f"{step} has nobody, and waits until somebody is on call", waits=True)
    summary = _summary(decision, roster)
    return NextAction(at, f"paging is paused until then; then {summary}" if paused else summary)


@dataclass(frozen=True, slots=True)
class RunForecast:
    """Everything a run does if nobody responds, with the time of each decision. `cut` says why the forecast was
    truncated."""

    turns: tuple[tuple[datetime, RunDecision], ...]
    cut: str = ""


def play_forward(
    run: RunState, alert: AlertState, roster_at: Callable[[RunState, datetime], TargetContext], *, most: int = 1000
) -> RunForecast:
    """Plays a run to its end on the assumption that nobody responds, for the simulator and previews.

    `roster_at` returns the on-call data for a moment. The forecast has at most `most` decisions. A last step that
    repeats, and a step that waits until somebody is on call, are cut off after enough repetitions to show the pattern.
    """
    turns: list[tuple[datetime, RunDecision]] = []
    kept = looked = 0
    while run.due_at is not None and len(turns) < most:
        at = run.due_at
        decision = advance(run, alert, roster_at(run, at), at)
        if decision.events or decision.commands or decision.starts:
            turns.append((at, decision))
        for command in decision.commands:
            alert = lifecycle.apply(alert, command, at).state
        run = decision.successor or decision.run
        kept += run.progress.keeping
        looked += run.progress.waiting
        if kept > _MAX_KEPT_STEP_FIRINGS:
            return RunForecast(tuple(turns), "The last step goes on like this until somebody answers.")
        if looked > _MAX_CONDITION_CHECKS:
            return RunForecast(tuple(turns), "For hours nobody is on call: the step goes on waiting.")
    cut = f"Only the first {most} turns of the policy are shown." if run.due_at is not None else ""
    return RunForecast(tuple(turns), cut)


def _summary(decision: RunDecision, roster: TargetContext) -> str:
    parts = [f'asks {roster.name(ask.user_id)} "Still on it?"' for ask in decision.asks]
    if decision.starts or decision.contacts:
        contacts = [contact.label for contact in decision.contacts]
        parts.append(f"pages {', '.join([*_people(decision.starts), *contacts])}")
    if decision.would:
        parts.append(f"would page {', '.join(_people(decision.would))}")
    for tell in decision.tells:
        names = ", ".join(roster.name(user_id) for user_id in tell.user_ids)
        what = "that nobody can be paged" if tell.why is NoticeReason.NOBODY_TO_PAGE else "that nobody answered"
        parts.append(f"tells {names} {what}")
    if parts:
        return " and ".join(parts)
    # Every other change has a timeline entry of its own, so its sentence serves as the summary.
    reasons = [event.reason for event in decision.events]
    return reasons[-1] if reasons else decision.run.reason


def _people(starts: tuple[PageUser, ...]) -> list[str]:
    return [f"{start.pick.name} ({start.pick.label})" for start in starts]
