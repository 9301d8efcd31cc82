"""Reasons of an integration's configuration: which rule, filter, route or client table decided, and when a delayed
alert opens."""

from __future__ import annotations

from typing import Final

from tocsin.core.reasons import ReasonType

UNKNOWN_KIND: Final = ReasonType(
    "integration.unknown_kind", "Unknown integration type {kind} in this version of Tocsin."
)

# --- Rules and filters --------------------------------------------------------------------------------------------

#: The reason that an `ignore` or `veto` rule has in the configuration.
CONFIGURED: Final = ReasonType("rule.configured", "{reason}")
NO_RULE_MATCHES: Final = ReasonType("rule.none_matches", "{status}: no rule matches")
NEITHER_OPENS_NOR_CLOSES: Final = ReasonType("rule.neither_opens_nor_closes", "{status}: neither opens nor closes")
STATUS_MISSING: Final = ReasonType(
    "rule.status_missing",
    "no status in the message, so it opens; looked at {sources}. Add the status to the sender's message, or map it",
)
STATUS_UNKNOWN: Final = ReasonType(
    "rule.status_unknown", 'unknown status "{status}", so it opens. Set what it does, or map the status'
)
NEW_TICKET: Final = ReasonType("rule.new_ticket", 'new ticket (event "{event}")')
OPEN_TICKET: Final = ReasonType(
    "rule.open_ticket",
    'status "{status}", and the message names no event, so it opens. Add the event to the sender\'s message',
)
UNKNOWN_TICKET: Final = ReasonType(
    "rule.unknown_ticket",
    "a ticket without an alert so far, and nothing in the message says whether it is new, so it opens; looked at "
    "{sources}. Add the status or the event to the sender's message",
)
CLOSING_EVENT: Final = ReasonType("rule.closing_event", 'event "{event}"')
CLOSED_DESPITE: Final = ReasonType("rule.closed_despite_status", '{why}, although the status is "{status}"')
DAILY_EVENT: Final = ReasonType(
    "rule.daily_event", '"{event}" is an everyday event, low unless the message has a priority'
)
STATUS: Final = ReasonType("rule.status", 'status "{status}"')
NO_STATUS: Final = ReasonType("rule.no_status", "no status")
NO_STATUS_BUT_EVENT: Final = ReasonType("rule.no_status_but_event", 'no status, event "{event}"')
NO_FILTERS: Final = ReasonType("rule.no_filters", "no filters")

# --- Routes -------------------------------------------------------------------------------------------------------

NO_ROUTES: Final = ReasonType("route.none", "no routes: the integration's own policy and recipients")
NO_ROUTE_MATCHES: Final = ReasonType(
    "route.none_matches", "no route matches: the integration's own policy and recipients"
)
ROUTE_MATCHES: Final = ReasonType("route.matches", "route {route}: {why}")
DURING_HOURS: Final = ReasonType("route.during_hours", "during {hours}")
OUTSIDE_HOURS: Final = ReasonType("route.outside_hours", "outside {hours}")
HOURS_MATCH: Final = ReasonType("route.hours_match", "{hours}: yes")
HOURS_DO_NOT_MATCH: Final = ReasonType("route.hours_do_not_match", "{hours}: no")
CLIENT_IN_TABLE: Final = ReasonType("route.client_in_table", "{client} is in client table {table}")
CLIENT_NOT_IN_TABLE: Final = ReasonType("route.client_not_in_table", "client {client} is not in client table {table}")
NO_CLIENT: Final = ReasonType("route.no_client", "a message without a client is not in client table {table}")
CLIENT_TABLE_DELETED: Final = ReasonType("route.client_table_deleted", "its client table was deleted")

# --- Delays: each completes "the alert opens …" ---------------------------------------------------------------------

AFTER_DELAY: Final = ReasonType("delay.after", "after {duration}, unless it closes first")
AFTER_COUNT_WITHIN: Final = ReasonType("delay.after_count_within", "when {alerts} alerts arrive within {duration}")
AFTER_INTEGRATION_COUNT_WITHIN: Final = ReasonType(
    "delay.after_integration_count_within", "when {alerts} alerts of the integration arrive within {duration}"
)
WITH_EVERY_COUNT: Final = ReasonType("delay.with_every_count", "once per {alerts} alerts")
WITH_EVERY_INTEGRATION_COUNT: Final = ReasonType(
    "delay.with_every_integration_count", "once per {alerts} alerts of the integration"
)
ONCE_EVERY: Final = ReasonType("delay.once_every", "at most once every {duration}")
ONCE_EVERY_FOR_INTEGRATION: Final = ReasonType(
    "delay.once_every_for_integration", "at most once every {duration} per integration"
)
AT_SUPPORT_HOURS: Final = ReasonType("delay.at_support_hours", "when the support hours {hours} begin")
