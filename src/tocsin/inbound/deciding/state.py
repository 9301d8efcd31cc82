"""What a decision is made of: what arrived, its key as it stands, and what the message does. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct, field

from tocsin.alerts.change_handlers import AlertChange
from tocsin.alerts.commands import AlertState
from tocsin.alerts.new_alert import AlertCreation, RepeatedMessages
from tocsin.alerts.states import Priority
from tocsin.inbound.deciding.echo_suppression import RecentWrites
from tocsin.inbound.enums import MessageStatus


class MessageContext(Struct, frozen=True):
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
    own: RecentWrites | None = None
    #: It waited, and is due: how it stood.
    waited: DelayedAlertState | None = None
    #: Why it is decided although its system was not asked how the ticket stands, or did not say.
    unasked: str = ""


class ActiveAlert(Struct, frozen=True):
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
    #: Whether its escalation pages. Without: it was only recorded, or a dry run, and has paged nobody.
    pages: bool = True
    #: Whether it was opened while its integration was in dry-run mode.
    dry_run: bool = False

    @property
    def is_dry_run(self) -> bool:
        """Whether it is a dry run still."""
        return self.dry_run and not self.pages


class DedupKeyState(Struct, frozen=True):
    """A dedup key as it stands: the alert that holds it, the newest source time that counted, the last alert."""

    live: ActiveAlert | None = None
    latest_source_time: datetime | None = None
    last_alert: int | None = None
    #: The opening that waits.
    delayed: DelayedAlertState | None = None
    #: The alert that it shares with other keys (`live` is that one), and what it is to it.
    shared: int | None = None
    role: KeyRole | None = None
    #: Where `live` is merged into another alert: that one.
    parent: ActiveAlert | None = None


class DuplicateDelivery(Struct, frozen=True):
    """The decided message that came with the same delivery id."""

    message_id: UUID
    alert_id: int | None


class Decision(Struct, frozen=True):
    """What a message does, and the key after it."""

    status: MessageStatus
    reason: str
    key: DedupKeyState
    alert_id: int | None = None
    opening: AlertCreation | None = None
    changes: tuple[AlertChange, ...] = ()
    counted: RepeatedMessages | None = None
    #: Whether the key's newest time and last alert are to be written.
    counts: bool = False
    #: Tocsin's own writes that this message is the echo of.
    came_back: tuple[int, ...] = ()
    #: Which rule decided, and what filters and routes said.
    verdict: Mapping[str, object] = field(default_factory=dict)
    #: What it changes beside its key; None: nothing, as most do.
    shaped: NoiseChanges | None = None
    #: A filter or maintenance said no to an alert that would open.
    is_refused: bool = False

    @property
    def may_come_again(self) -> bool:
        """Whether the same delivery is decided again when it comes again: a source that repeats what still is may
        open an alert then, once nothing says no any more or the alert of its parent is closed."""
        return self.is_refused or self.key.role is KeyRole.CHILD


class DelayReason(StrEnum):
    """For what an opening waits."""

    WAIT = "wait"
    COUNT = "count"
    EVERY = "every"
    HOURS = "hours"
    MAINTENANCE = "maintenance"
    FLAPPING = "flapping"


class DelayedAlertState(Struct, frozen=True):
    """An alert that would be open, and waits. It opens at `due_at`; None: when others come."""

    delay_reason: DelayReason
    since: datetime
    due_at: datetime | None
    #: The rest of "it opens …", or "it waits for …": a sentence without its end.
    reason: str
    #: When its open messages came; the newest, where they are many.
    triggered_at: tuple[datetime, ...] = ()
    #: All of its messages, updates too.
    message_count: int = 1
    priority: Priority | None = None
    #: The rate window with whose others it waits.
    scope: bytes | None = None
    #: Enough of them came: it opens when it is due. Otherwise, where it waits to be enough, it is over then.
    is_released: bool = False
    window_id: int | None = None
    subject: str = ""
    source_id: str = ""


class KeyRole(StrEnum):
    """What a key is to the alert that it shares with others."""

    FIRST = "first"  # the alert says what this one says
    MEMBER = "member"
    CHILD = "child"  # of the alert's own key: its end never closes the alert


class RateWindowState(Struct, frozen=True):
    """What is counted for a scope: the alert that is joined, until when, tokens that are left, and recent openings."""

    alert_id: int | None = None
    until: datetime | None = None
    tokens: float | None = None
    at: datetime | None = None
    times: tuple[datetime, ...] = ()
    #: How many other keys wait in it.
    waiting: int = 0


NOTHING = RateWindowState()


class WaitOutcome(Struct, frozen=True):
    """What becomes of the messages that waited before this one."""

    status: MessageStatus
    reason: str
    alert_id: int | None = None


class GroupJoin(Struct, frozen=True):
    """A key whose messages count on an alert from now on; `role` None: no more."""

    alert_id: int
    role: KeyRole | None
    subject: str = ""
    source_id: str = ""


class NoiseChanges(Struct, frozen=True):
    """What a decision changes beside its key."""

    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    settled: WaitOutcome | None = None
    join: GroupJoin | None = None
    #: Shared alerts after it, by id.
    lives: Mapping[int, ActiveAlert] = field(default_factory=dict)
    #: Scopes whose waiting openings are due now.
    released: tuple[bytes, ...] = ()


class NoiseState(Struct, frozen=True):
    """What a decision may ask beside its key. `lives` has the alerts of rate windows that are live,
    and those that one which is to be joined is merged into."""

    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    lives: Mapping[int, ActiveAlert] = field(default_factory=dict)
    #: The live alert that the message names as its parent.
    parent: ActiveAlert | None = None

    def rate_window(self, scope: bytes | None) -> RateWindowState:
        return self.rate_windows.get(scope, NOTHING) if scope is not None else NOTHING

    def live(self, rate_window: RateWindowState) -> ActiveAlert | None:
        """The rate window's alert, if it is live."""
        return self.lives.get(rate_window.alert_id) if rate_window.alert_id is not None else None


ALONE = NoiseState()


class LockScopes(Struct, frozen=True):
    """The hashes that a message which may open locks beside its key; None: not counted."""

    group: bytes | None = None
    limit: bytes | None = None
    flapping: bytes | None = None
    #: For delays per alert, and for those of the whole integration.
    alert: bytes | None = None
    integration: bytes | None = None
    #: The dedup key of its parent.
    parent: bytes | None = None

    @property
    def rate_windows(self) -> tuple[bytes, ...]:
        found = (self.group, self.limit, self.flapping, self.alert, self.integration)
        return tuple(one for one in found if one is not None)

    @property
    def all(self) -> tuple[bytes, ...]:
        return self.rate_windows if self.parent is None else (*self.rate_windows, self.parent)


#: Of a message that counts on nothing.
UNCOUNTED = LockScopes()
