"""An escalation run and its decisions as data, its status, and what a change of its alert does to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Any

import msgspec

from tocsin.alerts.commands import SYSTEM, AlertState, Command, NewEvent, PagingMode, PagingStart
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel, EventKind, Priority
from tocsin.core.reasons import (
    NO_REASON,
    AlertRef,
    Person,
    Reason,
    Term,
    as_reason,
    joined,
    reason_as_json,
    reason_from,
    reason_from_json,
)
from tocsin.escalation import reasons
from tocsin.escalation.policy import AcknowledgeEffect, CompiledPolicy
from tocsin.escalation.run.target_resolution import TargetUser
from tocsin.notify.rules.page_planner import USER_RULES, DeliveryOverride


class RunStatus(StrEnum):
    ACTIVE = "active"
    #: Steps wait: the alert is on hold, all paging is paused, or an acknowledgement paused escalation.
    PAUSED = "paused"
    #: The alert is assigned, acknowledged or log only.
    STOPPED = "stopped"
    #: Escalation is exhausted: the last step has fired and nobody answered.
    EXHAUSTED = "finished"
    #: The alert is over or merged, or a newer run replaced this one.
    TERMINATED = "ended"


class RunProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The position of a run: the `progress` column. A new run stores `{}`, which means "step 1 at `due_at`"."""

    loop_count: int = 0
    #: The index of the step to fire next; after the last one, the next pass or the end follows.
    step: int = 0
    #: When that step is due if nothing delays it; None after the end.
    step_due_at: datetime | None = None
    last_step_at: datetime | None = None
    #: Until when each user has pages of a fired step pending, by user id.
    paging_until: dict[int, datetime] = {}
    #: When each acknowledger got an acknowledgement reminder, by user id.
    ack_reminder_sent_at: dict[int, datetime] = {}
    #: When each acknowledger answered a reminder by a command other than acknowledging again, by user id.
    ack_confirmed_at: dict[int, datetime] = {}
    any_notified: bool = False
    #: Whether leads were notified that nobody could be paged; by its stored name, which has the role's former one.
    managers_notified: bool = False
    exhausted_at: datetime | None = None
    #: Since when a hold or pause has stopped the timers.
    paused_since: datetime | None = None
    #: "Escalate now": when, and by which user.
    escalate_requested_at: datetime | None = None
    escalate_requested_by: int | None = None
    #: Since when the assignee is to be paged, because somebody else assigned the alert to them.
    assignee_page_at: datetime | None = None
    #: Until when the assignee must accept; then escalation restarts. None if they need not, or have accepted.
    accept_by: datetime | None = None
    #: The end of the pause of all paging that the timeline already mentions.
    pause_until: datetime | None = None
    #: Why this policy was chosen, or why nobody is paged: see `policy_reason`.
    policy_reason_code: str = ""
    policy_reason_data: dict[str, Any] = {}
    group: int = 0
    already_notified: tuple[int, ...] = ()
    any_notified_in_loop: bool = False
    #: Whether the step waits until somebody is on call, and the timeline says so.
    is_waiting: bool = False
    #: The users paged by a step with `only_until_acknowledged`.
    cancel_on_ack_users: tuple[int, ...] = ()
    #: Whether escalation is exhausted and the last step keeps repeating.
    is_repeating_last_step: bool = False

    @property
    def policy_reason(self) -> Reason:
        """Why this policy was chosen, or why nobody is paged."""
        return reason_from(self.policy_reason_code, self.policy_reason_data)


#: The progress of a run that has not fired anything yet has at most these keys.
_INITIAL_KEYS = frozenset({"policy_reason_code", "policy_reason_data"})


