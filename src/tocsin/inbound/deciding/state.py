"""Inputs and results of a decision: the message, the state of its key, and what the message does. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec import field as field_msgspec
from msgspec.structs import replace

from tocsin.alerts.commands import AlertChange, AlertCreation, AlertState, NewEvent, RepeatedMessages
from tocsin.alerts.states import CommandChannel, EventKind, Priority
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.parsing.decode import Element

# ---------- reasons
# What a message did, and why no alert opened, paged or closed. `why` is the rule that matched, `when` completes "the
# alert opens …".

OPENED: Final = ReasonType("message.opened", "{why}")
IGNORED_BY_RULE: Final = ReasonType("message.ignored_by_rule", "{why}")
DUPLICATE_DELIVERY: Final = ReasonType("message.duplicate_delivery", "same delivery as message {message}")
ARRIVED_LATE: Final = ReasonType(
    "message.arrived_late",
    "arrived late: sent at {at}, after a message of {latest} was already processed. If this is wrong, correct the "
    "sender's clock, or map source_time to when the message was sent",
)
DISABLED: Final = ReasonType("message.integration_disabled", "the integration is disabled")
WITHOUT_TICKET: Final = ReasonType(
    "message.without_ticket",
    "no ticket in the message, as in the test call of a new webhook; nothing to do",
)
DECIDED_WITHOUT_FETCH: Final = ReasonType("message.decided_without_fetch", "{decision}; {skipped}")
#: Of a message that says too little to know what it wants. Health checks count them by this code.
NOT_UNDERSTOOD: Final = ReasonType("message.not_understood", "{decision}")
ECHO_WITHOUT_ALERT: Final = ReasonType("message.echo_without_alert", "Tocsin itself set this status; no alert is open")
ECHO_OPENS_NOTHING: Final = ReasonType(
    "message.echo_opens_nothing", "echo of Tocsin's own change to {key}; no new alert"
)
NO_ALERT_TO_UPDATE: Final = ReasonType("message.no_alert_to_update", "{why}; no alert is open for {key}")
NO_ALERT_TO_CLOSE: Final = ReasonType("message.no_alert_to_close", "{why}; {effect}")
NOTHING_OPEN: Final = ReasonType("message.nothing_open", "nothing was open for {key}")
ENDED_BEFORE_OPENING: Final = ReasonType("message.ended_before_opening", "{why}; {effect}")
CLOSED_TOO_EARLY: Final = ReasonType("message.closed_too_early", "it closed before its alert opened")
#: Of a message that ends the alert of another id.
ABOUT_THE_SAME: Final = ReasonType(
    "message.about_the_same", "{why}; no alert has its id, and only one that is open is about the same thing"
)
CLOSED: Final = ReasonType("message.closed", "{why}; alert {alert} closed")
CANCELLED: Final = ReasonType("message.cancelled", "{why}; alert {alert} closed as a false alarm")
FILTERED: Final = ReasonType("message.filtered", "filter: {why}")
IN_MAINTENANCE: Final = ReasonType("message.in_maintenance", "maintenance: {window}, until {until}")
DELAYED: Final = ReasonType("message.delayed", "{why}; its alert opens {when}")
STILL_DELAYED: Final = ReasonType("message.still_delayed", "its alert opens {when}")
BELOW_THRESHOLD: Final = ReasonType(
    "message.below_threshold", "too few arrived within {duration}: an alert opens {when}"
)
APPENDED: Final = ReasonType("message.appended", "{why}, and alert {alert} is open for {key}: {effect}")
UPDATED: Final = ReasonType("message.updated", "{why}; {change}")
UNCHANGED: Final = ReasonType("message.unchanged", "{why}; nothing new")
JOINED_ALERT: Final = ReasonType("message.joined_alert", "{why}; it joins alert {alert}: {effects}")
COUNTED_ON_JOINED: Final = ReasonType("message.counted_on_joined", "{why}; {effects}")
MEMBER_ENDED: Final = ReasonType(
    "message.member_ended",
    "{why}; it left alert {alert}, which continues for {count} other",
    "{why}; it left alert {alert}, which continues for {count} others",
)
CHILD_ENDED: Final = ReasonType("message.child_ended", "{why}; it left alert {alert}, which its children do not close")

#: What a message is about.
KEY: Final = ReasonType("message.key", "id {source_id}")
NO_KEY: Final = ReasonType("message.no_key", "this message")
SUBJECT_AND_ID: Final = ReasonType("message.subject_and_id", "{subject} (id {source_id})")
ID_ONLY: Final = ReasonType("message.id_only", "Id {source_id}")
UNTITLED: Final = ReasonType("message.untitled", "A message")

#: Of messages that are not decided yet, or could not be decided.
PENDING: Final = ReasonType("message.pending", "queued for processing")
FETCHING_TICKET: Final = ReasonType("message.fetching_ticket", "ticket state missing; the ticket is fetched first")
UNDECIDABLE: Final = ReasonType("message.undecidable", "Processing failed. The message can be replayed.")
UNDECIDABLE_BECAUSE: Final = ReasonType(
    "message.undecidable_because", "Processing failed: {error}. The message can be replayed."
)
ONE_OF_MANY: Final = ReasonType(
    "message.one_of_many_delayed",
    "one of many delayed messages; the outcome combines the first and the newest",
)

# --- The effect of a repeated message -----------------------------------------------------------------------------

COUNTED: Final = ReasonType("message.counted", "counted, no page")
COUNTED_ONLY: Final = ReasonType("message.counted_only", "counted, no page: {why}")
STARTS_PAGING: Final = ReasonType("message.starts_paging", "no one has been paged yet; pages {when}")
FROM_NOW_ON: Final = ReasonType("message.from_now_on", "from now on")
COUNTED_ON_ALERT: Final = ReasonType("message.counted_on_alert", "counted on alert {alert}, which it joined")
MERGED_INTO: Final = ReasonType("message.merged_into", "that alert is merged into alert {alert}")

# --- Messages that were delayed -----------------------------------------------------------------------------------

WAITED_THEN_JOINED: Final = ReasonType("message.waited_then_joined", "it was delayed, then joined alert {alert}")
WAITED_THEN_COUNTED: Final = ReasonType("message.waited_then_counted", "it was delayed, and counts on alert {alert}")
OVER_BEFORE_OPENING: Final = ReasonType(
    "message.over_before_opening", "closed after {duration}, before its alert opened ({when}); no one was paged"
)

# --- Noise reduction ----------------------------------------------------------------------------------------------

WAITED: Final = ReasonType("delay.waited", "it was delayed for {duration}, and opens {when}")
AFTER_ITS_DELAY: Final = ReasonType("delay.over", "after its delay")
AFTER_MAINTENANCE: Final = ReasonType("delay.after_maintenance", "when the maintenance {window} ends")
WHEN_STABLE: Final = ReasonType("delay.when_stable", "once it has been active for {duration}, because it is flapping")
FLAPPING: Final = ReasonType(
    "noise.flapping",
    "flapping: opened {openings} times within {within}; from now on opens only if active for {stable}",
)
OF_PARENT: Final = ReasonType("noise.of_parent", "alert {alert} is open for its parent")
SAME_GROUP: Final = ReasonType("noise.same_group", "the same group")
WAITED_TOGETHER: Final = ReasonType("noise.waited_together", "they were delayed together")
OVER_BURST: Final = ReasonType(
    "noise.over_burst", "more than {count} alert at once", "more than {count} alerts at once"
)
FLOOD: Final = ReasonType("noise.flood", "{cause}: grouped into this alert")
OVER_RATE: Final = ReasonType("noise.over_rate", "{cause}, and more than one every {every}")
JOINS: Final = ReasonType("noise.joins", "it joins alert {alert}: {cause}")
WINDOW_ACTIVE: Final = ReasonType("noise.window_active", "{window}, until {until}")
NOT_RESTRICTED: Final = ReasonType(
    "noise.not_restricted", "not held back by maintenance, parent, group, delay or rate limit"
)

# --- Paging -------------------------------------------------------------------------------------------------------

TEST_ONLY: Final = ReasonType("paging.test", "test: pages only its sender")
LOG_ONLY_REPLAY: Final = ReasonType("paging.log_only_replay", "log-only replay: no page")
LOG_ONLY_ROUTE: Final = ReasonType("paging.log_only_route", "{route}: log only, no page")
DRY_RUN: Final = ReasonType("paging.dry_run", "{integration} is in dry-run mode; {paging}")
POLICY: Final = ReasonType("paging.policy", "policy {policy}")
NO_POLICY: Final = ReasonType("paging.no_policy", "no policy")

# --- Timeline -----------------------------------------------------------------------------------------------------

ALERT_OPENED: Final = ReasonType("alert.opened_by_message", "Opened by {source}: {why}.")
ALERT_OPENED_UNREADABLE: Final = ReasonType(
    "alert.opened_by_unreadable_message", "{integration} sent a message that could not be parsed: {problem}; {paging}."
)
PAGING_STARTED: Final = ReasonType(
    "alert.paging_started_by_message",
    "{source} reported it again, and no one has been paged yet; {paging}",
)
PAGING_STARTED_UNREADABLE: Final = ReasonType(
    "alert.paging_started_by_unreadable_message",
    "{integration} sent another message that could not be parsed, and no one has been paged yet",
)
MESSAGE_JOINED: Final = ReasonType("alert.message_joined", "{message} joined: {cause}.")
ALERT_MEMBER_ENDED: Final = ReasonType(
    "alert.member_ended",
    "{message} ended: {why}; the alert continues for {count} other.",
    "{message} ended: {why}; the alert continues for {count} others.",
)
ALERT_CHILD_ENDED: Final = ReasonType(
    "alert.child_ended", "{message} ended: {why}; the alert is not closed by its children."
)
MEMBER_PRIORITY_RAISED: Final = ReasonType(
    "alert.member_priority_raised", "{message}, which joined it, is now {priority}."
)
CHILD_PRIORITY_RAISED: Final = ReasonType(
    "alert.child_priority_raised",
    "Alert {child}, which is merged into this one, is now {priority}; this alert was {previous}.",
)
TEAM_CHANGED: Final = ReasonType("alert.moved_between_teams", "Moved from {before} to {after}")
DELETED_AT_SOURCE: Final = ReasonType("alert.deleted_at_source", "deleted in {source}")


# ---------- echo suppression
# Suppresses echoes of Tocsin's own writes to the ticket system, and tells which messages need a ticket fetch first.
# `tocsin.outbound` knows both and registers its functions here, because `inbound` must not import it. Pure except for
# that registration.

#: How long an incomplete message waits for its ticket to be fetched; then it is decided as it is.
LOOKUP_TIMEOUT = timedelta(seconds=10)

#: In a message's verdict, `TICKET_FETCH` maps to `FETCH_REQUESTED` while the message waits, and then to the fetched
#: ticket.
TICKET_FETCH = "reread"
FETCH_REQUESTED = "wanted"

#: Key beside it if the ticket system was not asked or did not answer: why, as a reason that ends the decision's.
FETCH_SKIPPED = "fetch_skipped"
NO_ANSWER = ReasonType(
    "message.ticket_system_did_not_answer",
    "processed without the ticket: the ticket system did not respond within {timeout}",
)

_TICKET_FETCHED = ReasonType("message.ticket_fetched", "completed with the ticket fetched from the ticket system")

#: Key in the payload of a message that Tocsin created from a fetched ticket.
CREATED_BY_FETCH = "found_by"


@dataclass(frozen=True, slots=True)
class RecentWrites:
    """What Tocsin wrote to one ticket recently, or is about to write."""

    #: Written agents and statuses (casefolded) whose echo has not arrived yet, with the number of the write.
    agents: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    #: Whether a write of an agent or status is still queued.
    is_agent_queued: bool = False
    is_status_queued: bool = False
    #: When a user last caused a write of an agent or status: older messages do not know about it.
    agent_written_at: datetime | None = None
    status_written_at: datetime | None = None
    #: The same for priorities (by name, and as "priority 4") and teams, casefolded.
    priorities: Mapping[str, int] = field(default_factory=dict)
    teams: Mapping[str, int] = field(default_factory=dict)
    #: Writes whose outcome is not known yet.
    in_flight: frozenset[int] = frozenset()
    #: All recently written statuses (casefolded), including those whose echo arrived.
    recent_statuses: frozenset[str] = frozenset()
    #: The number of Tocsin's own agent in the ticket system; "" if unknown.
    own_agent_id: str = ""
    #: The agents before the writes whose echo has not arrived: a message that still shows one was sent before, such as
    #: one about the note that was written first.
    agents_before: frozenset[str] = frozenset()

    def echo_of_agent(self, event: NormalizedEvent) -> int | None:
        """Returns the number of the write that the message's agent echoes; 0 if Tocsin wrote, or will write, later than
        the message; None if somebody else assigned the ticket."""
        agent_id = "" if event.mapped.is_nobody("agent") else event.mapped.text("agent_id") or ""
        echo = self._echo(event, self.agents.get(agent_id), self.agent_written_at, self.is_agent_queued)
        is_known = bool(agent_id) or event.mapped.is_nobody("agent")
        is_past = echo is None and is_known and agent_id in self.agents_before - self.agents.keys()
        return 0 if is_past and self._find_author(event) is _Author.UNKNOWN else echo

    def match_written_fields(self, event: NormalizedEvent) -> dict[str, int]:
        """Returns the columns whose values equal what Tocsin wrote, with the number of each write.

        Such a value is nobody's action, regardless of the message's author. While the write is under way, however, a
        value set by somebody else is that person's action.
        """
        text, author = event.mapped.text, self._find_author(event)
        candidates = (
            ("source_status", text("source_status"), self.statuses),
            ("source_priority", text("severity") or text("priority"), self.priorities),
            ("team", text("team"), self.teams),
        )
        matches = {
            name: write_id
            for name, value, write_ids in candidates
            if value and (write_id := write_ids.get(value.casefold())) is not None
        }
        if author is _Author.OTHER:
            matches = {name: write_id for name, write_id in matches.items() if write_id not in self.in_flight}
        status = text("source_status")
        if status and author is _Author.TOCSIN and status.casefold() in self.recent_statuses:
            # The pending write was already matched by an earlier echo.
            matches.setdefault("source_status", 0)
        return matches

    def superseded_writes(self) -> tuple[int, ...]:
        """Returns the last write of an agent, after somebody else has reassigned the ticket; nothing while the echo of
        an earlier status write is still awaited."""
        last_write_id = max(self.agents.values(), default=0)
        return (
            (last_write_id,)
            if last_write_id and all(write_id > last_write_id for write_id in self.statuses.values())
            else ()
        )

    def echo_of_status(self, event: NormalizedEvent) -> int | None:
        """Returns the number of the write that the message's status echoes; 0 and None as in `echo_of_agent`."""
        write_id = self.statuses.get((event.mapped.text("source_status") or "").casefold())
        return self._echo(event, write_id, self.status_written_at, self.is_status_queued)

    def _echo(
        self, event: NormalizedEvent, write_id: int | None, written_at: datetime | None, is_queued: bool
    ) -> int | None:
        if written_at is not None and event.source_time is not None and event.source_time < written_at:
            return 0
        author = self._find_author(event)
        if author is _Author.OTHER:
            return None
        return write_id if write_id is not None else 0 if is_queued or author is _Author.TOCSIN else None

    def echoed_status_writes(self, event: NormalizedEvent) -> tuple[int, ...] | None:
        """Returns the writes whose echo the message's status is; None if the status is somebody's action."""
        if event.action not in (EventAction.OPEN, EventAction.CLOSE):
            return None
        write_id = self.echo_of_status(event)
        return None if write_id is None else (write_id,) if write_id else ()

    def may_reopen(self, event: NormalizedEvent) -> bool:
        """Returns whether a message may open an alert for a ticket whose last alert has ended: not if it only reports
        Tocsin's own write. A message from a fetched ticket may, because it was compared with that alert before."""
        payload = event.payload
        is_from_ticket_fetch = isinstance(payload, Mapping) and CREATED_BY_FETCH in payload
        return is_from_ticket_fetch or self._find_author(event) is _Author.OTHER

    def _find_author(self, event: NormalizedEvent) -> _Author:
        """Returns who caused the message, if it says so."""
        payload = event.payload
        if not self.own_agent_id or not isinstance(payload, Mapping) or "webhook_id" not in payload:
            return _Author.UNKNOWN
        agent_id = payload.get("agent_id")
        if agent_id is None:
            return _Author.UNKNOWN
        return _Author.TOCSIN if str(agent_id) == self.own_agent_id else _Author.OTHER


