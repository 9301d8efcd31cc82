"""Collects what one call of the escalation engine decides. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import SYSTEM, AlertState, Command, NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.reasons import Reason
from tocsin.escalation import reasons
from tocsin.escalation.run.run_state import (
    ActivePause,
    PageContact,
    PageUser,
    RunDecision,
    RunState,
    RunStatus,
    SendAckReminder,
    SendNotice,
    with_progress,
)
from tocsin.escalation.run.run_status import derive_status
from tocsin.escalation.run.target_resolution import HandoverPolicy, TargetContext


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
            run,
            commands=tuple(self.commands),
            events=tuple(self.events),
            successor=new,
            successor_version=version,
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
        """Adds an event to the alert's timeline."""
        self.events.append(NewEvent(self.alert.id, kind, self.now, SYSTEM, reason, CommandChannel.POLICY, data))