@dataclass(frozen=True, slots=True)
class RunState:
    """One policy executing on one alert. `due_at` is the earliest of its timers."""

    alert_id: int
    plan: CompiledPolicy
    mode: PagingMode
    status: RunStatus
    started_at: datetime
    due_at: datetime | None
    #: Why there is no timer, or what the run waits for.
    reason: Reason = NO_REASON
    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    priority: Priority = Priority.HIGH
    progress: RunProgress = field(default_factory=RunProgress)


@dataclass(frozen=True, slots=True)
class ActivePause:
    until: datetime
    #: As a person wrote it.
    reason: str


@dataclass(frozen=True, slots=True)
class PageUser:
    """Page this user now, by their own notification rules; `notify` plans when each delivery is sent."""

    target: TargetUser
    at: datetime
    reason: Reason
    #: 1-based, for the message.
    step: int
    loop_number: int
    #: Requested by a person ("Escalate now"): sent even if the alert is assigned or on hold.
    is_manual: bool = False
    priority: Priority = Priority.HIGH
    delivery_override: DeliveryOverride = USER_RULES
    #: Because the alert was assigned to the user: sent although it is.
    is_assignment: bool = False


@dataclass(frozen=True, slots=True)
class PageContact:
    contact_id: int
    group_id: int
    label: str
    at: datetime
    reason: Reason
    step: int
    loop_number: int
    is_manual: bool = False
    delivery_override: DeliveryOverride = USER_RULES


@dataclass(frozen=True, slots=True)
class SendAckReminder:
    """Send this user an acknowledgement reminder ("Still on it?")."""

    user_id: int
    reason: Reason


class NoticeReason(StrEnum):
    NOBODY_ANSWERED = "nobody_answered"
    NOBODY_TO_PAGE = "nobody_to_page"
    PRIORITY_ROSE = "priority_rose"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class SendNotice:
    user_ids: tuple[int, ...]
    notice_reason: NoticeReason
    why: Reason


@dataclass(frozen=True, slots=True)
class CancelPages:
    """Cancel every unsent page of the alert to these users (None: to all), or only those queued at `queued_since` or
    later."""

    user_ids: frozenset[int] | None
    reason: Reason
    queued_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunDecision:
    """The outcome of one `advance` call, all to be written in the transaction that writes `run`.

    `commands` are for `alerts.service` (the end of a hold, an acknowledgement that expires) and come before the
    events. In dry-run mode `starts`, `contacts`, `asks` and `tells` are empty, and `would` says who would have been
    paged. `successor` replaces `run`, which is then ended.
    """

    run: RunState
    pages: tuple[PageUser, ...] = ()
    contact_pages: tuple[PageContact, ...] = ()
    ack_reminders: tuple[SendAckReminder, ...] = ()
    notices: tuple[SendNotice, ...] = ()
    cancellations: tuple[CancelPages, ...] = ()
    commands: tuple[Command, ...] = ()
    events: tuple[NewEvent, ...] = ()
    dry_run_pages: tuple[PageUser, ...] = ()
    successor: RunState | None = None
    #: The policy version of `successor`, if it belongs to another policy.
    successor_version: int | None = None


def to_row(run: RunState) -> dict[str, Any]:
    """The columns of a run's row that a decision may change, by name; `progress` as JSON values."""
    return {
        "status": str(run.status),
        "mode": str(run.mode),
        "due_at": run.due_at,
        "reason": reason_as_json(run.reason),
        "priority": str(run.priority),
        "started_at": run.started_at,
        "progress": msgspec.to_builtins(run.progress, str_keys=True),
    }


def from_row(row: Mapping[str, Any], plan: CompiledPolicy) -> RunState:
    """Builds a run from its row (a mapping by column name). Raises msgspec.ValidationError for an invalid
    `progress`."""
    progress = msgspec.convert(row["progress"], RunProgress, strict=False, str_keys=True)
    if row["progress"].keys() <= _INITIAL_KEYS:
        progress = msgspec.structs.replace(progress, step_due_at=row["due_at"])
    return RunState(
        alert_id=row["alert_id"],
        plan=plan,
        mode=PagingMode(row["mode"]),
        status=RunStatus(row["status"]),
        started_at=row["started_at"],
        due_at=row["due_at"],
        reason=reason_from_json(row["reason"]),
        recipient_users=tuple(row["recipient_users"]),
        recipient_groups=tuple(row["recipient_groups"]),
        priority=Priority(row["priority"]),
        progress=progress,
    )


