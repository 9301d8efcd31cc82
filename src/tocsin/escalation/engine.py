"""What an escalation run does at an instant: advance(run, alert, roster, now) → decision. Pure.

A run's timers stand in its progress; its status and its one `due_at` are derived from them and from the alert
(`settle`), so that whatever undoes an act brings back exactly what was due. What acts do to a run is in
`escalation.follow`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from tocsin.alerts import lifecycle
from tocsin.alerts.orders import SYSTEM, AlertState, Command, ExpireAcknowledgement, NewEvent, Resume
from tocsin.alerts.reactors import PagingMode
from tocsin.alerts.states import LIVE, AlertStatus, EventKind, Priority, Via
from tocsin.core.durations import say
from tocsin.escalation.policy import AcknowledgeEffect, PolicyPlan
from tocsin.escalation.runs import (
    Ask,
    Decision,
    Pause,
    Progress,
    RunState,
    RunStatus,
    Start,
    StartContact,
    Tell,
    TellWhy,
    with_progress,
)
from tocsin.escalation.targets import Choice, Roster, choose, managers

#: Who does not answer "Still on it?" within this has not answered.
ANSWER_WITHIN = timedelta(minutes=5)

#: A timer handled this late counts as on time, so that waits do not drift; one handled later counts from now.
PUNCTUAL = timedelta(seconds=5)


class _Kind(Enum):
    STEP = auto()
    END = auto()
    ASK = auto()
    EXPIRE = auto()


@dataclass(frozen=True, slots=True)
class _Timer:
    at: datetime
    kind: _Kind
    user_id: int = 0


def begin(
    alert_id: int,
    plan: PolicyPlan,
    mode: PagingMode,
    priority: Priority,
    now: datetime,
    *,
    recipient_users: tuple[int, ...] = (),
    recipient_groups: tuple[int, ...] = (),
    why: str = "",
) -> RunState:
    """A new run, as of the opening `now`: step 1 is due after its wait. `why` says why this policy, or nobody."""
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
        progress=Progress(step_due_at=due, why=why),
    )


def advance(run: RunState, alert: AlertState, roster: Roster, now: datetime, pause: Pause | None = None) -> Decision:
    """Everything that is due at `now`. Nothing due: the run as it stands, and nothing else.

    At most one step that finds people fires in one turn, unless the next waits for nothing: after an outage the
    people come one after another, as far apart as the policy says, not all at once. `pause` is the pause of all
    paging in force at `now`.
    """
    turn = _Turn(run, alert, roster, now)
    if alert.status in LIVE:
        turn.end_hold()
        if turn.run.progress.wake_at is not None:
            turn.wake()
        if turn.alert.status is not AlertStatus.ON_HOLD:
            turn.work(pause if pause is not None and pause.until > now else None)
    return turn.decision()


def restart(run: RunState, at: datetime) -> RunState:
    """The run at step 1 again, as if the alert had opened at `at`; nobody counts as having acted. Whoever still has
    pages to come stays busy. A run that only records stays so.
    """
    if run.mode is PagingMode.RECORD:
        return run
    fresh = Progress(
        step_due_at=at + run.plan.steps[0].after,
        busy={user: until for user, until in run.progress.busy.items() if until > at},
        why=run.progress.why,
    )
    return replace(run, started_at=at, status=RunStatus.ACTIVE, progress=fresh)


def settle(run: RunState, alert: AlertState, now: datetime, pause: Pause | None = None) -> RunState:
    """`run` with status, timer and reason as the alert has it now: the one place where they are derived."""
    wake_at = run.progress.wake_at
    status, due, reason = _standing(run, alert, now, pause)
    if wake_at is not None and status is not RunStatus.ENDED:
        due = wake_at if due is None else min(due, wake_at)
    return replace(run, status=status, due_at=due, reason=reason)


def _standing(
    run: RunState, alert: AlertState, now: datetime, pause: Pause | None
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
    timer = _next_timer(run, alert)
    due = timer.at if timer else None
    if pause is not None and due is not None:
        return RunStatus.PAUSED, max(due, pause.until), f"All paging is paused: {pause.reason}"
    names = " and ".join(entry.name for entry in alert.acknowledged.values())
    if names and run.plan.effect is AcknowledgeEffect.STOP:
        return RunStatus.STOPPED, due, f'{names} acknowledged it; "Still on it?" is asked next.'
    paused_until = _pause_end(run, alert)
    if paused_until is not None and now < paused_until:
        return RunStatus.PAUSED, due, f"{names} acknowledged it: escalation pauses for {say(run.plan.pause)}."
    if run.progress.step_due_at is None:
        return RunStatus.FINISHED, due, "Nobody answered, and the policy is at its end."
    return RunStatus.ACTIVE, due, _position(run.plan, run.progress.step)


def _recorded(why: str) -> str:
    return f"Only recorded, nobody is paged. {why}".strip()


def _position(plan: PolicyPlan, step: int) -> str:
    if step >= len(plan.steps):
        return "All steps of this pass have fired; the next pass or the end follows."
    return f"Step {step + 1} of {len(plan.steps)} is next."


def _pause_end(run: RunState, alert: AlertState) -> datetime | None:
    """Until when acknowledgements pause the steps; None where they do not."""
    if run.plan.effect is not AcknowledgeEffect.PAUSE or not alert.acknowledged:
        return None
    return max(entry.at for entry in alert.acknowledged.values()) + run.plan.pause


def _next_timer(run: RunState, alert: AlertState) -> _Timer | None:
    """The earliest thing to do to an alert that nobody has; at the same moment an acknowledgement's comes first."""
    progress, plan = run.progress, run.plan
    timers = []
    for user_id, entry in alert.acknowledged.items():
        heard = max(entry.at, progress.heard.get(user_id, entry.at))
        asked = progress.asked.get(user_id)
        if asked is not None and asked >= heard:
            timers.append(_Timer(asked + ANSWER_WITHIN, _Kind.EXPIRE, user_id))
        else:
            timers.append(_Timer(heard + plan.acknowledge_timeout, _Kind.ASK, user_id))
    stopped = bool(alert.acknowledged) and plan.effect is AcknowledgeEffect.STOP
    if progress.step_due_at is not None and not stopped:
        is_end = progress.step >= len(plan.steps) and progress.passes >= plan.repeat_times
        at = max(progress.step_due_at, _pause_end(run, alert) or progress.step_due_at)
        timers.append(_Timer(at, _Kind.END if is_end else _Kind.STEP))
    return min(timers, key=lambda timer: timer.at, default=None)


