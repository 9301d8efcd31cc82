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
ANSWERED = ReasonType("outbound.answered", "Answered {status}.")
NOTHING_TO_CAPTURE = ReasonType("outbound.nothing_to_capture", "The response has no {paths} to capture.")
DROPPED_BY = ReasonType("outbound.dropped_by", "{user} decided that it is not sent.")
VALUES_CAPTURED = ReasonType("outbound.values_captured", "The response to an outbound call set {values}.")
CAPTURED_VALUE = ReasonType("outbound.captured_value", "{name} {value}")

# Why it was not done.
INTEGRATION_DISABLED = ReasonType("outbound.integration_disabled", "This integration is disabled.")
INTERNAL_ERROR = ReasonType("outbound.internal_error", "Tocsin itself failed: {error}.")
PROCESS_STOPPED = ReasonType("outbound.process_stopped", "The process that was sending it stopped.")
RESULT_NOT_STORED = ReasonType("outbound.result_not_stored", "The result could not be stored.")
UNKNOWN_KIND = ReasonType("outbound.unknown_kind", "There is no kind of outbound integration '{kind}'.")
SERVER_RATE_LIMITED = ReasonType("outbound.server_rate_limited", "The server is rate-limiting Tocsin (429).")
SERVER_ERROR = ReasonType("outbound.server_error", "The server answered {status}.")
UNEXPECTED_STATUS = ReasonType("outbound.unexpected_status", "The server answered {status}; expected is {expected}.")
SERVER_SAID = ReasonType("outbound.server_said", "It said: {message}")
CREDENTIALS_REJECTED = ReasonType("outbound.credentials_rejected", "{integration} rejected the credentials (401).")
ENTER_CREDENTIALS = ReasonType("outbound.enter_credentials", "Enter them again.")
TOKEN_REJECTED = ReasonType("outbound.token_rejected", "The token server rejected the credentials ({answer}).")
ENTER_CLIENT_SECRET = ReasonType("outbound.enter_client_secret", "Enter client ID and secret again.")
NO_TOKEN = ReasonType("outbound.no_token", "The token server answered {status} without a token.")
INVALID_BODY = ReasonType("outbound.invalid_body", "The body is not JSON once its values are in it: {problem}.")
CORRECT_TEMPLATE = ReasonType("outbound.correct_template", "Correct the template.")
TOKEN_ACCEPTED = ReasonType(
    "outbound.token_accepted", "The token server accepts the credentials. The call itself was not made."
)
SETTINGS_COMPLETE = ReasonType(
    "outbound.settings_complete", "The settings are complete. The call itself was not made; send a test to see it."
)

# Problems of an integration, for Home, `tocsin doctor` and the API.
PROBLEM_OF = ReasonType("outbound.problem_of", "{integration}: {problem}")
CALLS_WAITING = ReasonType("outbound.calls_waiting", "{count} call is waiting.", "{count} calls are waiting.")
CALLS_FAILED = ReasonType(
    "outbound.calls_failed",
    "{integration}: {count} call failed. Review it and send it again. Last: {error}",
    "{integration}: {count} calls failed. Review them and send them again. Last: {error}",
)

# Rejected commands.
TICKET_EXISTS = ReasonType(
    "outbound.ticket_exists", "Alert {alert} has a ticket in {integration}, or one is being created."
)