def with_progress(run: RunState, **changes: Any) -> RunState:
    return replace(run, progress=msgspec.structs.replace(run.progress, **changes))


# ---------- run status
# Derives a run's status, its timer and their reason from its progress and the alert. Pure.
# This is the only place that derives them, so undoing a command restores exactly the timer that was due.


#: A timer handled within this delay counts as on time, so that intervals do not drift; later ones count from now.
ON_TIME_TOLERANCE = timedelta(seconds=5)
#: An acknowledgement reminder without an answer within this time counts as unanswered.
ACK_REMINDER_TIMEOUT = timedelta(minutes=5)


class TimerKind(Enum):
    STEP = auto()
    EXHAUSTION = auto()
    ACK_REMINDER = auto()
    ACK_EXPIRY = auto()


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
    policy_reason: Reason = NO_REASON,
) -> RunState:
    """A new run of an alert created at `now`: step 1 is due after its delay. `policy_reason` is the reason for the
    policy, or for paging nobody."""
    due = None if mode is PagingMode.LOG_ONLY else now + plan.steps[0].after
    return RunState(
        alert_id=alert_id,
        plan=plan,
        mode=mode,
        status=RunStatus.STOPPED if mode is PagingMode.LOG_ONLY else RunStatus.ACTIVE,
        started_at=now,
        due_at=due,
        reason=_log_only_reason(policy_reason) if mode is PagingMode.LOG_ONLY else _position(plan, 0),
        recipient_users=recipient_users,
        recipient_groups=recipient_groups,
        priority=priority,
        progress=RunProgress(step_due_at=due, **policy_reason_columns(policy_reason)),
    )


def policy_reason_columns(reason: Reason) -> dict[str, Any]:
    return {"policy_reason_code": reason.code, "policy_reason_data": reason.data}


def restart_run(run: RunState, at: datetime) -> RunState:
    """The run at step 1 again, as if the alert had been created at `at`, with all responses forgotten.

    Users with pending pages stay busy. A log-only run is returned unchanged.
    """
    if run.mode is PagingMode.LOG_ONLY:
        return run
    paging_until = {user: until for user, until in run.progress.paging_until.items() if until > at}
    new_progress = RunProgress(
        step_due_at=at + run.plan.steps[0].after,
        paging_until=paging_until,
        cancel_on_ack_users=tuple(user for user in run.progress.cancel_on_ack_users if user in paging_until),
        policy_reason_code=run.progress.policy_reason_code,
        policy_reason_data=run.progress.policy_reason_data,
    )
    return replace(run, started_at=at, status=RunStatus.ACTIVE, progress=new_progress)


def derive_status(run: RunState, alert: AlertState, now: datetime, pause: ActivePause | None = None) -> RunState:
    """`run` with status, timer and reason for the alert's current state. This is the only place that derives them."""
    status, due, reason = _derive_status_and_timer(run, alert, now, pause)
    for requested_at in (run.progress.escalate_requested_at, run.progress.assignee_page_at):
        if requested_at is not None and status is not RunStatus.TERMINATED:
            due = requested_at if due is None else min(due, requested_at)
    return replace(run, status=status, due_at=due, reason=reason)