class _Author(Enum):
    TOCSIN = auto()
    OTHER = auto()
    UNKNOWN = auto()


#: Loads Tocsin's writes for the (outbound integration, ticket) pairs of a batch.
type LoadRecentWrites = Callable[
    [Connection, Sequence[tuple[int, str]], datetime], Mapping[tuple[int, str], RecentWrites]
]
#: Records that the echoes of these writes arrived.
type RecordEchoes = Callable[[Connection, Sequence[int]], None]

_registered: list[tuple[LoadRecentWrites, RecordEchoes]] = []


def register(load: LoadRecentWrites, record: RecordEchoes) -> None:
    """Registers the functions that know Tocsin's own writes; the last registration counts."""
    _registered[:] = [(load, record)]


def load_recent_writes(
    connection: Connection, tickets: Collection[tuple[int, str]], now: datetime
) -> Mapping[tuple[int, str], RecentWrites]:
    """Loads own writes by outbound integration and ticket, in one query; no query if no integration writes back."""
    return _registered[0][0](connection, sorted(tickets), now) if tickets and _registered else {}


def record_echoes(connection: Connection, writes: Sequence[int]) -> None:
    if writes and _registered:
        _registered[0][1](connection, writes)


def needs_ticket_fetch(integration: CompiledIntegration, event: NormalizedEvent) -> bool:
    """Returns whether the message lacks the status or agent needed to decide, and its ticket can be fetched."""
    if (
        integration.outbound_id is None
        or not integration.normalizer.kind.assigns_source_agent
        or event.source_id is None
        or not _registered
    ):
        return False
    values = event.mapped.values
    match event.action:
        case EventAction.OPEN | EventAction.UPDATE:
            return "source_status" not in values or "agent" not in values
        case EventAction.NONE:
            return "source_status" not in values
        case EventAction.CLOSE | EventAction.CANCEL:
            return False


