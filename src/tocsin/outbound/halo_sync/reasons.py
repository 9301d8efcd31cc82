"""Reasons of the synchronization with HaloITSM: permissions, webhook setup and monitoring, polling and lookups."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

# Permissions, and what each is needed for.
SIGN_IN_AS = ReasonType("halo.permission.sign_in", "Sign in as {agent}")
READ_TICKETS = ReasonType("halo.permission.read_tickets", "Read tickets")
READ_LIST = ReasonType("halo.permission.read_list", "Read {list}")
SEE_WEBHOOKS = ReasonType("halo.permission.see_webhooks", "List webhooks")
FOR_EVERYTHING = ReasonType("halo.purpose.everything", "everything")
FOR_POLLING = ReasonType("halo.purpose.polling", "reading tickets back")
FOR_STATUS = ReasonType("halo.purpose.status", "setting a status")
FOR_TEAM = ReasonType("halo.purpose.team", "setting a team")
FOR_AGENT = ReasonType("halo.purpose.agent", "assigning tickets and matching agents with users")
FOR_PRIORITY = ReasonType("halo.purpose.priority", "setting a priority")
FOR_TICKET_TYPE = ReasonType("halo.purpose.ticket_type", "creating tickets")
FOR_OUTCOME = ReasonType("halo.purpose.outcome", "choosing the note action")
FOR_WEBHOOK = ReasonType("halo.purpose.webhook", "setting up the webhook")

# Import of agents.
NO_EMAIL = ReasonType("halo.import.no_email", "{agent} has no email address in Halo.")
NOT_IMPORTED = ReasonType("halo.import.not_imported", "{name}: {problem}")

# Webhook setup: the steps that were completed.
WEBHOOK_CREATED = ReasonType("halo.webhook.created", "Created the webhook, disabled.")
WEBHOOK_FOUND = ReasonType("halo.webhook.found", "Found the webhook and disabled it.")
WEBHOOK_URL_CHANGED = ReasonType("halo.webhook.url_changed", "Found the webhook, disabled it and set the new URL.")
OTHER_WEBHOOK = ReasonType(
    "halo.webhook.other",
    "Halo has another webhook to this integration, {webhook}: delete it in Halo, or each message arrives twice.",
)
WEBHOOK_READ_BACK = ReasonType("halo.webhook.read_back", "Verified the webhook URL in Halo.")
WEBHOOK_ENABLED = ReasonType("halo.webhook.enabled", "Enabled the webhook.")
WEBHOOK_SUBSCRIBED = ReasonType("halo.webhook.subscribed", "Subscribed to {events}.")
EVENTS_MISSING = ReasonType(
    "halo.webhook.events_missing", "This version of Halo has no event for {events}: polling detects those changes."
)
TEST_REQUESTED = ReasonType("halo.webhook.test_requested", "Requested a test message from Halo.")
TEST_NOT_LOGGED = ReasonType(
    "halo.webhook.test_not_logged", "Halo's log does not show the test yet. Create a ticket to verify delivery."
)
TEST_ARRIVED = ReasonType(
    "halo.webhook.test_arrived", "Halo's log confirms that the test was delivered (status {status})."
)
UNDO_FAILED = ReasonType("halo.webhook.undo_failed", "Could not be rolled back: {problem}")
UNDONE = ReasonType("halo.webhook.undone", "All changes in Halo were rolled back.")

# Webhook setup: where it stopped.
URL_TOO_LONG = ReasonType(
    "halo.webhook.url_too_long", "The URL is longer than Halo stores ({count} character).",
    "The URL is longer than Halo stores ({count} characters).",
)  # fmt: skip
SHORTEN_BASE_URL = ReasonType("halo.webhook.shorten_base_url", "Shorten TOCSIN_BASE_URL.")
NO_WEBHOOK_ID = ReasonType("halo.webhook.no_id", "Halo did not return the ID of the webhook that it created.")
URL_NOT_STORED = ReasonType(
    "halo.webhook.url_not_stored", "Halo stored a different webhook URL than the one that was set."
)
TEST_FAILED = ReasonType("halo.webhook.test_failed", "Halo's test did not arrive: {problem}.")
TEST_ANSWERED = ReasonType("halo.webhook.test_answered", "Tocsin returned {status}")
TEST_UNANSWERED = ReasonType("halo.webhook.test_unanswered", "no response")
ALLOW_HALO = ReasonType(
    "halo.webhook.allow_halo", "Halo's cloud must be able to reach this URL; if it can't, use pull mode."
)

# Webhook monitoring.
WEBHOOK_SILENT = ReasonType(
    "halo.webhook.silent",
    "Polling finds changes that the webhook did not report: check the webhook's deliveries, events and "
    "conditions in Halo.",
)
WEBHOOK_DELETED = ReasonType("halo.webhook.deleted", "The webhook no longer exists in Halo: set it up again.")
WEBHOOK_OUTDATED = ReasonType(
    "halo.webhook.outdated", "The webhook in Halo still has the old URL, and it cannot be changed: {problem}"
)
WEBHOOK_DISABLED = ReasonType("halo.webhook.disabled", "Halo has disabled the webhook.")
LAST_DELIVERY = ReasonType("halo.webhook.last_delivery", "The last delivery returned {status}.")
ENABLE_WEBHOOK = ReasonType("halo.webhook.enable", "Set it up again, or enable it in Halo.")
WEBHOOK_OF = ReasonType("halo.webhook.problem_of", "{integration}: {problem}")

# Polling.
NOT_UNDERSTOOD = ReasonType("halo.poll.not_understood", "The response could not be processed; the log has the details.")
TICKET_DELETED = ReasonType("halo.ticket_deleted", "ticket {ticket} was deleted in Halo")
TICKETS_NOT_VISIBLE = ReasonType(
    "halo.tickets_not_visible",
    "Tocsin cannot see {count} ticket with an open alert in Halo: {tickets}. The alert stays open and keeps paging.",
    "Tocsin cannot see {count} tickets with an open alert in Halo: {tickets}. The alerts stay open and keep paging.",
)
TICKET_MERGED = ReasonType("halo.ticket_merged", "ticket {ticket} was merged into {parent} in Halo")

# Why a message was decided without its ticket, appended to the decision.
LOOKUP_BLOCKED = ReasonType(
    "halo.lookup.blocked", "decided without querying Halo, which rejects Tocsin until someone fixes it"
)
LOOKUP_UNREACHABLE = ReasonType("halo.lookup.unreachable", "decided without querying Halo, which is not responding")
LOOKUP_RATE_LIMITED = ReasonType(
    "halo.lookup.rate_limited", "decided without querying Halo, which is rate-limiting Tocsin"
)
LOOKUP_HIDDEN = ReasonType(
    "halo.lookup.hidden", "decided from the message alone, because the ticket is not visible in Halo"
)

# Shown in the inbound log.
CHANGED_SINCE_CREATION = ReasonType(
    "halo.changed_since_creation",
    "created since the last poll, and changed before this one: it is processed as it was created",
)
