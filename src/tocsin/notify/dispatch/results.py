"""Records the results of sends, in one transaction for many: sent, retried, handed to the next provider, or failed and
reported. An accepted message is recorded first and never sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from tocsin.alerts import store as alert_rows
from tocsin.alerts.commands import SYSTEM, NewEvent
from tocsin.alerts.sql import join_alert
from tocsin.alerts.states import CommandChannel, EventKind, Priority
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, ReasonType, joined, reason_from_json
from tocsin.core.runtime import telemetry
from tocsin.core.runtime.clock import Timers
from tocsin.notify.dispatch import send
from tocsin.notify.dispatch.claim import built_reason, joined_reason
from tocsin.notify.dispatch.send import Accepted, SendResult, SentDelivery, sent_deliveries, status_of
from tocsin.notify.notices import Notice, queue_notice, queue_otherwise, was_noticed
from tocsin.notify.pages import load_recipients
from tocsin.notify.providers import health
from tocsin.notify.providers import pool as recovery
from tocsin.notify.providers.pool import SANDBOX, ProviderPool
from tocsin.notify.registry import CHANNELS
from tocsin.notify.rules import delivery_reasons
from tocsin.notify.rules.delivery_reasons import NO_RECEIPT, NOT_CONFIRMED, STARTED_EARLY
from tocsin.notify.rules.page_planner import NOTICE_HORIZON, NotificationMethod, is_quiet
from tocsin.notify.rules.pre_send_check import (
    FAULTS,
    FINAL,
    INTERNAL_FAILURES,
    REFUSALS,
    UNCERTAIN,
    DueDelivery,
    GiveUp,
    ProviderAttempts,
    Retry,
    next_attempt_after,
)
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.people.sql import load_administrators

# ---------- receipt timeouts
# Receipt timeouts: if a provider accepts a page but does not report it as delivered in time, the user's next contact
# method starts. Timers are database rows. Runs inside the caller's transaction and sends nothing.


#: An unresponsive phone counts against its provider at most once in this time.
COUNT_ONCE_PER = timedelta(hours=1)

#: The maximum number of overdue receipts in one run.
MAX_RECEIPTS_PER_RUN = 200


_AWAIT = """
INSERT INTO notify_awaitedreceipt (delivery, due_at, timeout_seconds)
SELECT t.id, t.due_at, t.timeout_seconds FROM unnest(%s::uuid[], %s::timestamptz[], %s::int[]) AS t(id, due_at,
timeout_seconds)
JOIN notify_delivery d ON d.id = t.id AND d.status = 'sent' AND d.receipt = ''
ON CONFLICT (delivery) DO UPDATE SET due_at = excluded.due_at, timeout_seconds = excluded.timeout_seconds
"""


def begin(connection: Connection, sent: Sequence[SentDelivery]) -> None:
    """Records the time by which accepted pages must be reported as delivered, for providers with delivery receipts."""
    rows = [
        (one.id, one.at + timedelta(seconds=one.receipt_timeout), one.receipt_timeout)
        for one in sent
        if one.receipt_timeout is not None
    ]
    if rows:
        connection.execute(_AWAIT, ([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]))


def end(connection: Connection, delivery_ids: Sequence[UUID]) -> None:
    """Stops waiting for receipts of these deliveries, since the provider has reported."""
    connection.execute("DELETE FROM notify_awaitedreceipt WHERE delivery = ANY(%s)", (list(delivery_ids),))


@dataclass(frozen=True, slots=True)
class OverdueReceipt:
    """A delivery without a receipt in time."""

    id: UUID
    provider: str
    timeout_seconds: int
    channel: str
    address: str


_NOT_CONFIRMED = built_reason(
    NOT_CONFIRMED.code,
    "jsonb_build_object('provider', d.provider_name, 'duration', jsonb_build_object('seconds', h.timeout_seconds))",
)
_OVERDUE = f"""
WITH late AS (
  DELETE FROM notify_awaitedreceipt WHERE delivery IN (
    SELECT delivery FROM notify_awaitedreceipt WHERE due_at <= %s ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
  RETURNING delivery, timeout_seconds
), held AS (
  SELECT d.id, l.timeout_seconds FROM notify_delivery d JOIN late l ON l.delivery = d.id
  WHERE d.status = 'sent' AND d.receipt = '' ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET reason = {joined_reason("d.reason", _NOT_CONFIRMED)}
FROM held h WHERE d.id = h.id RETURNING d.id, d.provider_name, h.timeout_seconds, d.channel, d.address
"""


def overdue(connection: Connection, now: datetime) -> list[OverdueReceipt]:
    """Takes the overdue receipts, records the reason on each delivery, and starts the next contact methods."""
    query = database.literal(_OVERDUE)
    receipts = [OverdueReceipt(*row) for row in connection.execute(query, (now, MAX_RECEIPTS_PER_RUN)).fetchall()]
    for receipt in receipts:
        start_next_method(connection, [receipt.id], NO_RECEIPT(provider=receipt.provider), now)
    return receipts


class UnresponsiveAddresses:
    """Recently unresponsive addresses by provider. A phone that is off is not its provider's fault, so an address
    counts once per hour, and only several consecutive ones open the circuit breaker. One per process.
    """

    def __init__(self) -> None:
        self._counted_at: dict[tuple[str, str, str], datetime] = {}

    def select_counted(self, overdue_receipts: Sequence[OverdueReceipt], now: datetime) -> list[OverdueReceipt]:
        """Returns the overdue receipts that count against their provider."""
        self._counted_at = {key: at for key, at in self._counted_at.items() if at > now - COUNT_ONCE_PER}
        counted = []
        for receipt in overdue_receipts:
            key = (receipt.provider, receipt.channel, receipt.address)
            if key not in self._counted_at:
                self._counted_at[key] = now
                counted.append(receipt)
        return counted


# A contact method that has already started, after its wait or after an earlier failure, is not a next one: its repeats
# are not brought forward. Pages of the same plan have the same `queued_at`.
_NOT_STARTED = f"""
WITH stuck AS (
  SELECT DISTINCT alert_id, user_id, channel, address FROM notify_delivery
  WHERE id = ANY(%(ids)s) AND purpose = 'page' AND user_id IS NOT NULL AND alert_id IS NOT NULL
)
SELECT d.id, d.alert_id, d.user_id, d.channel, d.address, n.label, a.priority FROM stuck s
JOIN notify_delivery d ON d.alert_id = s.alert_id AND d.user_id = s.user_id AND d.purpose = 'page'
    AND d.status = 'queued' AND d.provider_name = '' AND d.attempts = 0 AND d.due_at > %(now)s AND d.due_at <= %(soon)s
    AND (d.channel, d.address) <> (s.channel, s.address)
JOIN notify_notification n ON n.id = d.notification_id {join_alert("d.alert_id")}
WHERE NOT EXISTS (SELECT FROM notify_delivery b WHERE b.alert_id = d.alert_id AND b.user_id = d.user_id
    AND b.purpose = 'page' AND b.channel = d.channel AND b.address = d.address AND b.queued_at = d.queued_at
    AND (b.status NOT IN ('queued', 'cancelled') OR (b.status = 'queued' AND (b.due_at <= %(now)s OR b.attempts > 0))))
ORDER BY d.due_at, d.id
"""
_START_NOW = """
UPDATE notify_delivery SET due_at = %(now)s, reason = %(reason)s WHERE id IN (
  SELECT id FROM notify_delivery WHERE id = ANY(%(ids)s) AND status = 'queued'
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
"""


def start_next_method(connection: Connection, delivery_ids: Sequence[UUID], cause: Reason, now: datetime) -> int:
    """Starts each user's next contact method now instead of after its wait, unless quiet hours apply. Returns how many
    were started.
    """
    page_ids = _find_next_pages(connection, delivery_ids, now)
    if not page_ids:
        return 0
    parameters = {"ids": page_ids, "now": now, "reason": STARTED_EARLY(cause=cause)}
    started = connection.execute(_START_NOW, parameters).rowcount
    if started:
        database.notify(connection, "outbox")
    return started


def _find_next_pages(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> list[UUID]:
    """Returns the ids of the first page on each user's next contact method that may be sent now."""
    parameters = {"ids": list(delivery_ids), "now": now, "soon": now + NOTICE_HORIZON}
    rows = database.rows(connection, _NOT_STARTED, parameters)
    recipients = load_recipients(connection, {row["user_id"] for row in rows})
    first_page_ids: dict[tuple[int, int], UUID] = {}
    for row in rows:
        method = NotificationMethod(row["label"], row["channel"], row["address"])
        recipient = recipients.get(row["user_id"])
        if recipient is None or not is_quiet(recipient, method, Priority(row["priority"]), now):
            first_page_ids.setdefault((row["alert_id"], row["user_id"]), row["id"])
    return list(first_page_ids.values())


# ---------- failure notices
# Reports deliveries that failed for good: on the alert's timeline and to the administrators.


#: How often administrators are notified of the same kind of failure. Each alert shows its own failures.
NOTICE_INTERVAL = timedelta(minutes=15)

#: A failed notice causes no further notice; a user who runs a test sees it fail.
NOT_REPORTED = frozenset({Purpose.NOTICE, Purpose.TEST})


#: The maximum number of failures that one notice names.
MAX_NAMED_FAILURES = 20

_STUCK_TITLE = ReasonType("notice.tocsin_cannot_send", "Internal error while sending a message")
_STUCK_ADVICE = ReasonType("notice.report_fault", "This is a bug in Tocsin. Please report it.")
_FAILED_TITLE = ReasonType("notice.message_not_sent", "A message could not be sent")
_FAILED_ADVICE = ReasonType("notice.check_provider", "Check the provider, and the contact methods of the recipient.")
_MORE_FAILURES = ReasonType("notice.more_failures", "And {more} more.")
_FREQUENCY = ReasonType(
    "notice.failure_frequency", "You are notified at most once per {interval}. All failures are listed on each alert."
)


class FailedDelivery(Protocol):
    """A delivery that has failed for good."""

    @property
    def due(self) -> DueDelivery: ...
    @property
    def send_failure(self) -> AttemptFailed: ...
    @property
    def provider(self) -> str: ...
    @property
    def at(self) -> datetime: ...


def is_stuck(failure: FailureKind) -> bool:
    """Returns whether Tocsin itself failed, not a provider."""
    return failure in (FailureKind.INTERNAL_ERROR, FailureKind.WORKER_LOST)


def report_failures(connection: Connection, failures: Sequence[FailedDelivery]) -> None:
    """Writes an event on each alert concerned and mails the administrators once for all of them. Notices on other
    channels than e-mail fall back to e-mail, and urgent ones by e-mail to the other contact methods.
    """
    if not failures:
        return
    alert_rows.insert_events(
        connection,
        [
            _event(entry)
            for entry in failures
            if entry.due.alert is not None and entry.due.purpose is not Purpose.NOTICE
        ],
    )
    for entry in failures:
        if entry.due.purpose is not Purpose.NOTICE or entry.due.user_id is None:
            continue
        if entry.due.channel != "email":
            _mail_instead(connection, entry.due, entry.due.user_id, entry.at)
        elif entry.due.data.get("urgent"):
            queue_otherwise(connection, _notice_of(entry.due), [entry.due.user_id], entry.at)
    pages = [entry for entry in failures if entry.due.purpose not in NOT_REPORTED]
    for about in ("stuck", "failed"):
        matching = [entry for entry in pages if (about == "stuck") == is_stuck(entry.send_failure.kind)]
        if matching:
            _notify_administrators(connection, matching, about)


def _mail_instead(connection: Connection, due: DueDelivery, user_id: int, now: datetime) -> None:
    """Mails a notice to the user's login address instead."""
    instead = delivery_reasons.EMAILED_INSTEAD(method=_method_label(due))
    notice = replace(_notice_of(due), reason=joined(due.notification_reason, instead, separator=" "))
    queue_notice(connection, notice, now, user_ids=[user_id])


def _notice_of(due: DueDelivery) -> Notice:
    return Notice(
        title=reason_from_json(due.data.get("title")),
        text=reason_from_json(due.data.get("text")),
        about=str(due.data.get("about", "")),
        reason=due.notification_reason,
        alert_id=due.alert.id if due.alert is not None else None,
        heading=reason_from_json(due.data.get("heading")),
    )


def _event(entry: FailedDelivery) -> NewEvent:
    due = entry.due
    assert due.alert is not None
    return NewEvent(
        due.alert.id,
        EventKind.PAGE_FAILED,
        entry.at,
        SYSTEM,
        _unsent(entry, _purpose(due)),
        CommandChannel.POLICY,
        {"delivery": str(due.id), "channel": due.channel, "provider": entry.provider},
    )


def _notify_administrators(connection: Connection, failures: Sequence[FailedDelivery], about: str) -> None:
    first = failures[0]
    admins = load_administrators(connection)
    if not admins or was_noticed(connection, admins, about, first.at, NOTICE_INTERVAL):
        return
    lines = [_unsent(entry, _about_alert(entry.due)) for entry in failures[:MAX_NAMED_FAILURES]]
    if len(failures) > MAX_NAMED_FAILURES:
        lines.append(_MORE_FAILURES(more=len(failures) - MAX_NAMED_FAILURES))
    title, advice = (_STUCK_TITLE, _STUCK_ADVICE) if about == "stuck" else (_FAILED_TITLE, _FAILED_ADVICE)
    hints = joined(advice(), _FREQUENCY(interval=NOTICE_INTERVAL), separator="\n")
    text = joined(joined(*lines, separator="\n"), hints, separator="\n\n")
    notice = Notice(title(), text, about, delivery_reasons.IS_ADMINISTRATOR(), is_urgent=True)
    queue_notice(connection, notice, first.at, user_ids=admins)


def _unsent(entry: FailedDelivery, message: Reason) -> Reason:
    due, label = entry.due, _method_label(entry.due)
    if label == due.name:
        return delivery_reasons.UNSENT(message=message, recipient=due.recipient, error=entry.send_failure.error)
    return delivery_reasons.UNSENT_BY(
        message=message, recipient=due.recipient, method=label, error=entry.send_failure.error
    )


def _purpose(due: DueDelivery) -> Reason:
    match due.purpose:
        case Purpose.PAGE:
            return delivery_reasons.PAGE()
        case Purpose.ALL_CLEAR:
            return delivery_reasons.ALL_CLEAR()
        case Purpose.ACK_REMINDER:
            return delivery_reasons.ACK_REMINDER()
        case Purpose.NOTICE:
            return delivery_reasons.NOTICE()
        case Purpose.TEST:
            return delivery_reasons.TEST()


def _about_alert(due: DueDelivery) -> Reason:
    if due.alert is None:
        return _purpose(due)
    return delivery_reasons.ABOUT_ALERT(message=_purpose(due), alert=AlertRef(due.alert.id))


def _method_label(due: DueDelivery) -> str:
    return due.label or (CHANNELS[due.channel].label if due.channel in CHANNELS else due.channel)


#: The maximum number of changed alerts that a hint names. The lists of alerts are refreshed in any case.
_MAX_NAMED_ALERTS = 50
#: The maximum number of alerts of the same bundle that a delivery's reason names.
_MAX_BUNDLED_ALERTS = 10
#: Stands for the provider of a delivery that no provider could be called for.
_TOCSIN = "Tocsin"


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """One delivery whose attempt failed."""

    due: DueDelivery
    provider: str
    send_failure: AttemptFailed
    at: datetime


def record(
    connection: Connection,
    pool: ProviderPool,
    results: Sequence[SendResult],
    node: str,
    jitter: Callable[[], float],
) -> None:
    """Records the results of jobs that `node` has leased."""
    _record_sent(connection, pool, [result for result in results if isinstance(result.outcome, Accepted)])
    failures = [
        DeliveryFailure(due, result.job.provider, result.outcome, result.at)
        for result in results
        if isinstance(result.outcome, AttemptFailed)
        for due in result.job.bundle.members
    ]
    record_failures(connection, pool, failures, node, jitter)
    for result in results:
        telemetry.count_delivery(result.job.bundle.lead.channel, status_of(result), len(result.job.ids))
    failed = [result for result in results if isinstance(result.outcome, AttemptFailed)]
    recovered = health.recovered(connection) if failed else {}
    _note_health(connection, pool, [result for result in results if not _is_stale(result, recovered)])
    _release_stale(connection, pool, failed)
    alert_ids = {due.alert.id for result in results for due in result.job.bundle.members if due.alert is not None}
    if alert_ids:
        database.notify(connection, "alerts", *(f"alert:{number}" for number in sorted(alert_ids)[:_MAX_NAMED_ALERTS]))


# The reason why it waited, if it was leased until now; how it was sent; and what came too late to stop it.
_SENT_REASON = joined_reason(
    "CASE WHEN d.status = 'sending' THEN d.reason END",
    "s.reason",
    "CASE WHEN d.cancel_requested <> '{}' THEN "
    + built_reason(delivery_reasons.SENT_BEFORE_STOPPED.code, "jsonb_build_object('cause', d.cancel_requested)")
    + " END",
)
_SENT = f"""
WITH accepted AS (
  SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::timestamptz[])
    AS a(id, status, external_id, reason, at)
), held AS (
  SELECT d.id FROM notify_delivery d JOIN accepted USING (id)
  WHERE d.status NOT IN ('sent', 'delivered') AND d.receipt = '' ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET status = s.status, sent_at = CASE WHEN s.status = 'sent' THEN s.at END, external_id = s.external_id,
    error = '{{}}', is_permanent = false,
    lease_until = NULL, leased_by = '', ended_at = CASE WHEN s.status <> 'sent' THEN s.at END,
    cancel_requested = '{{}}',
    reason = {_SENT_REASON}
FROM accepted s JOIN held USING (id) WHERE d.id = s.id
"""


def _record_sent(connection: Connection, pool: ProviderPool, results: Sequence[SendResult]) -> None:
    """Marks accepted messages as sent, whatever their row's current state: nothing else prevents them from being sent
    again. What the sandbox keeps reaches nobody, so the user's next contact method begins, if any has a provider.
    """
    if not results:
        return
    members = [(due, result) for result in results for due in result.job.bundle.members]
    connection.execute(
        database.literal(_SENT),
        (
            [due.id for due, _ in members],
            [status_of(result) for _, result in members],
            [result.outcome.external_id if isinstance(result.outcome, Accepted) else "" for _, result in members],
            [_note(due, result) for due, result in members],
            [result.at for _, result in members],
        ),
    )
    begin(connection, [one for result in results for one in sent_deliveries(result)])
    if any(pool.has_provider(channel) for channel in CHANNELS):
        for due, result in members:
            if status_of(result) is DeliveryStatus.SANDBOXED:
                start_next_method(connection, [due.id], delivery_reasons.METHOD_FAILED(), result.at)
    records = [
        send.SandboxRecord(
            lead.id,
            lead.alert.id if lead.alert else None,
            lead.user_id,
            lead.channel,
            lead.address,
            result.outcome.content,
            result.at,
        )
        for result in results
        if isinstance(result.outcome, Accepted) and result.outcome.content is not None
        for lead in (result.job.bundle.lead,)
    ]
    send.store(connection, records)


def _note(due: DueDelivery, result: SendResult) -> Reason:
    """Returns the note of a sent delivery: what it was bundled with, and whether it went to the sandbox."""
    numbers = dict.fromkeys(member.alert.id for member in result.job.bundle.members if member.alert)
    others = [number for number in numbers if due.alert is None or number != due.alert.id]
    sandboxed = delivery_reasons.SANDBOXED() if result.job.provider == SANDBOX else NO_REASON
    return joined(_bundled_with(others), sandboxed, separator=" ")


def _bundled_with(alert_ids: Sequence[int]) -> Reason:
    if not alert_ids:
        return NO_REASON
    named = tuple(delivery_reasons.ALERT_NUMBER(alert=AlertRef(number)) for number in alert_ids[:_MAX_BUNDLED_ALERTS])
    if len(named) == len(alert_ids):
        return delivery_reasons.BUNDLED_WITH(alerts=named)
    alerts = joined(*named, separator=", ")
    return delivery_reasons.BUNDLED_WITH_MORE(alerts=alerts, more=len(alert_ids) - len(named))


def _note_health(connection: Connection, pool: ProviderPool, results: Sequence[SendResult]) -> None:
    """Records provider health. Last in the transaction, because all nodes lock these rows."""
    if not results:
        return
    updates = []
    failed = {result.job.bundle.lead.channel for result in results if isinstance(result.outcome, AttemptFailed)}
    awaited_channels = recovery.awaited_channels(connection, failed, max(result.at for result in results))
    for result in results:
        if result.job.active_provider is None:
            continue
        if isinstance(result.outcome, AttemptFailed):
            if result.outcome.kind in FAULTS and not result.job.active_provider.kind.has_many_servers:
                is_awaited = not awaited_channels.isdisjoint(result.job.active_provider.channels)
                updates.append(health.HealthUpdate(result.job.provider, result.at, result.outcome.error, is_awaited))
        elif result.job.bundle.lead.channel not in result.job.active_provider.receipt_channels:
            # A provider with delivery receipts counts as healthy only when a message has arrived.
            updates.append(health.HealthUpdate(result.job.provider, result.at))
    pool.record_outcomes(connection, updates)


def _is_stale(result: SendResult, recovered: Mapping[str, datetime]) -> bool:
    """Returns whether a failed attempt began before its provider recovered, and so says nothing about its current
    health.
    """
    began_at = result.began_at or result.at
    is_failed = isinstance(result.outcome, AttemptFailed)
    # A recovery time in the future comes from before a clock rollback.
    return is_failed and began_at < recovered.get(result.job.provider, began_at) <= result.at


def _release_stale(connection: Connection, pool: ProviderPool, failed: Sequence[SendResult]) -> None:
    """Retries failed messages at once if a provider has recovered since the attempt began: the release at the recovery
    did not see them. `_note_health` has locked the providers' rows, so that either this code sees a recovery or the
    recovery sees these rows.
    """
    if not failed:
        return
    recovered = health.recovered(connection)
    for result in failed:
        began_at, lead = result.began_at or result.at, result.job.bundle.lead
        for provider in pool.providers_for(lead.channel, lead.address):
            if began_at < recovered.get(provider.name, began_at) <= result.at:
                recovery.release(connection, provider, result.at, result.job.ids)
                break


_MARK_SENT = """
UPDATE notify_delivery d
SET status = 'sent', sent_at = s.at, external_id = s.external_id, lease_until = NULL, leased_by = '', ended_at = NULL
FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[]) AS s(id, external_id, at)
WHERE d.id = s.id AND d.status NOT IN ('sent', 'delivered') AND d.receipt = ''
"""


def mark_sent(connection: Connection, sent: Sequence[SentDelivery]) -> None:
    """Marks deliveries as sent and nothing else, for results that `record` cannot write in full or did not write."""
    columns = [one.id for one in sent], [one.external_id for one in sent], [one.at for one in sent]
    connection.execute(_MARK_SENT, columns)
    begin(connection, sent)


_LOCK = """
SELECT d.id, d.cancel_requested FROM notify_delivery d
WHERE d.id = ANY(%s) AND d.status = 'sending' AND d.leased_by = %s ORDER BY d.id FOR NO KEY UPDATE
"""
_TRIED = """
SELECT notification_id, provider_name, sum(attempts)::int AS tries, bool_or(is_permanent) AS is_permanent,
       bool_or(is_final) AS is_final
FROM notify_delivery WHERE notification_id = ANY(%s) AND provider_name <> '' GROUP BY notification_id, provider_name
"""
_UPDATE = """
UPDATE notify_delivery d
SET status = t.status, due_at = coalesce(t.due_at, d.due_at), error = t.error,
    reason = t.reason, is_permanent = t.is_permanent, is_final = t.is_final, ended_at = t.ended_at,
    outcome_unknown_at = coalesce(t.outcome_unknown_at, d.outcome_unknown_at),
    late_since = coalesce(d.late_since, least(d.due_at, t.at)), is_exhausted = d.is_exhausted OR t.is_exhausted,
    own_failures = CASE WHEN t.is_own THEN d.own_failures + 1 ELSE 0 END, provider_name = t.provider,
    lease_until = NULL, leased_by = ''
FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::jsonb[], %s::jsonb[],
            %s::boolean[], %s::boolean[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::boolean[],
            %s::boolean[], %s::text[])
     AS t(id, status, due_at, error, reason, is_permanent, is_final, ended_at,
          outcome_unknown_at, at, is_exhausted, is_own, provider)
WHERE d.id = t.id
"""
_NEXT = """
INSERT INTO notify_delivery (id, notification_id, alert_id, user_id, integration_id, channel, address, purpose,
                             is_first, status, provider_name, reason, queued_at, due_at,
                             late_since, is_exhausted, own_failures, error)
SELECT t.id, d.notification_id, d.alert_id, d.user_id, d.integration_id, d.channel, d.address, d.purpose, d.is_first,
       'queued', t.provider, t.reason, t.at, t.due_at, d.late_since, d.is_exhausted, d.own_failures,
       -- What waits shows why.
       CASE WHEN t.due_at > t.at THEN d.error ELSE '{}' END
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::jsonb[], %s::timestamptz[], %s::timestamptz[])
     AS t(id, previous, provider, reason, at, due_at)
JOIN notify_delivery d ON d.id = t.previous
"""


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The outcome of one delivery, and the delivery that follows it."""

    failure: DeliveryFailure
    status: str
    reason: Reason
    due_at: datetime | None = None
    #: The provider of the delivery that follows it.
    next_provider: str = ""
    #: The provider of its own next attempt, if it changes.
    next_attempt_provider: str = ""
    #: Whether no provider is left.
    is_final: bool = False
    #: Whether the quick retries are used up.
    is_exhausted: bool = False


def record_failures(
    connection: Connection,
    pool: ProviderPool,
    failures: Sequence[DeliveryFailure],
    node: str,
    jitter: Callable[[], float],
) -> None:
    """Records what follows failed attempts of rows that `node` has leased. Rows that another node has taken over are
    skipped.
    """
    if not failures:
        return
    cancel_reasons = {
        row[0]: reason_from_json(row[1])
        for row in connection.execute(_LOCK, ([t.due.id for t in failures], node)).fetchall()
    }
    failures = [failure for failure in failures if failure.due.id in cancel_reasons]
    attempts = attempts_by_provider(connection, {failure.due.notification_id for failure in failures})
    # Messages that failed together share a jitter, so that they are retried together and bundled again.
    jitters: dict[tuple[int | None, str, str], float] = {}
    outcomes = []
    for failure in failures:
        key = (failure.due.user_id, failure.due.channel, failure.due.address)
        if key not in jitters:
            jitters[key] = jitter()
        outcomes.append(
            next_attempt(
                failure,
                cancel_reasons[failure.due.id],
                attempts.get(failure.due.notification_id, {}),
                [provider.name for provider in pool.providers_for(failure.due.channel, failure.due.address)],
                jitters[key],
            )
        )
    write_outcomes(connection, outcomes)


def write_outcomes(connection: Connection, outcomes: Sequence[DeliveryOutcome]) -> None:
    """Writes the outcomes of failed deliveries, reports those that failed for good or used up their quick retries, and
    starts the next contact method of those users.
    """
    _write(connection, outcomes)
    reported = [
        outcome.failure
        for outcome in outcomes
        if outcome.is_final or (outcome.is_exhausted and not outcome.failure.due.is_exhausted)
    ]
    report_failures(connection, reported)
    for failure in reported:
        start_next_method(connection, [failure.due.id], delivery_reasons.METHOD_FAILED(), failure.at)
    waiting = {outcome.failure.due.id: outcome.failure.at for outcome in outcomes if outcome.status == "queued"}
    if waiting:
        recovery.drop_repeats(connection, waiting.keys(), max(waiting.values()))
    if any(outcome.next_provider or outcome.due_at is not None for outcome in outcomes):
        database.notify(connection, "outbox")


def attempts_by_provider(
    connection: Connection, notification_ids: set[UUID]
) -> dict[UUID, dict[str, ProviderAttempts]]:
    """Returns the attempts with each provider so far, by notification."""
    attempts: dict[UUID, dict[str, ProviderAttempts]] = {}
    for row in connection.execute(_TRIED, (list(notification_ids),)).fetchall():
        attempts.setdefault(row[0], {})[row[1]] = ProviderAttempts(row[2], row[3], row[4])
    return attempts


def next_attempt(
    failure: DeliveryFailure,
    cancel_requested: Reason,
    attempts: Mapping[str, ProviderAttempts],
    providers: Sequence[str],
    jitter: float,
) -> DeliveryOutcome:
    """Returns what follows a failed attempt. `providers` are those that can deliver it, in order."""
    due, send_failure = failure.due, failure.send_failure
    if cancel_requested:
        kind = delivery_reasons.NOT_RESENT if send_failure.kind in UNCERTAIN else delivery_reasons.STOPPED_BEFORE_SENT
        return DeliveryOutcome(failure, "cancelled", kind(cause=cancel_requested))
    names = list(providers) or [failure.provider]
    if due.problem:
        # No provider can fix a problem of the address.
        return DeliveryOutcome(failure, "failed", _give_up_reason(failure, 1, names), is_final=True)
    if due.data.get("provider"):
        # A test of one provider must not fall back to another.
        names = [failure.provider]
    current = attempts.get(failure.provider, ProviderAttempts(1))
    this = replace(current, is_refused=send_failure.kind in REFUSALS, is_final=send_failure.kind in FINAL)
    decision = next_attempt_after(
        send_failure.kind,
        failure.provider,
        {**attempts, failure.provider: this},
        names,
        jitter=jitter,
        retry_after=send_failure.retry_after,
        keep_retrying=due.should_keep_retrying(failure.at),
        is_exhausted=due.is_exhausted,
        own_failures=due.own_failures + 1 if send_failure.kind in INTERNAL_FAILURES else 0,
    )
    # A user who tests a contact method is watching the page: report the failure now, without retries.
    if isinstance(decision, Retry) and decision.delay and due.purpose is Purpose.TEST:
        decision = GiveUp()
    match decision:
        case GiveUp():
            return DeliveryOutcome(failure, "failed", _give_up_reason(failure, current.tries, names), is_final=True)
        case Retry(provider, delay, is_exhausted) if provider == failure.provider or (
            # During a long outage, each retry would otherwise add a row. A final rejection keeps its own row.
            due.is_exhausted and delay and send_failure.kind not in FINAL
        ):
            reason = _retry_reason(due, send_failure, current.tries, is_exhausted=is_exhausted)
            return DeliveryOutcome(
                failure, "queued", reason, failure.at + delay, next_attempt_provider=provider, is_exhausted=is_exhausted
            )
        case Retry(provider, delay, is_exhausted):
            reason = delivery_reasons.FAILED_OVER(provider=failure.provider or _TOCSIN, next=provider)
            return DeliveryOutcome(
                failure, "failed", reason, failure.at + delay, next_provider=provider, is_exhausted=is_exhausted
            )


def _retry_reason(due: DueDelivery, send_failure: AttemptFailed, tries: int, *, is_exhausted: bool) -> Reason:
    match send_failure.kind:
        case FailureKind.WORKER_LOST:
            return delivery_reasons.RETRIED_WORKER_LOST()
        case FailureKind.OUTCOME_UNKNOWN:
            return delivery_reasons.RETRIED_UNKNOWN(count=tries)
        case _ if is_exhausted and due.purpose is Purpose.PAGE:
            return delivery_reasons.RETRIED_UNTIL_ANSWERED(count=tries)
        case _:
            return delivery_reasons.RETRIED(count=tries)


def _give_up_reason(failure: DeliveryFailure, tries: int, names: Sequence[str]) -> Reason:
    is_reported = failure.due.purpose not in NOT_REPORTED
    note = delivery_reasons.ADMINISTRATORS_NOTIFIED() if is_reported else NO_REASON
    return joined(_final_cause(failure, tries, names), note, separator=" ")


def _final_cause(failure: DeliveryFailure, tries: int, names: Sequence[str]) -> Reason:
    if is_stuck(failure.send_failure.kind):
        return delivery_reasons.STUCK(count=tries)
    if failure.due.problem:
        return delivery_reasons.UNSENDABLE()
    if len(names) < 2:
        return delivery_reasons.GAVE_UP(count=tries)
    return delivery_reasons.GAVE_UP_ON_ALL(count=tries, providers=len(names))


def _write(connection: Connection, outcomes: Sequence[DeliveryOutcome]) -> None:
    if not outcomes:
        return
    connection.execute(
        _UPDATE,
        (
            [outcome.failure.due.id for outcome in outcomes],
            [outcome.status for outcome in outcomes],
            [outcome.due_at if outcome.status == "queued" else None for outcome in outcomes],
            [outcome.failure.send_failure.error for outcome in outcomes],
            [outcome.reason for outcome in outcomes],
            [outcome.failure.send_failure.kind in REFUSALS for outcome in outcomes],
            [outcome.failure.send_failure.kind in FINAL for outcome in outcomes],
            [None if outcome.status == "queued" else outcome.failure.at for outcome in outcomes],
            [outcome.failure.at if outcome.failure.send_failure.kind in UNCERTAIN else None for outcome in outcomes],
            [outcome.failure.at for outcome in outcomes],
            [outcome.is_exhausted for outcome in outcomes],
            [outcome.failure.send_failure.kind in INTERNAL_FAILURES for outcome in outcomes],
            [outcome.next_attempt_provider or outcome.failure.provider for outcome in outcomes],
        ),
    )
    with_successor = [outcome for outcome in outcomes if outcome.next_provider]
    if with_successor:
        reasons = [
            delivery_reasons.PROVIDER_FAILED(provider=outcome.failure.provider or _TOCSIN) for outcome in with_successor
        ]
        connection.execute(
            _NEXT,
            (
                [ids.uuid7() for _ in with_successor],
                [outcome.failure.due.id for outcome in with_successor],
                [outcome.next_provider for outcome in with_successor],
                reasons,
                [outcome.failure.at for outcome in with_successor],
                [outcome.due_at for outcome in with_successor],
            ),
        )


TIMERS = Timers("notify_awaitedreceipt", ("due_at",), key="due_at, delivery")
