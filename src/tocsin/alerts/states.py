"""The statuses and priorities of an alert, and the kinds of commands, actors and events of its lifecycle."""

from __future__ import annotations

from enum import StrEnum

from tocsin.core.reasons import translatable


class AlertStatus(StrEnum):
    OPEN = "open"
    ASSIGNED = "assigned"
    ON_HOLD = "on_hold"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    MERGED = "merged"


#: The statuses of an alert that still needs an answer.
ACTIVE = frozenset({AlertStatus.OPEN, AlertStatus.ASSIGNED, AlertStatus.ON_HOLD})

#: All other statuses, which lists show as closed.
INACTIVE = frozenset(AlertStatus) - ACTIVE

#: The statuses of an alert that is over.
TERMINAL = frozenset({AlertStatus.CLOSED, AlertStatus.CANCELLED})


class Priority(StrEnum):
    CRITICAL = translatable("critical")
    HIGH = translatable("high")
    MEDIUM = translatable("medium")
    LOW = translatable("low")

    @property
    def rank(self) -> int:
        """0 for the most urgent, 3 for the least."""
        return _RANK[self]

    def is_above(self, other: Priority) -> bool:
        """Returns whether this priority is more urgent than `other`."""
        return self.rank < other.rank


_RANK = {priority: rank for rank, priority in enumerate(Priority)}


class CommandKind(StrEnum):
    """The commands of a user. The values are the names in API paths."""

    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    ASSIGN = "assign"
    UNASSIGN = "unassign"
    ESCALATE = "escalate"
    REPLY = "reply"
    HOLD = "hold"
    RESUME = "resume"
    CLOSE = "close"
    CANCEL = "cancel"
    MERGE = "merge"
    REOPEN = "reopen"
    UNDO = "undo"


class ActorKind(StrEnum):
    """Who acted. A token acts as its user; a contact belongs to a group, not to a user."""

    USER = "user"
    INTEGRATION = "integration"
    SYSTEM = "system"
    TOKEN = "token"  # noqa: S105 - a kind of actor, no secret
    CONTACT = "contact"


class CommandChannel(StrEnum):
    """The channel through which a command came."""

    WEB = "web"
    EMAIL = "email"
    API = "api"
    SMS = "sms"
    VOICE = "voice"
    PUSH = "push"
    CHAT = "chat"
    HALO = "halo"
    INBOUND = "inbound"
    POLICY = "policy"
    WORKFLOW = "workflow"


class EventKind(StrEnum):
    """The kind of a timeline entry."""

    OPENED = "opened"
    UPDATED = "updated"
    MESSAGE = "message"

    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGEMENT_EXPIRED = "acknowledgement_expired"
    ASSIGNED = "assigned"
    #: The assignee accepted an alert that somebody else assigned to them.
    ACCEPTED = "accepted"
    UNASSIGNED = "unassigned"
    ESCALATED = "escalated"
    REPLIED = "replied"
    PUT_ON_HOLD = "held"
    RESUMED = "resumed"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    MERGED = "merged"
    #: On the alert that another was merged into.
    MERGED_INTO_THIS = "merged_here"
    #: On a merged alert whose parent is over (its key is free), or active again.
    KEY_RELEASED = "key_freed"
    KEY_RESTORED = "key_taken"
    #: Another key's messages now count on this alert; one of those keys is over.
    GROUP_JOINED = "joined"
    GROUP_MEMBER_ENDED = "part_over"
    REOPENED = "reopened"
    UNDONE = "undone"

    ESCALATION_STARTED = "escalation_started"
    ESCALATION_STOPPED = "escalation_stopped"
    ESCALATION_PAUSED = "escalation_waits"
    ESCALATION_CONTINUED = "escalation_goes_on"
    ESCALATION_EXHAUSTED = "escalation_finished"
    STEP_FIRED = "step_fired"
    STEP_EMPTY = "step_empty"
    ASSIGNEE_PAGED = "assignee_paged"
    ACK_REMINDER_SENT = "still_on_it"
    NOTICE_SENT = "told"

    PAGE_FAILED = "page_failed"

    #: An action of a workflow that is not a command.
    WORKFLOW = "workflow"


#: The events that answer an alert, as a list whose order migrations repeat.
RESPONSES = [str(EventKind.ACKNOWLEDGED), str(EventKind.ASSIGNED)]

#: The events that change who is assigned, or whether the alert is active. `undo` reverses the last of them, and it says
#: who closed, assigned or paused an alert.
LIFECYCLE_EVENTS = frozenset(
    {
        EventKind.OPENED,
        EventKind.ACKNOWLEDGED,
        EventKind.UNACKNOWLEDGED,
        EventKind.ACKNOWLEDGEMENT_EXPIRED,
        EventKind.ASSIGNED,
        EventKind.ACCEPTED,
        EventKind.UNASSIGNED,
        EventKind.ESCALATED,
        EventKind.REPLIED,
        EventKind.PUT_ON_HOLD,
        EventKind.RESUMED,
        EventKind.CLOSED,
        EventKind.CANCELLED,
        EventKind.MERGED,
        EventKind.MERGED_INTO_THIS,
        EventKind.REOPENED,
        EventKind.UNDONE,
    }
)