def has_no_ticket(integration: CompiledIntegration, element: object) -> bool:
    """Returns whether a webhook call contains no ticket, such as Halo's test when a webhook is set up. It is stored but
    pages nobody."""
    payload = getattr(element, "payload", None)
    if (
        not integration.normalizer.kind.assigns_source_agent
        or not isinstance(payload, Mapping)
        or "webhook_id" not in payload
    ):
        return False
    return not payload.get("object_id") and not payload.get("ticket")


#: Words in the event of a message about a new ticket.
_NEW = ("new", "created", "logged", "opened", "raised", "triggered")

_NON_OPENING_ACTIONS = frozenset({EventAction.UPDATE, EventAction.NONE})

#: A ticket's keys that contain its status, without underscores.
_STATUS = frozenset({"status", "statusid", "statusname", "hasbeenclosed", "dateclosed"})


def merge_fetched_ticket(normalizer: Normalizer, element: Element, ticket: Mapping[str, object]) -> Element:
    """Returns a message completed with its fetched ticket, which is newer than the message.

    A message that opens by its own content, such as that of a new ticket, still opens although the ticket has moved on
    since, unless the ticket is closed.
    """
    completed = _merge_ticket(element, ticket)
    original_event, completed_event = normalizer.normalize(element), normalizer.normalize(completed)
    if not isinstance(original_event, NormalizedEvent) or not isinstance(completed_event, NormalizedEvent):
        return completed
    is_opening = original_event.action is EventAction.OPEN and is_new_ticket_event(original_event)
    return (
        _merge_ticket(element, without_status(ticket))
        if is_opening and completed_event.action in _NON_OPENING_ACTIONS
        else completed
    )


