"""Reasons of the HaloITSM connector: its errors and what to do about them, and what was written to a ticket."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from tocsin.core.reasons import Reason, ReasonType, Term

# Operations. Each completes a sentence such as "Halo could not {operation} now".
READ_LIST = ReasonType("halo.operation.read_list", "read the list of {list}")
READ_TICKETS = ReasonType("halo.operation.read_tickets", "read tickets")
READ_TICKET = ReasonType("halo.operation.read_ticket", "read ticket {ticket}")
READ_ACTIONS = ReasonType("halo.operation.read_actions", "read the actions of ticket {ticket}")
READ_OWN_AGENT = ReasonType("halo.operation.read_own_agent", "read which agent it signs in as")
ISSUE_TOKEN = ReasonType("halo.operation.issue_token", "issue a token")
WRITE_NOTE = ReasonType("halo.operation.write_note", "write a note")
CREATE_TICKET = ReasonType("halo.operation.create_ticket", "create a ticket")
UPDATE_TICKET = ReasonType("halo.operation.update_ticket", "update the ticket")
CHANGE_STATUS = ReasonType("halo.operation.change_status", "change the status")
ASSIGN_TICKET = ReasonType("halo.operation.assign_ticket", "assign the ticket")
LIST_WEBHOOKS = ReasonType("halo.operation.list_webhooks", "list its webhooks")
LIST_WEBHOOKS_BY_SCOPE = ReasonType(
    "halo.operation.list_webhooks_by_scope", "list its webhooks (the scope admin:webhooks)"
)
CHECK_WEBHOOK = ReasonType("halo.operation.check_webhook", "read whether its webhook is enabled")
CREATE_WEBHOOK = ReasonType("halo.operation.create_webhook", "create a webhook")
DELETE_WEBHOOK = ReasonType("halo.operation.delete_webhook", "delete the webhook")
READ_WEBHOOK = ReasonType("halo.operation.read_webhook", "read the webhook back")
ENABLE_WEBHOOK = ReasonType("halo.operation.enable_webhook", "enable the webhook")
RESTORE_WEBHOOK = ReasonType("halo.operation.restore_webhook", "restore the webhook")
CHANGE_WEBHOOK_URL = ReasonType("halo.operation.change_webhook_url", "change the URL of its webhook")
LIST_EVENTS = ReasonType("halo.operation.list_events", "read its list of events")
LIST_NOTIFICATIONS = ReasonType("halo.operation.list_notifications", "list its notifications")
SUBSCRIBE = ReasonType("halo.operation.subscribe", "subscribe the webhook to {event}")
UNSUBSCRIBE = ReasonType("halo.operation.unsubscribe", "remove the event")
SEND_TEST = ReasonType("halo.operation.send_test", "send its test")
LIST_DELIVERIES = ReasonType("halo.operation.list_deliveries", "read its log of deliveries")

LIST_NAMES: dict[str, str] = {
    "status": gettext_noop("statuses"),
    "team": gettext_noop("teams"),
    "agent": gettext_noop("agents"),
    "priority": gettext_noop("priorities"),
    "ticket_type": gettext_noop("ticket types"),
    "outcome": gettext_noop("outcomes"),
}


def list_name(name: str) -> Term:
    """The name of one of Halo's lists, for readers."""
    return Term(LIST_NAMES.get(name, name.replace("_", " ")))