def _derive_status_and_timer(
    run: RunState, alert: AlertState, now: datetime, pause: ActivePause | None
) -> tuple[RunStatus, datetime | None, Reason]:
    match alert.status:
        case AlertStatus.CLOSED | AlertStatus.CANCELLED | AlertStatus.MERGED:
            return RunStatus.TERMINATED, None, describe_end(alert)
        case AlertStatus.ON_HOLD:
            return RunStatus.PAUSED, alert.hold_until, reasons.ON_HOLD()
        case AlertStatus.OPEN | AlertStatus.ASSIGNED:
            pass
    if run.mode is PagingMode.LOG_ONLY:
        return RunStatus.STOPPED, None, _log_only_reason(run.progress.policy_reason)
    if alert.is_owned:
        accept_by = run.progress.accept_by
        if accept_by is None:
            return RunStatus.STOPPED, None, reasons.ALERT_ASSIGNED(user=alert.owner)
        accept_by = accept_by if pause is None else max(accept_by, pause.until)
        return RunStatus.STOPPED, accept_by, reasons.AWAITS_ACCEPTANCE(user=alert.owner)
    timer = next_timer(run, alert)
    due = timer.at if timer else None
    if pause is not None and due is not None:
        return RunStatus.PAUSED, max(due, pause.until), reasons.PAGING_PAUSED(why=pause.reason)
    users = acknowledgers(alert)
    if has_required_acks(run.plan, alert) and run.plan.effect is AcknowledgeEffect.STOP:
        return RunStatus.STOPPED, due, reasons.STOPPED_BY_ACK(users=users)
    paused_until = _ack_pause_ends_at(run, alert)
    if paused_until is not None and now < paused_until:
        return RunStatus.PAUSED, due, reasons.PAUSED_BY_ACK(users=users, pause=run.plan.pause)
    if run.progress.step_due_at is None:
        return RunStatus.EXHAUSTED, due, reasons.EXHAUSTED_RUN()
    return RunStatus.ACTIVE, due, _position(run.plan, run.progress.step)


def describe_end(alert: AlertState) -> Reason:
    if alert.status is AlertStatus.MERGED:
        return reasons.ALERT_MERGED(alert=AlertRef(alert.merged_into or 0))
    return reasons.ALERT_CLOSED() if alert.status is AlertStatus.CLOSED else reasons.ALERT_CANCELLED()


def _log_only_reason(policy_reason: Reason) -> Reason:
    return joined(reasons.LOG_ONLY(), policy_reason, separator=" ")


def acknowledgers(alert: AlertState) -> tuple[Person, ...]:
    return tuple(Person(entry.name, user_id) for user_id, entry in alert.acknowledged.items())


def _position(plan: CompiledPolicy, step: int) -> Reason:
    if step >= len(plan.steps):
        return reasons.ALL_STEPS_FIRED()
    return reasons.NEXT_STEP(step=step + 1, steps=len(plan.steps))


def _ack_pause_ends_at(run: RunState, alert: AlertState) -> datetime | None:
    """Until when acknowledgements pause the steps; None when they do not."""
    if run.plan.effect is not AcknowledgeEffect.PAUSE or not has_required_acks(run.plan, alert):
        return None
    return max(entry.at for entry in alert.acknowledged.values()) + run.plan.pause


def has_required_acks(plan: CompiledPolicy, alert: AlertState) -> bool:
    """Whether enough users have acknowledged for the policy's acknowledgement effect."""
    return len(alert.acknowledged) >= plan.required_acks


def recipient_group_rounds(run: RunState) -> tuple[tuple[int, ...], ...]:
    """The recipient groups in the order in which the steps are executed: one by one, or all as one."""
    if run.plan.groups_sequential_interval is None or len(run.recipient_groups) < 2:
        return (run.recipient_groups,)
    return tuple((group,) for group in run.recipient_groups)


def has_fired_all_steps(run: RunState) -> bool:
    """Whether every step of every pass has fired for every group, so that the end follows."""
    progress = run.progress
    return (
        progress.step >= len(run.plan.steps)
        and progress.group + 1 >= len(recipient_group_rounds(run))
        and progress.loop_count >= run.plan.repeat_times
    )


