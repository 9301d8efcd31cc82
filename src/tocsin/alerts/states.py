"""The statuses and priorities of an alert, the kinds of commands, actors and events, and what is said of them."""

from __future__ import annotations

from enum import StrEnum

from tocsin.core.reasons import ReasonType, Term, translatable


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


# ---------- reasons
# What happened to an alert: the reasons in timelines, and the answers to commands and their rejections.


# Timeline: commands. The actor is a user, an integration or Tocsin.

WITH_NOTE = ReasonType("alert.event_with_note", "{event}: {note}")
ACKNOWLEDGED = ReasonType("alert.acknowledged", "{actor} acknowledged the alert")
ACKNOWLEDGEMENT_CONFIRMED = ReasonType("alert.acknowledgement_confirmed", "{actor} is still working on the alert")
UNACKNOWLEDGED = ReasonType("alert.unacknowledged", "{actor} unacknowledged the alert")
ACKNOWLEDGEMENT_EXPIRED = ReasonType(
    "alert.acknowledgement_expired",
    "The acknowledgement of {user} from {ago} expired: the acknowledgement reminder was not answered",
)
ACKNOWLEDGEMENT_ENDED = ReasonType("alert.acknowledgement_ended", "The acknowledgement of {user} expired: {reason}")
ASSIGNED = ReasonType("alert.assigned", "{actor} assigned the alert to {user}")
REASSIGNED = ReasonType("alert.reassigned", "{actor} reassigned the alert from {previous} to {user}")
ASSIGNED_TO_SELF = ReasonType("alert.assigned_to_self", "{actor} assigned the alert to themselves")
REASSIGNED_TO_SELF = ReasonType(
    "alert.reassigned_to_self", "{actor} reassigned the alert from {previous} to themselves"
)
ACCEPTED = ReasonType("alert.accepted", "{actor} accepted the assignment")
UNASSIGNED = ReasonType("alert.unassigned", "{actor} unassigned {user}")
UNASSIGNED_SELF = ReasonType("alert.unassigned_self", "{actor} unassigned themselves")
ESCALATED = ReasonType("alert.escalated", "{actor} escalated the alert")
NOTE_ADDED = ReasonType("alert.note_added", "{actor} added a note")
SNOOZED = ReasonType("alert.snoozed", "{actor} snoozed the alert for {duration}")
SNOOZE_CHANGED = ReasonType("alert.snooze_changed", "{actor} changed the snooze to {duration}")
SNOOZE_CANCELLED = ReasonType("alert.snooze_cancelled", "{actor} ended the snooze")
SNOOZE_ENDED = ReasonType("alert.snooze_ended", "The snooze ended")
CLOSED = ReasonType("alert.closed", "{actor} closed the alert")
CANCELLED = ReasonType("alert.cancelled", "{actor} closed the alert as a false alarm")
REOPENED = ReasonType("alert.reopened", "{actor} reopened the alert")
MERGED = ReasonType("alert.merged", "{actor} merged the alert into alert {into}")
MERGED_INTO_THIS = ReasonType("alert.merged_into_this", "{actor} merged alert {alert} into this one")
MERGED_ALONG = ReasonType("alert.merged_along", "{actor} merged alert {alert}, and this one with it, into alert {into}")
UNDONE = ReasonType("alert.undone", "{actor} undid the {command}")
MERGE_UNDONE = ReasonType("alert.merge_undone", "{actor} undid the merge of alert {alert} into this one")
MERGE_ALONG_UNDONE = ReasonType(
    "alert.merge_along_undone",
    "{actor} undid the merge of alert {alert} and this one into alert {into}: "
    "this one is merged into alert {alert} again",
)
PRIORITY_CHANGED = ReasonType("alert.priority_changed", "{actor} changed the priority: {old} → {new}")
TAGS_SET = ReasonType("alert.tags_set", "{actor} set tags: {changes}")
TAG_VALUE = ReasonType("alert.tag_value", "{name} = {value}")
TAG_REMOVED = ReasonType("alert.tag_removed", "no {name}")

# Timeline: merged alerts and their dedup keys.

