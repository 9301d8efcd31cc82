"""Records the results of sends, in one transaction for many: sent, retried, handed to the next provider, or failed and
reported. An accepted message is recorded first and never sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import metrics
from tocsin.notify.dispatch import failure_notices, receipt_timeouts, sandbox
from tocsin.notify.dispatch.send import Accepted, SendFailed, SendResult
from tocsin.notify.providers import health, recovery
from tocsin.notify.providers.pool import SANDBOX, ProviderPool
from tocsin.notify.rules.pre_send_check import NOT_RESENT, DueDelivery
from tocsin.notify.rules.retry_policy import (
    FAULTS,
    FINAL,
    INTERNAL_FAILURES,
    UNCERTAIN,
    FailureKind,
    GiveUp,
    ProviderAttempts,
    Retry,
    next_attempt_after,
)
from tocsin.notify.states import Purpose

#: The maximum number of changed alerts that a hint names. The lists of alerts are refreshed in any case.
_MAX_NAMED_ALERTS = 50


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """One delivery whose attempt failed."""

    due: DueDelivery
    provider: str
    send_failure: SendFailed
    at: datetime


def record(
    connection: Connection,
    pool: ProviderPool,
    results: Sequence[SendResult],
    node: str,
    jitter: Callable[[], float],
) -> None:
    """Records the results of jobs that `node` has leased."""
    _record_sent(connection, [result for result in results if isinstance(result.outcome, Accepted)])
    failures = [
        DeliveryFailure(due, result.job.provider, result.outcome, result.at)
        for result in results
        if isinstance(result.outcome, SendFailed)
        for due in result.job.bundle.members
    ]
    record_failures(connection, pool, failures, node, jitter)
    for result in results:
        outcome = "sent" if isinstance(result.outcome, Accepted) else "failed"
        metrics.count_delivery(result.job.bundle.lead.channel, outcome, len(result.job.ids))
    failed = [result for result in results if isinstance(result.outcome, SendFailed)]
    recovered = health.recovered(connection) if failed else {}
    _note_health(connection, pool, [result for result in results if not _is_stale(result, recovered)])
    _release_stale(connection, pool, failed)
    alert_ids = {due.alert.id for result in results for due in result.job.bundle.members if due.alert is not None}
    if alert_ids:
        database.notify(connection, "alerts", *(f"alert:{number}" for number in sorted(alert_ids)[:_MAX_NAMED_ALERTS]))


_SENT = """
WITH told AS (
  SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[]) AS t(id, external_id, note, at)
), held AS (
  SELECT d.id FROM notify_delivery d JOIN told USING (id)
  WHERE d.status NOT IN ('sent', 'delivered') AND d.receipt = '' ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE notify_delivery d
SET status = 'sent', sent_at = t.at, external_id = t.external_id, error = '', lease_until = NULL, leased_by = '',
    ended_at = NULL, cancel_requested = '',
    reason = concat_ws(' ', CASE WHEN d.status = 'sending' THEN nullif(d.reason, '') END, nullif(t.note, ''),
                       CASE WHEN d.cancel_requested <> ''
                            THEN 'It was leaving already when this came: ' || d.cancel_requested END)
FROM told t JOIN held USING (id) WHERE d.id = t.id
"""


def _record_sent(connection: Connection, results: Sequence[SendResult]) -> None:
    """Marks accepted messages as sent, whatever their row's current state: nothing else prevents them from being sent
    again.
    """
    if not results:
        return
    rows = [(due, result, _note(due, result)) for result in results for due in result.job.bundle.members]
    connection.execute(
        _SENT,
        (
            [due.id for due, _, _ in rows],
            [_external_id(result) for _, result, _ in rows],
            [note for _, _, note in rows],
            [result.at for _, result, _ in rows],
        ),
    )
    receipt_timeouts.begin(connection, results)
    records = [
        sandbox.SandboxRecord(
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
    sandbox.store(connection, records)


def _external_id(result: SendResult) -> str:
    return result.outcome.external_id if isinstance(result.outcome, Accepted) else ""


def _note(due: DueDelivery, result: SendResult) -> str:
    """Returns the note of a sent delivery: what it was bundled with, and whether it went to the sandbox."""
    notes = []
    numbers = dict.fromkeys(member.alert.id for member in result.job.bundle.members if member.alert)
    other_numbers = [f"#{number}" for number in numbers if due.alert is None or number != due.alert.id]
    if other_numbers:
        more = f" and {len(other_numbers) - 10} more" if len(other_numbers) > 10 else ""
        notes.append(f"It left bundled with {', '.join(other_numbers[:10])}{more}.")
    if result.job.provider == SANDBOX:
        notes.append(sandbox.NOTE)
    return " ".join(notes)


def _note_health(connection: Connection, pool: ProviderPool, results: Sequence[SendResult]) -> None:
    """Records provider health. Last in the transaction, because all nodes lock these rows."""
    if not results:
        return
    updates = []
    failed = {result.job.bundle.lead.channel for result in results if isinstance(result.outcome, SendFailed)}
    awaited_channels = recovery.awaited_channels(connection, failed, max(result.at for result in results))
    for result in results:
        if result.job.active_provider is None:
            continue
        if isinstance(result.outcome, SendFailed):
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
    is_failed = isinstance(result.outcome, SendFailed)
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


def mark_sent(connection: Connection, result: SendResult) -> None:
    """Marks the deliveries as sent and nothing else, for a result that `record` cannot write in full."""
    connection.execute(
        "UPDATE notify_delivery SET status = 'sent', sent_at = %s, lease_until = NULL, leased_by = '', ended_at = NULL "
        "WHERE id = ANY(%s) AND status NOT IN ('sent', 'delivered') AND receipt = ''",
        (result.at, result.job.ids),
    )


_LOCK = """
SELECT d.id, d.cancel_requested FROM notify_delivery d
WHERE d.id = ANY(%s) AND d.status = 'sending' AND d.leased_by = %s ORDER BY d.id FOR NO KEY UPDATE
"""
_TRIED = """
SELECT notification_id, provider_name, sum(attempts)::int AS tries, bool_or(is_permanent) AS is_permanent
FROM notify_delivery WHERE notification_id = ANY(%s) AND provider_name <> '' GROUP BY notification_id, provider_name
"""
_UPDATE = """
UPDATE notify_delivery d
SET status = t.status, due_at = coalesce(t.due_at, d.due_at), error = t.error, reason = t.reason,
    is_permanent = t.is_permanent, ended_at = t.ended_at,
    outcome_unknown_at = coalesce(t.outcome_unknown_at, d.outcome_unknown_at),
    late_since = coalesce(d.late_since, least(d.due_at, t.at)), is_exhausted = d.is_exhausted OR t.is_exhausted,
    own_failures = CASE WHEN t.is_own THEN d.own_failures + 1 ELSE 0 END, provider_name = t.provider,
    lease_until = NULL, leased_by = ''
FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::boolean[], %s::timestamptz[],
            %s::timestamptz[], %s::timestamptz[], %s::boolean[], %s::boolean[], %s::text[])
     AS t(id, status, due_at, error, reason, is_permanent, ended_at, outcome_unknown_at, at, is_exhausted, is_own,
          provider)
