"""Simulates an escalation to its end if nobody responds: its pages, their reasons, and its timeline.

Uses the engine and page planner of the live path. Sends and stores nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import AlertState, NewEvent
from tocsin.alerts.states import EventKind
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Person, Reason, as_reason
from tocsin.escalation.actions import forecast
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.reasons import GROUP_CONTACT
from tocsin.escalation.run import target_loader
from tocsin.escalation.run.run_state import RunDecision, RunState
from tocsin.escalation.run.target_resolution import TargetContext, TargetFacts
from tocsin.notify import pause
from tocsin.notify.enqueue.pages import plan_pages
from tocsin.notify.enqueue.recipients import load_recipients
from tocsin.notify.rules.page_planner import PageRequest
from tocsin.simulate import reasons

#: The maximum number of decisions shown; a longer simulation is truncated with a note.
MAX_STEPS_SHOWN = 200

#: The longest time for which a waiting step's on-call data is reused.
_MAX_CACHE_AGE = timedelta(days=1)

#: A placeholder for the id of a new alert.
NEW_ALERT = 0


@dataclass(frozen=True, slots=True)
class SimulatedPage:
    """One page that would be sent. `problem` says why it could not be."""

    at: datetime
    after: timedelta
    #: None: a group contact, named by `name`.
    user_id: int | None
    name: str
    label: str
    channel: str
    address: str
    reason: Reason
    problem: Reason = NO_REASON


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """One entry of the alert's timeline."""

    at: datetime
    after: timedelta
    reason: Reason


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    """One firing of a step, or another event (then `step` is 0), with its timeline entry and pages."""

    at: datetime
    after: timedelta
    reason: Reason
    step: int = 0
    #: The users and contacts paged: (name, capacity).
    people: tuple[tuple[str, Reason], ...] = ()
    pages: tuple[SimulatedPage, ...] = ()
    #: Whether the step had nobody to page although it fired.
    has_no_targets: bool = False


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """The complete simulation from the alert's creation."""

    pages: tuple[SimulatedPage, ...]
    timeline: tuple[SimulatedEvent, ...]
    notes: tuple[Reason, ...]
    steps: tuple[SimulatedStep, ...] = ()


def play(connection: Connection, run: RunState, alert: AlertState, facts: TargetFacts, opening: Reason) -> SimulatedRun:
    """Simulates `run` from its start. `opening` is the first entry of the timeline."""
    at = run.started_at

    run_forecast = forecast.forecast_run(
        run, alert, _TargetContexts(connection, facts).at, max_decisions=MAX_STEPS_SHOWN
    )
    timeline = [SimulatedEvent(at, timedelta(), opening)]
    stages: list[SimulatedStep] = []
    for moment, decision in run_forecast.decisions:
        planned, unreachable = _pages(connection, decision, at)
        stages += [_stage(event, decision, planned, at) for event in decision.events]
        timeline += [SimulatedEvent(moment, moment - at, as_reason(event.reason)) for event in decision.events]
        timeline += [SimulatedEvent(moment, moment - at, reason) for reason in unreachable]
    pages = sorted((page for stage in stages for page in stage.pages), key=lambda page: page.at)
    notes = [*_notes(connection, run, run_forecast.truncation_reason, at), *_rate_limit_notes(connection, pages)]
    return SimulatedRun(tuple(pages), tuple(timeline), tuple(notes), tuple(stages))


class _TargetContexts:
    """The on-call data at simulated times.

    A waiting step rechecks every minute; its data is loaded once for as long as nobody's shift starts or ends.
    """

    def __init__(self, connection: Connection, facts: TargetFacts) -> None:
        self._connection, self._facts = connection, facts
        self._cached: tuple[CompiledPolicy, datetime, TargetContext] | None = None

    def at(self, run: RunState, moment: datetime) -> TargetContext:
        """The on-call data for a run at a moment; moments must be ascending."""
        if not run.progress.is_waiting:
            return self._load(run, moment)
        if self._cached is None or self._cached[0] is not run.plan or moment >= self._cached[1]:
            same_until = target_loader.valid_until(self._connection, run, moment, _MAX_CACHE_AGE)
            self._cached = (run.plan, same_until, self._load(run, moment))
        return self._cached[2]

    def _load(self, run: RunState, moment: datetime) -> TargetContext:
        return target_loader.load_target_context(self._connection, [run], moment, {NEW_ALERT: self._facts})


