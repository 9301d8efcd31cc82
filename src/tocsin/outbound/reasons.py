"""Reasons of outbound integrations that are stored or used by several modules: calls, results and problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, joined, reason_from_json

# What a call does.
CALL_FOR_ALERT = ReasonType("outbound.call_for_alert", "{integration} for alert {alert}")
CALL_SENT_BY = ReasonType("outbound.call_sent_by", "{integration}, sent by {user}")
SET_STATUS = ReasonType("outbound.set_status", "Status {status}")
UPDATE_TICKET = ReasonType("outbound.update_ticket", "Update the ticket ({event}), by {user}")
CREATE_TICKET = ReasonType("outbound.create_ticket", "Create a ticket: {summary}")

# What came of it.
ANSWERED = ReasonType("outbound.answered", "Status {status}.")
NOTHING_TO_CAPTURE = ReasonType("outbound.nothing_to_capture", "The response does not contain {paths}.")
DROPPED_BY = ReasonType("outbound.dropped_by", "{user} discarded it.")
VALUES_CAPTURED = ReasonType("outbound.values_captured", "The response to an outbound call set {values}.")
CAPTURED_VALUE = ReasonType("outbound.captured_value", "{name} {value}")

# Why it was not done.
INTEGRATION_DISABLED = ReasonType("outbound.integration_disabled", "This integration is disabled.")
INTERNAL_ERROR = ReasonType("outbound.internal_error", "Internal error: {error}.")
RESULT_NOT_STORED = ReasonType("outbound.result_not_stored", "The result could not be stored.")
UNKNOWN_KIND = ReasonType("outbound.unknown_kind", "Unknown outbound integration type '{kind}'.")
SERVER_RATE_LIMITED = ReasonType("outbound.server_rate_limited", "The server is rate-limiting Tocsin (429).")
SERVER_ERROR = ReasonType("outbound.server_error", "The server answered {status}.")
UNEXPECTED_STATUS = ReasonType("outbound.unexpected_status", "The server answered {status}; expected is {expected}.")
SERVER_SAID = ReasonType("outbound.server_said", "Response: {message}")
CREDENTIALS_REJECTED = ReasonType("outbound.credentials_rejected", "{integration} rejected the credentials (401).")
TOKEN_REJECTED = ReasonType("outbound.token_rejected", "The token server rejected the credentials ({answer}).")
ENTER_CLIENT_SECRET = ReasonType("outbound.enter_client_secret", "Enter client ID and secret again.")
NO_TOKEN = ReasonType("outbound.no_token", "The token server answered {status} without a token.")
INVALID_BODY = ReasonType("outbound.invalid_body", "The rendered body is not valid JSON: {problem}.")
CORRECT_TEMPLATE = ReasonType("outbound.correct_template", "Fix the template.")
TOKEN_ACCEPTED = ReasonType(
    "outbound.token_accepted", "The token server accepts the credentials. The request itself was not sent."
)
SETTINGS_COMPLETE = ReasonType(
    "outbound.settings_complete",
    "The settings are complete. The request itself was not sent; send a test to verify it.",
)

# Problems of an integration, for Home, `tocsin doctor` and the API.
PROBLEM_OF = ReasonType("outbound.problem_of", "{integration}: {problem}")
CALLS_WAITING = ReasonType("outbound.calls_waiting", "{count} call queued.", "{count} calls queued.")
CALLS_FAILED = ReasonType(
    "outbound.calls_failed",
    "{integration}: {count} call failed. Review it and send it again. Last: {error}",
    "{integration}: {count} calls failed. Review them and send them again. Last: {error}",
)

# Rejected commands.
TICKET_EXISTS = ReasonType(
    "outbound.ticket_exists", "Alert {alert} has a ticket in {integration}, or one is being created."
)


# ---------- health
# Problems of outbound integrations, for Home, `tocsin doctor` and the API. Reads only.


#: How long a system is unreachable before that counts as a problem.
_LONG = "interval '5 minutes'"

_PROBLEMS = database.literal(f"""
SELECT o.id, o.name, s.problem, s.last_transient_error,
       s.poll_error, s.webhook_problem, d.dead,
       e.error,
       s.last_transient_error_at < clock_timestamp() - {_LONG} AS is_long,
       (SELECT count(*) FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'queued') AS waiting
FROM outbound_outboundintegration o JOIN outbound_integrationstatus s ON s.integration_id = o.id
CROSS JOIN LATERAL (
  SELECT count(*) AS dead FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'dead') AS d
LEFT JOIN LATERAL (
  SELECT c.error FROM outbound_call c WHERE c.integration_id = o.id AND c.status = 'dead'
  ORDER BY c.id DESC LIMIT 1) AS e ON true
WHERE o.is_enabled ORDER BY o.name
""")


@dataclass(frozen=True, slots=True)
class IntegrationProblem:
    """One problem: its kind, the reason, and its integration."""

    kind: str
    integration_id: int
    name: str
    reason: Reason
    is_urgent: bool = False


def find_problems(connection: Connection) -> Iterator[IntegrationProblem]:
    """Yields all problems, grouped by integration."""
    for row in database.rows(connection, _PROBLEMS):
        integration_id, name = row["id"], row["name"]
        problem, transient_error = reason_from_json(row["problem"]), reason_from_json(row["last_transient_error"])
        is_unreachable = bool(transient_error and row["is_long"])
        if problem:
            yield IntegrationProblem("needs_you", integration_id, name, _problem_of(name, problem), is_urgent=True)
        elif is_unreachable:
            waiting = CALLS_WAITING(count=row["waiting"]) if row["waiting"] else NO_REASON
            reason = _problem_of(name, joined(transient_error, waiting, separator=" "))
            yield IntegrationProblem("away", integration_id, name, reason)
        if row["dead"]:
            reason = CALLS_FAILED(integration=name, count=row["dead"], error=reason_from_json(row["error"]))
            yield IntegrationProblem("dead", integration_id, name, reason)
        if webhook_problem := reason_from_json(row["webhook_problem"]):
            yield IntegrationProblem("webhook", integration_id, name, _problem_of(name, webhook_problem))
        if (poll_error := reason_from_json(row["poll_error"])) and not problem and not is_unreachable:
            yield IntegrationProblem("look", integration_id, name, _problem_of(name, poll_error))


def _problem_of(integration: str, problem: Reason) -> Reason:
    return PROBLEM_OF(integration=integration, problem=problem)