def next_timer(run: RunState, alert: AlertState) -> Timer | None:
    """The earliest timer of an unassigned alert; at equal times, acknowledgement timers come first."""
    progress, plan = run.progress, run.plan
    timers = []
    for user_id, entry in alert.acknowledged.items():
        confirmed_at = max(entry.at, progress.ack_confirmed_at.get(user_id, entry.at))
        reminded_at = progress.ack_reminder_sent_at.get(user_id)
        if reminded_at is not None and reminded_at >= confirmed_at:
            timers.append(Timer(reminded_at + ACK_REMINDER_TIMEOUT, TimerKind.ACK_EXPIRY, user_id))
        else:
            timers.append(Timer(confirmed_at + plan.acknowledge_timeout, TimerKind.ACK_REMINDER, user_id))
    is_stopped = has_required_acks(plan, alert) and plan.effect is AcknowledgeEffect.STOP
    if progress.step_due_at is not None and not is_stopped:
        at = max(progress.step_due_at, _ack_pause_ends_at(run, alert) or progress.step_due_at)
        timers.append(Timer(at, TimerKind.EXHAUSTION if has_fired_all_steps(run) else TimerKind.STEP))
    return min(timers, key=lambda timer: timer.at, default=None)


def bring_forward(run: RunState, alert: AlertState, now: datetime) -> RunState:
    """Has the next step, or the end, come at `now` rather than after its delay."""
    if run.progress.step_due_at is None or run.progress.step_due_at <= now:
        return run
    return derive_status(with_progress(run, step_due_at=now), alert, now)


def continue_run(run: RunState, alert: AlertState, now: datetime) -> RunState:
    """Continues a run after a hold or pause.

    An exhausted run starts again if the alert is unassigned and has too few acknowledgements, since it must page
    somebody. Pages that waited are sent now, so their users stay busy until now.
    """
    paused_since = run.progress.paused_since
    if run.progress.exhausted_at is not None and not alert.is_owned and not has_required_acks(run.plan, alert):
        return restart_run(run, now)
    paging_until = {
        user: max(until, now) if paused_since is not None and until > paused_since else until
        for user, until in run.progress.paging_until.items()
    }
    accept_by = run.progress.accept_by
    if accept_by is not None and paused_since is not None:
        accept_by += max(now - paused_since, timedelta())
    return with_progress(run, paging_until=paging_until, accept_by=accept_by, paused_since=None, pause_until=None)


# ---------- alert transitions
# Applies alert commands to a run: assign, acknowledge, hold, escalate, raised priority. Pure.
# Compares the alert before and after a command, so that an undo is handled like any other change.


def apply_transition(
    run: RunState, before: AlertState, after: AlertState, events: Iterable[NewEvent], now: datetime
) -> RunDecision:
    """Returns the run after a command turned `before` into `after` with `events`.

    Needs no on-call data: a change that must page somebody makes the run due now.
    """
    transition = _Transition(run, before, after, events, now)
    if after.status in ACTIVE:
        transition.apply()
    elif before.status in ACTIVE:
        transition.cancel()
    return RunDecision(
        derive_status(transition.run, after, now),
        cancellations=tuple(transition.cancels),
        events=tuple(transition.logged),
    )


