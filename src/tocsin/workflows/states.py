"""What a workflow waits for, what it can do, and how one of its runs stands. Pure."""

from __future__ import annotations

from enum import StrEnum


class TriggerKind(StrEnum):
    """What a workflow waits for. The names are those of the YAML."""

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

#: Those that look at an alert later than it happened, and only while it lives. Of one workflow the newest run counts.
TIMED = frozenset({TriggerKind.UNACKNOWLEDGED, TriggerKind.UNASSIGNED, TriggerKind.EVERY}) | SLA


#: Those that look at an alert which may be over.
AT_THE_END = frozenset({TriggerKind.CLOSED, TriggerKind.STATUS_CHANGED, TriggerKind.REPLY, TriggerKind.MANUAL})

#: What the escalation does, which a workflow may have set going.
OF_PAGING = frozenset({TriggerKind.ESCALATED, TriggerKind.EXHAUSTED})


class SlaMoment(StrEnum):
    """From what an SLA moment is taken: the ticket, or so long after the opening."""

    RESPOND_BY = "respond_by"
    FIX_BY = "fix_by"
    OPENING = "opening"


class ActionKind(StrEnum):
    """What a workflow can do. The names are those of the YAML."""

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


#: Those that change the alert, whom it pages, or its ticket.
CHANGES = frozenset({
    ActionKind.START_POLICY, ActionKind.ADD_RESPONDERS, ActionKind.ESCALATE, ActionKind.SET_PRIORITY,
    ActionKind.SET_TAGS, ActionKind.HOLD, ActionKind.CLOSE, ActionKind.REPLY, ActionKind.HALO,
})  # fmt: skip

#: Those by which something elsewhere comes about, which may come back as a new alert.
OUTWARD = frozenset({ActionKind.CALL, ActionKind.HALO, ActionKind.OPEN_ALERT})


class WorkflowRunStatus(StrEnum):
    """How a run stands."""

    #: It is due at its time.
    WAITING = "waiting"
    #: Everything it had to do was tried.
    DONE = "done"
    #: It did nothing, and says why.
    SKIPPED = "skipped"
    #: It ended before all was done.
    STOPPED = "stopped"
    #: It failed too often; administrators are told.
    STUCK = "stuck"
