"""Records the results of calls, and updates each integration's circuit breaker, block and rate limit.

Works in the caller's transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tocsin.alerts import service, store
from tocsin.alerts.commands import SYSTEM, NewEvent, RepeatedMessages
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.alerts.store import lock_custom
from tocsin.core.config import crypto
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind
from tocsin.core.delivery.job_pool import LivePool
from tocsin.core.errors import Permanent
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import NO_REASON, Reason, reason_from_json
from tocsin.outbound import reasons, redaction, states
from tocsin.outbound.connectors.desk import DESKS
from tocsin.outbound.connectors.haloitsm.connector import HALOITSM
from tocsin.outbound.connectors.http import HTTP
from tocsin.outbound.connectors.interfaces import (
    CallDone,
    CallJob,
    ConnectorKind,
    IntegrationAccount,
    IntegrationSender,
    RecordedExchange,
)
from tocsin.outbound.delivery import queue
from tocsin.outbound.reasons import UNKNOWN_KIND

# ---------- registry
# The registry of outbound connectors.


KINDS: Mapping[str, ConnectorKind] = {kind.name: kind for kind in (HALOITSM, *DESKS, HTTP)}


# ---------- integration pool
# The open outbound integrations of a process, reloaded when the configuration changes.


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActiveIntegration:
    """One open integration."""

    account: IntegrationAccount
    kind: ConnectorKind
    sender: IntegrationSender

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(self.account.secrets.values())


class IntegrationPool(LivePool[int, ActiveIntegration]):
    """The open integrations by id. All of them share one HTTP client."""

    def __init__(self) -> None:
        super().__init__()
        self.client = HttpClient()
        #: Why an integration cannot be used, by id.
        self.problems: Mapping[int, Reason] = {}
        self._active: Mapping[int, ActiveIntegration] = {}

    def get(self, integration_id: int) -> ActiveIntegration | None:
        """The integration with that id, or None if it is disabled or unusable."""
        return self._active.get(integration_id)

    def all(self) -> Mapping[int, ActiveIntegration]:
        """All usable integrations, by id."""
        return self._active

    def close(self) -> None:
        """Closes every connection."""
        self.client.close()

    def _load(self, connection: Connection) -> None:
        active: dict[int, ActiveIntegration] = {}
        problems: dict[int, Reason] = {}
        for row in database.rows(
            connection, "SELECT id, name, kind, settings, secrets FROM outbound_outboundintegration WHERE is_enabled"
        ):
            # Unchanged integrations keep their sender, and so their token.
            configuration = [row["name"], row["kind"], row["settings"], row["secrets"]]
            try:
                active[row["id"]] = self._reuse_or_open(
                    row["id"], configuration, partial(open_integration, row, self.client)
                )
            except Permanent as error:
                problems[row["id"]] = error.full_reason
                log.error("The outbound integration %s cannot be used: %s", row["name"], error)
        self._active, self.problems = active, problems

    def _close_item(self, item: ActiveIntegration) -> None:
        """The shared client closes the connections."""


def open_integration(row: Mapping[str, Any], client: HttpClient) -> ActiveIntegration:
    """Opens an integration from its row. Raises Permanent if it cannot be used."""
    kind = KINDS.get(row["kind"])
    if kind is None:
        raise Permanent(UNKNOWN_KIND(kind=row["kind"]))
    settings, secrets = redaction.reveal(row["settings"], crypto.decrypt_bundle(row["secrets"]), kind.secret_settings)
    account = IntegrationAccount(row["id"], row["name"], settings, secrets)
    return ActiveIntegration(account, kind, kind.open_sender(account, client))


@dataclass(frozen=True, slots=True)
class CallResult:
    """A job's outcome, its time, and the recorded requests."""

    job: CallJob
    outcome: CallDone | AttemptFailed
    at: datetime
    exchanges: Sequence[RecordedExchange] = ()


_SENT = """
UPDATE outbound_call SET status = 'sent', ended_at = %(at)s, attempts = attempts + 1, result = %(result)s,
       error = '{}', progress = %(progress)s,
       ticket = CASE WHEN %(ticket)s = '' THEN ticket ELSE %(ticket)s END, lease_until = NULL
WHERE id = %(id)s AND status = 'sending' AND leased_by = %(node)s
"""