def is_new_ticket_event(event: NormalizedEvent) -> bool:
    """Returns whether a message is about a new ticket, according to its event if it has one."""
    event_name = (event.mapped.text("event") or "").casefold()
    return not event_name or any(keyword in event_name for keyword in _NEW)


def without_status(ticket: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in ticket.items() if key.replace("_", "").casefold() not in _STATUS}


def _merge_ticket(element: Element, ticket: Mapping[str, object]) -> Element:
    payload = element.payload or {}
    message_ticket = payload.get("ticket")
    merged_payload = {
        **payload,
        "ticket": {**(message_ticket if isinstance(message_ticket, Mapping) else {}), **ticket},
    }
    return Element(merged_payload, element.raw, (*element.notes, _TICKET_FETCHED()))


class ActiveAlert(Struct, frozen=True):
    """The alert that holds a key: its lifecycle state, the source's last values, and its parent if merged."""

    state: AlertState
    #: Values by name of SOURCE_COLUMNS, plus all of `tags` and `custom`.
    fields: Mapping[str, object]
    #: The alert that it is merged into; opening messages count there.
    parent_id: int | None = None
    #: The alerts merged into it, which are locked too.
    children: Mapping[int, AlertState] = field_msgspec(default_factory=dict)
    #: The number of keys that share it and are not over; children are not counted.
    member_count: int = 0
    #: Whether its escalation pages. False: log only or dry run, so it has paged nobody.
    is_paging: bool = True
    #: Whether it was opened while its integration was in dry run.
    opened_in_dry_run: bool = False

    @property
    def is_dry_run(self) -> bool:
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
    verdict: Mapping[str, object] = field_msgspec(default_factory=dict)
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

    rate_windows: Mapping[bytes, RateWindowState] = field_msgspec(default_factory=dict)
    wait_outcome: WaitOutcome | None = None
    group_join: GroupJoin | None = None
    #: The shared alerts after the decision, by id.
    active_alerts: Mapping[int, ActiveAlert] = field_msgspec(default_factory=dict)
    #: Scopes whose delayed alerts become due now.
    released_scopes: tuple[bytes, ...] = ()


