"""The triggers, actions and run states of workflows. Pure."""

from __future__ import annotations

from enum import StrEnum


class TriggerKind(StrEnum):
    """The triggers. The values are those of the YAML."""

    OPENED = "opened"
    UPDATED = "updated"
    STATUS_CHANGED = "status_changed"
    ACKNOWLEDGED = "acknowledged"
    ASSIGNED = "assigned"
    ESCALATED = "escalated"
    EXHAUSTED = "exhausted"
    REPLY = "reply"
    CLOSED = "closed"
    UNACKNOWLEDGED = "unacknowledged"
    UNASSIGNED = "unassigned"
    BEFORE_SLA = "before_sla"
    AFTER_SLA = "after_sla"
    EVERY = "every"
    MANUAL = "manual"


SLA = frozenset({TriggerKind.BEFORE_SLA, TriggerKind.AFTER_SLA})

#: Triggers that fire with a delay, and only while the alert is active. Only a workflow's newest run counts.
TIMED = frozenset({TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY}) | SLA


#: Triggers that also apply to terminal alerts.
ON_TERMINAL_ALERTS = frozenset({TriggerKind.CLOSED, TriggerKind.STATUS_CHANGED, TriggerKind.REPLY, TriggerKind.MANUAL})

#: Escalation events that a workflow may have caused.
OF_PAGING = frozenset({TriggerKind.ESCALATED, TriggerKind.EXHAUSTED})


class SlaMoment(StrEnum):
    """The source of an SLA moment: the ticket, or a duration from the alert's creation."""

    RESPOND_BY = "respond_by"
    FIX_BY = "fix_by"
    OPENING = "opening"


class ActionKind(StrEnum):
    """The actions. The values are those of the YAML."""

    NOTIFY = "notify"
    START_POLICY = "start_policy"
    ADD_RESPONDERS = "add_responders"
    ESCALATE = "escalate"
    SET_PRIORITY = "set_priority"
    SET_TAGS = "set_tags"
    HOLD = "hold"
    CLOSE = "close"
    REPLY = "reply"
    CALL = "call"
    HALO = "halo"
    OPEN_ALERT = "open_alert"
    WAIT = "wait"


#: Actions that change the alert, its paging or its ticket.
CHANGES = frozenset({
    ActionKind.START_POLICY, ActionKind.ADD_RESPONDERS, ActionKind.ESCALATE, ActionKind.SET_PRIORITY,
    ActionKind.SET_TAGS, ActionKind.HOLD, ActionKind.CLOSE, ActionKind.REPLY, ActionKind.HALO,
})  # fmt: skip

#: Actions with effects elsewhere, which may come back as a new alert.
OUTWARD = frozenset({ActionKind.CALL, ActionKind.HALO, ActionKind.OPEN_ALERT})


class WorkflowRunStatus(StrEnum):
    """The status of a run."""

    #: Due at its time.
    WAITING = "waiting"
    #: Every action was attempted.
    DONE = "done"
    #: Did nothing, with a reason.
    SKIPPED = "skipped"
    #: Ended before its last action.
    STOPPED = "stopped"
    #: Failed too often; administrators were notified.
    STUCK = "stuck"