class _Transition:
    """A change of an alert while it is applied to its run."""

    def __init__(
        self, run: RunState, before: AlertState, alert: AlertState, events: Iterable[NewEvent], now: datetime
    ) -> None:
        self.run, self.before, self.alert, self.now = run, before, alert, now
        self.events = {event.kind: event for event in events if event.alert_id == alert.id}
        self.reason = next((as_reason(event.reason) for event in self.events.values()), NO_REASON)
        self.cancels: list[CancelPages] = []
        self.logged: list[NewEvent] = []

    def apply(self) -> None:
        """Applies the change of an alert that is active now."""
        before, alert = self.before, self.alert
        if before.status not in ACTIVE:
            # Reopened, it restarts; undone, it continues where it was.
            if EventKind.REOPENED in self.events:
                self._set(paging_until={})
                self._restart()
            else:
                self._continue()
        elif before.is_owned != alert.is_owned:
            self._change_owner()
            self._request_acceptance()
        elif (before.owner_id, before.owner_name) != (alert.owner_id, alert.owner_name):
            # Reassigning cancelled pages; an undo restores them, so nothing is cancelled here.
            if EventKind.UNDONE not in self.events:
                self.cancel()
            self._request_acceptance()
        elif before.acknowledged != alert.acknowledged:
            self._change_acknowledgements()
        was_on_hold, is_on_hold = (one.status is AlertStatus.ON_HOLD for one in (before, alert))
        if is_on_hold and not was_on_hold:
            # Reminders are repeated after the hold: nobody can be expected to answer meanwhile.
            self._set(paused_since=self.run.progress.paused_since or self.now, ack_reminder_sent_at={})
        elif was_on_hold and not is_on_hold:
            self._continue()
        self._record_responses()

    def cancel(
        self, reason: Reason = NO_REASON, users: frozenset[int] | None = None, queued_since: datetime | None = None
    ) -> None:
        """Cancels unsent pages; affected users are no longer busy, unless older pages remain."""
        self.cancels.append(CancelPages(users, reason or self.reason, queued_since))
        if queued_since is None:
            paging_until = self.run.progress.paging_until
            self._set(paging_until={} if users is None else _without(paging_until, users))

    def _log(self, kind: EventKind, reason: Reason) -> None:
        self.logged.append(NewEvent(self.alert.id, kind, self.now, SYSTEM, reason, CommandChannel.POLICY))

    def _set(self, **changes: Any) -> None:
        self.run = with_progress(self.run, **changes)

    def _continue(self) -> None:
        self.run = continue_run(self.run, self.alert, self.now)

    def _restart(self) -> None:
        self.run = restart_run(self.run, self.now)
        if self.run.mode is not PagingMode.LOG_ONLY:
            self._log(EventKind.ESCALATION_STARTED, reasons.RESTARTED())

    def _change_owner(self) -> None:
        if self.alert.is_owned:
            self.cancel()
            self._set(ack_reminder_sent_at={}, ack_confirmed_at={})
        elif EventKind.UNASSIGNED in self.events:
            self._restart()
        else:
            self._continue()

    def _request_acceptance(self) -> None:
        """Has the assignee paged if somebody else assigned the alert to them in Tocsin; a source notifies its own
        agents. Otherwise, an acceptance that is still awaited ends with the assignment."""
        run, before, owner_id, event = self.run, self.before, self.alert.owner_id, self.events.get(EventKind.ASSIGNED)
        if run.progress.accept_by is not None and before.owner_id is not None and event is None:
            # An undo has just restored the pages from before the assignment, maybe to the same user.
            assigned_at = before.last_event.at if EventKind.UNDONE in self.events and before.last_event else None
            self.cancel(users=frozenset({before.owner_id}), queued_since=assigned_at)
        is_asked = (
            event is not None
            and owner_id is not None
            and event.actor.user_id != owner_id
            and event.via is not CommandChannel.INBOUND
            and run.plan.pages_assignee
            and not self.alert.is_test
        )
        must_accept = is_asked and run.mode is PagingMode.PAGE
        self._set(
            assignee_page_at=self.now if is_asked else None,
            accept_by=self.now + run.plan.acknowledge_timeout if must_accept else None,
        )

    def _change_acknowledgements(self) -> None:
        plan, progress, previous, current = (
            self.run.plan, self.run.progress, self.before.acknowledged, self.alert.acknowledged,
        )  # fmt: skip
        changed = frozenset(user for user in {*previous, *current} if previous.get(user) != current.get(user))
        self._set(
            ack_reminder_sent_at=_without(progress.ack_reminder_sent_at, changed),
            ack_confirmed_at=_without(progress.ack_confirmed_at, changed),
        )
        added = changed & current.keys()
        was_satisfied, is_satisfied = has_required_acks(plan, self.before), has_required_acks(plan, self.alert)
        if added:
            stops_paging = is_satisfied and plan.effect is not AcknowledgeEffect.CONTINUE
            self.cancel(users=None if stops_paging else added | frozenset(progress.cancel_on_ack_users))
            self._set(cancel_on_ack_users=())
            is_news = not previous or (is_satisfied and not was_satisfied)
            if is_news and self.run.status in (RunStatus.ACTIVE, RunStatus.PAUSED):
                if is_satisfied:
                    self._log(EventKind.ESCALATION_STOPPED, _effect(plan))
                else:
                    missing = reasons.MISSING_ACKS(acknowledged=len(current), required=plan.required_acks)
                    self._log(EventKind.ESCALATION_CONTINUED, missing)
        elif not current and EventKind.ACKNOWLEDGEMENT_EXPIRED in self.events:
            self._restart()
        elif not current or (was_satisfied and not is_satisfied):
            self._continue()
            if derive_status(self.run, self.alert, self.now).status is RunStatus.ACTIVE:
                self._log(EventKind.ESCALATION_CONTINUED, reasons.CONTINUED())

    def _record_responses(self) -> None:
        """Escalate makes the run due now; any command by the assignee shows that they know; and any command by a user
        who got an acknowledgement reminder answers it."""
        escalated, owner_id, progress = self.events.get(EventKind.ESCALATED), self.alert.owner_id, self.run.progress
        if escalated is not None:
            self._set(escalate_requested_at=self.now, escalate_requested_by=escalated.actor.user_id)
        if owner_id is not None and (progress.accept_by is not None or progress.assignee_page_at is not None):
            answer = next((event for event in self.events.values() if event.actor.user_id == owner_id), None)
            if answer is not None:
                self.cancel(as_reason(answer.reason), frozenset({owner_id}))
                self._set(assignee_page_at=None, accept_by=None)
        for event in self.events.values():
            user, progress = event.actor.user_id, self.run.progress
            if user is not None and user in progress.ack_reminder_sent_at:
                self._set(
                    ack_confirmed_at={**progress.ack_confirmed_at, user: self.now},
                    ack_reminder_sent_at=_without(progress.ack_reminder_sent_at, {user}),
                )