# Errors, each with what to do about it.
RATE_LIMITED = ReasonType("halo.rate_limited", "Halo is rate-limiting Tocsin: too many requests (429).")
TOKEN_UNAVAILABLE = ReasonType("halo.token_unavailable", "Halo returned {status} for the token request.")
CREDENTIALS_REJECTED = ReasonType("halo.credentials_rejected", "Halo rejected the client ID and secret.")
COPY_CREDENTIALS = ReasonType(
    "halo.copy_credentials",
    "Copy both again from the application in Halo (Configuration, Integrations, Halo API). The secret is shown only "
    "once: create a new one if it is lost or has expired.",
)
SCOPE_REJECTED = ReasonType(
    "halo.scope_rejected",
    "Halo does not recognize or grant the scope {scopes}; a single unknown scope fails the whole request.",
)
REMOVE_SCOPE = ReasonType(
    "halo.remove_scope", "Remove it, or use the scope all, and give the application that permission in Halo."
)
SIGN_IN_REJECTED = ReasonType("halo.sign_in_rejected", "Halo does not permit this application to sign in.")
CONFIGURE_SIGN_IN = ReasonType(
    "halo.configure_sign_in",
    "The application needs the method Client ID and Secret (Services), and an active agent to log in as.",
)
NOT_AT_ADDRESS = ReasonType("halo.not_at_address", "No Halo found at {address}: the token request returns 404.")
CHECK_ADDRESS = ReasonType("halo.check_address", "Check the URL and, on shared hosting, the tenant.")
TOKEN_REFUSED = ReasonType("halo.token_refused", "Halo refused to issue a token ({status}).")
CHECK_ACCOUNT = ReasonType("halo.check_account", "Check address, tenant, client ID and secret.")
SAID = ReasonType("halo.said", "Halo's response: {message}")
OUTCOME_UNKNOWN = ReasonType(
    "halo.outcome_unknown", "Halo timed out, so it is unknown whether it could {operation} ({status})."
)
UNAVAILABLE = ReasonType("halo.unavailable", "Halo is temporarily unable to {operation} ({status}).")
TOKEN_NOT_ACCEPTED = ReasonType(
    "halo.token_not_accepted", "Halo rejected Tocsin's token when asked to {operation} (401)."
)
CHECK_APPLICATION = ReasonType(
    "halo.check_application", "Check whether the application in Halo is active, and whether its agent may log in."
)
FORBIDDEN = ReasonType("halo.forbidden", "Halo does not permit Tocsin to {operation} ({status}).")
NO_EXPLANATION = ReasonType("halo.no_explanation", "No reason given.")
CHECK_PERMISSIONS = ReasonType(
    "halo.check_permissions",
    "The application's permissions or its agent's role lack the permission; after a change, press Test.",
)
NOT_FOUND = ReasonType("halo.not_found", "Halo found nothing when asked to {operation} (404).")
WEB_PAGE = ReasonType("halo.web_page", "Halo answered with a web page when asked to {operation} ({status}).")
WEB_PAGE_TITLED = ReasonType(
    "halo.web_page_titled", "Halo answered with a web page when asked to {operation} ({status}): {title}"
)
PROXY_BETWEEN = ReasonType(
    "halo.proxy_between", "A sign-in page or a proxy may be in between; check the address if this persists."
)
NOT_JSON = ReasonType("halo.not_json", "Halo did not answer with JSON when asked to {operation}: {message}")
CHECK_FOR_PROXY = ReasonType("halo.check_for_proxy", "Check the address: a sign-in page or a proxy may be in between.")
NOT_A_TICKET = ReasonType("halo.not_a_ticket", "Halo returned unexpected data instead of ticket {ticket}.")
TICKET_NOT_FOUND = ReasonType(
    "halo.ticket_not_found",
    "Ticket {ticket} is not visible to Tocsin ({status}): it was deleted, or Tocsin's agent has no access to it.",
)
SHOW_TICKETS = ReasonType(
    "halo.show_tickets", "If the ticket exists, give the agent access to the tickets of its own and other teams."
)
AGENT_REQUIRED = ReasonType("halo.agent_required", "Halo doesn't close tickets without an agent.")
ASSIGN_AGENT = ReasonType("halo.assign_agent", "Assign the ticket, or let Tocsin assign it.")
OWN_AGENT_UNKNOWN = ReasonType(
    "halo.own_agent_unknown", "Halo doesn't close tickets without an agent, and does not report Tocsin's own agent."
)
NOTE_FORBIDDEN = ReasonType(
    "halo.note_forbidden", "Halo does not permit Tocsin's agent to use the action for its notes."
)
ALLOW_NOTE_ACTION = ReasonType(
    "halo.allow_note_action", "Choose another note action, or allow this one in the agent's role."
)
NOTE_ACTION_UNKNOWN = ReasonType(
    "halo.note_action_unknown", "Halo requires a note action, and the configured one does not exist."
)
CHOOSE_NOTE_ACTION = ReasonType("halo.choose_note_action", "Choose another note action.")
REFUSED = ReasonType("halo.refused", "Halo rejected the request to {operation} ({status}).")
NO_TICKET = ReasonType("halo.no_ticket", "This alert has no ticket in Halo: creating it failed.")
WRITTEN_WITH_TICKET = ReasonType("halo.written_with_ticket", "The update is sent once the ticket is created.")
NO_TICKET_NUMBER = ReasonType("halo.no_ticket_number", "Halo did not return the number of the ticket that it created.")

