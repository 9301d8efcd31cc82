"""An escalation run as data, the decision a turn of it comes to, and how a run is kept in its row. Pure."""

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
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.run.target_resolution import TargetUser
from tocsin.notify.rules.notification_rules import USER_RULES, DeliveryOverride


class RunStatus(StrEnum):
    """How a run stands."""

    #: Steps fire when they are due.
    ACTIVE = "active"
    #: On hold, all paging paused, or paused by an acknowledgement: steps wait.
    PAUSED = "paused"
    #: Somebody has the alert or acknowledged it, or it is only recorded.
    STOPPED = "stopped"
    #: The end was reached and nobody answered.
    FINISHED = "finished"
    #: The alert is over or merged, or a newer run replaced this one.
    ENDED = "ended"


class RunProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a run is: its row's `progress`. A new run keeps nothing: `{}` stands for "step 1 at `due_at`"."""

    #: Passes before this one.
    passes: int = 0
    #: The index of the step to fire next; past the last, the next pass or the end comes.
    step: int = 0
    #: When that is due, if nothing holds it up; None after the end.
    step_due_at: datetime | None = None
    last_step_at: datetime | None = None
    #: Until when a person has pages of a started step to come, by user id.
    busy: dict[int, datetime] = {}
    #: When an acknowledger was asked "Still on it?", by user id.
    asked: dict[int, datetime] = {}
    #: When an acknowledger answered that by another act than acknowledging again.
    heard: dict[int, datetime] = {}
    #: Whether anybody was started yet.
    reached: bool = False
    #: Whether managers were told that nobody can be reached.
    told: bool = False
    finished_at: datetime | None = None
    #: Since when hold or pause have stopped the timers.
    still_since: datetime | None = None
    #: A person asked for the next step: when, and who.
    wake_at: datetime | None = None
    wake_by: int | None = None
    #: Until when the pause of all paging lasts that the timeline already tells of.
    pause_until: datetime | None = None
    #: Why this policy, or why nobody is paged.
    why: str = ""
    #: The place of the recipient group whose steps fire, where they go one by one.
    group: int = 0
    #: Who was started by the step that is going on one by one.
    taken: tuple[int, ...] = ()
    #: Whether anybody was started in this pass, for this group.
    paged: bool = False
    #: Whether the step waits until somebody is on call, and said so.
    waiting: bool = False
    #: Who was started by a step that counts only until anybody acknowledges.
    soft: tuple[int, ...] = ()
    #: Whether the end was reached, and the last step goes on.
    keeping: bool = False


@dataclass(frozen=True, slots=True)
class RunState:
    """One policy at work on one alert. `due_at` is its one timer, the earliest of all it waits for."""

    alert_id: int
    plan: CompiledPolicy
    mode: PagingMode
    status: RunStatus
    started_at: datetime
    due_at: datetime | None
    #: Why there is no timer, or what it waits for.
    reason: str = ""
    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    #: The priority it was started for.
    priority: Priority = Priority.HIGH
    progress: RunProgress = field(default_factory=RunProgress)


@dataclass(frozen=True, slots=True)
class ActivePause:
    """The pause of all paging that is in force."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class PageUser:
    """Start paging this person now, by their own contact methods; `notify` plans when each page leaves."""

    pick: TargetUser
    at: datetime
    reason: str
    #: 1-based, for the message.
    step: int
    passes: int
    #: A person asked for it: it is sent although somebody has the alert or it is on hold.
    wake: bool = False
    priority: Priority = Priority.HIGH
    calling: DeliveryOverride = USER_RULES


@dataclass(frozen=True, slots=True)
class PageContact:
    """Send to this group contact now."""

    contact_id: int
    group_id: int
    label: str
    at: datetime
    reason: str
    step: int
    passes: int
    wake: bool = False
    calling: DeliveryOverride = USER_RULES


@dataclass(frozen=True, slots=True)
class SendAckReminder:
    """Ask this person "Still on it?"."""

    user_id: int
    reason: str
    answer_by: datetime


class NoticeReason(StrEnum):
    """What people are told of."""

    NOBODY_ANSWERED = "nobody_answered"
    NOBODY_TO_PAGE = "nobody_to_page"
    PRIORITY_ROSE = "priority_rose"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class SendNotice:
    """A notice to these people."""

    user_ids: tuple[int, ...]
    why: NoticeReason
    text: str


@dataclass(frozen=True, slots=True)
class CancelPages:
    """Cancel every unsent page of the alert to these people (None: to everybody)."""

    user_ids: frozenset[int] | None
    reason: str


@dataclass(frozen=True, slots=True)
class RunDecision:
    """What a turn comes to: everything is to be written in the one transaction that writes `run`.

    `commands` are for `alerts.service` (the end of a hold, an acknowledgement that expires) and come before the
    events. In dry-run mode `starts`, `contacts`, `asks` and `tells` are empty, and `would` says who would have been
    paged. `successor` replaces `run`, which is then ended.
    """

    run: RunState
    starts: tuple[PageUser, ...] = ()
    contacts: tuple[PageContact, ...] = ()
    asks: tuple[SendAckReminder, ...] = ()
    tells: tuple[SendNotice, ...] = ()
    cancels: tuple[CancelPages, ...] = ()
    commands: tuple[Command, ...] = ()
    events: tuple[NewEvent, ...] = ()
    would: tuple[PageUser, ...] = ()
    successor: RunState | None = None
    #: The policy version of `successor`, where it is another's.
    successor_version: int | None = None


def to_row(run: RunState) -> dict[str, Any]:
    """The columns of a run's row that a turn may change, by name; `progress` as JSON values."""
    return {
        "status": str(run.status),
        "mode": str(run.mode),
        "due_at": run.due_at,
        "reason": run.reason,
        "priority": str(run.priority),
        "started_at": run.started_at,
        "progress": msgspec.to_builtins(run.progress, str_keys=True),
    }


def from_row(row: Mapping[str, Any], plan: CompiledPolicy) -> RunState:
    """The run of a row (a mapping by column name). Raises msgspec.ValidationError for a `progress` that is not ours."""
    progress = msgspec.convert(row["progress"], RunProgress, strict=False, str_keys=True)
    if not row["progress"] or set(row["progress"]) == {"why"}:
        progress = msgspec.structs.replace(progress, step_due_at=row["due_at"])
    return RunState(
        alert_id=row["alert_id"],
        plan=plan,
        mode=PagingMode(row["mode"]),
        status=RunStatus(row["status"]),
        started_at=row["started_at"],
        due_at=row["due_at"],
        reason=row["reason"],
        recipient_users=tuple(row["recipient_users"]),
        recipient_groups=tuple(row["recipient_groups"]),
        priority=Priority(row["priority"]),
        progress=progress,
    )


def with_progress(run: RunState, **changes: Any) -> RunState:
    """`run` with fields of its progress changed."""
    return replace(run, progress=msgspec.structs.replace(run.progress, **changes))