WHERE d.id = t.id
"""
_NEXT = """
INSERT INTO notify_delivery (id, notification_id, alert_id, user_id, integration_id, channel, address, purpose,
                             is_first, status, provider_name, reason, queued_at, due_at, late_since, is_exhausted,
                             own_failures)
SELECT t.id, d.notification_id, d.alert_id, d.user_id, d.integration_id, d.channel, d.address, d.purpose, d.is_first,
       'queued', t.provider, t.reason, t.at, t.due_at, d.late_since, d.is_exhausted, d.own_failures
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
     AS t(id, previous, provider, reason, at, due_at)
JOIN notify_delivery d ON d.id = t.previous
"""


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The outcome of one delivery, and the delivery that follows it."""

    failure: DeliveryFailure
    status: str
    reason: str
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
        row[0]: row[1] for row in connection.execute(_LOCK, ([t.due.id for t in failures], node)).fetchall()
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
    failure_notices.report_failures(connection, reported)
    for failure in reported:
        receipt_timeouts.start_next_method(connection, [failure.due.id], receipt_timeouts.FAILED, failure.at)
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
        attempts.setdefault(row[0], {})[row[1]] = ProviderAttempts(row[2], row[3])
    return attempts


def next_attempt(
    failure: DeliveryFailure,
    cancel_requested: str,
    attempts: Mapping[str, ProviderAttempts],
    providers: Sequence[str],
    jitter: float,
) -> DeliveryOutcome:
    """Returns what follows a failed attempt. `providers` are those that can deliver it, in order."""
    due, send_failure = failure.due, failure.send_failure
    if cancel_requested:
        prefix = NOT_RESENT if send_failure.kind in UNCERTAIN else "It had not left when this came"
        return DeliveryOutcome(failure, "cancelled", f"{prefix}: {cancel_requested}")
    names = list(providers) or [failure.provider]
    if due.problem:
        # No provider can fix a problem of the address.
        return DeliveryOutcome(failure, "failed", _give_up_reason(failure, 1, names), is_final=True)
    if due.data.get("provider"):
        # A test of one provider must not fall back to another.
        names = [failure.provider]
    current = attempts.get(failure.provider, ProviderAttempts(1))
    updated_attempts = {**attempts, failure.provider: ProviderAttempts(current.tries, send_failure.kind in FINAL)}
    decision = next_attempt_after(
        send_failure.kind,
        failure.provider,
        updated_attempts,
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
            # During a long outage, each retry would otherwise add a row. A permanent rejection keeps its own row.
            is_exhausted and delay and send_failure.kind not in FINAL
        ):
            reason = _retry_reason(due, send_failure, current.tries, is_exhausted=is_exhausted)
            return DeliveryOutcome(
                failure, "queued", reason, failure.at + delay, next_attempt_provider=provider, is_exhausted=is_exhausted
            )
        case Retry(provider, delay, is_exhausted):
            reason = f"{failure.provider or 'Tocsin'} could not send it; {provider} takes over."
            return DeliveryOutcome(
                failure, "failed", reason, failure.at + delay, next_provider=provider, is_exhausted=is_exhausted
            )


