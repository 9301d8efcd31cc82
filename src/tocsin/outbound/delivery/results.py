"""Records the results of calls, and updates each integration's circuit breaker, block and rate limit.

Works in the caller's transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tocsin.alerts import service, store
from tocsin.alerts.commands import SYSTEM, NewEvent
from tocsin.alerts.new_alert import RepeatedMessages
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json
from tocsin.outbound import rate_limit
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, RecordedExchange
from tocsin.outbound.delivery import ticket_creation
from tocsin.outbound.delivery.integration_pool import IntegrationPool

log = logging.getLogger(__name__)

MAX_CALL_ERROR_CHARS = 500
#: A call is not retried after this many worker losses.
MAX_WORKER_LOSSES = 5


class CallFailure(StrEnum):
    #: Nothing was done; a retry may succeed.
    TEMPORARY = "temporary"
    #: The call may have succeeded.
    UNKNOWN = "unknown"
    #: The remote system rate-limits Tocsin.
    THROTTLED = "throttled"
    #: This call can never succeed.
    PERMANENT = "permanent"
    #: No call succeeds until a person acts.
    BARRED = "barred"
    #: The sending process stopped.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A failed attempt; `error` is a sentence for users, without secrets."""

    failure: CallFailure
    error: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CallResult:
    """A job's outcome, its time, and the recorded requests."""

    job: CallJob
    outcome: CallDone | CallFailed
    at: datetime
    said: Sequence[RecordedExchange] = ()


_SENT = """
UPDATE outbound_call SET status = 'sent', ended_at = %(at)s, attempts = attempts + 1, result = %(result)s, error = '',
       progress = %(progress)s, ticket = CASE WHEN %(ticket)s = '' THEN ticket ELSE %(ticket)s END, lease_until = NULL
WHERE id = %(id)s AND status = 'sending' AND leased_by = %(node)s
"""

_FAILED = """
UPDATE outbound_call SET status = %(status)s, due_at = %(due)s, attempts = attempts + %(counts)s, error = %(error)s,
       progress = %(progress)s, is_uncertain = is_uncertain OR %(uncertain)s, lease_until = NULL,
       ended_at = CASE WHEN %(status)s = 'dead' THEN %(at)s END
WHERE id = %(id)s AND status = 'sending' AND leased_by = %(node)s
"""


def record(
    connection: Connection, directory: IntegrationPool, results: Sequence[CallResult], node: str, jitter: float
) -> None:
    """Writes all results, their requests, and the status of each integration."""
    # Alerts first, because of the lock order.
    _write_captured(connection, results)
    for result in results:
        match result.outcome:
            case CallDone():
                _write_sent(connection, result, result.outcome, node)
            case CallFailed():
                _write_failed(connection, result, result.outcome, node, jitter)
    store_exchange(connection, [(r.job.integration_id, r.job.id, said) for r in results for said in r.said])
    for number in sorted({result.job.integration_id for result in results}):
        own = [result for result in results if result.job.integration_id == number]
        extra = sum(max(0, len(result.said) - 1) for result in own)
        _write_standing(connection, directory, number, [(one.outcome, one.at) for one in own], extra)
    alerts = sorted({r.job.alert_id for r in results if r.job.alert_id is not None})
    if alerts:
        service.hint_alerts(connection, alerts)
    # Calls queued behind these may be sent now.
    database.notify(connection, "outbound", "outbound-log")


def mark(connection: Connection, result: CallResult) -> None:
    """Ends a call and writes nothing else, for a result that `record` could not write.

    A successful call is not repeated; a failed one waits for a person.
    """
    is_made = isinstance(result.outcome, CallDone)
    connection.execute(
        "UPDATE outbound_call SET status = %s, ended_at = %s, lease_until = NULL, attempts = attempts + 1, error = %s "
        "WHERE id = %s AND status = 'sending'",
        ("sent" if is_made else "dead", result.at, "What came of it could not be written down.", result.job.id),
    )


def record_outcome(
    connection: Connection,
    directory: IntegrationPool,
    integration_id: int,
    outcome: CallDone | CallFailed,
    requests: int,
    at: datetime,
) -> None:
    """Records an outcome observed outside the outbox, and charges its requests to the rate limit."""
    _write_standing(connection, directory, integration_id, [(outcome, at)], requests)


def store_exchange(connection: Connection, said: Sequence[tuple[int, int | None, RecordedExchange]]) -> None:
    """Logs requests and responses: (integration id, call id or None, exchange)."""
    for integration_id, call_id, one in said:
        connection.execute(
            "INSERT INTO outbound_exchange (integration_id, call_id, at, took, method, url, request, status, response, "
            "error) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (integration_id, call_id, one.at, one.took, one.method, one.url, one.request, one.status, one.response,
             one.error),
        )  # fmt: skip


def _write_sent(connection: Connection, result: CallResult, done: CallDone, node: str) -> None:
    parameters = {
        "at": result.at,
        "result": done.result[:MAX_CALL_ERROR_CHARS],
        "progress": as_json(result.job.progress),
        "ticket": done.ticket,
        "id": result.job.id,
        "node": node,
    }
    connection.execute(_SENT, parameters)