class NoiseState(Struct, frozen=True):
    """State a decision may read beyond its key. `active_alerts` contains the active alerts of rate windows, and the
    alerts that an alert to join is merged into."""

    rate_windows: Mapping[bytes, RateWindowState] = field_msgspec(default_factory=dict)
    active_alerts: Mapping[int, ActiveAlert] = field_msgspec(default_factory=dict)
    #: The active alert that the message refers to as its parent.
    parent: ActiveAlert | None = None

    def find_rate_window(self, scope: bytes | None) -> RateWindowState:
        return self.rate_windows.get(scope, EMPTY_RATE_WINDOW) if scope is not None else EMPTY_RATE_WINDOW

    def find_alert(self, rate_window: RateWindowState) -> ActiveAlert | None:
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


_NO_DATA: Mapping[str, object] = {}


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

    def timeline_event(
        self, alert_id: int, kind: EventKind, reason: Reason, data: Mapping[str, object] = _NO_DATA
    ) -> NewEvent:
        """Returns an event by which the integration changes an alert."""
        return NewEvent(alert_id, kind, self.now, self.integration.actor, reason, CommandChannel.INBOUND, data)


# ---------- batch view
# State of dedup keys and shared alerts while the messages of a batch are decided one after the other. Pure.
# Used by the committer's batches, tests and backtests alike.

