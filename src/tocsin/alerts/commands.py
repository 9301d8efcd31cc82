"""What can be asked of an alert: each command with its actor. Plain data; `alerts.lifecycle` decides on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tocsin.alerts.states import ActorKind, AlertStatus, CommandChannel, CommandKind, EventKind, Priority


class Actor(msgspec.Struct, frozen=True):
    """Who acts. `user_id` is set for a user, for a token (it acts as its user), and for nobody else."""

    kind: ActorKind
    name: str
    user_id: int | None = None

    def is_same(self, kind: ActorKind, user_id: int | None, name: str) -> bool:
        """Whether this is that actor; a person is the same whether by token or by hand."""
        if self.user_id is not None or user_id is not None:
            return self.user_id == user_id
        return (self.kind, self.name) == (kind, name)


#: Tocsin itself: the end of a hold, an acknowledgement that expires.
SYSTEM = Actor(ActorKind.SYSTEM, "Tocsin")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """That a person acknowledged, and when."""

    at: datetime
    name: str


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The newest event of an alert whose kind is in `states.LIFE`: what `undo` takes back, and who closed it."""

    kind: EventKind
    at: datetime
    actor_kind: ActorKind
    actor_name: str
    actor_id: int | None = None
    #: The event's `data`; its `before` holds what an undo restores.
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertState:
    """What the lifecycle knows of an alert: its row, its acknowledgements that stand, and its last event of life."""

    id: int
    status: AlertStatus
    priority: Priority
    opened_at: datetime
    owner_id: int | None = None
    #: The owner's name, whether a user's or one outside; empty when nobody has it.
    owner_name: str = ""
    #: By user id.
    acknowledged: Mapping[int, Acknowledged] = field(default_factory=dict)
    #: Those among them that were asked "Still on it?" and have not answered yet; filled by whoever knows the run.
    asked: frozenset[int] = frozenset()
    hold_until: datetime | None = None
    closed_at: datetime | None = None
    merged_into: int | None = None
    #: Whether the alert it is merged into was closed or cancelled.
    parent_is_over: bool = False
    #: Whether it holds its dedup key: live, or merged into an alert that is. Without a key it stays False.
    holds_key: bool = True
    #: The alert that holds the key of this one now, if another does.
    key_taken_by: int | None = None
    #: The alerts that are merged into this one.
    children: tuple[int, ...] = ()
    last: LastEvent | None = None
    #: Of those whom its last event remembers, whose accounts are deleted. Filled for an undo only.
    gone: frozenset[int] = frozenset()
    #: Opened by a sample: it concerns nobody but whoever sent that.
    is_test: bool = False

    @property
    def is_owned(self) -> bool:
        """Whether somebody has it, a user or a name outside."""
        return self.owner_id is not None or bool(self.owner_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseCommand:
    """What every command carries."""

    actor: Actor
    note: str = ""
    via: CommandChannel = CommandChannel.WEB
    #: When what the actor acts upon was shown or sent to them; None: they see it as it stands.
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge(BaseCommand):
    """`actor` has seen it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unacknowledge(BaseCommand):
    """`actor` takes the acknowledgement back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireAcknowledgement(BaseCommand):
    """The acknowledgement of `user_id` counts no more: asked "Still on it?", no answer, or what `note` says. Given by
    Tocsin itself only."""

    user_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign(BaseCommand):
    """To a user (`user_id` and the display name), or with `name` alone to somebody outside."""

    name: str
    user_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unassign(BaseCommand):
    """Nobody has it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate(BaseCommand):
    """Notify the next step now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(BaseCommand):
    """A text on the alert, in any state."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(BaseCommand):
    """Stop the timers until then."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(BaseCommand):
    """The hold ends now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(BaseCommand):
    """The problem is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(BaseCommand):
    """Nothing was wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(BaseCommand):
    """It is the same problem as `into`, whose row is locked too."""

    into: AlertState


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen(BaseCommand):
    """It was not over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(BaseCommand):
    """Take back `actor`'s own last command."""


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

#: The class of each command that people give, by its name in the API.
CLASSES: Mapping[CommandKind, type[BaseCommand]] = {
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
    """A line to append to the timeline of `alert_id`. `data` is small and JSON as it is (moments as ISO texts)."""

    alert_id: int
    kind: EventKind
    at: datetime
    actor: Actor
    #: A sentence: who, what, why.
    reason: str
    via: CommandChannel = CommandChannel.WEB
    data: Mapping[str, object] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transition:
    """What a command does. Without events nothing changed, and `answer` says why."""

    state: AlertState
    #: A sentence for whoever gave the command.
    answer: str
    events: tuple[NewEvent, ...] = ()
    #: Alerts merged into this one that move along: (alert id, its new parent or None).
    moves: tuple[tuple[int, int | None], ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.events)