def _without(by_user: Mapping[int, datetime], users: Set[int]) -> dict[int, datetime]:
    return {user: at for user, at in by_user.items() if user not in users}


def _effect(plan: CompiledPolicy) -> Reason:
    match plan.effect:
        case AcknowledgeEffect.STOP:
            effect = reasons.STOPS()
        case AcknowledgeEffect.PAUSE:
            effect = reasons.PAUSES(pause=plan.pause)
        case AcknowledgeEffect.CONTINUE:
            effect = reasons.CONTINUES_UNTIL_ASSIGNED()
    return joined(effect, reasons.ACK_REMINDER_FOLLOWS(timeout=plan.acknowledge_timeout), separator=" ")


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
    if routed_run is None or is_dropped:
        routed_run = begin_run(
            run.alert_id,
            run.plan,
            run.mode,
            run.priority,
            now,
            recipient_users=run.recipient_users,
            recipient_groups=run.recipient_groups,
            policy_reason=run.progress.policy_reason,
        )
    if routed_run.mode is PagingMode.LOG_ONLY and run.mode is PagingMode.LOG_ONLY:
        return RunDecision(replace(run, priority=alert.priority))
    reason = reasons.PRIORITY_ROSE(before=Term(run.priority), after=Term(alert.priority))
    new = replace(routed_run, priority=alert.priority)
    return _replace_run(run, new, alert, reason, NoticeReason.PRIORITY_ROSE, now)