def _write_failed(connection: Connection, result: CallResult, failed: CallFailed, node: str, jitter: float) -> None:
    job = result.job
    counts = failed.failure not in (CallFailure.THROTTLED, CallFailure.BARRED)
    attempts = job.attempts + (1 if counts else 0)
    is_over = failed.failure is CallFailure.PERMANENT or (
        result.at - job.queued_at >= rate_limit.GIVE_UP_AFTER and failed.failure is not CallFailure.THROTTLED
    ) or (failed.failure is CallFailure.LOST and attempts >= MAX_WORKER_LOSSES)  # fmt: skip
    wait = timedelta() if not counts or failed.failure is CallFailure.LOST else rate_limit.retry_in(
        attempts, jitter, failed.retry_after
    )  # fmt: skip
    parameters = {
        "status": "dead" if is_over else "queued",
        "due": result.at + wait,
        "counts": 1 if counts else 0,
        "error": failed.error[:MAX_CALL_ERROR_CHARS],
        "progress": as_json(job.progress),
        "uncertain": failed.failure in (CallFailure.UNKNOWN, CallFailure.LOST),
        "at": result.at,
        "id": job.id,
        "node": node,
    }
    connection.execute(_FAILED, parameters)


def _write_standing(
    connection: Connection,
    directory: IntegrationPool,
    integration_id: int,
    outcomes: Sequence[tuple[CallDone | CallFailed, datetime]],
    requests: int,
) -> None:
    """Updates circuit breaker, block and rate limit of one integration after these outcomes, in order.

    `requests` is the number of requests not charged before.
    """
    standing = database.row(
        connection,
        "SELECT * FROM outbound_integrationstatus WHERE integration_id = %s FOR NO KEY UPDATE",
        (integration_id,),
    )
    if standing is None:
        return
    had_trouble = standing["open_until"] is not None or standing["blocked_until"] is not None
    for outcome, at in outcomes:
        standing |= _after(standing, outcome, at)
    opened = directory.get(integration_id)
    last = outcomes[-1][1]
    if opened is not None and requests:
        standing["granted_to"] = rate_limit.charged(opened.sender.rate, standing["granted_to"], requests, last)
    connection.execute(
        "UPDATE outbound_integrationstatus SET failures = %(failures)s, open_until = %(open_until)s, "
        "problem = %(problem)s, problem_at = %(problem_at)s, blocked_until = %(blocked_until)s, "
        "last_transient_error = %(last_transient_error)s, last_transient_error_at = %(last_transient_error_at)s, "
        "granted_to = %(granted_to)s, throttled = %(throttled)s, "
        "not_before = %(not_before)s, succeeded_at = %(succeeded_at)s WHERE integration_id = %(integration_id)s",
        standing,
    )
    if had_trouble and standing["failures"] == 0 and standing["blocked_until"] is None:
        # Recovered: send waiting calls now, and poll for missed changes.
        connection.execute(
            "UPDATE outbound_call SET due_at = %s WHERE integration_id = %s AND status = 'queued' AND due_at > %s",
            (last, integration_id, last),
        )
        connection.execute(
            "UPDATE outbound_integrationstatus SET next_poll_at = %s WHERE integration_id = %s AND next_poll_at > %s",
            (last, integration_id, last),
        )
        ticket_creation.retry_creation(connection, integration_id, last)
    if standing["blocked_until"] is not None:
        connection.execute(
            "UPDATE outbound_call SET status = 'dead', ended_at = %s, error = %s "
            "WHERE integration_id = %s AND status = 'queued' AND queued_at < %s",
            (last, standing["problem"], integration_id, last - rate_limit.GIVE_UP_AFTER),
        )


def _after(standing: dict[str, object], outcome: CallDone | CallFailed, at: datetime) -> dict[str, object]:
    """The status fields that one outcome changes."""
    healthy: dict[str, object] = {
        "failures": 0, "open_until": None, "problem": "", "problem_at": None, "blocked_until": None,
        "last_transient_error": "", "last_transient_error_at": None, "throttled": 0, "not_before": None,
    }  # fmt: skip
    if isinstance(outcome, CallDone):
        return {**healthy, "succeeded_at": at}
    match outcome.failure:
        case CallFailure.PERMANENT:
            # The remote system responded: only this call is wrong.
            return healthy
        case CallFailure.THROTTLED:
            times = int(str(standing["throttled"])) + 1
            return {
                "throttled": times, "not_before": at + rate_limit.throttle(times, outcome.retry_after),
                "last_transient_error": outcome.error,
                "last_transient_error_at": standing["last_transient_error_at"] or at,
            }  # fmt: skip
        case CallFailure.BARRED:
            since = standing["problem_at"] if standing["problem"] == outcome.error else at
            return {"problem": outcome.error, "problem_at": since, "blocked_until": at + rate_limit.BLOCKED_INTERVAL}
        case CallFailure.LOST:
            return {}
        case CallFailure.TEMPORARY | CallFailure.UNKNOWN:
            failures = int(str(standing["failures"])) + 1
            pause = rate_limit.pause_of(failures)
            since = standing["last_transient_error_at"] or at
            return {
                "failures": failures, "open_until": at + pause if pause else None,
                "last_transient_error": outcome.error, "last_transient_error_at": since,
            }  # fmt: skip


def _write_captured(connection: Connection, results: Sequence[CallResult]) -> None:
    """Stores captured values as custom fields of their alerts, with a timeline event."""
    for result in sorted(results, key=lambda one: one.job.alert_id or 0):
        done, alert_id = result.outcome, result.job.alert_id
        if not isinstance(done, CallDone) or not done.captured or alert_id is None:
            continue
        found = database.row(
            connection, "SELECT custom, last_message_at FROM alerts_alert WHERE id = %s FOR NO KEY UPDATE", (alert_id,)
        )
        if found is None:
            continue
        said = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in done.captured.items())
        reason = f"The answer to an outbound call set {said}."
        event = NewEvent(
            alert_id, EventKind.UPDATED, result.at, SYSTEM, reason, CommandChannel.POLICY, {"call": result.job.id}
        )
        changes = {"custom": {**found["custom"], **done.captured}}
        store.count_messages(connection, [RepeatedMessages(alert_id, 0, found["last_message_at"], changes)])
        store.insert_events(connection, [event])
