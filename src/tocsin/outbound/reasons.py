"""Reasons of outbound integrations that are stored or used by several modules: calls, results and problems."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

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
