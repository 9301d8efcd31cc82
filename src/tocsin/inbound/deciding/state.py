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
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding.echo_suppression import RecentWrites
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.parsing.decode import Element


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
    member_count: int = 0
    #: Whether its escalation pages. False: log only or dry run, so it has paged nobody.
    is_paging: bool = True
    #: Whether it was opened while its integration was in dry run.
    opened_in_dry_run: bool = False

    @property
    def is_dry_run(self) -> bool:
        """Whether the alert is still in dry run."""
        return self.opened_in_dry_run and not self.is_paging


class DedupKeyState(Struct, frozen=True):
    """State of a dedup key: the active alert that holds it, the newest counted source time, the last alert."""

    active_alert: ActiveAlert | None = None
    latest_source_time: datetime | None = None
    last_alert_id: int | None = None
    #: The delayed alert of the key.
    delayed: DelayedAlertState | None = None
    #: The alert that it shares with other keys (`active_alert` is that alert), and its role there.
    shared_alert_id: int | None = None
    role: KeyRole | None = None
    #: The alert that `active_alert` is merged into, if any.
    parent: ActiveAlert | None = None


class DuplicateDelivery(Struct, frozen=True):
    """The decided message with the same delivery id."""

    message_id: UUID
    alert_id: int | None


class Decision(Struct, frozen=True):
    """What a message does, and the state of its key afterwards."""

    status: MessageStatus
    reason: Reason
    key_state: DedupKeyState
    alert_id: int | None = None
    creation: AlertCreation | None = None
    changes: tuple[AlertChange, ...] = ()
    repeated_messages: RepeatedMessages | None = None
    #: Whether the key's newest source time and last alert are to be written.
    updates_key: bool = False
    #: Tocsin's own writes that this message echoes.
    echoed_write_ids: tuple[int, ...] = ()
    #: The rule that decided, the route, and the results of noise reduction, as JSON.
    verdict: Mapping[str, object] = field(default_factory=dict)
    #: Changes of noise reduction beyond the key; None, as for most messages: none.
    noise_changes: NoiseChanges | None = None
    #: Whether a filter or maintenance window prevented an alert from opening.
    is_suppressed: bool = False

    @property
    def should_redecide_repeats(self) -> bool:
        """Whether a repetition of the same delivery is decided again: a source that repeats its current state may open
        an alert once the filter or maintenance no longer prevents it, or once the parent's alert is closed."""
        return self.is_suppressed or self.key_state.role is KeyRole.CHILD


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
    #: Completes "it opens …", without a full stop.
    reason: Reason
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
    tokens_at: datetime | None = None
    opening_times: tuple[datetime, ...] = ()
    #: The number of keys that wait in it.
    waiting_count: int = 0


EMPTY_RATE_WINDOW = RateWindowState()


class WaitOutcome(Struct, frozen=True):
    """The outcome of the messages that were delayed before this one."""

    status: MessageStatus
    reason: Reason
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
    wait_outcome: WaitOutcome | None = None
    group_join: GroupJoin | None = None
    #: The shared alerts after the decision, by id.
    active_alerts: Mapping[int, ActiveAlert] = field(default_factory=dict)
    #: Scopes whose delayed alerts become due now.
    released_scopes: tuple[bytes, ...] = ()


class NoiseState(Struct, frozen=True):
    """State a decision may read beyond its key. `active_alerts` contains the active alerts of rate windows, and the
    alerts that an alert to join is merged into."""

    rate_windows: Mapping[bytes, RateWindowState] = field(default_factory=dict)
    active_alerts: Mapping[int, ActiveAlert] = field(default_factory=dict)
    #: The active alert that the message refers to as its parent.
    parent: ActiveAlert | None = None

    def find_rate_window(self, scope: bytes | None) -> RateWindowState:
        return self.rate_windows.get(scope, EMPTY_RATE_WINDOW) if scope is not None else EMPTY_RATE_WINDOW

    def find_alert(self, rate_window: RateWindowState) -> ActiveAlert | None:
        """Returns the rate window's alert, if it is active."""
        return self.active_alerts.get(rate_window.alert_id) if rate_window.alert_id is not None else None


EMPTY_NOISE_STATE = NoiseState()


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
    def rate_window_scopes(self) -> tuple[bytes, ...]:
        scopes = (self.group, self.limit, self.flapping, self.alert, self.integration)
        return tuple(scope for scope in scopes if scope is not None)

    @property
    def all_scopes(self) -> tuple[bytes, ...]:
        return self.rate_window_scopes if self.parent is None else (*self.rate_window_scopes, self.parent)


#: The scopes of a message that counts on nothing.
NO_LOCK_SCOPES = LockScopes()


class MessageContext(Struct, frozen=True):
    """All that a decision depends on: one element of a request, and the state of its key at that moment."""

    integration: CompiledIntegration
    message_id: UUID
    received_at: datetime
    now: datetime
    #: The normalized message, or why there is none; None: the integration is disabled, and nothing was parsed.
    event: NormalizedEvent | Rejected | None
    key_hash: bytes
    key_state: DedupKeyState
    #: The id of the alert, if one opens.
    new_alert_id: int
    #: The decided message with the same delivery id.
    duplicate: DuplicateDelivery | None = None
    #: What noise reduction locked and loaded for a message that may open.
    scopes: LockScopes = NO_LOCK_SCOPES
    noise_state: NoiseState = EMPTY_NOISE_STATE
    #: The parsed element and the bytes of an unreadable message.
    element: Element | Rejected | None = None
    raw: bytes = b""
    #: Whether the key is not locked: an unreadable message is then only stored.
    is_key_blocked: bool = False
    #: The replayed message. A replay skips the checks for duplicate delivery and lateness, and does not advance the
    #: newest source time.
    replay_of: UUID | None = None
    #: False for a log-only replay, which pages nobody.
    may_page: bool = True
    #: For a sample: the only user to page; its alert has a TEST badge.
    test_user_id: int | None = None
    #: What Tocsin itself wrote to the ticket recently, or is about to write.
    recent_writes: RecentWrites | None = None
    #: The state of the delayed alert, if the message was delayed and is due.
    due_delay: DelayedAlertState | None = None
    #: Why the message is decided although its ticket was not fetched.
    fetch_skipped_reason: Reason = NO_REASON
