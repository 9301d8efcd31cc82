"""Decides whether a due delivery is sent, from the current state of its alert and recipient. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from tocsin.alerts.states import ACTIVE, AlertStatus, Priority
from tocsin.core.delivery.circuit_breaker import Backoff, FailureKind
from tocsin.core.reasons import NO_REASON, AlertRef, Person, Reason
from tocsin.notify.interfaces import CHANNELS, AlertContent
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import (
    BUNDLED_LATER,
    HOURLY_LIMIT_REACHED,
    FindAddressProblem,
    NotificationMethod,
    QuietWindow,
    Recipient,
    quiet_until,
)
from tocsin.notify.states import Purpose

#: How long an all-clear or a notice is retried.
NOTICE_RETRY_PERIOD = timedelta(days=1)

#: Sent to the contact method's current address, even if it has changed.
_SENT_TO_CURRENT_ADDRESS = frozenset({Purpose.PAGE, Purpose.ACK_REMINDER, Purpose.ALL_CLEAR})

#: Asks for a response, and is therefore not sent for an alert that is over.
_ACTIVE_ALERT_PURPOSES = frozenset({Purpose.PAGE, Purpose.ACK_REMINDER})


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFacts(AlertContent):
    """An alert as it is now: what a message says about it, and what decides whether one is sent."""

    status: AlertStatus
    custom: Mapping[str, Any] = field(default_factory=dict)
    owner_id: int | None = None
    hold_until: datetime | None = None
    merged_into: int | None = None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A due delivery with the current facts about its alert and recipient."""

    id: UUID
    notification_id: UUID
    channel: str
    address: str
    purpose: Purpose
    queued_at: datetime
    due_at: datetime
    #: When the notification was created: the same for all its deliveries.
    created_at: datetime | None = None
    alert: AlertFacts | None = None
    #: The integration of the alert, for fair queueing.
    integration_id: int | None = None
    user_id: int | None = None
    user_name: str = ""
    time_zone: str = "UTC"
    language: str = ""
    is_active: bool = True
    #: The contact method's current address; empty if the method is no longer used.
    current_address: str | None = None
    #: Whether STOP was sent from this address.
    has_opted_out: bool = False
    #: Whether the user's acknowledgement of this alert is in effect.
    has_acknowledged: bool = False
    label: str = ""
    #: The notification's reason and its data.
    notification_reason: Reason = NO_REASON
    data: Mapping[str, Any] = field(default_factory=dict)
    #: The delivery's reason: what it waited for.
    wait_reason: Reason = NO_REASON
    provider_name: str = ""
    attempts: int = 0
    is_first: bool = False
    #: When a message with this purpose was last sent to this recipient's address.
    last_sent_at: datetime | None = None
    #: Whether an attempt ended with an unknown outcome.
    may_have_been_sent: bool = False
    #: When it was due, once an attempt has failed.
    late_since: datetime | None = None
    #: Whether its quick retries are used up.
    is_exhausted: bool = False
    #: Internal failures of Tocsin since a provider last failed.
    own_failures: int = 0
    #: For an all-clear: whether this user's page about the alert was sent, or may have been; and whether one is being
    #: sent.
    has_been_paged: bool = False
    is_being_paged: bool = False
    #: The user's hourly limit at this address (0: none), and the times of the latest messages up to that number.
    most_per_hour: int = 0
    recent_sent_times: tuple[datetime, ...] = ()
    #: The user's quiet hours, for a page that they delay.
    quiet: tuple[QuietWindow, ...] = ()
    #: Why it cannot be sent at all.
    problem: Reason = NO_REASON

    @property
    def has_new_address(self) -> bool:
        """Whether the contact method's address has changed since."""
        return self.purpose in _SENT_TO_CURRENT_ADDRESS and self.current_address not in (None, "", self.address)

    @property
    def is_method_removed(self) -> bool:
        """Whether the contact method is no longer used."""
        return self.purpose in _SENT_TO_CURRENT_ADDRESS and self.current_address == ""

    @property
    def is_escalation_notice(self) -> bool:
        """Whether it reports an alert's escalation, such as "Nobody answered"."""
        return self.purpose is Purpose.NOTICE and bool(self.data.get("heading"))

    def should_keep_retrying(self, now: datetime) -> bool:
        """Returns whether it is retried for as long as it matters: a page until its alert ends or someone responds, an
        all-clear and a mailed notice for a day. A notice on another channel falls back to mail instead.
        """
        match self.purpose:
            case Purpose.PAGE:
                return self.alert is not None
            case Purpose.NOTICE if self.channel != "email":
                return False
            case Purpose.ALL_CLEAR | Purpose.NOTICE:
                return self.late_since is None or now - self.late_since < NOTICE_RETRY_PERIOD
            case Purpose.ACK_REMINDER | Purpose.TEST:
                return False

    @property
    def name(self) -> str:
        """The recipient's name, for a sentence."""
        return self.user_name or self.label or self.address

    @property
    def recipient(self) -> Person:
        """The recipient, for a sentence."""
        return Person(self.name, self.user_id)


