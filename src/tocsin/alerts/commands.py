"""The commands that change an alert, with their actor, as plain data: `alerts.lifecycle` applies them. Also what
changed (`AlertChange`), and the handlers that are called with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec

from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel, CommandKind, EventKind, Priority
from tocsin.core.db.database import Connection
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import NO_REASON, Person, Reason


class Actor(msgspec.Struct, frozen=True):
    """Who acts. Only users, and tokens, which act as their user, have a `user_id`."""

    kind: ActorKind
    name: str
    user_id: int | None = None

    @property
    def person(self) -> Person:
        """The actor as a parameter of a reason."""
        return Person(self.name, self.user_id)

    def is_same(self, kind: ActorKind, user_id: int | None, name: str) -> bool:
        """Returns whether this is the same actor. A user and their token are the same."""
        if self.user_id is not None or user_id is not None:
            return self.user_id == user_id
        return (self.kind, self.name) == (kind, name)


#: Tocsin itself, for example at the end of a hold, or when an acknowledgement expires.
SYSTEM = Actor(ActorKind.SYSTEM, "Tocsin")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A user's acknowledgement."""

    at: datetime
    name: str


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The newest event of `states.LIFECYCLE_EVENTS`: `undo` reverses it, and it says who closed the alert."""

    kind: EventKind
    at: datetime
    actor_kind: ActorKind
    actor_name: str
    actor_id: int | None = None
    #: The event's `data`; its `before` holds the values that an undo restores.
    data: Mapping[str, object] = field(default_factory=dict)


class AlertState(msgspec.Struct, frozen=True):
    """The lifecycle's view of an alert: its row, current acknowledgements, and last lifecycle event."""

    id: int
    status: AlertStatus
    priority: Priority
    opened_at: datetime
    owner_id: int | None = None
    #: The owner's name, of a user or of somebody outside Tocsin; empty if the alert is unassigned.
    owner_name: str = ""
    #: By user id.
    acknowledged: Mapping[int, Acknowledged] = msgspec.field(default_factory=dict)
    #: Those of them who got an acknowledgement reminder and have not confirmed yet. Filled by the escalation room.
    reminded_user_ids: frozenset[int] = frozenset()
    #: Whether somebody else assigned it to its owner, who was paged and has not accepted yet. Filled by the escalation
    #: room.
    awaits_acceptance: bool = False
    hold_until: datetime | None = None
    closed_at: datetime | None = None
    merged_into: int | None = None
    #: Whether the alert that it is merged into is closed or cancelled.
    is_parent_ended: bool = False
    #: Whether it holds its dedup key: it is active, or merged into an alert that is. Always False without a key.
    holds_key: bool = True
    #: The other alert that now holds this alert's key, if any.
    key_owner_id: int | None = None
    #: The alerts merged into this one.
    children: tuple[int, ...] = ()
    last_event: LastEvent | None = None
    #: Users remembered by the last event whose accounts are deleted. Filled for an undo only.
    deleted_user_ids: frozenset[int] = frozenset()
    #: Created by a sample, so it concerns only the user who sent that.
    is_test: bool = False

    @property
    def is_owned(self) -> bool:
        """Whether it is assigned, to a user or to somebody outside Tocsin."""
        return self.owner_id is not None or bool(self.owner_name)

    @property
    def owner(self) -> Person:
        """The owner as a parameter of a reason."""
        return Person(self.owner_name, self.owner_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseCommand:
    """The fields of every command."""

    actor: Actor
    #: A user's or a source's text, or Tocsin's own reason.
    note: Reason | str = ""
    via: CommandChannel = CommandChannel.WEB
    #: When the actor was shown or sent the state that they act on; None if they see the current state.
    seen_at: datetime | None = None


class Acknowledge(BaseCommand):
    """The actor acknowledges the alert."""


class Unacknowledge(BaseCommand):
    """The actor withdraws their acknowledgement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireAcknowledgement(BaseCommand):
    """The acknowledgement of `user_id` expires: an acknowledgement reminder was not answered, or for the reason in
    `note`. Only Tocsin itself gives it."""

    user_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign(BaseCommand):
    """Assigns the alert to a user (`user_id` and the display name), or with only `name` to somebody outside Tocsin."""

    name: str
    user_id: int | None = None


class Unassign(BaseCommand):
    """Makes the alert unassigned."""


class Escalate(BaseCommand):
    """Pages the next step now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(BaseCommand):
    """Adds a text to the timeline, in any state."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(BaseCommand):
    """Pauses the timers until the given time."""

    until: datetime


class Resume(BaseCommand):
    """Ends the hold now."""


class Close(BaseCommand):
    """The problem is solved."""


class Cancel(BaseCommand):
    """There was no problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(BaseCommand):
    """Merges the alert into `into`, whose row is locked too."""

    into: AlertState


class Reopen(BaseCommand):
    """Makes a closed or cancelled alert active again."""


class Undo(BaseCommand):
    """Reverses the actor's own last command."""


type Command = (
    Acknowledge
    | Unacknowledge
    | ExpireAcknowledgement
    | Assign
    | Unassign
    | Escalate
    | Reply
    | Hold
    | Resume
    | Close
    | Cancel
    | Merge
    | Reopen
    | Undo
)

#: The class of each command that users give, by its name in the API.
COMMAND_CLASSES: Mapping[CommandKind, type[BaseCommand]] = {
    CommandKind.ACKNOWLEDGE: Acknowledge,
    CommandKind.UNACKNOWLEDGE: Unacknowledge,
    CommandKind.ASSIGN: Assign,
    CommandKind.UNASSIGN: Unassign,
    CommandKind.ESCALATE: Escalate,
    CommandKind.REPLY: Reply,
    CommandKind.HOLD: Hold,
    CommandKind.RESUME: Resume,
    CommandKind.CLOSE: Close,
    CommandKind.CANCEL: Cancel,
    CommandKind.MERGE: Merge,
    CommandKind.REOPEN: Reopen,
    CommandKind.UNDO: Undo,
}


class NewEvent(msgspec.Struct, frozen=True):
    """An entry to append to the timeline of `alert_id`. `data` is small and JSON-compatible (times as ISO texts)."""

    alert_id: int
    kind: EventKind
    at: datetime
    actor: Actor
    #: Who did what, and why.
    reason: Reason | str
    via: CommandChannel = CommandChannel.WEB
    data: Mapping[str, object] = msgspec.field(default_factory=dict)


class Transition(msgspec.Struct, frozen=True):
    """The result of a command. Without events nothing changed, and `answer` says why."""

    state: AlertState
    #: For the actor.
    answer: Reason
    events: tuple[NewEvent, ...] = ()
    #: Alerts merged into this one that move with it: (alert id, new parent or None).
    child_moves: tuple[tuple[int, int | None], ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.events)


# ---------- change handlers
# Handlers called for every change of alerts, in the same transaction. `wiring` registers them.


class PagingMode(StrEnum):
    """How an alert notifies people: page them, only log who would have been paged (dry run), or log only."""

    PAGE = "page"
    DRY_RUN = "dry_run"
    LOG_ONLY = "record"


class PagingConfig(msgspec.Struct, frozen=True):
    """Whom an alert pages. Decided when it opens, and stored by ids, so that nothing has to be resolved again."""

    mode: PagingMode
    #: The id of the policy version; None pages only the recipient users.
    version_id: int | None = None
    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    #: Why this policy, these users or nobody.
    reason: Reason | str = NO_REASON


class PagingStart(msgspec.Struct, frozen=True):
    """An alert that has paged nobody so far, because of a dry run or log only, starts to page."""

    #: The beginning of a sentence.
    reason: Reason | str
    #: The time from which its first step counts; None for now.
    at: datetime | None = None
    #: The same time in words, as the end of a sentence.
    time_text: Reason | str = NO_REASON


class AlertChange(msgspec.Struct, frozen=True):
    """The change of one alert in this transaction: by one command, by one message, or by its creation."""

    #: None: the alert was just created.
    before: AlertState | None
    after: AlertState
    events: tuple[NewEvent, ...]
    #: The command of a person or an integration; None if the alert was created, or a message changed its fields.
    command: Command | None = None
    #: On creation, whom it pages. After its priority has risen, or a reopening with another route, whom it pages from
    #: now on; None keeps the previous value.
    paging: PagingConfig | None = None
    #: The reason why other users may now be responsible, as the beginning of a sentence. `paging` is then the routes'
    #: current selection.
    reassignment_reason: Reason | str = NO_REASON
    #: Whether Tocsin itself wrote this priority at the source. It is no person's action, so nobody is paged again.
    is_echoed_priority: bool = False
    #: Why it pages from now on, although it has paged nobody so far. `paging` then says whom.
    paging_start: PagingStart | None = None
    #: Whether it was a dry run until this change.
    was_dry_run: bool = False
    #: The integration that it belongs to.
    integration_id: int | None = None

    @property
    def alert_id(self) -> int:
        return self.after.id

    @property
    def is_opening(self) -> bool:
        """Whether it is new to handlers that ignore dry runs: just created, or paging from now on."""
        pages = self.paging is not None and self.paging.mode is PagingMode.PAGE
        return self.before is None or (self.was_dry_run and pages)


type ChangeHandler = Callable[[Connection, Sequence[AlertChange], datetime], None]

#: Called with every list of changes inside their transaction. Ingest calls them in a pipeline: statements are sent
#: together, and COPY is not possible.
HANDLERS: Hooks[ChangeHandler] = Hooks()


def call_handlers(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """Calls every handler with the changes of this transaction."""
    if changes:
        for handler in HANDLERS.of():
            handler(connection, changes, now)


# ---------- new alert
# The data written when an alert is created or its messages repeat. Plain; `alerts.store` writes it. Pure.


#: The columns that messages fill and update, in the order in which a timeline entry lists their changes.
SOURCE_COLUMNS = (
    "source_status",
    "subject",
    "source_priority",
    "source_agent",
    "source_url",
    "client",
    "site",
    "team",
    "requester",
    "requester_phone",
    "short_text",
    "long_text",
)


class NewAlert(msgspec.Struct, frozen=True):
    """The row of a new alert."""

    id: int
    priority: Priority
    subject: str
    opened_at: datetime
    key_hash: bytes | None = None
    source: str = ""
    source_name: str = ""
    source_id: str = ""
    #: By name, from SOURCE_COLUMNS; missing ones are empty.
    columns: Mapping[str, str] = msgspec.field(default_factory=dict)
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    custom: Mapping[str, str] = msgspec.field(default_factory=dict)
    integration_id: int | None = None
    previous_alert_id: int | None = None
    count: int = 1
    last_message_at: datetime | None = None
    dry_run: bool = False
    is_test: bool = False
    #: Groups to which it belongs besides those that it notifies.
    group_ids: tuple[int, ...] = ()


class AlertCreation(msgspec.Struct, frozen=True):
    """An alert to create: its row, whom it pages, and the first entry of its timeline."""

    alert: NewAlert
    paging: PagingConfig
    event: NewEvent


class RepeatedMessages(msgspec.Struct, frozen=True):
    """Repeated messages of one alert: their number, the time of the newest, and the fields that they changed."""

    alert_id: int
    count: int
    last_message_at: datetime
    #: By column name, with `tags` and `custom` complete; None if nothing changed.
    changes: Mapping[str, object] | None = None