class _Turn:
    """Collects what one turn decides."""

    def __init__(self, run: RunState, alert: AlertState, roster: Roster, now: datetime) -> None:
        self.run, self.alert, self.roster, self.now = run, alert, roster, now
        self.pause: Pause | None = None
        self.starts: list[Start] = []
        self.contacts: list[StartContact] = []
        self.asks: list[Ask] = []
        self.tells: list[Tell] = []
        self.commands: list[Command] = []
        self.events: list[NewEvent] = []

    def decision(self) -> Decision:
        """The whole turn; in watch mode nothing of it reaches anybody."""
        if self.pause is None and self.run.progress.pause_until is not None:
            self.run = with_progress(self.run, pause_until=None)
        run = settle(self.run, self.alert, self.now, self.pause)
        commands, events, starts = tuple(self.commands), tuple(self.events), tuple(self.starts)
        if run.mode is PagingMode.WATCH:
            return Decision(run, commands=commands, events=events, would=starts)
        return Decision(run, starts, tuple(self.contacts), tuple(self.asks), tuple(self.tells), (), commands, events)

    def end_hold(self) -> None:
        """A hold whose time has come ends by itself."""
        alert = self.alert
        if alert.status is not AlertStatus.ON_HOLD or alert.hold_until is None or alert.hold_until > self.now:
            return
        order = Resume(actor=SYSTEM, via=Via.POLICY)
        self.commands.append(order)
        self.alert = lifecycle.apply(alert, order, self.now).state
        self.run = go_on(self.run, self.alert, self.now)

    def wake(self) -> None:
        """A person asked for the next step: the next that finds somebody fires now, and past the end step 1."""
        by = self.run.progress.wake_by
        if self.run.mode is PagingMode.RECORD:
            self.run = restart(replace(self.run, mode=PagingMode.PAGE), self.now)
        self.run = with_progress(self.run, wake_at=None, wake_by=None)
        for _ in self.run.plan.steps:
            if self._is_past_all() or self.run.progress.step_due_at is None:
                self.run = restart(self.run, self.now)
            if self._fire(self.now, by_person=True, by=by):
                return
        self._say(
            EventKind.STEP_EMPTY, "There is nobody left to wake: whoever the policy names has it or is being paged."
        )

    def work(self, pause: Pause | None) -> None:
        """Handles every timer that is due."""
        if self.run.mode is PagingMode.RECORD or self.alert.is_owned:
            return
        while (timer := _next_timer(self.run, self.alert)) is not None and timer.at <= self.now:
            if pause is not None:
                self._wait(pause)
                return
            at = timer.at if self.now - timer.at <= PUNCTUAL else self.now
            match timer.kind:
                case _Kind.STEP:
                    self._resume_after_pause()
                    self._fire(at)
                case _Kind.END:
                    self._finish(at)
                case _Kind.ASK:
                    self._ask(timer.user_id, at)
                case _Kind.EXPIRE:
                    self._expire(timer.user_id)

    def _wait(self, pause: Pause) -> None:
        self.pause = pause
        if self.run.progress.pause_until == pause.until:
            return
        still = self.run.progress.still_since or self.now
        self.run = with_progress(self.run, pause_until=pause.until, still_since=still)
        self._say(
            EventKind.ESCALATION_WAITS,
            f"Escalation waits: all paging is paused ({pause.reason}). The step then due fires at the pause's end.",
            until=pause.until.isoformat(),
        )

    def _resume_after_pause(self) -> None:
        if self.run.progress.still_since is not None:
            self.run = go_on(self.run, self.alert, self.now)

    def _is_past_all(self) -> bool:
        return (
            self.run.progress.step >= len(self.run.plan.steps)
            and self.run.progress.passes >= self.run.plan.repeat_times
        )

    def _fire(self, at: datetime, *, by_person: bool = False, by: int | None = None) -> bool:
        """Fires the next step (of the next pass, after the last). Returns whether it started anybody."""
        plan = self.run.plan
        if self.run.progress.step >= len(plan.steps):
            self.run = with_progress(self.run, step=0, passes=self.run.progress.passes + 1)
        index, passes = self.run.progress.step, self.run.progress.passes
        choice = choose(
            plan.steps[index],
            self.roster,
            recipient_users=self.run.recipient_users if index == 0 else (),
            recipient_groups=self.run.recipient_groups,
            acted=self._acted(by),
            busy=self.run.progress.busy,
            at=at,
        )
        self._start(choice, index, passes, at, by_person)
        due = self._due_after(index, passes, at, choice.is_empty)
        busy = {**self.run.progress.busy}
        for pick in choice.picks:
            busy[pick.user_id] = at + self.roster.people[pick.user_id].last
        reached = self.run.progress.reached or not choice.is_empty
        self.run = with_progress(self.run, step=index + 1, step_due_at=due, last_step_at=at, busy=busy, reached=reached)
        self._say_fired(choice, index, passes, due, at, by_person)
        if index + 1 == len(plan.steps) and not reached and not self.run.progress.told and not self.alert.acknowledged:
            self.run = with_progress(self.run, told=True)
            self._tell(TellWhy.NOBODY_TO_PAGE, "Nobody could be paged: no step of the policy finds anybody.")
        return bool(choice.picks or choice.contacts)

    def _due_after(self, index: int, passes: int, at: datetime, is_empty: bool) -> datetime:
        plan = self.run.plan
        if index + 1 < len(plan.steps):
            return at if is_empty else at + plan.steps[index + 1].after
        return at + (plan.repeat_every if passes < plan.repeat_times else plan.end_after)

    def _acted(self, by: int | None) -> dict[int, str]:
        """Who is left in peace, and why."""
        acted = dict.fromkeys(self.alert.acknowledged, "has acknowledged it")
        if self.alert.owner_id is not None:
            acted[self.alert.owner_id] = "has it"
        if by is not None:
            acted.setdefault(by, "asked for it")
        return acted

    def _start(self, choice: Choice, index: int, passes: int, at: datetime, wake: bool) -> None:
        where = self._where(index, passes)
        for pick in choice.picks:
            reason = f"{pick.name} is paged as {pick.label}: {where} of the escalation."
            self.starts.append(Start(pick, at, reason, index + 1, passes + 1, wake))
        for duty, contact in choice.contacts:
            reason = f"{contact.label} of {duty.name}: {where} of the escalation."
            self.contacts.append(
                StartContact(contact.id, duty.group_id, contact.label, at, reason, index + 1, passes + 1, wake)
            )

    def _where(self, index: int, passes: int) -> str:
        plan = self.run.plan
        name = f" ({plan.steps[index].name})" if plan.steps[index].name else ""
        again = f", pass {passes + 1} of {plan.repeat_times + 1}" if plan.repeat_times else ""
        return f"step {index + 1} of {len(plan.steps)}{name}{again}"

    def _say_fired(self, choice: Choice, index: int, passes: int, due: datetime, at: datetime, by_person: bool) -> None:
        where = self._where(index, passes)
        where = where[0].upper() + where[1:] + (" (asked for)" if by_person else "")
        notes = f" {_sentence(choice.notes)}" if choice.notes else ""
        data = {
            "step": index + 1,
            "pass": passes + 1,
            "people": [pick.user_id for pick in choice.picks],
            "contacts": [contact.id for _duty, contact in choice.contacts],
        }
        if choice.picks or choice.contacts:
            watch = self.run.mode is PagingMode.WATCH
            people = [f"{pick.name} ({pick.label})" for pick in choice.picks]
            people += [f"{contact.label} of {duty.name}" for duty, contact in choice.contacts]
            does = "would page" if watch else "pages"
            self._say(EventKind.STEP_FIRED, f"{where} {does} {', '.join(people)}.{notes}", **data)
        else:
            says = "waits for those already paged" if choice.is_busy else "has nobody"
            follows = "The next step fires at once." if due == at else f"What comes next follows in {say(due - at)}."
            self._say(EventKind.STEP_EMPTY, f"{where} {says}.{notes} {follows}", **data)

    def _finish(self, at: datetime) -> None:
        self.run = with_progress(self.run, step_due_at=None, finished_at=at)
        acked = " and ".join(entry.name for entry in self.alert.acknowledged.values())
        text = (
            f"{acked} acknowledged it, but nobody has taken it, and the escalation is at its end."
            if acked
            else "Nobody answered, and the escalation is at its end."
        )
        self._say(EventKind.ESCALATION_FINISHED, text)
        if not (self.run.progress.told and not self.run.progress.reached):
            self._tell(TellWhy.NOBODY_ANSWERED, text)

    def _tell(self, why: TellWhy, text: str) -> None:
        if self.alert.is_test:
            return
        people = managers(self.run.recipient_groups, self.roster)
        names = " and ".join(self.roster.name(user_id) for user_id in people)
        if not people:
            self._say(EventKind.TOLD, f"{text} There is no manager or administrator to tell.")
            return
        does = "would be told" if self.run.mode is PagingMode.WATCH else "is told" if len(people) == 1 else "are told"
        self.tells.append(Tell(people, why, text))
        self._say(EventKind.TOLD, f"{names} {does}: {text}", people=list(people))

    def _ask(self, user_id: int, at: datetime) -> None:
        entry = self.alert.acknowledged[user_id]
        self.run = with_progress(self.run, asked={**self.run.progress.asked, user_id: at})
        span = say(at - max(entry.at, self.run.progress.heard.get(user_id, entry.at)))
        reason = f"{entry.name} acknowledged it {span} ago, and nobody has taken or closed it."
        self.asks.append(Ask(user_id, reason, at + ANSWER_WITHIN))
        does = "would be asked" if self.run.mode is PagingMode.WATCH else "is asked"
        self._say(
            EventKind.STILL_ON_IT,
            f'{entry.name} {does} "Still on it?"; without an answer in {say(ANSWER_WITHIN)} escalation starts again.',
            user_id=user_id,
        )

    def _expire(self, user_id: int) -> None:
        order = ExpireAcknowledgement(actor=SYSTEM, via=Via.POLICY, user_id=user_id)
        self.commands.append(order)
        self.alert = lifecycle.apply(self.alert, order, self.now).state
        asked = {user: at for user, at in self.run.progress.asked.items() if user != user_id}
        self.run = with_progress(self.run, asked=asked)
        if not self.alert.acknowledged:
            self.run = restart(self.run, self.now)
            self._say(EventKind.ESCALATION_STARTED, "Escalation starts again at step 1; nobody counts as having acted.")

    def _say(self, kind: EventKind, reason: str, **data: object) -> None:
        self.events.append(NewEvent(self.alert.id, kind, self.now, SYSTEM, reason, Via.POLICY, data))


def go_on(run: RunState, alert: AlertState, now: datetime) -> RunState:
    """The run after hold or pause: a run that had come to its end starts again if nobody has or acknowledged the
    alert, since it must page somebody; pages that waited meanwhile leave now, so their people stay busy until now.
    """
    since = run.progress.still_since
    if run.progress.finished_at is not None and not alert.is_owned and not alert.acknowledged:
        return restart(run, now)
    busy = {
        user: max(until, now) if since is not None and until > since else until
        for user, until in run.progress.busy.items()
    }
    return with_progress(run, busy=busy, still_since=None, pause_until=None)


def _sentence(notes: tuple[str, ...]) -> str:
    text = "; ".join(notes)
    return f"{text[0].upper()}{text[1:]}."