_BATCH_VIEW_NEW = DedupKeyState()


@dataclass(slots=True)
class BatchView:
    """Known state by key hash. `active_alerts` holds shared alerts by id, so that all of their keys see the same
    state."""

    states: dict[bytes, DedupKeyState] = field(default_factory=dict)
    rate_windows: dict[bytes, RateWindowState] = field(default_factory=dict)
    active_alerts: dict[int, ActiveAlert] = field(default_factory=dict)
    #: Merged alerts whose parent has ended in this batch: their keys are free.
    freed_alert_ids: set[int] = field(default_factory=set)

    def get_state(self, key_hash: bytes) -> DedupKeyState:
        """Returns a key's state after all decisions so far."""
        state = self.states.get(key_hash, _BATCH_VIEW_NEW)
        if state.active_alert is not None and state.active_alert.parent_id is not None:
            if state.active_alert.state.id in self.freed_alert_ids:
                return _free(state)
            state = replace(state, parent=self.active_alerts.get(state.active_alert.parent_id))
        if state.shared_alert_id is None:
            return state
        active_alert = self.active_alerts.get(state.shared_alert_id)
        if active_alert is None or active_alert.state.id in self.freed_alert_ids:
            return _free(state)
        parent = self.active_alerts.get(active_alert.parent_id) if active_alert.parent_id is not None else None
        return replace(state, active_alert=active_alert, parent=parent)

    def get_noise_state(self, scopes: LockScopes | None) -> NoiseState:
        """Returns the noise reduction state that a message with these lock scopes may read."""
        if scopes is None:
            return EMPTY_NOISE_STATE
        rate_windows = {
            scope: self.rate_windows[scope] for scope in scopes.rate_window_scopes if scope in self.rate_windows
        }
        alert_ids = {rate_window.alert_id for rate_window in rate_windows.values()} - self.freed_alert_ids
        active_alerts = self._known(alert_ids)
        parent = self._share_parent(scopes.parent)
        joinable = (*active_alerts.values(), parent)
        active_alerts |= self._known({active_alert.parent_id for active_alert in joinable if active_alert is not None})
        return NoiseState(rate_windows, active_alerts, parent)

    def _known(self, alert_ids: Collection[int | None]) -> dict[int, ActiveAlert]:
        return {
            alert_id: self.active_alerts[alert_id]
            for alert_id in alert_ids
            if alert_id is not None and alert_id in self.active_alerts
        }

    def _share_parent(self, key_hash: bytes | None) -> ActiveAlert | None:
        """Returns the active alert of a parent's key, from now on shared by its messages and its children's."""
        if key_hash is None:
            return None
        state = self.get_state(key_hash)
        if state.active_alert is not None and state.shared_alert_id is None:
            alert_id = state.active_alert.state.id
            self.active_alerts.setdefault(alert_id, state.active_alert)
            self.states[key_hash] = replace(state, shared_alert_id=alert_id)
        return state.active_alert

    def apply_decision(self, key_hash: bytes, previous_state: DedupKeyState, decision: Decision) -> None:
        """Stores the state after a decision; `previous_state` is the state that `key` returned."""
        new_state = decision.key_state
        self.states[key_hash] = new_state
        if previous_state.shared_alert_id is not None and new_state.active_alert is None:
            self.active_alerts.pop(previous_state.shared_alert_id, None)
        if new_state.shared_alert_id is not None and new_state.active_alert is not None:
            self.active_alerts[new_state.shared_alert_id] = new_state.active_alert
        if (noise_changes := decision.noise_changes) is not None:
            self.active_alerts.update(noise_changes.active_alerts)
            self.rate_windows.update(noise_changes.rate_windows)
            for scope in noise_changes.released_scopes:
                # The delayed alerts of that scope join one by one; none of them counts as waiting any more.
                self.rate_windows[scope] = replace(self.rate_windows[scope], waiting_count=0)
        if previous_state.delayed is not None and new_state.delayed is None:
            # The key is no longer one of those waiting in its scope.
            scope_left = previous_state.delayed.scope
            rate_window = self.rate_windows.get(scope_left) if scope_left is not None else None
            if scope_left is not None and rate_window is not None and rate_window.waiting_count:
                self.rate_windows[scope_left] = replace(rate_window, waiting_count=rate_window.waiting_count - 1)


def _free(state: DedupKeyState) -> DedupKeyState:
    return replace(state, active_alert=None, shared_alert_id=None, role=None, parent=None)