KEY_RELEASED = ReasonType(
    "alert.key_released", "Alert {parent}, which this one is merged into, ended; a new message opens a new alert"
)
KEY_RESTORED = ReasonType(
    "alert.key_restored", "Alert {parent}, which this one is merged into, is active again; messages count there"
)
STALE_KEY_RELEASED = ReasonType(
    "alert.stale_key_released",
    "The alert still held its dedup key although it is no longer active; a new message opens a new alert",
)
KEY_IS_FREE = ReasonType("alert.key_is_free", "The dedup key is free already")
KEY_UNCHANGED = ReasonType("alert.key_unchanged", "The dedup key stays where it is")

# Timeline: changes at the source.

SOURCE_CHANGED = ReasonType("alert.source_changed", "{actor} updated the alert: {changes}")
SOURCE_CONFIRMED = ReasonType("alert.source_confirmed", "{actor} confirmed what Tocsin wrote: {changes}")
FIELD_CHANGED = ReasonType("alert.field_changed", "{field} {old} → {new}")
FIELD_SET = ReasonType("alert.field_set", "{field} {new}")
FIELD_REMOVED = ReasonType("alert.field_removed", "{field} removed")
LONG_FIELD_CHANGED = ReasonType("alert.long_field_changed", "{field} changed")
UNASSIGNED_AT_SOURCE = ReasonType(
    "alert.unassigned_at_source", "{actor} unassigned {user}: the alert is open, and escalation restarts"
)
AGENT_UNCHANGED = ReasonType("alert.agent_unchanged", "The agent did not change.")
AGENT_ASSIGNED_ALREADY = ReasonType("alert.agent_assigned_already", "The alert is already assigned to {user}.")
NOT_ASSIGNED = ReasonType("alert.not_assigned", "The alert is unassigned.")
ASSIGNED_IN_TOCSIN = ReasonType("alert.assigned_in_tocsin", "{user} was assigned in Tocsin and stays assigned.")

# What an undo reverses.

ACKNOWLEDGEMENT = ReasonType("command.acknowledgement", "acknowledgement")
UNACKNOWLEDGEMENT = ReasonType("command.unacknowledgement", "withdrawal of the acknowledgement")
ASSIGNMENT = ReasonType("command.assignment", "assignment")
UNASSIGNMENT = ReasonType("command.unassignment", "unassignment")
SNOOZE = ReasonType("command.snooze", "snooze")
SNOOZE_END = ReasonType("command.snooze_end", "end of the snooze")
CLOSE = ReasonType("command.close", "close")
CANCEL = ReasonType("command.cancel", "close as a false alarm")
MERGE = ReasonType("command.merge", "merge")

# Answers to commands.

