"""Reasons of outbound integrations that are stored or used by several modules: calls, results and problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Text, joined, reason_from_json

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

# What was written to a ticket.
TICKET_EXISTED = ReasonType("ticket.existed", "Ticket {ticket} exists from an earlier attempt")
TICKET_CREATED = ReasonType("ticket.created", "Created ticket {ticket}")
NOTHING_WRITTEN = ReasonType("ticket.nothing_written", "No changes to send")
NOTE_EXISTED = ReasonType("ticket.note_existed", "The note exists from an earlier attempt")
PUBLIC_NOTE_WRITTEN = ReasonType("ticket.public_note_written", "Wrote a public note")
PRIVATE_NOTE_WRITTEN = ReasonType("ticket.private_note_written", "Wrote a private note")
AGENT_ASSIGNED = ReasonType("ticket.agent_assigned", "Assigned the ticket to {agent}")
AGENT_UNASSIGNED = ReasonType("ticket.agent_unassigned", "Unassigned the ticket")
TEAM_SET = ReasonType("ticket.team_set", "Set the team to {team}")
PRIORITY_SET = ReasonType("ticket.priority_set", "Set the priority to {priority}")
STATUS_SET = ReasonType("ticket.status_set", "Set the status to {status}")

# What prevents a write to a ticket, or limits it.
LISTS_NOT_READ = ReasonType("ticket.lists_not_read", "{desk}'s statuses and agents have not been loaded yet.")
ENTRY_MISSING = ReasonType(
    "ticket.entry_missing",
    '{desk} has no {list} "{name}": it was renamed or deleted. Choose another for this event.',
)
TICKET_FIELD_MISSING = ReasonType(
    "ticket.field_missing", '{desk} has no {list} "{name}": choose another for new tickets.'
)
ASSIGNED_MEANWHILE = ReasonType("ticket.assigned_meanwhile", "Someone else has been assigned in the meantime")
NO_AGENT_WITH_EMAIL = ReasonType(
    "ticket.no_agent_with_email",
    "No agent in {desk} has the email address {email}: select {user}'s agent under People",
)
NO_EMAIL_OF_USER = ReasonType(
    "ticket.no_email_of_user",
    "{user} has no email address to match an agent in {desk}: select {user}'s agent under People",
)
NO_AGENT_NAMED = ReasonType("ticket.no_agent_named", "{desk} has no agent {agent}")
NO_TICKET = ReasonType("ticket.none", "This alert has no ticket in {desk}: creating it failed.")
WRITTEN_WITH_TICKET = ReasonType("ticket.written_when_created", "The update is sent once the ticket is created.")

# What a ticket system that a file describes is asked to do. Each completes a sentence.
OPERATIONS = {
    "verify": Text("say who Tocsin signs in as"),
    "create": Text("create a ticket"),
    "note": Text("write a note"),
    "status": Text("change the status"),
    "close": Text("change the status"),
    "assign": Text("assign the ticket"),
    "unassign": Text("unassign the ticket"),
    "update": Text("update the ticket"),
    "look_up_user": Text("find an agent"),
    "look_up_ticket": Text("find a ticket"),
    "look_up_note": Text("read the notes of the ticket"),
    "webhook": Text("create a webhook"),
    "lists": Text("read its lists"),
}

# Its answers, each with what to do about it.
DESK_REJECTED_CREDENTIALS = ReasonType(
    "desk.credentials_rejected", "{desk} rejected the credentials when asked to {operation} ({status})."
)
DESK_FORBIDS = ReasonType("desk.forbidden", "{desk} does not permit Tocsin to {operation} ({status}).")
DESK_CHECK_ROLE = ReasonType("desk.check_role", "Check the role of Tocsin's account there.")
DESK_HAS_NO_TICKET = ReasonType(
    "desk.no_such_ticket",
    "{desk} has no ticket {ticket} ({status}): it was deleted or merged, or Tocsin's account may not see it.",
)
DESK_NOT_FOUND = ReasonType("desk.not_found", "{desk} found nothing when asked to {operation} ({status}).")
DESK_REFUSED = ReasonType("desk.refused", "{desk} rejected the request to {operation} ({status}).")
DESK_UNAVAILABLE = ReasonType("desk.unavailable", "{desk} is temporarily unable to {operation} ({status}).")
DESK_RATE_LIMITED = ReasonType(
    "desk.rate_limited", "{desk} is rate-limiting Tocsin: too many requests when asked to {operation} ({status})."
)
DESK_WEB_PAGE = ReasonType("desk.web_page", "{desk} answered with a web page when asked to {operation} ({status}).")
DESK_REDIRECTED = ReasonType("desk.redirected", "{desk} redirects to {address} when asked to {operation} ({status}).")
DESK_CHECK_ADDRESS = ReasonType("desk.check_address", "A sign-in page or a proxy may be in between; check the address.")
DESK_NOT_JSON = ReasonType("desk.not_json", "{desk} did not answer with JSON when asked to {operation} ({status}).")
DESK_OFFERS = ReasonType("desk.offers", "{desk} does not offer {wanted} for ticket {ticket} now. It offers: {offered}.")
DESK_OFFERS_NOTHING = ReasonType("desk.offers_nothing", "{desk} does not offer {wanted} for ticket {ticket} now.")
DESK_CHOOSE_OTHER = ReasonType("desk.choose_other", "Choose another for this event, or change the workflow there.")
DESK_NO_ID = ReasonType("desk.no_id", "{desk} did not return the number of the ticket that it created.")
DESK_VERIFIED = ReasonType("desk.verified", "Signed in to {address} as {agent}.")
DESK_VERIFIED_LISTS = ReasonType("desk.lists", "Read: {entries}.")
DESK_LIST = ReasonType("desk.list", "{list}: {count}")
DESK_CANNOT_CREATE = ReasonType("desk.cannot_create", "Tocsin cannot create tickets in {desk}.")
DESK_ALREADY = ReasonType("desk.already", "The ticket has this status already")
DESK_UNASSIGNS_NOT = ReasonType("desk.unassigns_not", "{desk} cannot unassign a ticket by its API")


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