@dataclass(frozen=True, slots=True)
class SendNow:
    """Send it now."""


@dataclass(frozen=True, slots=True)
class CancelDelivery:
    """Never send it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Defer:
    """Do not send it before `until`."""

    reason: Reason
    until: datetime


@dataclass(frozen=True, slots=True)
class FailDelivery:
    """It cannot be sent by any provider."""

    reason: Reason


type PreSendDecision = SendNow | CancelDelivery | Defer | FailDelivery


def needs_fallback(due: DueDelivery, now: datetime, find_problem: FindAddressProblem) -> bool:
    """Returns whether the delivery must fall back to another contact method: an all-clear whose own method has any
    problem; a page whose method is no longer used.
    """
    if due.user_id is None or not isinstance(pre_send_check(due, now, find_problem), FailDelivery):
        return False
    if due.purpose is not Purpose.PAGE:
        return due.purpose is Purpose.ALL_CLEAR
    return due.is_method_removed and not due.has_opted_out and find_problem(due.channel, due.address) is None


def pre_send_check(due: DueDelivery, now: datetime, find_problem: FindAddressProblem) -> PreSendDecision:
    """Returns what becomes of a due delivery. `find_problem` returns why an address is invalid."""
    alert = due.alert
    if alert is not None and due.purpose in _ACTIVE_ALERT_PURPOSES:
        if alert.status not in ACTIVE:
            return CancelDelivery(_alert_ended_reason(alert))
        if due.purpose is Purpose.PAGE and (decision := _check_page(due, alert, now)) is not None:
            return decision
    if alert is not None and due.is_escalation_notice and due.late_since is not None and alert.status not in ACTIVE:
        return CancelDelivery(_alert_ended_reason(alert))
    if due.purpose is Purpose.ALL_CLEAR:
        if due.is_being_paged:
            return Defer(page_planner.PAGE_IN_PROGRESS(), now + timedelta(seconds=2))
        if not due.has_been_paged:
            return CancelDelivery(page_planner.PAGE_NOT_SENT())
    if due.user_id is None and not due.address:
        return CancelDelivery(page_planner.RECIPIENT_DELETED())
    if due.has_opted_out:
        return FailDelivery(page_planner.OPTED_OUT())
    if (address_problem := find_problem(due.channel, due.address)) is not None:
        return FailDelivery(address_problem)
    if due.is_method_removed:
        method = due.label or due.channel
        return FailDelivery(
            page_planner.METHOD_REMOVED(user=due.recipient, method=method)
            if due.user_id
            else page_planner.CONTACT_REMOVED(method=method)
        )
    return SendNow()


def _check_page(due: DueDelivery, alert: AlertFacts, now: datetime) -> PreSendDecision | None:
    if due.has_acknowledged:
        return CancelDelivery(page_planner.ACKNOWLEDGED(user=due.recipient))
    # A page about the assignment itself is sent until the assignee accepts, which cancels it.
    if due.user_id is not None and alert.owner_id == due.user_id and not due.data.get("assignment"):
        return CancelDelivery(page_planner.ASSIGNED(user=due.recipient))
    if not due.is_active:
        return CancelDelivery(page_planner.RECIPIENT_DISABLED(user=due.recipient))
    # A user who chose to escalate now means it, whether or not the alert is on hold.
    if alert.status is AlertStatus.ON_HOLD and not due.data.get("wake"):
        until = alert.hold_until or now
        return Defer(page_planner.ON_HOLD(), max(until, now + timedelta(seconds=2)))
    if due.quiet and not due.attempts:
        # It has waited for quiet hours: the user's current ones decide.
        recipient = Recipient(due.user_id or 0, due.user_name, time_zone=due.time_zone, quiet=due.quiet)
        method = NotificationMethod(due.label, due.channel, due.address)
        if (until := quiet_until(recipient, method, alert.priority, now)) > now:
            return Defer(page_planner.IN_QUIET_HOURS(), until)
    # A message sent in the future was sent before a clock rollback: how long ago is unknown, so it is ignored.
    sent_times = sorted(at for at in due.recent_sent_times if at <= now)
    if 0 < due.most_per_hour <= len(sent_times) and alert.priority is not Priority.CRITICAL:
        free_at = sent_times[-due.most_per_hour] + timedelta(hours=1)
        if free_at > now:
            return Defer(page_planner.HOURLY_LIMIT_REACHED(), free_at)
    return None


def _alert_ended_reason(alert: AlertFacts) -> Reason:
    if alert.status is AlertStatus.MERGED and alert.merged_into is not None:
        return page_planner.ALERT_MERGED(alert=AlertRef(alert.merged_into))
    reasons = {
        AlertStatus.CLOSED: page_planner.ALERT_CLOSED,
        AlertStatus.CANCELLED: page_planner.ALERT_CANCELLED,
    }
    return reasons.get(alert.status, page_planner.ALERT_ENDED)()


# ---------- bundling
# Decides which deliveries are sent now, alone or bundled, and which wait to be bundled. Pure.
#
# The first message to a recipient's address is sent at once. Messages that follow within ten seconds wait until ten
# seconds after it and are then sent as one: never more than ten seconds late. On a channel with short messages, the
# bundle names the first alerts and counts the rest, whatever their number. The same applies to messages that waited
# for the user's hourly limit.


WINDOW = timedelta(seconds=10)

BUNDLED = frozenset({Purpose.PAGE, Purpose.ALL_CLEAR})

#: The maximum number of deliveries in one message.
MAX_BUNDLE_SIZE = 1000


class BundleKey(NamedTuple):
    """The recipient and address. Deliveries with the same key can be bundled."""

    recipient: int
    channel: str
    address: str
    purpose: str


@dataclass(frozen=True, slots=True)
class DeliveryBundle:
    """One message, usually about one alert."""

    members: tuple[DueDelivery, ...]
    #: Whether it is a first message. Another node may have sent one at the same moment; the database decides.
    is_first: bool = False
    #: The number of alerts that the message names; the others are counted. 0 means all.
    named_count: int = 0

    @property
    def lead(self) -> DueDelivery:
        return self.members[0]


def bundle_of(members: Sequence[DueDelivery]) -> DeliveryBundle:
    """Returns one message about all of them, which names as many alerts as its channel has room for."""
    channel = CHANNELS.get(members[0].channel)
    max_named = 1 if channel is None else channel.bundle_limit
    return DeliveryBundle(tuple(members), named_count=max_named if len(members) > max_named else 0)


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """What is sent now, and what waits until when. Deliveries in neither wait for the next run."""

    bundles: tuple[DeliveryBundle, ...]
    waiting: tuple[tuple[DueDelivery, datetime], ...]


def bundle_key(due: DueDelivery) -> BundleKey | None:
    """Returns the key that `due` is bundled by; None if it is always sent alone."""
    if not (due.purpose in BUNDLED or due.is_escalation_notice) or due.alert is None or due.problem:
        return None
    return BundleKey(due.user_id or 0, due.channel, due.address, due.purpose)


def has_waited_for_bundle(due: DueDelivery) -> bool:
    """Returns whether it has already waited to be bundled, or was tried before. It does not wait again."""
    return due.wait_reason.code in (BUNDLED_LATER.code, HOURLY_LIMIT_REACHED.code) or due.provider_name != ""


def max_bundle_size(due: DueDelivery) -> int:
    """Returns how many deliveries may be bundled with `due`."""
    channel = CHANNELS.get(due.channel)
    if due.wait_reason.code == HOURLY_LIMIT_REACHED.code or (channel is not None and channel.counts_omitted):
        return MAX_BUNDLE_SIZE
    return 1 if channel is None else channel.bundle_limit


def arrange(ready: Iterable[DueDelivery], now: datetime) -> BundlePlan:
    """Groups the sendable deliveries into messages."""
    bundles: list[DeliveryBundle] = []
    waiting: list[tuple[DueDelivery, datetime]] = []
    groups: dict[BundleKey, list[DueDelivery]] = {}
    for due in ready:
        if (key := bundle_key(due)) is None:
            bundles.append(DeliveryBundle((due,)))
        else:
            groups.setdefault(key, []).append(due)
    for group in groups.values():
        group.sort(key=lambda due: (due.due_at, due.id))
        last_sent_at = max((due.last_sent_at for due in group if due.last_sent_at is not None), default=None)
        if any(has_waited_for_bundle(due) for due in group):
            members = group[: max(max_bundle_size(due) for due in group)]
            bundles.append(bundle_of(members))
        elif last_sent_at is None or last_sent_at + WINDOW <= now:
            first, *followers = group
            bundles.append(DeliveryBundle((first,), is_first=True))
            waiting += [(due, now + WINDOW) for due in followers]
        else:
            # After a clock rollback, the last message may have been sent in the future.
            waiting += [(due, min(last_sent_at, now) + WINDOW) for due in group]
    return BundlePlan(tuple(bundles), tuple(waiting))


# ---------- retry policy
# Decides what follows a failed attempt: a retry, another provider, or giving up. Pure.
#
# The next provider takes over at once. When all have failed, the providers with a temporary error are tried again in
# order, 5, 30, 120 and 300 seconds apart: five attempts each within about ten minutes. After that, or once all have
# refused it, a lasting message, such as a page about an alert that nobody has answered, is retried until it is sent,
# one provider after the other, soon every five minutes; any other message fails. A refusal is not final, because what
# it is about (credentials, an unpaid account, a quota, a sender) is mended while the alert is open. Only an address
# that does not exist is final. An unknown outcome counts as a failure, so that the message is sent again: a duplicate
# is better than no page. But each repeat may be a duplicate, so it then waits longer each time, up to half an hour.


MAX_TRIES = 5
#: The delay between rounds.
BACKOFF = Backoff(
    tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 300)),
    jitter=0.2,
    max_retry_after=timedelta(minutes=10),
)
#: The same if a repeat is worse: the outcome is unknown, or only this address is refused.
UNKNOWN_BACKOFF = replace(
    BACKOFF, delays=(*BACKOFF.delays, timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=30))
)
#: Tocsin's own failures. Five of them end a message, since the message itself may crash the process.
INTERNAL_FAILURES = frozenset({FailureKind.INTERNAL_ERROR, FailureKind.WORKER_LOST})
#: The message may have been sent.
UNCERTAIN = frozenset({FailureKind.OUTCOME_UNKNOWN, FailureKind.WORKER_LOST})
#: Never retried with the same provider.
FINAL = frozenset({FailureKind.NO_SUCH_ADDRESS})
#: A person must act: only a lasting message is retried with the same provider.
REFUSALS = frozenset({FailureKind.PERMANENT, FailureKind.ADDRESS_REJECTED}) | FINAL
#: Counts against a provider's health.
FAULTS = frozenset({FailureKind.TEMPORARY, FailureKind.OUTCOME_UNKNOWN, FailureKind.PERMANENT})


@dataclass(frozen=True, slots=True)
class ProviderAttempts:
    """The attempts of one notification with one provider so far."""

    tries: int
    is_refused: bool = False
    #: The provider knows no such address.
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try `provider` after `delay`."""

    provider: str
    delay: timedelta
    #: Whether the quick retries are used up, or all providers have refused it.
    is_exhausted: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No provider is left."""


type RetryDecision = Retry | GiveUp


def next_attempt_after(
    failure: FailureKind,
    current: str,
    attempts: Mapping[str, ProviderAttempts],
    providers: Sequence[str],
    *,
    jitter: float,
    retry_after: timedelta | None = None,
    keep_retrying: bool = False,
    is_exhausted: bool = False,
    own_failures: int = 0,
) -> RetryDecision:
    """Returns what to do after `current` failed. `attempts` includes that attempt; `jitter` is between 0 and 1.

    `keep_retrying`: the message is retried for as long as it matters. `is_exhausted`: its quick retries are used up, or
    all providers have refused it.
    `own_failures` counts Tocsin's own failures, including this one.
    """
    should_continue = keep_retrying and own_failures < MAX_TRIES
    if failure is FailureKind.WORKER_LOST and (should_continue or attempts[current].tries < MAX_TRIES):
        # The node failed, not the provider; and the expired lease has already cost ten seconds.
        return Retry(current, timedelta(), is_exhausted)
    if failure is FailureKind.WORKER_LOST:
        return GiveUp()
    for name in providers:
        if name not in attempts:
            return Retry(name, timedelta(), is_exhausted)
    usable = [name for name in providers if name in attempts and not attempts[name].is_final]
    working = [name for name in usable if not attempts[name].is_refused]
    candidates = [name for name in working if attempts[name].tries < MAX_TRIES] if not is_exhausted else []
    if not candidates:
        if not should_continue or not usable:
            return GiveUp()
        # Round robin.
        chosen = usable[(usable.index(current) + 1) % len(usable)] if current in usable else usable[0]
        is_unknown = failure is FailureKind.OUTCOME_UNKNOWN
        backoff = UNKNOWN_BACKOFF if is_unknown or failure is FailureKind.ADDRESS_REJECTED else BACKOFF
        # The tries of all providers together: a refusal begins with the short delays.
        tries = max(attempts[current].tries, MAX_TRIES) if is_unknown else sum(one.tries for one in attempts.values())
        delay = backoff.delay(tries, jitter, retry_after if chosen == current else None)
        return Retry(chosen, delay, is_exhausted=True)
    chosen = min(candidates, key=lambda name: (attempts[name].tries, candidates.index(name)))
    if attempts[chosen].tries < max(attempts[name].tries for name in working):
        # Another provider started this round, so its delay is over.
        return Retry(chosen, timedelta())
    delay = BACKOFF.delay(attempts[chosen].tries, jitter, retry_after if chosen == current else None)
    return Retry(chosen, delay)