# What was done.
SIGNED_IN = ReasonType(
    "halo.signed_in",
    "Signed in to {address} as {agent}; {count} ticket and {statuses} statuses can be read.",
    "Signed in to {address} as {agent}; {count} tickets and {statuses} statuses can be read.",
)
UNNAMED_AGENT = ReasonType("halo.unnamed_agent", "an agent without a name")
TICKET_EXISTED = ReasonType("halo.ticket_existed", "Ticket {ticket} exists from an earlier attempt")
TICKET_CREATED = ReasonType("halo.ticket_created", "Created ticket {ticket}")
NOTHING_WRITTEN = ReasonType("halo.nothing_written", "No changes to send")
NOTE_EXISTED = ReasonType("halo.note_existed", "The note exists from an earlier attempt")
PUBLIC_NOTE_WRITTEN = ReasonType("halo.public_note_written", "Wrote a public note")
PRIVATE_NOTE_WRITTEN = ReasonType("halo.private_note_written", "Wrote a private note")
AGENT_ASSIGNED = ReasonType("halo.agent_assigned", "Assigned the ticket to {agent}")
AGENT_UNASSIGNED = ReasonType("halo.agent_unassigned", "Unassigned the ticket")
TEAM_SET = ReasonType("halo.team_set", "Set the team to {team}")
PRIORITY_SET = ReasonType("halo.priority_set", "Set the priority to {priority}")
STATUS_SET = ReasonType("halo.status_set", "Set the status to {status}")
AGENT_ASSIGNED_TO_CLOSE = ReasonType(
    "halo.agent_assigned_to_close",
    "Assigned the ticket to {agent}, because Halo doesn't close tickets without an agent",
)

# What prevents a write, or limits it.
LISTS_NOT_READ = ReasonType("halo.lists_not_read", "Halo's statuses and agents have not been loaded yet.")
ENTRY_MISSING = ReasonType(
    "halo.entry_missing",
    'Halo has no {list} "{name}": it was renamed or deleted. Choose another for this event.',
)
TICKET_FIELD_MISSING = ReasonType(
    "halo.ticket_field_missing", 'Halo has no {list} "{name}": choose another for new tickets.'
)
ASSIGNED_MEANWHILE = ReasonType("halo.assigned_meanwhile", "Someone else has been assigned in the meantime")
NO_AGENT_WITH_EMAIL = ReasonType(
    "halo.no_agent_with_email", "No agent in Halo has the email address {email}: select {user}'s agent under People"
)
NO_EMAIL_OF_USER = ReasonType(
    "halo.no_email_of_user",
    "{user} has no email address to match an agent in Halo: select {user}'s agent under People",
)
NO_AGENT_NAMED = ReasonType("halo.no_agent_named", "Halo has no agent {agent}")

ENTRY_NAMES: dict[str, str] = {
    "status": gettext_noop("status"),
    "team": gettext_noop("team"),
    "priority": gettext_noop("priority"),
    "ticket_type": gettext_noop("ticket type"),
}


def missing_entry(kind: ReasonType, entry: str, name: object) -> Reason:
    """`ENTRY_MISSING` or `TICKET_FIELD_MISSING` for an entry of one of Halo's lists."""
    return kind(list=Term(ENTRY_NAMES[entry]), name=str(name))