def _stage(
    event: NewEvent, decision: RunDecision, pages: dict[tuple[int, int], list[SimulatedPage]], at: datetime
) -> SimulatedStep:
    after = event.at - at
    if event.kind not in (EventKind.STEP_FIRED, EventKind.STEP_EMPTY) or "step" not in event.data:
        return SimulatedStep(event.at, after, as_reason(event.reason))
    step_and_pass = (int(str(event.data["step"])), int(str(event.data["pass"])))
    started = [s for s in (*decision.pages, *decision.dry_run_pages) if (s.step, s.loop_number) == step_and_pass]
    people = [(s.target.name, s.target.capacity) for s in started]
    people += [(c.label, GROUP_CONTACT()) for c in decision.contact_pages if (c.step, c.loop_number) == step_and_pass]
    # A step that fires twice in one decision has all its pages with the first event.
    has_no_targets = event.kind is EventKind.STEP_EMPTY and not (event.data.get("left_out") or event.data.get("busy"))
    planned = tuple(sorted(pages.pop(step_and_pass, ()), key=lambda page: page.at))
    reason = as_reason(event.reason)
    return SimulatedStep(event.at, after, reason, step_and_pass[0], tuple(people), planned, has_no_targets)


def _pages(
    connection: Connection, decision: RunDecision, at: datetime
) -> tuple[dict[tuple[int, int], list[SimulatedPage]], list[Reason]]:
    """The pages of a decision by step and pass; in dry run, those it would have sent."""
    people = (*decision.pages, *decision.dry_run_pages)
    starts = [
        PageRequest(
            NEW_ALERT, s.at, s.reason, user_id=s.target.user_id, priority=s.priority,
            delivery_override=s.delivery_override,
            data={"step": s.step, "pass": s.loop_number},
        )
        for s in people
    ]  # fmt: skip
    starts += [
        PageRequest(
            NEW_ALERT, c.at, c.reason, group_contact_id=c.contact_id, delivery_override=c.delivery_override,
            data={"step": c.step, "pass": c.loop_number},
        )
        for c in decision.contact_pages
    ]  # fmt: skip
    planned = plan_pages(connection, starts)
    names = {s.target.user_id: s.target.name for s in people}
    labels = {c.contact_id: c.label for c in decision.contact_pages}
    pages_by_step: dict[tuple[int, int], list[SimulatedPage]] = {}
    for page in planned.pages:
        request = page.request
        name = names.get(request.user_id or 0) or labels.get(request.group_contact_id or 0, page.label)
        pages_by_step.setdefault((request.data["step"], request.data["pass"]), []).append(
            SimulatedPage(
                at=page.due_at,
                after=page.due_at - at,
                user_id=request.user_id,
                name=name,
                label=page.label,
                channel=page.channel,
                address=page.address,
                reason=page.reason,
                problem=page.problem,
            )
        )
    return pages_by_step, [entry.reason for entry in planned.unreachable]


def _notes(connection: Connection, run: RunState, cut: Reason, at: datetime) -> Iterable[Reason]:
    if run.mode is PagingMode.DRY_RUN:
        yield reasons.DRY_RUN()
    if cut:
        yield cut
    active_pause = pause.current_pause(connection, at)
    if active_pause is not None:
        yield active_pause.wait_reason


def _rate_limit_notes(connection: Connection, pages: Sequence[SimulatedPage]) -> Iterable[Reason]:
    """Notes about users whose hourly limit these pages alone would exceed."""
    people = load_recipients(connection, {page.user_id for page in pages if page.user_id is not None})
    for person in people.values():
        by_address: dict[str, list[datetime]] = {}
        for page in pages:
            if page.user_id == person.id and not page.problem:
                by_address.setdefault(page.address, []).append(page.at)
        if person.most_per_hour and any(
            _exceeds_hourly_limit(times, person.most_per_hour) for times in by_address.values()
        ):
            yield reasons.RATE_LIMIT(user=Person(person.name, person.id), count=person.most_per_hour)


def _exceeds_hourly_limit(times: Sequence[datetime], limit: int) -> bool:
    return any(later - first < timedelta(hours=1) for first, later in zip(times, times[limit:], strict=False))
