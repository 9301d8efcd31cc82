"""What a decision is made of: what arrived, its key as it stands, and what the message does. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import AlertState
from tocsin.alerts.new_alert import Counted, Opening
from tocsin.inbound.deciding.echo_suppression import OwnWrites
from tocsin.inbound.deciding.noise_state import Delayed, Role, Shaped
from tocsin.inbound.enums import MessageStatus


class Arrival(Struct, frozen=True):
    """One element of what arrived, with what the caller already knows of it."""

    message_id: UUID
    received_at: datetime
    #: Not stored with its first arrival but asked for again: it skips the checks for the same delivery and for
    #: lateness, and does not move the newest time.
    replay_of: UUID | None = None
    #: A replay that only records pages nobody.
    may_page: bool = True
    #: A sample that pages only this user; its alert is badged TEST.
    test_user_id: int | None = None
    #: What Tocsin itself wrote on the ticket lately, or is about to write.
    own: OwnWrites | None = None
    #: It waited, and is due: how it stood.
    waited: Delayed | None = None
    #: Why it is decided although its system was not asked how the ticket stands, or did not say.
    unasked: str = ""


class LiveAlert(Struct, frozen=True):
    """The alert that holds a key: what the lifecycle knows, what its source said last, and its parent if merged."""

    state: AlertState
    #: By name of SOURCE_COLUMNS, and `tags` and `custom` whole.
    fields: Mapping[str, object]
    #: The alert it is merged into, which opens count on.
    parent_id: int | None = None
    #: The alerts merged into it, locked too.
    children: Mapping[int, AlertState] = field(default_factory=dict)
    #: How many keys share it that are not over; children of its own key are not counted.
    members: int = 0
    #: Whether its escalation pages. Without: it was only recorded, or watched, and has paged nobody.
    pages: bool = True
    #: Whether it was opened while its integration only watched.
    watch: bool = False

    @property
    def is_watched(self) -> bool:
        """Whether it is only watched still."""
        return self.watch and not self.pages


class KeyState(Struct, frozen=True):
    """A dedup key as it stands: the alert that holds it, the newest source time that counted, the last alert."""

    live: LiveAlert | None = None
    newest: datetime | None = None
    last_alert: int | None = None
    #: The opening that waits.
    delayed: Delayed | None = None
    #: The alert that it shares with other keys (`live` is that one), and what it is to it.
    shared: int | None = None
    role: Role | None = None
    #: Where `live` is merged into another alert: that one.
    parent: LiveAlert | None = None


class Seen(Struct, frozen=True):
    """The decided message that came with the same delivery id."""

    message_id: UUID
    alert_id: int | None


class Decision(Struct, frozen=True):
    """What a message does, and the key after it."""

    status: MessageStatus
    reason: str
    key: KeyState
    alert_id: int | None = None
    opening: Opening | None = None
    changes: tuple[AlertChange, ...] = ()
    counted: Counted | None = None
    #: Whether the key's newest time and last alert are to be written.
    counts: bool = False
    #: Tocsin's own writes that this message is the echo of.
    came_back: tuple[int, ...] = ()
    #: Which rule decided, and what filters and routes said.
    verdict: Mapping[str, object] = field(default_factory=dict)
    #: What it changes beside its key; None: nothing, as most do.
    shaped: Shaped | None = None
    #: A filter or maintenance said no to an alert that would open.
    is_refused: bool = False

    @property
    def may_come_again(self) -> bool:
        """Whether the same delivery is decided again when it comes again: a source that repeats what still is may
        open an alert then, once nothing says no any more or the alert of its parent is closed."""
        return self.is_refused or self.key.role is Role.CHILD