_FAILED = """
UPDATE outbound_call SET status = %(status)s, due_at = %(due)s, attempts = attempts + %(counts)s,
       error = %(error)s, progress = %(progress)s,
       is_uncertain = is_uncertain OR %(uncertain)s, lease_until = NULL,
       ended_at = CASE WHEN %(status)s = 'dead' THEN %(at)s END
WHERE id = %(id)s AND status = 'sending' AND leased_by = %(node)s
"""


def record(
    connection: Connection, pool: IntegrationPool, results: Sequence[CallResult], node: str, jitter: float
) -> None:
    """Writes all results, their requests, and the status of each integration."""
    # Alerts first, because of the lock order.
    _write_captured(connection, results)
    for result in results:
        match result.outcome:
            case CallDone() as done:
                progress = as_json(result.job.progress)
                parameters = {"at": result.at, "result": done.result, "progress": progress, "ticket": done.ticket}
                connection.execute(_SENT, {**parameters, "id": result.job.id, "node": node})
            case AttemptFailed():
                _write_failed(connection, result, result.outcome, node, jitter)
    store_exchange(
        connection, [(r.job.integration_id, r.job.id, exchange) for r in results for exchange in r.exchanges]
    )
    for integration_id in sorted({result.job.integration_id for result in results}):
        own_results = [result for result in results if result.job.integration_id == integration_id]
        extra_requests = sum(max(0, len(result.exchanges) - 1) for result in own_results)
        outcomes = [(result.outcome, result.at) for result in own_results]
        update_status(connection, pool, integration_id, outcomes, extra_requests)
    alert_ids = sorted({r.job.alert_id for r in results if r.job.alert_id is not None})
    if alert_ids:
        service.publish_alert_changes(connection, alert_ids)
    # Calls queued behind these may be sent now.
    database.notify(connection, "outbound", "outbound-log")


def mark_ended(connection: Connection, result: CallResult) -> None:
    """Ends a call and writes nothing else, for a result that `record` could not write.

    A successful call is not repeated; a failed one waits for a person.
    """
    is_done = isinstance(result.outcome, CallDone)
    connection.execute(
        "UPDATE outbound_call SET status = %s, ended_at = %s, lease_until = NULL, attempts = attempts + 1, "
        "error = %s WHERE id = %s AND status = 'sending'",
        ("sent" if is_done else "dead", result.at, reasons.RESULT_NOT_STORED(), result.job.id),
    )


def store_exchange(connection: Connection, exchanges: Sequence[tuple[int, int | None, RecordedExchange]]) -> None:
    """Logs requests and responses: (integration id, call id or None, exchange)."""
    for integration_id, call_id, exchange in exchanges:
        connection.execute(
            "INSERT INTO outbound_exchange (integration_id, call_id, at, took, method, url, request, status, response, "
            "error) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (integration_id, call_id, *astuple(exchange)),
        )


def _write_failed(connection: Connection, result: CallResult, outcome: AttemptFailed, node: str, jitter: float) -> None:
    job = result.job
    counts_as_attempt = outcome.kind not in (FailureKind.THROTTLED, FailureKind.BLOCKED)
    attempts = job.attempts + (1 if counts_as_attempt else 0)
    is_final = outcome.kind is FailureKind.PERMANENT or (
        result.at - job.queued_at >= states.GIVE_UP_AFTER and outcome.kind is not FailureKind.THROTTLED
    )
    delay = states.RETRIES.delay(attempts, jitter, outcome.retry_after) if counts_as_attempt else timedelta()
    parameters = {
        "status": "dead" if is_final else "queued",
        "due": result.at + delay,
        "counts": 1 if counts_as_attempt else 0,
        "error": outcome.error,
        "progress": as_json(job.progress),
        "uncertain": outcome.kind is FailureKind.OUTCOME_UNKNOWN,
        "at": result.at,
        "id": job.id,
        "node": node,
    }
    connection.execute(_FAILED, parameters)


