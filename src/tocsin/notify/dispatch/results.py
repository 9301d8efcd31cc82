"""Records the results of sends, in one transaction for many: sent, retried, handed to the next provider, or failed and
reported. An accepted message is recorded first and never sent again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tocsin.alerts import store as alert_rows
from tocsin.alerts.commands import SYSTEM, NewEvent
from tocsin.alerts.states import CommandChannel, EventKind, Priority
from tocsin.alerts.store import join_alert
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, ReasonType, joined, reason_from_json
from tocsin.core.runtime import telemetry
from tocsin.core.runtime.clock import Timers
from tocsin.notify.dispatch import claim, send
from tocsin.notify.dispatch.claim import built_reason, joined_reason
from tocsin.notify.dispatch.send import Accepted, SendResult, SentDelivery, sent_deliveries, status_of
from tocsin.notify.interfaces import has_repeats
from tocsin.notify.notices import Notice, queue_notice, queue_otherwise, was_noticed
from tocsin.notify.pages import load_recipients
from tocsin.notify.providers import health
from tocsin.notify.providers import pool as providers
from tocsin.notify.providers.pool import CHANNELS, ProviderPool
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import (
    NO_RECEIPT,
    NOT_CONFIRMED,
    NOTICE_HORIZON,
    STARTED_EARLY,
    NotificationMethod,
    is_quiet,
)
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
from tocsin.notify.states import SANDBOX, DeliveryStatus, Purpose
from tocsin.people.sql import load_administrators

# ---------- receipt timeouts
# Receipt timeouts: if a provider accepts a page but does not report it as delivered in time, the user's next contact
# method starts. A call has an earlier one: vendors report each step of a call, so one that is silent is not making it,
# and the next provider takes over. Timers are database rows. Runs inside the caller's transaction and sends nothing.


#: Within how many seconds a provider must report the first step of a call. The next one takes over within ten seconds.
SETUP_SECONDS = 6


#: An unresponsive phone counts against its provider at most once in this time.
COUNT_ONCE_PER = timedelta(hours=1)

#: The maximum number of overdue receipts in one run.
MAX_RECEIPTS_PER_RUN = 200


# A report may come before the vendor's answer is recorded: then its timer stays.
_AWAIT = """
INSERT INTO notify_awaitedreceipt (delivery, due_at, timeout_seconds)
SELECT t.id, t.at + make_interval(secs => CASE WHEN d.channel = ANY(%s) THEN least(t.seconds, %s) ELSE t.seconds END),
       t.seconds
FROM unnest(%s::uuid[], %s::timestamptz[], %s::int[]) AS t(id, at, seconds)
JOIN notify_delivery d ON d.id = t.id AND d.status = 'sent' AND d.receipt = ''
ON CONFLICT (delivery) DO UPDATE SET timeout_seconds = excluded.timeout_seconds,
  due_at = greatest(notify_awaitedreceipt.due_at, excluded.due_at)
"""
_UNDER_WAY = """
INSERT INTO notify_awaitedreceipt AS a (delivery, due_at, timeout_seconds)
SELECT id, %(now)s + make_interval(secs => %(seconds)s), %(seconds)s FROM notify_delivery
WHERE id = ANY(%(ids)s) AND channel = ANY(%(calls)s) AND purpose = 'page' AND status IN ('sending', 'sent')
  AND receipt = ''
ON CONFLICT (delivery) DO UPDATE SET
  due_at = greatest(a.due_at, %(now)s + make_interval(secs => a.timeout_seconds))