YOU_ACKNOWLEDGED = ReasonType("command.acknowledged", "You acknowledged alert {alert}.")
YOU_ACKNOWLEDGED_ALREADY = ReasonType("command.acknowledged_already", "You already acknowledged alert {alert} {ago}.")
YOU_CONFIRMED = ReasonType("command.acknowledgement_confirmed", "Confirmed: you are still working on alert {alert}.")
YOU_UNACKNOWLEDGED = ReasonType("command.unacknowledged", "You unacknowledged alert {alert}.")
YOU_DID_NOT_ACKNOWLEDGE = ReasonType("command.not_acknowledged", "You have not acknowledged alert {alert}.")
NO_SUCH_ACKNOWLEDGEMENT = ReasonType("command.no_such_acknowledgement", "The acknowledgement no longer exists.")
ASSIGNED_TO_YOU = ReasonType("command.assigned_to_you", "Alert {alert} is assigned to you.")
ASSIGNED_TO_YOU_ALREADY = ReasonType("command.assigned_to_you_already", "Alert {alert} is already assigned to you.")
ASSIGNED_TO = ReasonType("command.assigned_to", "Alert {alert} is assigned to {user}.")
ASSIGNED_TO_ALREADY = ReasonType("command.assigned_to_already", "Alert {alert} is already assigned to {user}.")
YOU_ACCEPTED = ReasonType("command.accepted", "You accepted alert {alert}.")
IS_UNASSIGNED = ReasonType("command.unassigned", "Alert {alert} is unassigned.")
IS_UNASSIGNED_ALREADY = ReasonType("command.unassigned_already", "Alert {alert} is not assigned.")
ESCALATING = ReasonType("command.escalated", "Escalating alert {alert} to the next step.")
NOTE_WAS_ADDED = ReasonType("command.note_added", "Your note was added to alert {alert}.")
IS_SNOOZED = ReasonType("command.snoozed", "Alert {alert} is snoozed for {duration}.")
IS_NOT_SNOOZED = ReasonType("command.not_snoozed", "Alert {alert} is not snoozed.")
SNOOZE_HAS_ENDED = ReasonType("command.snooze_ended", "The snooze of alert {alert} has ended.")
IS_CLOSED = ReasonType("command.closed", "Alert {alert} is closed.")
IS_CLOSED_ALREADY = ReasonType("command.closed_already", "You already closed alert {alert}.")
IS_CANCELLED = ReasonType("command.cancelled", "Alert {alert} is closed as a false alarm.")
IS_CANCELLED_ALREADY = ReasonType("command.cancelled_already", "You already closed alert {alert} as a false alarm.")
IS_MERGED = ReasonType("command.merged", "Alert {alert} is merged into alert {into}.")
IS_MERGED_ALREADY = ReasonType("command.merged_already", "Alert {alert} is already merged into alert {into}.")
IS_REOPENED = ReasonType("command.reopened", "Alert {alert} is open again.")
COMMAND_UNDONE = ReasonType("command.undone", "Undone: {command} of alert {alert}.")
PRIORITY_IS = ReasonType("command.priority_changed", "The priority is {new}; it was {old}.")
PRIORITY_IS_ALREADY = ReasonType("command.priority_is_already", "The priority is already {priority}.")
TAGS_ARE = ReasonType("command.tags_set", "Tags: {changes}.")
TAGS_ARE_ALREADY = ReasonType("command.tags_set_already", "The tags are already set.")

# The state of an alert, for a command that came too late.

WAS_CLOSED = ReasonType("alert.was_closed", "Alert {alert} was already closed {ago}.")
WAS_CLOSED_BY = ReasonType("alert.was_closed_by", "Alert {alert} was already closed by {actor} {ago}.")
WAS_CANCELLED = ReasonType("alert.was_cancelled", "Alert {alert} was already closed as a false alarm {ago}.")
WAS_CANCELLED_BY = ReasonType(
    "alert.was_cancelled_by", "Alert {alert} was already closed as a false alarm by {actor} {ago}."
)
WAS_MERGED = ReasonType("alert.was_merged", "Alert {alert} is merged into alert {into}; use that one.")
STATE_SNOOZED = ReasonType("alert.state_snoozed", "Alert {alert} is snoozed for another {duration}.")
STATE_SNOOZED_ASSIGNED = ReasonType(
    "alert.state_snoozed_assigned", "Alert {alert} is snoozed for another {duration}, assigned to {user}."
)
STATE_ASSIGNED = ReasonType("alert.state_assigned", "Alert {alert} is assigned to {user}.")
STATE_OPEN = ReasonType("alert.state_open", "Alert {alert} is open.")
NOTHING_TO_DO = ReasonType("alert.nothing_to_do", "Nothing to do.")

# Users of an alert that cannot be deleted.

ALERT_REFERENCE = ReasonType("alert.reference", "alert #{alert}")

#: The priorities as parameters of a reason.
PRIORITY_TERMS = {
    Priority.CRITICAL: Term("critical"),
    Priority.HIGH: Term("high"),
    Priority.MEDIUM: Term("medium"),
    Priority.LOW: Term("low"),
}

#: The fields of an alert that a source changes, as their names are shown in a reason.
FIELD_TERMS = {
    term.text: term
    for term in (
        Term("agent"),
        Term("assignee"),
        Term("attachments"),
        Term("category"),
        Term("client"),
        Term("custom"),
        Term("details"),
        Term("fix by"),
        Term("long text"),
        Term("priority"),
        Term("requester"),
        Term("requester phone"),
        Term("respond by"),
        Term("severity"),
        Term("short text"),
        Term("site"),
        Term("status"),
        Term("subject"),
        Term("tags"),
        Term("team"),
        Term("ticket type"),
        Term("url"),
    )
}
