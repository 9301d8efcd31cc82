"""The escalation engine: advance(run, alert, roster, now) → decision. Pure.

A run's progress holds its timers; status and `due_at` are derived from progress and alert in
`escalation.run.run_state`. The effect of alert commands on a run is in `escalation.run.run_state`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts import lifecycle
from tocsin.alerts.commands import (
    SYSTEM,
    AlertState,
    Command,
    ExpireAcknowledgement,
    NewEvent,
    PagingMode,
    Resume,
    Unassign,
)
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind
from tocsin.core.reasons import NO_REASON, Ago, Person, Reason, ReasonType, Text, joined
from tocsin.escalation import policy, reasons
from tocsin.escalation.policy import IfEmpty, OnExhausted, PolicyStep
from tocsin.escalation.run.run_state import (
    ACK_REMINDER_TIMEOUT,
    ON_TIME_TOLERANCE,
    ActivePause,
    NoticeReason,
    PageContact,
    PageUser,
    RunDecision,
    RunState,
    RunStatus,
    SendAckReminder,
    SendNotice,
    TimerKind,
    acknowledgers,
    begin_run,
    continue_run,
    derive_status,
    has_fired_all_steps,
    has_required_acks,
    next_timer,
    recipient_group_rounds,
    restart_run,
    with_progress,
)
from tocsin.escalation.run.target_resolution import (
    HandoverPolicy,
    ResolvedTargets,
    TargetContext,
    TargetFacts,
    TargetUser,
    leads,
    resolve_targets,
)
from tocsin.notify.rules import page_planner

# ---------- decision builder
# Collects what one call of the escalation engine decides. Pure.


class DecisionBuilder:
    """Run and alert as they are so far, and what has been decided about them."""

    def __init__(self, run: RunState, alert: AlertState, context: TargetContext, now: datetime) -> None:
        self.run, self.alert, self.context, self.now = run, alert, context, now
        self.pause: ActivePause | None = None
        self.pages: list[PageUser] = []
        self.contact_pages: list[PageContact] = []
        self.ack_reminders: list[SendAckReminder] = []
        self.notices: list[SendNotice] = []
        self.commands: list[Command] = []
        self.successor: tuple[RunState, HandoverPolicy] | None = None
        self.events: list[NewEvent] = []

    def build(self) -> RunDecision:
        """The resulting decision; in dry run it has no effects that reach anybody."""
        if self.pause is None and self.run.progress.pause_until is not None:
            self.run = with_progress(self.run, pause_until=None)
        run = derive_status(self.run, self.alert, self.now, self.pause)
        new, version = None, None
        if self.successor is not None:
            new, version = self.successor[0], self.successor[1].version_id
            reason = reasons.RUN_HANDED_OVER(policy=self.successor[1].name)
            run = replace(run, status=RunStatus.TERMINATED, due_at=None, reason=reason)
        outcome = RunDecision(
            run, commands=tuple(self.commands), events=tuple(self.events), successor=new, successor_version=version
        )
        pages = tuple(self.pages)
        if run.mode is PagingMode.DRY_RUN:
            return replace(outcome, dry_run_pages=pages)
        return replace(
            outcome,
            pages=pages,
            contact_pages=tuple(self.contact_pages),
            ack_reminders=tuple(self.ack_reminders),
            notices=tuple(self.notices),
        )

    def log(self, kind: EventKind, reason: Reason, **data: object) -> None:
        self.events.append(NewEvent(self.alert.id, kind, self.now, SYSTEM, reason, CommandChannel.POLICY, data))


# ---------- responders
# Pages the assignee, reminds acknowledgers, and restarts escalation when they do not answer in time. Pure.


def page_assignee(builder: DecisionBuilder) -> None:
    """Pages the user to whom somebody else assigned the alert, at once, by their own notification rules."""
    user_id, last, progress = builder.alert.owner_id, builder.alert.last_event, builder.run.progress
    builder.run = with_progress(builder.run, assignee_page_at=None)
    if user_id is None:
        return
    recipient, user = builder.context.active_users.get(user_id), builder.alert.owner
    if recipient is None:
        builder.log(EventKind.PAGE_FAILED, reasons.ASSIGNEE_INACTIVE(user=user), user_id=user_id)
        return
    is_assignment = last is not None and last.kind is EventKind.ASSIGNED
    actor = Person(last.actor_name, last.actor_id) if last is not None and is_assignment else Person(SYSTEM.name)
    target = TargetUser(user_id, user.name, reasons.ASSIGNEE())
    reason = reasons.PAGED_AS_ASSIGNEE(actor=actor, user=user)
    builder.pages.append(
        PageUser(target, builder.now, reason, 0, 0, is_manual=True, priority=builder.alert.priority, is_assignment=True)
    )
    last_page_at = page_planner.last_page_at(recipient, page_planner.USER_RULES, builder.alert.priority, builder.now)
    builder.run = with_progress(builder.run, paging_until={**progress.paging_until, user_id: last_page_at})
    paged = reasons.ASSIGNEE_NOTIFIED(user=user)
    if builder.run.mode is PagingMode.DRY_RUN:
        paged = reasons.ASSIGNEE_WOULD_BE_PAGED(user=user)
    elif progress.accept_by is not None:
        paged = reasons.ASSIGNEE_PAGED(user=user, timeout=builder.run.plan.acknowledge_timeout)
    builder.log(EventKind.ASSIGNEE_PAGED, paged, people=[user_id])


def end_unaccepted_assignment(builder: DecisionBuilder) -> None:
    """Unassigns an alert that its assignee did not accept in time: escalation restarts."""
    note = reasons.NOT_ACCEPTED(user=builder.alert.owner, timeout=builder.run.plan.acknowledge_timeout)
    command = Unassign(actor=SYSTEM, via=CommandChannel.POLICY, note=note)
    builder.commands.append(command)
    builder.alert = lifecycle.apply(builder.alert, command, builder.now).state
    builder.run = restart_run(builder.run, builder.now)
    builder.log(EventKind.ESCALATION_STARTED, reasons.RESTARTED())


def send_ack_reminder(builder: DecisionBuilder, user_id: int, at: datetime) -> None:
    """Asks a user who acknowledged whether they still work on the alert."""
    entry = builder.alert.acknowledged[user_id]
    progress = builder.run.progress
    builder.run = with_progress(builder.run, ack_reminder_sent_at={**progress.ack_reminder_sent_at, user_id: at})
    user = Person(entry.name, user_id)
    since = max(entry.at, progress.ack_confirmed_at.get(user_id, entry.at))
    reason = reasons.ACK_REMINDER(user=user, ago=Ago(at - since))
    builder.ack_reminders.append(SendAckReminder(user_id, reason))
    is_dry_run = builder.run.mode is PagingMode.DRY_RUN
    sent = reasons.ACK_REMINDER_WOULD_BE_SENT if is_dry_run else reasons.ACK_REMINDER_SENT
    builder.log(EventKind.ACK_REMINDER_SENT, sent(user=user, timeout=ACK_REMINDER_TIMEOUT), user_id=user_id)


def expire_acknowledgement(builder: DecisionBuilder, user_id: int) -> None:
    """Removes an acknowledgement whose reminder was not answered: escalation restarts or goes on."""
    had_enough = has_required_acks(builder.run.plan, builder.alert)
    command = ExpireAcknowledgement(actor=SYSTEM, via=CommandChannel.POLICY, user_id=user_id)
    builder.commands.append(command)
    builder.alert = lifecycle.apply(builder.alert, command, builder.now).state
    reminders_sent = {user: at for user, at in builder.run.progress.ack_reminder_sent_at.items() if user != user_id}
    builder.run = with_progress(builder.run, ack_reminder_sent_at=reminders_sent)
    if not builder.alert.acknowledged:
        builder.run = restart_run(builder.run, builder.now)
        builder.log(EventKind.ESCALATION_STARTED, reasons.RESTARTED())
    elif had_enough and not has_required_acks(builder.run.plan, builder.alert):
        builder.run = continue_run(builder.run, builder.alert, builder.now)
        builder.log(EventKind.ESCALATION_CONTINUED, reasons.TOO_FEW_ACKS())


#: The interval at which a step that waits for somebody on call rechecks.
CONDITION_RECHECK = timedelta(minutes=1)


def advance(
    run: RunState, alert: AlertState, context: TargetContext, now: datetime, pause: ActivePause | None = None
) -> RunDecision:
    """Executes everything due at `now`. With nothing due, the decision holds the unchanged run only.

    At most one step that has users to page fires per call, unless the next step has no delay. So after an outage, users
    are paged one after another at the policy's intervals, not all at once. `pause` is the pause of all paging in force
    at `now`.
    """
    builder = _Advance(run, alert, context, now)
    if alert.status in ACTIVE:
        builder.end_hold()
        if builder.run.progress.escalate_requested_at is not None:
            builder.escalate_now()
        if builder.run.progress.assignee_page_at is not None:
            page_assignee(builder)
        if builder.alert.status is not AlertStatus.ON_HOLD:
            builder.fire_due_timers(pause if pause is not None and pause.until > now else None)
    return builder.build()


class _Advance(DecisionBuilder):
    """One `advance` call: holds, requested escalation and due timers."""

    def end_hold(self) -> None:
        alert = self.alert
        if alert.status is not AlertStatus.ON_HOLD or alert.hold_until is None or alert.hold_until > self.now:
            return
        command = Resume(actor=SYSTEM, via=CommandChannel.POLICY)
        self.commands.append(command)
        self.alert = lifecycle.apply(alert, command, self.now).state
        self.run = continue_run(self.run, self.alert, self.now)

    def escalate_now(self) -> None:
        """Handles "Escalate now": fires the next step that has somebody to page, and after the last step starts at step
        1."""
        requested_by = self.run.progress.escalate_requested_by
        if self.run.mode is PagingMode.LOG_ONLY:
            self.run = restart_run(replace(self.run, mode=PagingMode.PAGE), self.now)
        self.run = with_progress(self.run, escalate_requested_at=None, escalate_requested_by=None)
        # Twice the steps: a one-by-one step may be at its last user, and is then skipped.
        for _ in (*self.run.plan.steps, *self.run.plan.steps):
            if has_fired_all_steps(self.run) or self.run.progress.step_due_at is None:
                self.run = restart_run(self.run, self.now)
            if self._fire(self.now, is_manual=True, requested_by=requested_by):
                return
        self.log(EventKind.STEP_EMPTY, reasons.NOBODY_LEFT())

    def fire_due_timers(self, pause: ActivePause | None) -> None:
        if self.run.mode is PagingMode.LOG_ONLY:
            return
        accept_by = self.run.progress.accept_by
        if self.alert.is_owned and accept_by is not None and accept_by <= self.now:
            if pause is not None:
                self._wait_for_pause_end(pause)
            else:
                end_unaccepted_assignment(self)
        if self.alert.is_owned:
            return
        while (
            self.successor is None and (timer := next_timer(self.run, self.alert)) is not None and timer.at <= self.now
        ):
            if pause is not None:
                self._wait_for_pause_end(pause)
                return
            at = timer.at if self.now - timer.at <= ON_TIME_TOLERANCE else self.now
            match timer.kind:
                case TimerKind.STEP:
                    self._resume_after_pause()
                    self._fire(at)
                case TimerKind.EXHAUSTION:
                    self._exhaust(at)
                case TimerKind.ACK_REMINDER:
                    send_ack_reminder(self, timer.user_id, at)
                case TimerKind.ACK_EXPIRY:
                    expire_acknowledgement(self, timer.user_id)

    def _wait_for_pause_end(self, pause: ActivePause) -> None:
        self.pause = pause
        if self.run.progress.pause_until == pause.until:
            return
        paused_since = self.run.progress.paused_since or self.now
        self.run = with_progress(self.run, pause_until=pause.until, paused_since=paused_since)
        self.log(EventKind.ESCALATION_PAUSED, reasons.WAITS_FOR_PAUSE(why=pause.reason), until=pause.until.isoformat())

    def _resume_after_pause(self) -> None:
        if self.run.progress.paused_since is not None:
            self.run = continue_run(self.run, self.alert, self.now)

    def _fire(self, at: datetime, *, is_manual: bool = False, requested_by: int | None = None) -> bool:
        """Fires the next step, or pages the next user of a one-by-one step. Returns whether anybody was paged."""
        self._enter_next_loop()
        index = self.run.progress.step
        step = self.run.plan.steps[index]
        if skip_reason := self._skip_reason(step, at, is_manual):
            self._skip_step(index, skip_reason, at)
            return False
        targets = self._resolve_targets(step, index, at, requested_by)
        if (
            targets.is_empty
            and step.if_empty is IfEmpty.WAIT
            and not is_manual
            and not self.run.progress.already_notified
        ):
            self._wait_for_on_call(index, targets, at)
            return False
        self._add_pages(targets, step, index, at, is_manual)
        due = self._record_paged(targets, step, index, at)
        self._log_step(targets, index, due, at, is_manual)
        self._notify_if_nobody_paged(index)
        return bool(targets.users or targets.contacts)

    def _enter_next_loop(self) -> None:
        """After the last step, moves to the first step of the next group or the next pass."""
        progress = self.run.progress
        if progress.step < len(self.run.plan.steps):
            return
        if progress.group + 1 < len(recipient_group_rounds(self.run)):
            self.run = with_progress(self.run, step=0, group=progress.group + 1, any_notified_in_loop=False)
        else:
            self.run = with_progress(
                self.run, step=0, group=0, loop_count=progress.loop_count + 1, any_notified_in_loop=False
            )

    def _skip_reason(self, step: PolicyStep, at: datetime, is_manual: bool) -> Reason:
        """Why a step is skipped; `NO_REASON` when it fires."""
        if step.only_until_acknowledged and self.alert.acknowledged and not is_manual:
            return reasons.SKIPPED_ONCE_ACKNOWLEDGED(users=acknowledgers(self.alert))
        if step.when is None:
            return NO_REASON
        tags = self.context.facts.get(self.alert.id, TargetFacts()).tags
        return policy.unmet_condition(step.when, self.alert.priority, tags, self.context.support_hours, at)

    def _skip_step(self, index: int, skip_reason: Reason, at: datetime) -> None:
        """Skips a step whose condition does not hold. Its delay still applies, so that day and night steps can coexist.

        As long as nobody was paged in this pass, the next step fires at once.
        """
        due = self._due_after(index, at, is_empty=not self.run.progress.any_notified_in_loop)
        self.run = with_progress(
            self.run, step=index + 1, step_due_at=due, last_step_at=at, already_notified=(), is_waiting=False
        )
        reason = reasons.STEP_SKIPPED(step=self._step_label(index), why=skip_reason)
        reason = joined(reason, _next_action(due, at), separator=" ")
        self.log(EventKind.STEP_EMPTY, reason, **self._step_data(index), people=[], contacts=[], left_out=True)
        self._notify_if_nobody_paged(index)

    def _resolve_targets(self, step: PolicyStep, index: int, at: datetime, requested_by: int | None) -> ResolvedTargets:
        progress = self.run.progress
        # Recipient users are paged with the first step that is not skipped, so a day-and-night policy pages them at
        # night too.
        is_first = progress.group == 0 and (index == 0 or not progress.any_notified_in_loop)
        return resolve_targets(
            step,
            self.context,
            recipient_users=self.run.recipient_users if is_first else (),
            recipient_groups=recipient_group_rounds(self.run)[progress.group],
            skip_reasons=self._users_to_skip(requested_by),
            paging_until=progress.paging_until,
            at=at,
            priority=self.alert.priority,
            alert_id=self.alert.id,
            already_notified=frozenset(progress.already_notified),
        )

    def _wait_for_on_call(self, index: int, targets: ResolvedTargets, at: datetime) -> None:
        was_waiting = self.run.progress.is_waiting
        self.run = with_progress(self.run, step_due_at=at + CONDITION_RECHECK, is_waiting=True)
        if was_waiting:
            return
        reason = reasons.STEP_WAITS(step=self._step_label(index), notes=_notes(targets))
        self.log(EventKind.STEP_EMPTY, reason, **self._step_data(index), **_target_data(targets))
        if (
            not self.run.progress.any_notified
            and not self.run.progress.managers_notified
            and not self.alert.acknowledged
        ):
            self.run = with_progress(self.run, managers_notified=True)
            self._notify_leads(NoticeReason.NOBODY_TO_PAGE, reasons.NOBODY_PAGED_YET())

    def _record_paged(self, targets: ResolvedTargets, step: PolicyStep, index: int, at: datetime) -> datetime:
        """Records who was paged. Returns when the following timer is due."""
        progress = self.run.progress
        paged_ids = tuple(target.user_id for target in targets.users)
        paging_until = {
            **progress.paging_until,
            **{
                user: page_planner.last_page_at(
                    self.context.active_users[user], step.delivery_override, self.alert.priority, at
                )
                for user in paged_ids
            },
        }
        cancel_on_ack_users = (
            tuple(dict.fromkeys((*progress.cancel_on_ack_users, *paged_ids)))
            if step.only_until_acknowledged
            else progress.cancel_on_ack_users
        )
        has_next_user = targets.has_more and step.sequential_interval is not None
        if has_next_user and step.sequential_interval is not None:
            due = at + step.sequential_interval
        elif progress.already_notified and not paged_ids:
            due = max(at, self._due_after(index, progress.last_step_at or at, is_empty=False))
        else:
            due = self._due_after(index, at, targets.is_empty)
        self.run = with_progress(
            self.run,
            step=index if has_next_user else index + 1,
            already_notified=(*progress.already_notified, *paged_ids) if has_next_user else (),
            step_due_at=due,
            last_step_at=at,
            paging_until=paging_until,
            cancel_on_ack_users=cancel_on_ack_users,
            any_notified=progress.any_notified or not targets.is_empty,
            any_notified_in_loop=progress.any_notified_in_loop or not targets.is_empty,
            is_waiting=False,
        )
        return due

    def _due_after(self, index: int, at: datetime, is_empty: bool) -> datetime:
        """When the timer after step `index`, which began at `at`, is due: the next step, group or pass, or the end."""
        plan, progress = self.run.plan, self.run.progress
        if index + 1 < len(plan.steps):
            return at if is_empty else at + plan.steps[index + 1].after
        if progress.is_repeating_last_step:
            return at + plan.last_step_interval
        if plan.groups_sequential_interval is not None and progress.group + 1 < len(recipient_group_rounds(self.run)):
            return at if is_empty and not progress.any_notified_in_loop else at + plan.groups_sequential_interval
        return at + (plan.repeat_every if progress.loop_count < plan.repeat_times else plan.final_action_after)

    def _notify_if_nobody_paged(self, index: int) -> None:
        """After the last step of a pass for the last group, notifies leads if nobody could be paged."""
        progress = self.run.progress
        is_last = index + 1 == len(self.run.plan.steps) and progress.step > index
        is_last = is_last and progress.group + 1 >= len(recipient_group_rounds(self.run))
        if is_last and not progress.any_notified and not progress.managers_notified and not self.alert.acknowledged:
            self.run = with_progress(self.run, managers_notified=True)
            self._notify_leads(NoticeReason.NOBODY_TO_PAGE, reasons.NOBODY_PAGED())

    def _users_to_skip(self, requested_by: int | None) -> dict[int, Text]:
        skip_reasons = dict.fromkeys(self.alert.acknowledged, reasons.HAS_ACKNOWLEDGED)
        if self.alert.owner_id is not None:
            skip_reasons[self.alert.owner_id] = reasons.IS_ASSIGNED
        if requested_by is not None:
            skip_reasons.setdefault(requested_by, reasons.REQUESTED_ESCALATION)
        return skip_reasons

    def _add_pages(self, targets: ResolvedTargets, step: PolicyStep, index: int, at: datetime, is_manual: bool) -> None:
        label, loop_number = self._step_label(index), self.run.progress.loop_count + 1
        priority, delivery_override = self.alert.priority, step.delivery_override
        for target in targets.users:
            reason = reasons.PAGED_AS(step=label, user=target.person, capacity=target.capacity)
            self.pages.append(
                PageUser(target, at, reason, index + 1, loop_number, is_manual, priority, delivery_override)
            )
        for group, contact in targets.contacts:
            reason = reasons.CONTACT_PAGED(step=label, contact=contact.label, group=group.name)
            self.contact_pages.append(
                PageContact(
                    contact.id,
                    group.group_id,
                    contact.label,
                    at,
                    reason,
                    index + 1,
                    loop_number,
                    is_manual,
                    delivery_override,
                )
            )

    def _step_label(self, index: int) -> Reason:
        plan, progress = self.run.plan, self.run.progress
        name, position, steps = plan.steps[index].name, index + 1, len(plan.steps)
        label = (
            reasons.NAMED_STEP(step=position, steps=steps, name=name)
            if name
            else reasons.STEP(step=position, steps=steps)
        )
        groups, group_round, loop = recipient_group_rounds(self.run), NO_REASON, NO_REASON
        if len(groups) > 1:
            group = self.context.groups.get(groups[progress.group][0])
            number = progress.group + 1
            group_round = (
                reasons.NAMED_GROUP_ROUND(number=number, groups=len(groups), group=group.name)
                if group
                else reasons.GROUP_ROUND(number=number, groups=len(groups))
            )
        if plan.repeat_times:
            loop = reasons.LOOP(number=progress.loop_count + 1, rounds=plan.repeat_times + 1)
        return joined(label, group_round, loop, separator=", ")

    def _step_data(self, index: int) -> dict[str, object]:
        return {"step": index + 1, "pass": self.run.progress.loop_count + 1}

    def _log_step(self, targets: ResolvedTargets, index: int, due: datetime, at: datetime, is_manual: bool) -> None:
        label = self._step_label(index)
        data: dict[str, Any] = {**self._step_data(index), **_target_data(targets)}
        if is_manual:
            data["requested"] = True
        if targets.users or targets.contacts:
            reason = _fired_type(is_manual, self.run.mode)(step=label, targets=_paged_targets(targets))
            next_user = reasons.NEXT_USER_IN(delay=due - at) if targets.has_more else NO_REASON
            not_paged = reasons.NOT_PAGED(notes=_notes(targets)) if targets.notes else NO_REASON
            self.log(EventKind.STEP_FIRED, joined(reason, next_user, not_paged, separator=" "), **data)
        else:
            reason_type = reasons.STEP_ADDS_NOBODY if targets.has_pending_pages else reasons.STEP_EMPTY
            data |= {"busy": True} if targets.has_pending_pages else {}
            reason = reason_type(step=label, notes=_notes(targets))
            self.log(EventKind.STEP_EMPTY, joined(reason, _next_action(due, at), separator=" "), **data)

    def _exhaust(self, at: datetime) -> None:
        users = acknowledgers(self.alert)
        reason = reasons.ONLY_ACKNOWLEDGED(users=users) if users else reasons.NOBODY_ANSWERED()
        plan = self.run.plan
        if plan.on_exhausted is OnExhausted.REPEAT_LAST_STEP:
            self._repeat_last_step(reason, at)
            return
        successor = (
            self.context.handover_policies.get(plan.handover_policy_id) if plan.handover_policy_id is not None else None
        )
        self.run = with_progress(self.run, step_due_at=None, exhausted_at=at)
        if successor is not None:
            self._hand_over(successor, reason, at)
            return
        self.log(EventKind.ESCALATION_EXHAUSTED, reason)
        if plan.on_exhausted is not OnExhausted.NOTHING and not (
            self.run.progress.managers_notified and not self.run.progress.any_notified
        ):
            self._notify_leads(NoticeReason.NOBODY_ANSWERED, reason)

    def _repeat_last_step(self, reason: Reason, at: datetime) -> None:
        plan = self.run.plan
        if not self.run.progress.is_repeating_last_step:
            repeats = reasons.LAST_STEP_REPEATS(interval=plan.last_step_interval)
            self.log(EventKind.ESCALATION_EXHAUSTED, joined(reason, repeats, separator=" "))
        self.run = with_progress(self.run, step=len(plan.steps) - 1, is_repeating_last_step=True)
        self._fire(at)

    def _hand_over(self, successor: HandoverPolicy, reason: Reason, at: datetime) -> None:
        """The other policy starts as if the alert had been created now, for the same recipients."""
        new = begin_run(
            self.run.alert_id,
            successor.plan,
            self.run.mode,
            self.alert.priority,
            at,
            recipient_users=self.run.recipient_users,
            recipient_groups=self.run.recipient_groups,
            policy_reason=reasons.HANDED_OVER_FROM(),
        )
        progress = self.run.progress
        paging_until = {user: until for user, until in progress.paging_until.items() if until > at}
        cancel_on_ack_users = tuple(user for user in progress.cancel_on_ack_users if user in paging_until)
        new = with_progress(
            new,
            paging_until=paging_until,
            cancel_on_ack_users=cancel_on_ack_users,
            ack_reminder_sent_at=progress.ack_reminder_sent_at,
            ack_confirmed_at=progress.ack_confirmed_at,
        )
        self.successor = (derive_status(new, self.alert, self.now), successor)
        handed_over = reasons.HANDED_OVER(policy=successor.name)
        self.log(EventKind.ESCALATION_EXHAUSTED, joined(reason, handed_over, separator=" "))

    def _notify_leads(self, notice_reason: NoticeReason, why: Reason) -> None:
        if self.alert.is_test:
            return
        lead_ids = leads(self.run.recipient_groups, self.context)
        if not lead_ids:
            self.log(EventKind.NOTICE_SENT, reasons.NO_LEADS(why=why))
            return
        users = tuple(self.context.person(user_id) for user_id in lead_ids)
        reason = (
            reasons.LEADS_WOULD_BE_NOTIFIED(users=users, why=why)
            if self.run.mode is PagingMode.DRY_RUN
            else reasons.LEADS_NOTIFIED(count=len(users), users=users, why=why)
        )
        self.notices.append(SendNotice(lead_ids, notice_reason, why))
        self.log(EventKind.NOTICE_SENT, reason, people=list(lead_ids))


def _fired_type(is_manual: bool, mode: PagingMode) -> ReasonType:
    if mode is PagingMode.DRY_RUN:
        return reasons.STEP_REQUESTED_IN_DRY_RUN if is_manual else reasons.STEP_WOULD_FIRE
    return reasons.STEP_REQUESTED if is_manual else reasons.STEP_FIRED


def _paged_targets(targets: ResolvedTargets) -> tuple[Reason, ...]:
    return (
        *(reasons.PAGED_USER(user=target.person, capacity=target.capacity) for target in targets.users),
        *(reasons.PAGED_CONTACT(contact=contact.label, group=group.name) for group, contact in targets.contacts),
    )


def _notes(targets: ResolvedTargets) -> Reason:
    return joined(*targets.notes) or reasons.NO_TARGETS()


def _target_data(targets: ResolvedTargets) -> dict[str, Any]:
    """Whom an event's step pages, by id."""
    return {
        "people": [target.user_id for target in targets.users],
        "contacts": [contact.id for _group, contact in targets.contacts],
    }


def _next_action(due: datetime, at: datetime) -> Reason:
    return reasons.NEXT_STEP_NOW() if due == at else reasons.NEXT_ACTION_IN(delay=due - at)