"""


def _calls() -> list[str]:
    return [name for name, channel in CHANNELS.items() if channel.is_call]


def begin(connection: Connection, sent: Sequence[SentDelivery]) -> None:
    """Records the time by which accepted pages must be reported as delivered, for providers with delivery receipts."""
    rows = [(one.id, one.at, one.receipt_timeout) for one in sent if one.receipt_timeout is not None]
    if rows:
        connection.execute(_AWAIT, (_calls(), SETUP_SECONDS, *database.columns(rows)))


def note_under_way(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> None:
    """Records that the provider is making these calls: from now on, the whole receipt timeout applies."""
    parameters = {"ids": list(delivery_ids), "calls": _calls(), "now": now, "seconds": providers.RECEIPT_TIMEOUT}
    connection.execute(_UNDER_WAY, parameters)


# Waits for a transaction that cancels these pages: what was cancelled while it was being sent has nothing to repeat.
_OPEN = """
WITH held AS (
  SELECT id, status, cancel_requested FROM notify_delivery WHERE id = ANY(%(deliveries)s)
  ORDER BY id FOR NO KEY UPDATE
), opened AS (
  SELECT coalesce(array_agg(id) FILTER (WHERE cancel_requested = '{}' AND status <> 'cancelled'), '{}') AS standing
  FROM held HAVING count(*) > 0
)
INSERT INTO notify_openreceipt (delivery, deliveries, standing, sent_at, poll_at)
SELECT %(lead)s, %(deliveries)s, standing, %(at)s, %(at)s FROM opened
ON CONFLICT (delivery) DO UPDATE SET deliveries = excluded.deliveries, standing = excluded.standing,
       sent_at = excluded.sent_at, poll_at = excluded.poll_at, polled_at = NULL, is_stopped = false
