"""The escalation engine: advance(run, alert, roster, now) → decision. Pure.

A run's progress holds its timers; status and `due_at` are derived from progress and alert in
`escalation.run.run_status`. The effect of alert commands on a run is in `escalation.run.alert_transitions`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts import lifecycle
from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import SYSTEM, AlertState, Command, ExpireAcknowledgement, NewEvent, Resume
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind
from tocsin.core.validation.durations import describe
from tocsin.escalation.policy import conditions
from tocsin.escalation.policy.policy import OnExhausted
from tocsin.escalation.policy.steps import IfEmpty, PolicyStep
from tocsin.escalation.run.run_state import (
    ActivePause,
    NoticeReason,
    PageContact,
    PageUser,
    RunDecision,
    RunState,
    RunStatus,
    SendAckReminder,
    SendNotice,
    with_progress,
)
from tocsin.escalation.run.run_status import (
    ACK_REMINDER_TIMEOUT,
    TimerKind,
    begin_run,
    continue_run,
    groups_of,
    has_enough,
    is_past_all,
    next_timer,
    restart_run,
    settle,
)
from tocsin.escalation.run.target_resolution import (
    HandoverPolicy,
    ResolvedTargets,
    TargetContext,
    TargetFacts,
    choose,
    managers,
)
from tocsin.notify.rules import notification_rules

#: A timer handled within this delay counts as on time, so that intervals do not drift; later ones count from now.
PUNCTUAL_WITHIN = timedelta(seconds=5)

#: The interval at which a step that waits for somebody on call rechecks.
CONDITION_RECHECK = timedelta(minutes=1)


def advance(
    run: RunState, alert: AlertState, roster: TargetContext, now: datetime, pause: ActivePause | None = None
) -> RunDecision:
    """Executes everything due at `now`. With nothing due, the decision holds the unchanged run only.

    At most one step that has users to page fires per call, unless the next step has no delay. So after an outage, users
    are paged one after another at the policy's intervals, not all at once. `pause` is the pause of all paging in force
    at `now`.
    """
    turn = _DecisionBuilder(run, alert, roster, now)
    if alert.status in ACTIVE:
        turn.end_hold()
        if turn.run.progress.wake_at is not None:
            turn.wake()
        if turn.alert.status is not AlertStatus.ON_HOLD:
            turn.work(pause if pause is not None and pause.until > now else None)
    return turn.decision()


class _DecisionBuilder:
    """Collects the decisions of one `advance` call."""

    def __init__(self, run: RunState, alert: AlertState, roster: TargetContext, now: datetime) -> None:
        self.run, self.alert, self.roster, self.now = run, alert, roster, now
        self.pause: ActivePause | None = None
        self.starts: list[PageUser] = []
        self.contacts: list[PageContact] = []
        self.asks: list[SendAckReminder] = []
        self.tells: list[SendNotice] = []
        self.commands: list[Command] = []
        self.successor: tuple[RunState, HandoverPolicy] | None = None
        self.events: list[NewEvent] = []

    def decision(self) -> RunDecision:
        """The resulting decision; in dry run it has no effects that reach anybody."""
        if self.pause is None and self.run.progress.pause_until is not None:
            self.run = with_progress(self.run, pause_until=None)
        run = settle(self.run, self.alert, self.now, self.pause)
        new, version = None, None
        if self.successor is not None:
            new, version = self.successor[0], self.successor[1].version_id
            reason = f"At its end; policy {self.successor[1].name} goes on."
            run = replace(run, status=RunStatus.ENDED, due_at=None, reason=reason)
        whole = RunDecision(
            run,
            commands=tuple(self.commands),
            events=tuple(self.events),
            successor=new,
            successor_version=version,
        )
        starts = tuple(self.starts)
        if run.mode is PagingMode.DRY_RUN:
            return replace(whole, would=starts)
        return replace(
            whole, starts=starts, contacts=tuple(self.contacts), asks=tuple(self.asks), tells=tuple(self.tells)
        )

    def end_hold(self) -> None:
        """Ends a hold that has expired."""
        alert = self.alert
        if alert.status is not AlertStatus.ON_HOLD or alert.hold_until is None or alert.hold_until > self.now:
            return
        order = Resume(actor=SYSTEM, via=CommandChannel.POLICY)
        self.commands.append(order)
        self.alert = lifecycle.apply(alert, order, self.now).state
        self.run = continue_run(self.run, self.alert, self.now)

    def wake(self) -> None:
        """Handles "Escalate now": fires the next step that has somebody to page, and after the last step starts at step
        1."""
        by = self.run.progress.wake_by
        if self.run.mode is PagingMode.RECORD:
            self.run = restart_run(replace(self.run, mode=PagingMode.PAGE), self.now)
        self.run = with_progress(self.run, wake_at=None, wake_by=None)
        # Twice the steps: a one-by-one step may be at its last user, and is then skipped.
        for _ in (*self.run.plan.steps, *self.run.plan.steps):
            if is_past_all(self.run) or self.run.progress.step_due_at is None:
                self.run = restart_run(self.run, self.now)
            if self._fire(self.now, by_person=True, by=by):
                return
        self._say(
            EventKind.STEP_EMPTY, "There is nobody left to wake: whoever the policy names has it or is being paged."
        )

    def work(self, pause: ActivePause | None) -> None:
        """Handles every timer that is due."""
        if self.run.mode is PagingMode.RECORD or self.alert.is_owned:
            return
        while (
            self.successor is None and (timer := next_timer(self.run, self.alert)) is not None and timer.at <= self.now
        ):
            if pause is not None:
                self._wait(pause)
                return
            at = timer.at if self.now - timer.at <= PUNCTUAL_WITHIN else self.now
            match timer.kind:
                case TimerKind.STEP:
                    self._resume_after_pause()
                    self._fire(at)
                case TimerKind.END:
                    self._finish(at)
                case TimerKind.ASK:
                    self._ask(timer.user_id, at)
                case TimerKind.EXPIRE:
                    self._expire(timer.user_id)

    def _wait(self, pause: ActivePause) -> None:
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
            self.run = continue_run(self.run, self.alert, self.now)

    def _fire(self, at: datetime, *, by_person: bool = False, by: int | None = None) -> bool:
        """Fires the next step, or pages the next user of a one-by-one step. Returns whether anybody was paged."""
        self._enter()
        index = self.run.progress.step
        step = self.run.plan.steps[index]
        if why := self._why_not(step, at, by_person):
            self._leave_out(index, why, at)
            return False
        choice = self._choose(step, index, at, by)
        if choice.is_empty and step.if_empty is IfEmpty.WAIT and not by_person and not self.run.progress.taken:
            self._wait_for_somebody(index, choice, at)
            return False
        self._start(choice, step, index, at, by_person)
        due = self._go_past(choice, step, index, at)
        self._say_fired(choice, index, due, at, by_person)
        self._tell_if_nobody(index)
        return bool(choice.picks or choice.contacts)

    def _enter(self) -> None:
        """After the last step, moves to the first step of the next group or the next pass."""
        progress = self.run.progress
        if progress.step < len(self.run.plan.steps):
            return
        if progress.group + 1 < len(groups_of(self.run)):
            self.run = with_progress(self.run, step=0, group=progress.group + 1, paged=False)
        else:
            self.run = with_progress(self.run, step=0, group=0, passes=progress.passes + 1, paged=False)

    def _why_not(self, step: PolicyStep, at: datetime, by_person: bool) -> str:
        """Why a step is skipped; empty when it fires."""
        if step.only_until_acknowledged and self.alert.acknowledged and not by_person:
            names = " and ".join(entry.name for entry in self.alert.acknowledged.values())
            return f"{names} acknowledged it"
        if step.when is None:
            return ""
        tags = self.roster.facts.get(self.alert.id, TargetFacts()).tags
        return conditions.unmet_condition(step.when, self.alert.priority, tags, self.roster.hours, at)

    def _leave_out(self, index: int, why: str, at: datetime) -> None:
        """Skips a step whose condition does not hold. Its delay still applies, so that day and night steps can coexist.

        As long as nobody was paged in this pass, the next step fires at once.
        """
        due = self._due_after(index, at, is_empty=not self.run.progress.paged)
        self.run = with_progress(self.run, step=index + 1, step_due_at=due, last_step_at=at, taken=(), waiting=False)
        where = self._where(index)
        text = f"{where[0].upper()}{where[1:]} is left out: {why}. {self._follows(due, at)}"
        self._say(EventKind.STEP_EMPTY, text, **self._place(index), people=[], contacts=[], left_out=True)
        self._tell_if_nobody(index)

    def _choose(self, step: PolicyStep, index: int, at: datetime, by: int | None) -> ResolvedTargets:
        progress = self.run.progress
        # Recipient users are paged with the first step that is not skipped, so a day-and-night policy pages them at
        # night too.
        is_first = progress.group == 0 and (index == 0 or not progress.paged)
        return choose(
            step,
            self.roster,
            recipient_users=self.run.recipient_users if is_first else (),
            recipient_groups=groups_of(self.run)[progress.group],
            acted=self._acted(by),
            busy=progress.busy,
            at=at,
            priority=self.alert.priority,
            alert_id=self.alert.id,
            taken=frozenset(progress.taken),
        )

    def _wait_for_somebody(self, index: int, choice: ResolvedTargets, at: datetime) -> None:
        was_waiting = self.run.progress.waiting
        self.run = with_progress(self.run, step_due_at=at + CONDITION_RECHECK, waiting=True)
        if was_waiting:
            return
        where = self._where(index)
        notes = f" {_sentence(choice.notes)}" if choice.notes else ""
        text = f"{where[0].upper()}{where[1:]} has nobody, and waits until somebody is on call.{notes}"
        self._say(EventKind.STEP_EMPTY, text, **self._place(index), people=[], contacts=[])
        if not self.run.progress.reached and not self.run.progress.told and not self.alert.acknowledged:
            self.run = with_progress(self.run, told=True)
            self._tell(
                NoticeReason.NOBODY_TO_PAGE, "Nobody could be paged yet: the step waits until somebody is on call."
            )

    def _go_past(self, choice: ResolvedTargets, step: PolicyStep, index: int, at: datetime) -> datetime:
        """Records who was paged. Returns when the following timer is due."""
        progress = self.run.progress
        picked = tuple(pick.user_id for pick in choice.picks)
        busy = {
            **progress.busy,
            **{
                user: notification_rules.last(self.roster.people[user], step.calling, self.alert.priority, at)
                for user in picked
            },
        }
        soft = tuple(dict.fromkeys((*progress.soft, *picked))) if step.only_until_acknowledged else progress.soft
        stays = choice.has_more and step.sequential is not None
        if stays and step.sequential is not None:
            due = at + step.sequential
        elif progress.taken and not picked:
            due = max(at, self._due_after(index, progress.last_step_at or at, is_empty=False))
        else:
            due = self._due_after(index, at, choice.is_empty)
        self.run = with_progress(
            self.run,
            step=index if stays else index + 1,
            taken=(*progress.taken, *picked) if stays else (),
            step_due_at=due,
            last_step_at=at,
            busy=busy,
            soft=soft,
            reached=progress.reached or not choice.is_empty,
            paged=progress.paged or not choice.is_empty,
            waiting=False,
        )
        return due

    def _due_after(self, index: int, at: datetime, is_empty: bool) -> datetime:
        """When the timer after step `index`, which began at `at`, is due: the next step, group or pass, or the end."""
        plan, progress = self.run.plan, self.run.progress
        if index + 1 < len(plan.steps):
            return at if is_empty else at + plan.steps[index + 1].after
        if progress.keeping:
            return at + plan.keep_every
        if plan.groups_sequential is not None and progress.group + 1 < len(groups_of(self.run)):
            return at if is_empty and not progress.paged else at + plan.groups_sequential
        return at + (plan.repeat_every if progress.passes < plan.repeat_times else plan.end_after)

    def _tell_if_nobody(self, index: int) -> None:
        """After the last step of a pass for the last group, notifies managers if nobody could be paged."""
        progress = self.run.progress
        is_last = index + 1 == len(self.run.plan.steps) and progress.step > index
        is_last = is_last and progress.group + 1 >= len(groups_of(self.run))
        if is_last and not progress.reached and not progress.told and not self.alert.acknowledged:
            self.run = with_progress(self.run, told=True)
            self._tell(NoticeReason.NOBODY_TO_PAGE, "Nobody could be paged: no step of the policy finds anybody.")

    def _acted(self, by: int | None) -> dict[int, str]:
        """The users who are skipped, by id, with the reason."""
        acted = dict.fromkeys(self.alert.acknowledged, "has acknowledged it")
        if self.alert.owner_id is not None:
            acted[self.alert.owner_id] = "has it"
        if by is not None:
            acted.setdefault(by, "asked for it")
        return acted

    def _start(self, choice: ResolvedTargets, step: PolicyStep, index: int, at: datetime, wake: bool) -> None:
        where, passes = self._where(index), self.run.progress.passes + 1
        priority, calling = self.alert.priority, step.calling
        for pick in choice.picks:
            reason = f"{pick.name} is paged as {pick.label}: {where} of the escalation."
            self.starts.append(PageUser(pick, at, reason, index + 1, passes, wake, priority, calling))
        for duty, contact in choice.contacts:
            reason = f"{contact.label} of {duty.name}: {where} of the escalation."
            self.contacts.append(
                PageContact(contact.id, duty.group_id, contact.label, at, reason, index + 1, passes, wake, calling)
            )

    def _where(self, index: int) -> str:
        plan, progress = self.run.plan, self.run.progress
        parts = [f"step {index + 1} of {len(plan.steps)}"]
        if plan.steps[index].name:
            parts[0] += f" ({plan.steps[index].name})"
        groups = groups_of(self.run)
        if len(groups) > 1:
            duty = self.roster.duties.get(groups[progress.group][0])
            parts.append(f"group {progress.group + 1} of {len(groups)}{f' ({duty.name})' if duty else ''}")
        if plan.repeat_times:
            parts.append(f"pass {progress.passes + 1} of {plan.repeat_times + 1}")
        return ", ".join(parts)

    def _place(self, index: int) -> dict[str, object]:
        return {"step": index + 1, "pass": self.run.progress.passes + 1}

    def _follows(self, due: datetime, at: datetime) -> str:
        return "The next step fires at once." if due == at else f"What comes next follows in {describe(due - at)}."

    def _say_fired(self, choice: ResolvedTargets, index: int, due: datetime, at: datetime, by_person: bool) -> None:
        where = self._where(index)
        where = where[0].upper() + where[1:] + (" (asked for)" if by_person else "")
        notes = f" {_sentence(choice.notes)}" if choice.notes else ""
        data: dict[str, Any] = {
            **self._place(index),
            "people": [pick.user_id for pick in choice.picks],
            "contacts": [contact.id for _duty, contact in choice.contacts],
        }
        if choice.picks or choice.contacts:
            is_dry_run = self.run.mode is PagingMode.DRY_RUN
            people = [f"{pick.name} ({pick.label})" for pick in choice.picks]
            people += [f"{contact.label} of {duty.name}" for duty, contact in choice.contacts]
            does = "would page" if is_dry_run else "pages"
            more = f" The next in line follows in {describe(due - at)}." if choice.has_more else ""
            self._say(EventKind.STEP_FIRED, f"{where} {does} {', '.join(people)}.{more}{notes}", **data)
        else:
            says = "waits for those already paged" if choice.is_busy else "has nobody"
            data |= {"busy": True} if choice.is_busy else {}
            self._say(EventKind.STEP_EMPTY, f"{where} {says}.{notes} {self._follows(due, at)}", **data)

    def _finish(self, at: datetime) -> None:
        acked = " and ".join(entry.name for entry in self.alert.acknowledged.values())
        text = (
            f"{acked} acknowledged it, but nobody has taken it, and the escalation is at its end."
            if acked
            else "Nobody answered, and the escalation is at its end."
        )
        plan = self.run.plan
        if plan.at_end is OnExhausted.KEEP_LAST_STEP:
            self._keep_last_step(text, at)
            return
        successor = self.roster.successors.get(plan.hand_over_to) if plan.hand_over_to is not None else None
        self.run = with_progress(self.run, step_due_at=None, finished_at=at)
        if successor is not None:
            self._hand_over(successor, text, at)
            return
        self._say(EventKind.ESCALATION_FINISHED, text)
        if plan.at_end is not OnExhausted.NOTHING and not (self.run.progress.told and not self.run.progress.reached):
            self._tell(NoticeReason.NOBODY_ANSWERED, text)

    def _keep_last_step(self, text: str, at: datetime) -> None:
        plan = self.run.plan
        if not self.run.progress.keeping:
            text = f"{text} Its last step goes on, every {describe(plan.keep_every)}, until somebody answers."
            self._say(EventKind.ESCALATION_FINISHED, text)
        self.run = with_progress(self.run, step=len(plan.steps) - 1, keeping=True)
        self._fire(at)

    def _hand_over(self, successor: HandoverPolicy, text: str, at: datetime) -> None:
        """The other policy starts as if the alert had been created now, for the same recipients."""
        new = begin_run(
            self.run.alert_id,
            successor.plan,
            self.run.mode,
            self.alert.priority,
            at,
            recipient_users=self.run.recipient_users,
            recipient_groups=self.run.recipient_groups,
            why="The policy before handed over to this one.",
        )
        progress = self.run.progress
        busy = {user: until for user, until in progress.busy.items() if until > at}
        soft = tuple(user for user in progress.soft if user in busy)
        new = with_progress(new, busy=busy, soft=soft, asked=progress.asked, heard=progress.heard)
        self.successor = (settle(new, self.alert, self.now), successor)
        self._say(EventKind.ESCALATION_FINISHED, f"{text} Policy {successor.name} goes on.")

    def _tell(self, why: NoticeReason, text: str) -> None:
        if self.alert.is_test:
            return
        people = managers(self.run.recipient_groups, self.roster)
        names = " and ".join(self.roster.name(user_id) for user_id in people)
        if not people:
            self._say(EventKind.TOLD, f"{text} There is no manager or administrator to tell.")
            return
        does = "would be told" if self.run.mode is PagingMode.DRY_RUN else "is told" if len(people) == 1 else "are told"
        self.tells.append(SendNotice(people, why, text))
        self._say(EventKind.TOLD, f"{names} {does}: {text}", people=list(people))

    def _ask(self, user_id: int, at: datetime) -> None:
        entry = self.alert.acknowledged[user_id]
        self.run = with_progress(self.run, asked={**self.run.progress.asked, user_id: at})
        span = describe(at - max(entry.at, self.run.progress.heard.get(user_id, entry.at)))
        reason = f"{entry.name} acknowledged it {span} ago, and nobody has taken or closed it."
        self.asks.append(SendAckReminder(user_id, reason, at + ACK_REMINDER_TIMEOUT))
        does = "would be asked" if self.run.mode is PagingMode.DRY_RUN else "is asked"
        self._say(
            EventKind.STILL_ON_IT,
            f'{entry.name} {does} "Still on it?"; '
            f"without an answer in {describe(ACK_REMINDER_TIMEOUT)} escalation starts again.",
            user_id=user_id,
        )

    def _expire(self, user_id: int) -> None:
        had_enough = has_enough(self.run.plan, self.alert)
        order = ExpireAcknowledgement(actor=SYSTEM, via=CommandChannel.POLICY, user_id=user_id)
        self.commands.append(order)
        self.alert = lifecycle.apply(self.alert, order, self.now).state
        asked = {user: at for user, at in self.run.progress.asked.items() if user != user_id}
        self.run = with_progress(self.run, asked=asked)
        if not self.alert.acknowledged:
            self.run = restart_run(self.run, self.now)
            self._say(EventKind.ESCALATION_STARTED, "Escalation starts again at step 1; nobody counts as having acted.")
        elif had_enough and not has_enough(self.run.plan, self.alert):
            self.run = continue_run(self.run, self.alert, self.now)
            self._say(EventKind.ESCALATION_GOES_ON, "Escalation goes on: too few acknowledgements stand.")

    def _say(self, kind: EventKind, reason: str, **data: object) -> None:
        self.events.append(NewEvent(self.alert.id, kind, self.now, SYSTEM, reason, CommandChannel.POLICY, data))


def _sentence(notes: tuple[str, ...]) -> str:
    text = "; ".join(notes)
    return f"{text[0].upper()}{text[1:]}."