def reroute(run: RunState, alert: AlertState, routed_run: RunState, move_reason: Reason, now: datetime) -> RunDecision:
    """Replaces a run by `routed_run` after its alert moved to where routes name other recipients.

    The same policy for the same people leaves the run alone, and so does a dry run or what only records: who is being
    paged is never silently dropped. If somebody has the alert, they are told, and nobody else is paged.
    """
    is_same = all(
        getattr(run, name) == getattr(routed_run, name)
        for name in ("plan", "recipient_users", "recipient_groups", "mode")
    )
    is_dropped = routed_run.mode is PagingMode.LOG_ONLY or (
        run.mode is PagingMode.PAGE and routed_run.mode is not PagingMode.PAGE
    )
    if alert.status not in ACTIVE or is_dropped or is_same:
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
    new = derive_status(with_reminders_of(run, routed_run), alert, now)
    started = reasons.PAGING_STARTS(why=why)
    if alert.is_owned or has_required_acks(routed_run.plan, alert):
        started = reasons.PAGING_NOT_NEEDED(why=why, status=new.reason)
    elif alert.status is AlertStatus.ON_HOLD:
        started = reasons.PAGING_STARTS_AFTER_HOLD(why=why)
    elif paging_start.time_text:
        started = reasons.PAGING_STARTS_AT(why=why, when=as_reason(paging_start.time_text))
    event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, SYSTEM, started, CommandChannel.POLICY)
    return RunDecision(end_run(run, reasons.PAGING_STARTED_RUN(why=why)), events=(event,), successor=new)


def end_run(run: RunState, reason: Reason) -> RunState:
    """The run after a newer one has replaced it."""
    return replace(run, status=RunStatus.TERMINATED, due_at=None, reason=reason)


def with_reminders_of(old: RunState, new: RunState) -> RunState:
    """`new` with the acknowledgement reminders of the run that it replaces."""
    progress = old.progress
    return with_progress(
        new, ack_reminder_sent_at=progress.ack_reminder_sent_at, ack_confirmed_at=progress.ack_confirmed_at
    )


def _replace_run(
    run: RunState, new: RunState, alert: AlertState, cause: Reason, notice_reason: NoticeReason, now: datetime
) -> RunDecision:
    """Replaces a run. Escalation starts again, unless somebody is responsible for the alert: they are notified
    instead."""
    old = end_run(run, joined(cause, reasons.RUN_REPLACED(), separator=" "))
    if not alert.is_owned and not has_required_acks(run.plan, alert):
        reason = joined(cause, reasons.RESTARTED_AT_STEP_1(), separator=" ")
        event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, SYSTEM, reason, CommandChannel.POLICY)
        new = derive_status(new, alert, now)
        return RunDecision(old, cancellations=(CancelPages(None, reason),), events=(event,), successor=new)
    new = derive_status(with_reminders_of(run, new), alert, now)
    users = (alert.owner,) if alert.is_owned else acknowledgers(alert)
    user_ids = tuple(user.user_id for user in users if user.user_id is not None)
    is_dry_run = new.mode is PagingMode.DRY_RUN
    if not user_ids:
        reason = reasons.RESPONDER_UNREACHABLE(why=cause, user=Person(alert.owner_name))
    elif is_dry_run:
        reason = reasons.RESPONDERS_WOULD_BE_NOTIFIED(why=cause, users=users)
    else:
        reason = reasons.RESPONDERS_NOTIFIED(why=cause, users=users, count=len(users))
    data = {"people": list(user_ids)}
    event = NewEvent(alert.id, EventKind.NOTICE_SENT, now, SYSTEM, reason, CommandChannel.POLICY, data)
    notices = (SendNotice(user_ids, notice_reason, cause),) if user_ids and not is_dry_run else ()
    return RunDecision(old, notices=notices, events=(event,), successor=new)