"""


def open_receipts(connection: Connection, messages: Iterable[tuple[Sequence[UUID], datetime]]) -> None:
    """Records messages that their vendor repeats, or may repeat: their deliveries, the first of them leading, and when
    they were sent. Called before their status is written.
    """
    for delivery_ids, at in messages:
        deliveries = list(delivery_ids)
        connection.execute(_OPEN, {"lead": deliveries[0], "deliveries": deliveries, "at": at})


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
    #: Whether nothing at all was reported about a call.
    is_silent: bool
    #: Why it is no longer needed.
    cancel_requested: Mapping[str, Any]

    @property
    def error(self) -> Reason:
        kind = page_planner.CALL_SILENT if self.is_silent else page_planner.RECEIPT_OVERDUE
        return kind(duration=timedelta(seconds=self.timeout_seconds))


_NOT_CONFIRMED = built_reason(
    NOT_CONFIRMED.code,
    "jsonb_build_object('provider', d.provider_name, 'duration', jsonb_build_object('seconds', h.seconds))",
)
# The timer of a silent call ends before the call could have been reported.
_OVERDUE = f"""
WITH late AS (
  DELETE FROM notify_awaitedreceipt WHERE delivery IN (
    SELECT delivery FROM notify_awaitedreceipt WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(most)s
    FOR UPDATE SKIP LOCKED)
  RETURNING delivery, due_at, timeout_seconds
), held AS (
  SELECT d.id, silent.is_silent, CASE WHEN silent.is_silent THEN %(setup)s ELSE l.timeout_seconds END AS seconds
  FROM notify_delivery d JOIN late l ON l.delivery = d.id, LATERAL (SELECT d.channel = ANY(%(calls)s)
    AND l.due_at <= d.sent_at + make_interval(secs => %(setup)s) AS is_silent) AS silent
  WHERE d.status = 'sent' AND d.receipt = '' ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET reason = {joined_reason("d.reason", _NOT_CONFIRMED)}
FROM held h WHERE d.id = h.id RETURNING d.id, d.provider_name, h.seconds, d.channel, d.address, h.is_silent,
  d.cancel_requested
"""


#: A condition with the parameter `now`.
IS_RECEIPT_OVERDUE = "EXISTS (SELECT FROM notify_awaitedreceipt WHERE due_at <= %(now)s)"


def overdue(connection: Connection, pool: ProviderPool, now: datetime) -> list[OverdueReceipt]:
    """Takes the overdue receipts and records the reason on each delivery. Hands silent calls to the next provider, and
    starts the next contact methods.
    """
    parameters = {"now": now, "most": MAX_RECEIPTS_PER_RUN, "setup": SETUP_SECONDS, "calls": _calls()}
    rows = connection.execute(database.literal(_OVERDUE), parameters).fetchall()
    receipts = [OverdueReceipt(*row) for row in rows]
    taken_over = _take_over(connection, pool, {one.id: one for one in receipts if one.is_silent}, now)
    for receipt in receipts:
        if receipt.id not in taken_over:
            start_next_method(connection, [receipt.id], NO_RECEIPT(provider=receipt.provider), now)
    return receipts


def _take_over(
    connection: Connection, pool: ProviderPool, silent: Mapping[UUID, OverdueReceipt], now: datetime
) -> set[UUID]:
    """Hands each silent call to a provider that has not tried it. Returns those for which there is one: calling again
    by the same provider could only ring twice.
    """
    failures = [
        DeliveryFailure(due, due.provider_name, AttemptFailed(FailureKind.OUTCOME_UNKNOWN, silent[due.id].error), now)
        for due in claim.facts(connection, sorted(silent))
    ]
    responded = {one.id: reason_from_json(one.cancel_requested) for one in silent.values()}
    outcomes = outcomes_of(connection, failures, responded, pool_order(pool), lambda _due: 0.0)
    handed_over = [one for one in outcomes if one.next_provider and one.due_at == now]
    write_outcomes(connection, handed_over)
    return {one.failure.due.id for one in handed_over}


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
            # A silent call is the provider's fault each time.
            if receipt.is_silent or key not in self._counted_at:
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


def start_next_method(connection: Connection, delivery_ids: Sequence[UUID], cause: Reason, now: datetime) -> None:
    """Starts each user's next contact method now instead of after its wait, unless quiet hours apply."""
    if page_ids := _find_next_pages(connection, delivery_ids, now):
        parameters = {"ids": page_ids, "now": now, "reason": STARTED_EARLY(cause=cause)}
        if connection.execute(_START_NOW, parameters).rowcount:
            database.notify(connection, "outbox")


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

#: What failed, in a sentence.
PURPOSES: Mapping[Purpose, ReasonType] = {
    Purpose.PAGE: page_planner.PAGE,
    Purpose.ALL_CLEAR: page_planner.ALL_CLEAR,
    Purpose.ACK_REMINDER: page_planner.ACK_REMINDER,
    Purpose.NOTICE: page_planner.NOTICE,
    Purpose.TEST: page_planner.TEST,
}

_STUCK_TITLE = ReasonType("notice.tocsin_cannot_send", "Internal error while sending a message")
_STUCK_ADVICE = ReasonType("notice.report_fault", "This is a bug in Tocsin. Please report it.")
_FAILED_TITLE = ReasonType("notice.message_not_sent", "A message could not be sent")
_FAILED_ADVICE = ReasonType("notice.check_provider", "Check the provider, and the contact methods of the recipient.")
_MORE_FAILURES = ReasonType("notice.more_failures", "And {more} more.")
_FREQUENCY = ReasonType(
    "notice.failure_frequency", "You are notified at most once per {interval}. All failures are listed on each alert."
)


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """One delivery whose attempt failed."""

    due: DueDelivery
    provider: str
    send_failure: AttemptFailed
    at: datetime


def is_stuck(failure: FailureKind) -> bool:
    """Returns whether Tocsin itself failed, not a provider."""
    return failure in (FailureKind.INTERNAL_ERROR, FailureKind.WORKER_LOST)


def report_failures(connection: Connection, failures: Sequence[DeliveryFailure]) -> None:
    """Writes an event on each alert concerned and mails the administrators once for all of them. Notices on other
    channels than e-mail fall back to e-mail, and urgent ones by e-mail to the other contact methods.
    """
    if not failures:
        return
    alert_rows.insert_events(
        connection,
        [
            NewEvent(
                due.alert.id,
                EventKind.PAGE_FAILED,
                failure.at,
                SYSTEM,
                _unsent(failure, PURPOSES[due.purpose]()),
                CommandChannel.POLICY,
                {"delivery": str(due.id), "channel": due.channel, "provider": failure.provider},
            )
            for failure in failures
            if (due := failure.due).alert is not None and due.purpose is not Purpose.NOTICE
        ],
    )
    for failure in failures:
        due = failure.due
        if due.purpose is not Purpose.NOTICE or due.user_id is None:
            continue
        notice = Notice(
            title=reason_from_json(due.data.get("title")),
            text=reason_from_json(due.data.get("text")),
            about=str(due.data.get("about", "")),
            reason=due.notification_reason,
            alert_id=due.alert.id if due.alert is not None else None,
            heading=reason_from_json(due.data.get("heading")),
        )
        if due.channel != "email":
            instead = page_planner.EMAILED_INSTEAD(method=_method_label(due))
            notice = replace(notice, reason=joined(notice.reason, instead, separator=" "))
            queue_notice(connection, notice, failure.at, user_ids=[due.user_id])
        elif due.data.get("urgent"):
            queue_otherwise(connection, notice, [due.user_id], failure.at)
    pages = [failure for failure in failures if failure.due.purpose not in NOT_REPORTED]
    for about in ("stuck", "failed"):
        matching = [failure for failure in pages if (about == "stuck") == is_stuck(failure.send_failure.kind)]
        if matching:
            _notify_administrators(connection, matching, about)


def _notify_administrators(connection: Connection, failures: Sequence[DeliveryFailure], about: str) -> None:
    first = failures[0]
    admins = load_administrators(connection)
    if not admins or was_noticed(connection, admins, about, first.at, NOTICE_INTERVAL):
        return
    lines = []
    for failure in failures[:MAX_NAMED_FAILURES]:
        message, alert = PURPOSES[failure.due.purpose](), failure.due.alert
        about_alert = page_planner.ABOUT_ALERT(message=message, alert=AlertRef(alert.id)) if alert else message
        lines.append(_unsent(failure, about_alert))
    if len(failures) > MAX_NAMED_FAILURES:
        lines.append(_MORE_FAILURES(more=len(failures) - MAX_NAMED_FAILURES))
    title, advice = (_STUCK_TITLE, _STUCK_ADVICE) if about == "stuck" else (_FAILED_TITLE, _FAILED_ADVICE)
    hints = joined(advice(), _FREQUENCY(interval=NOTICE_INTERVAL), separator="\n")
    text = joined(joined(*lines, separator="\n"), hints, separator="\n\n")
    notice = Notice(title(), text, about, page_planner.IS_ADMINISTRATOR(), is_urgent=True)
    queue_notice(connection, notice, first.at, user_ids=admins)


def _unsent(failure: DeliveryFailure, message: Reason) -> Reason:
    due, label, error = failure.due, _method_label(failure.due), failure.send_failure.error
    if label == due.name:
        return page_planner.UNSENT(message=message, recipient=due.recipient, error=error)
    return page_planner.UNSENT_BY(message=message, recipient=due.recipient, method=label, error=error)


def _method_label(due: DueDelivery) -> str:
    return due.label or (CHANNELS[due.channel].label if due.channel in CHANNELS else due.channel)


#: The maximum number of changed alerts that a hint names. The lists of alerts are refreshed in any case.
_MAX_NAMED_ALERTS = 50
#: The maximum number of alerts of the same bundle that a delivery's reason names.
_MAX_BUNDLED_ALERTS = 10
#: Stands for the provider of a delivery that no provider could be called for.
_TOCSIN = "Tocsin"


def record(
    connection: Connection, pool: ProviderPool, results: Sequence[SendResult], node: str, jitter: Callable[[], float]
) -> None:
    """Records the results of jobs that `node` has leased."""
    failed = [result for result in results if isinstance(result.outcome, AttemptFailed)]
    _record_sent(connection, pool, [result for result in results if isinstance(result.outcome, Accepted)])
    failures = [
        DeliveryFailure(due, result.job.provider, result.outcome, result.at)
        for result in failed
        if isinstance(result.outcome, AttemptFailed)
        for due in result.job.bundle.members
    ]
    record_failures(connection, pool, failures, node, jitter)
    for result in results:
        telemetry.count_delivery(result.job.bundle.lead.channel, status_of(result), len(result.job.ids))
    recovered = health.recovered(connection) if failed else {}
    # A failed attempt that began before its provider recovered says nothing about its current health.
    stale = [result for result in failed if _has_recovered_since(result, recovered, result.job.provider)]
    _note_health(connection, pool, [result for result in results if result not in stale])
    _release_stale(connection, pool, failed)
    alert_ids = {due.alert.id for result in results for due in result.job.bundle.members if due.alert is not None}
    if alert_ids:
        database.notify(connection, "alerts", *(f"alert:{number}" for number in sorted(alert_ids)[:_MAX_NAMED_ALERTS]))


# The reason why it waited, if it was leased until now; how it was sent; and what came too late to stop it.
_SENT_REASON = joined_reason(
    "CASE WHEN d.status = 'sending' THEN d.reason END",
    "s.reason",
    "CASE WHEN d.cancel_requested <> '{}' THEN "
    + built_reason(page_planner.SENT_BEFORE_STOPPED.code, "jsonb_build_object('cause', d.cancel_requested)")
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
    accepted = [
        (due.id, status_of(result), result.outcome.external_id, _note(due, result), result.at)
        for due, result in members
        if isinstance(result.outcome, Accepted)
    ]
    sent = [one for result in results for one in sent_deliveries(result)]
    open_receipts(connection, [(one.repeated, one.at) for one in sent if one.repeated])
    connection.execute(database.literal(_SENT), database.columns(accepted))
    begin(connection, sent)
    if any(pool.has_provider(channel) for channel in CHANNELS):
        for due, result in members:
            if status_of(result) is DeliveryStatus.SANDBOXED:
                start_next_method(connection, [due.id], page_planner.METHOD_FAILED(), result.at)
    send.store(connection, results)


def _note(due: DueDelivery, result: SendResult) -> Reason:
    """Returns the note of a sent delivery: what it was bundled with, and whether it went to the sandbox."""
    numbers = dict.fromkeys(member.alert.id for member in result.job.bundle.members if member.alert)
    others = [number for number in numbers if due.alert is None or number != due.alert.id]
    named = tuple(page_planner.ALERT_NUMBER(alert=AlertRef(number)) for number in others[:_MAX_BUNDLED_ALERTS])
    bundled = NO_REASON
    if omitted_count := len(others) - len(named):
        alerts = joined(*named, separator=", ")
        bundled = page_planner.BUNDLED_WITH_MORE(alerts=alerts, more=omitted_count)
    elif named:
        bundled = page_planner.BUNDLED_WITH(alerts=named)
    sandboxed = page_planner.SANDBOXED() if result.job.provider == SANDBOX else NO_REASON
    return joined(bundled, sandboxed, separator=" ")


def _note_health(connection: Connection, pool: ProviderPool, results: Sequence[SendResult]) -> None:
    """Records provider health. Last in the transaction, because all nodes lock these rows."""
    if not results:
        return
    updates = []
    failed = {result.job.bundle.lead.channel for result in results if isinstance(result.outcome, AttemptFailed)}
    awaited_channels = providers.awaited_channels(connection, failed, max(result.at for result in results))
    for result in results:
        provider, channel = result.job.active_provider, result.job.bundle.lead.channel
        if provider is None:
            continue
        if isinstance(result.outcome, AttemptFailed):
            if result.outcome.kind in FAULTS and not provider.kind.has_many_servers:
                is_awaited = not awaited_channels.isdisjoint(provider.channels)
                error = result.outcome.error
                updates.append(health.HealthUpdate(provider.name, result.at, error, is_awaited, provider.quota))
        elif channel not in provider.receipt_channels:
            # A provider with delivery receipts counts as healthy only when a message has arrived.
            updates.append(health.HealthUpdate(provider.name, result.at, quota=provider.quota))
    pool.record_outcomes(connection, updates)


def _has_recovered_since(result: SendResult, recovered: Mapping[str, datetime], provider: str) -> bool:
    """Returns whether a provider recovered after the attempt began; in the future, it was before a clock rollback."""
    began_at = result.began_at or result.at
    return began_at < recovered.get(provider, began_at) <= result.at


def _release_stale(connection: Connection, pool: ProviderPool, failed: Sequence[SendResult]) -> None:
    """Retries failed messages at once if a provider has recovered since the attempt began: the release at the recovery
    did not see them. `_note_health` has locked the providers' rows, so that either this code sees a recovery or the
    recovery sees these rows.
    """
    if not failed:
        return
    recovered = health.recovered(connection)
    for result in failed:
        lead = result.job.bundle.lead
        for provider in pool.providers_for(lead.channel, lead.address):
            if _has_recovered_since(result, recovered, provider.name):
                providers.release(connection, provider, result.at, result.job.ids)
                break


_MARK_SENT = """
UPDATE notify_delivery d
SET status = 'sent', sent_at = s.at, external_id = s.external_id, lease_until = NULL, leased_by = '', ended_at = NULL
FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[]) AS s(id, external_id, at)
WHERE d.id = s.id AND d.status NOT IN ('sent', 'delivered') AND d.receipt = ''
"""


def mark_sent(connection: Connection, sent: Sequence[SentDelivery]) -> None:
    """Marks deliveries as sent and nothing else, for results that `record` cannot write in full or did not write."""
    open_receipts(connection, [(one.repeated, one.at) for one in sent if one.repeated])
    connection.execute(_MARK_SENT, database.columns((one.id, one.external_id, one.at) for one in sent))
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
    """Records what follows failed attempts of rows that `node` has leased. Skips those that another node took over."""
    if not failures:
        return
    cancel_reasons = {
        row[0]: reason_from_json(row[1])
        for row in connection.execute(_LOCK, ([t.due.id for t in failures], node)).fetchall()
    }
    failures = [failure for failure in failures if failure.due.id in cancel_reasons]
    uncertain = [one for one in failures if one.send_failure.kind in UNCERTAIN]
    open_receipts(connection, [([one.due.id], one.at) for one in uncertain if has_repeats(one.due.channel)])
    # Messages that failed together share a jitter, so that they are retried together and bundled again.
    jitters: defaultdict[tuple[int | None, str, str], float] = defaultdict(jitter)
    outcomes = outcomes_of(
        connection,
        failures,
        cancel_reasons,
        pool_order(pool),
        lambda due: jitters[due.user_id, due.channel, due.address],
    )
    write_outcomes(connection, outcomes)


def pool_order(pool: ProviderPool) -> Callable[[DueDelivery], list[str]]:
    """Returns a function that names the providers of a pool that can deliver, in order."""
    return lambda due: [provider.name for provider in pool.providers_for(due.channel, due.address)]


def outcomes_of(
    connection: Connection,
    failures: Sequence[DeliveryFailure],
    cancel_reasons: Mapping[UUID, Reason],
    providers_for: Callable[[DueDelivery], Sequence[str]],
    jitter: Callable[[DueDelivery], float],
) -> list[DeliveryOutcome]:
    """Returns what follows each failed attempt."""
    attempts = attempts_by_provider(connection, {failure.due.notification_id for failure in failures})
    return [
        next_attempt(
            failure,
            cancel_reasons.get(due.id, NO_REASON),
            attempts.get(due.notification_id, {}),
            providers_for(due),
            jitter(due),
        )
        for failure in failures
        for due in (failure.due,)
    ]


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
        start_next_method(connection, [failure.due.id], page_planner.METHOD_FAILED(), failure.at)
    waiting = {outcome.failure.due.id: outcome.failure.at for outcome in outcomes if outcome.status == "queued"}
    if waiting:
        _drop_repeats(connection, waiting.keys(), max(waiting.values()))
    if any(outcome.next_provider or outcome.due_at is not None for outcome in outcomes):
        database.notify(connection, "outbox")


# The oldest page stays.
_DROP_REPEATS = """
WITH repeated AS (
  SELECT d.id FROM notify_delivery d
  WHERE d.id = ANY(%(ids)s) AND d.status = 'queued' AND d.purpose = 'page'
    AND EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.id < d.id AND o.purpose = 'page'
                AND o.status = 'queued' AND o.late_since IS NOT NULL AND o.channel = d.channel
                AND o.address = d.address AND o.user_id IS NOT DISTINCT FROM d.user_id)
)
UPDATE notify_delivery d SET status = 'cancelled', ended_at = %(now)s, reason = %(reason)s
FROM repeated r WHERE d.id = r.id
"""


def _drop_repeats(connection: Connection, delivery_ids: Collection[UUID], now: datetime) -> None:
    """Cancels those of these failed pages for which an older page about the same alert already waits for the same
    address. Otherwise a long outage would pile up as many pages as the policy repeats.
    """
    reason = page_planner.EARLIER_PAGE_WAITS()
    connection.execute(_DROP_REPEATS, {"ids": list(delivery_ids), "now": now, "reason": reason})


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
        kind = page_planner.NOT_RESENT if send_failure.kind in UNCERTAIN else page_planner.STOPPED_BEFORE_SENT
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
            reason = page_planner.FAILED_OVER(provider=failure.provider or _TOCSIN, next=provider)
            return DeliveryOutcome(
                failure, "failed", reason, failure.at + delay, next_provider=provider, is_exhausted=is_exhausted
            )


def _retry_reason(due: DueDelivery, send_failure: AttemptFailed, tries: int, *, is_exhausted: bool) -> Reason:
    match send_failure.kind:
        case FailureKind.WORKER_LOST:
            return page_planner.RETRIED_WORKER_LOST()
        case FailureKind.OUTCOME_UNKNOWN:
            return page_planner.RETRIED_UNKNOWN(count=tries)
        case _ if is_exhausted and due.purpose is Purpose.PAGE:
            return page_planner.RETRIED_UNTIL_ANSWERED(count=tries)
        case _:
            return page_planner.RETRIED(count=tries)


def _give_up_reason(failure: DeliveryFailure, tries: int, names: Sequence[str]) -> Reason:
    if is_stuck(failure.send_failure.kind):
        cause = page_planner.STUCK(count=tries)
    elif failure.due.problem:
        cause = page_planner.UNSENDABLE()
    elif len(names) < 2:
        cause = page_planner.GAVE_UP(count=tries)
    else:
        cause = page_planner.GAVE_UP_ON_ALL(count=tries, providers=len(names))
    is_reported = failure.due.purpose not in NOT_REPORTED
    return joined(cause, page_planner.ADMINISTRATORS_NOTIFIED() if is_reported else NO_REASON, separator=" ")


def _write(connection: Connection, outcomes: Sequence[DeliveryOutcome]) -> None:
    rows, followers = [], []
    for outcome in outcomes:
        failure, is_queued = outcome.failure, outcome.status == "queued"
        error, kind = failure.send_failure.error, failure.send_failure.kind
        rows.append(
            (
                failure.due.id,
                outcome.status,
                outcome.due_at if is_queued else None,
                error,
                outcome.reason,
                kind in REFUSALS,
                kind in FINAL,
                None if is_queued else failure.at,
                failure.at if kind in UNCERTAIN else None,
                failure.at,
                outcome.is_exhausted,
                kind in INTERNAL_FAILURES,
                outcome.next_attempt_provider or failure.provider,
            )
        )
        if outcome.next_provider:
            reason = page_planner.PROVIDER_FAILED(provider=failure.provider or _TOCSIN)
            followers.append((ids.uuid7(), failure.due.id, outcome.next_provider, reason, failure.at, outcome.due_at))
    if rows:
        connection.execute(_UPDATE, database.columns(rows))
    if followers:
        connection.execute(_NEXT, database.columns(followers))


TIMERS = Timers("notify_awaitedreceipt", ("due_at",), key="due_at, delivery")