def update_status(
    connection: Connection,
    pool: IntegrationPool,
    integration_id: int,
    outcomes: Sequence[tuple[CallDone | AttemptFailed, datetime]],
    requests: int,
) -> None:
    """Updates circuit breaker, block and rate limit of one integration after these outcomes, in order, which may be
    observed outside of the outbox.

    `requests` is the number of requests not charged before.
    """
    status = database.row(
        connection,
        "SELECT * FROM outbound_integrationstatus WHERE integration_id = %s FOR NO KEY UPDATE",
        (integration_id,),
    )
    if status is None:
        return
    status |= {name: reason_from_json(status[name]) for name in ("problem", "last_transient_error")}
    was_unavailable = status["open_until"] is not None or status["blocked_until"] is not None
    for outcome, at in outcomes:
        status |= _changed_fields(status, outcome, at)
    integration = pool.get(integration_id)
    last_at = outcomes[-1][1]
    if integration is not None and requests:
        used = integration.sender.rate.used_until(status["granted_to"])
        status["granted_to"] = used.charge(requests, last_at).free_at
    connection.execute(
        "UPDATE outbound_integrationstatus SET failures = %(failures)s, open_until = %(open_until)s, "
        "problem = %(problem)s, problem_at = %(problem_at)s, blocked_until = %(blocked_until)s, "
        "last_transient_error = %(last_transient_error)s, last_transient_error_at = %(last_transient_error_at)s, "
        "granted_to = %(granted_to)s, throttled = %(throttled)s, "
        "not_before = %(not_before)s, succeeded_at = %(succeeded_at)s WHERE integration_id = %(integration_id)s",
        status,
    )
    if was_unavailable and status["failures"] == 0 and status["blocked_until"] is None:
        # Recovered: send waiting calls now, and poll for missed changes.
        connection.execute(
            "UPDATE outbound_call SET due_at = %s WHERE integration_id = %s AND status = 'queued' AND due_at > %s",
            (last_at, integration_id, last_at),
        )
        connection.execute(
            "UPDATE outbound_integrationstatus SET next_poll_at = %s WHERE integration_id = %s AND next_poll_at > %s",
            (last_at, integration_id, last_at),
        )
        queue.retry_creation(connection, integration_id, last_at)
    if status["blocked_until"] is not None:
        connection.execute(
            "UPDATE outbound_call SET status = 'dead', ended_at = %s, error = %s "
            "WHERE integration_id = %s AND status = 'queued' AND queued_at < %s",
            (last_at, status["problem"], integration_id, last_at - states.GIVE_UP_AFTER),
        )


def _changed_fields(status: dict[str, object], outcome: CallDone | AttemptFailed, at: datetime) -> dict[str, object]:
    """The status fields that one outcome changes."""
    healthy_fields: dict[str, object] = {
        "failures": 0, "open_until": None, "problem": NO_REASON, "problem_at": None,
        "blocked_until": None, "last_transient_error": NO_REASON, "last_transient_error_at": None,
        "throttled": 0, "not_before": None,
    }  # fmt: skip
    if isinstance(outcome, CallDone):
        return {**healthy_fields, "succeeded_at": at}
    since = status["last_transient_error_at"] or at
    transient = {"last_transient_error": outcome.error, "last_transient_error_at": since}
    match outcome.kind:
        case FailureKind.PERMANENT:
            # The remote system responded: only this call is wrong.
            return healthy_fields
        case FailureKind.THROTTLED:
            count = int(str(status["throttled"])) + 1
            until = at + states.throttle_wait(count, outcome.retry_after)
            return {**transient, "throttled": count, "not_before": until}
        case FailureKind.BLOCKED:
            since = status["problem_at"] if status["problem"] == outcome.error else at
            return {"problem": outcome.error, "problem_at": since, "blocked_until": at + states.BLOCKED_INTERVAL}
        case _:
            failures = int(str(status["failures"])) + 1
            break_duration = states.CIRCUIT.open_period(failures)
            return {**transient, "failures": failures, "open_until": at + break_duration if break_duration else None}


def _write_captured(connection: Connection, results: Sequence[CallResult]) -> None:
    """Stores captured values as custom fields of their alerts, with a timeline event."""
    for result in sorted(results, key=lambda item: item.job.alert_id or 0):
        outcome, alert_id = result.outcome, result.job.alert_id
        if not isinstance(outcome, CallDone) or not outcome.captured or alert_id is None:
            continue
        alert = next(iter(lock_custom(connection, [alert_id])), None)
        if alert is None:
            continue
        values = tuple(
            reasons.CAPTURED_VALUE(name=name.replace("_", " "), value=value) for name, value in outcome.captured.items()
        )
        reason, data = reasons.VALUES_CAPTURED(values=values), {"call": result.job.id}
        event = NewEvent(alert_id, EventKind.UPDATED, result.at, SYSTEM, reason, CommandChannel.POLICY, data)
        changes = {"custom": {**alert["custom"], **outcome.captured}}
        store.count_messages(connection, [RepeatedMessages(alert_id, 0, alert["last_message_at"], changes)])
        store.insert_events(connection, [event])
