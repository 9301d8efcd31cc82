"""Inputs and results of a decision: the message, the state of its key, and what the message does. Plain data."""

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
    """One element of a request, with what the caller already knows about it."""

    message_id: UUID
    received_at: datetime
    #: The replayed message. A replay skips the checks for duplicate delivery and lateness, and does not advance the
    #: newest source time.
    replay_of: UUID | None = None
    #: False for a log-only replay, which pages nobody.
    may_page: bool = True
    #: For a sample: the only user to page; its alert has a TEST badge.
    test_user_id: int | None = None
    #: What Tocsin itself wrote to the ticket recently, or is about to write.
    own: RecentWrites | None = None
    #: The state of the delayed alert, if the message was delayed and is due.
    waited: DelayedAlertState | None = None
    #: Why the message is decided although its ticket was not fetched.
    unasked: str = ""


class ActiveAlert(Struct, frozen=True):
    """The alert that holds a key: its lifecycle state, the source's last values, and its parent if merged."""

    state: AlertState
    #: Values by name of SOURCE_COLUMNS, plus all of `tags` and `custom`.
    fields: Mapping[str, object]
    #: The alert that it is merged into; opening messages count there.
    parent_id: int | None = None
    #: The alerts merged into it, which are locked too.
    children: Mapping[int, AlertState] = field(default_factory=dict)
    #: The number of keys that share it and are not over; children are not counted.
    members: int = 0
    #: Whether its escalation pages. False: log only or dry run, so it has paged nobody.
    pages: bool = True
    #: Whether it was opened while its integration was in dry run.
    dry_run: bool = False

    @property
    def is_dry_run(self) -> bool:
        """Whether the alert is still in dry run."""
        return self.dry_run and not self.pages


class DedupKeyState(Struct, frozen=True):
    """State of a dedup key: the active alert that holds it, the newest counted source time, the last alert."""

    live: ActiveAlert | None = None
    latest_source_time: datetime | None = None
    last_alert: int | None = None
    #: The delayed alert of the key.
    delayed: DelayedAlertState | None = None
    #: The alert that it shares with other keys (`live` is that alert), and its role there.
    shared: int | None = None
    role: KeyRole | None = None
    #: The alert that `live` is merged into, if any.
    parent: ActiveAlert | None = None


class DuplicateDelivery(Struct, frozen=True):
    """The decided message with the same delivery id."""

    message_id: UUID
    alert_id: int | None


class Decision(Struct, frozen=True):
    """What a message does, and the state of its key afterwards."""

    status: MessageStatus
    reason: str
    key: DedupKeyState
    alert_id: int | None = None
    opening: AlertCreation | None = None
    changes: tuple[AlertChange, ...] = ()
    counted: RepeatedMessages | None = None
    #: Whether the key's newest source time and last alert are to be written.
    counts: bool = False
    #: Tocsin's own writes that this message echoes.
    came_back: tuple[int, ...] = ()
    #: The rule that decided, and the results of filters and routes.
    verdict: Mapping[str, object] = field(default_factory=dict)
    #: Changes of noise reduction beyond the key; None, as for most messages: none.
    shaped: NoiseChanges | None = None
    #: Whether a filter or maintenance window prevented an alert from opening.
    is_refused: bool = False

    @property
    def may_come_again(self) -> bool:
        """Whether a repetition of the same delivery is decided again: a source that repeats its current state may open
        an alert once the filter or maintenance no longer prevents it, or once the parent's alert is closed."""
        return self.is_refused or self.key.role is KeyRole.CHILD


class DelayReason(StrEnum):
    """What a delayed alert waits for."""

    WAIT = "wait"
    COUNT = "count"
    EVERY = "every"
    HOURS = "hours"
    MAINTENANCE = "maintenance"
    FLAPPING = "flapping"


class DelayedAlertState(Struct, frozen=True):
    """An alert whose opening is delayed. It opens at `due_at`; None: when others come."""

    delay_reason: DelayReason
    since: datetime
    due_at: datetime | None
    #: Completes "it opens …" or "it waits for …", without a full stop.
    reason: str
    #: Arrival times of its opening messages; only the newest if there are many.
    triggered_at: tuple[datetime, ...] = ()
    #: The number of all its messages, including updates.
    message_count: int = 1
    priority: Priority | None = None
    #: The rate window in which it waits together with others.
    scope: bytes | None = None
    #: It opens when due. Otherwise, if it waits for a count, it is dropped when due.
    is_released: bool = False
    window_id: int | None = None
    subject: str = ""
    source_id: str = ""


class KeyRole(StrEnum):
    """The role of a key in an alert shared with others."""

    FIRST = "first"  # the alert shows this key's values
    MEMBER = "member"
    CHILD = "child"  # joined by its parent reference: never closes the alert


class RateWindowState(Struct, frozen=True):
    """Counters of a scope: the alert to join, until when, remaining tokens, and recent openings."""

    alert_id: int | None = None
    until: datetime | None = None
    tokens: float | None = None
    at: datetime | None = None
    times: tuple[datetime, ...] = ()
    #: The number of keys that wait in it.
    waiting: int = 0


NOTHING = RateWindowState()


class WaitOutcome(Struct, frozen=True):
    """The outcome of the messages that were delayed before this one."""

    status: MessageStatus
    reason: str
    alert_id: int | None = None


class GroupJoin(Struct, frozen=True):
    """A key whose messages count on an alert from now on; without a role: no longer."""

    alert_id: int
    role: KeyRole | None
    subject: str = ""
    source_id: str = ""


class NoiseChanges(Struct, frozen=True):
    """What noise reduction changes beyond the key."""

    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    settled: WaitOutcome | None = None
    join: GroupJoin | None = None
    #: The shared alerts after the decision, by id.
    lives: Mapping[int, ActiveAlert] = field(default_factory=dict)
    #: Scopes whose delayed alerts become due now.
    released: tuple[bytes, ...] = ()


class NoiseState(Struct, frozen=True):
    """State a decision may read beyond its key. `lives` contains the active alerts of rate windows, and the alerts that
    an alert to join is merged into."""

    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    lives: Mapping[int, ActiveAlert] = field(default_factory=dict)
    #: The active alert that the message refers to as its parent.
    parent: ActiveAlert | None = None

    def rate_window(self, scope: bytes | None) -> RateWindowState:
        return self.rate_windows.get(scope, NOTHING) if scope is not None else NOTHING

    def live(self, rate_window: RateWindowState) -> ActiveAlert | None:
        """Returns the rate window's alert, if it is active."""
        return self.lives.get(rate_window.alert_id) if rate_window.alert_id is not None else None


ALONE = NoiseState()


class LockScopes(Struct, frozen=True):
    """Hashes locked, in addition to its key, for a message that may open; None: not counted."""

    group: bytes | None = None
    limit: bytes | None = None
    flapping: bytes | None = None
    #: For delays per alert, and for delays of the whole integration.
    alert: bytes | None = None
    integration: bytes | None = None
    #: The dedup key hash of its parent.
    parent: bytes | None = None

    @property
    def rate_windows(self) -> tuple[bytes, ...]:
        found = (self.group, self.limit, self.flapping, self.alert, self.integration)
        return tuple(one for one in found if one is not None)

    @property
    def all(self) -> tuple[bytes, ...]:
        return self.rate_windows if self.parent is None else (*self.rate_windows, self.parent)


#: The scopes of a message that counts on nothing.
UNCOUNTED = LockScopes()
