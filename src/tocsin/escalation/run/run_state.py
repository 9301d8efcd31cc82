"""An escalation run and its decisions as data, and the conversion of a run to and from its row. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import Command, NewEvent
from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Reason, reason_from
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.run.target_resolution import TargetUser
from tocsin.notify.rules.notification_rules import USER_RULES, DeliveryOverride


class RunStatus(StrEnum):
    """The status of a run."""

    #: Steps fire when due.
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

    #: The number of completed passes.
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
    #: Whether anybody was paged yet.
    any_notified: bool = False
    #: Whether managers were notified that nobody could be paged.
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
    #: The index of the current recipient group, when groups are paged one by one.
    group: int = 0
    #: The users already paged by the current one-by-one step.
    already_notified: tuple[int, ...] = ()
    #: Whether anybody was paged in this pass for this group.
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
    #: The priority for which the run was started.
    priority: Priority = Priority.HIGH
    progress: RunProgress = field(default_factory=RunProgress)


@dataclass(frozen=True, slots=True)
class ActivePause:
    """The pause of all paging that is in force."""

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
    """Notify this group contact now."""

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
    """The reason for a notice."""

    NOBODY_ANSWERED = "nobody_answered"
    NOBODY_TO_PAGE = "nobody_to_page"
    PRIORITY_ROSE = "priority_rose"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class SendNotice:
    """A notice to these users."""

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
        "reason_code": run.reason.code,
        "reason_data": run.reason.data,
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
        reason=reason_from(row["reason_code"], row["reason_data"]),
        recipient_users=tuple(row["recipient_users"]),
        recipient_groups=tuple(row["recipient_groups"]),
        priority=Priority(row["priority"]),
        progress=progress,
    )


def with_progress(run: RunState, **changes: Any) -> RunState:
    """`run` with changed progress fields."""
    return replace(run, progress=msgspec.structs.replace(run.progress, **changes))