def _retry_reason(due: DueDelivery, send_failure: SendFailed, tries: int, *, is_exhausted: bool) -> str:
    times = f"{tries} {'try' if tries == 1 else 'tries'} failed"
    match send_failure.kind:
        case FailureKind.WORKER_LOST:
            return "The process that was sending it stopped, and whether it left is not known: it is sent again."
        case FailureKind.UNKNOWN:
            return f"{times}; whether it left is not known: it is sent again."
        case _ if is_exhausted and due.purpose is Purpose.PAGE:
            return f"{times}; it is retried until somebody answers."
        case _:
            return f"{times}; it is tried again."


def _give_up_reason(failure: DeliveryFailure, tries: int, names: Sequence[str]) -> str:
    admin_note = "" if failure.due.purpose in failure_notices.NOT_REPORTED else " Administrators were told."
    if failure_notices.is_stuck(failure.send_failure.kind):
        return f"Stuck: Tocsin itself failed {tries} times to send it.{admin_note}"
    if failure.due.problem:
        return f"It cannot be sent at all.{admin_note}"
    cause = "it could not be sent" if len(names) < 2 else f"none of {len(names)} providers could send it"
    return f"Given up after {tries} {'try' if tries == 1 else 'tries'}: {cause}.{admin_note}"


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
        connection.execute(
            _NEXT,
            (
                [ids.uuid7() for _ in with_successor],
                [outcome.failure.due.id for outcome in with_successor],
                [outcome.next_provider for outcome in with_successor],
                [f"{outcome.failure.provider or 'Tocsin'} could not send it." for outcome in with_successor],
                [outcome.failure.at for outcome in with_successor],
                [outcome.due_at for outcome in with_successor],
            ),
        )
