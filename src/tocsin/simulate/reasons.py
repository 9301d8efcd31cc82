"""Notes of simulations: what a simulated result leaves out, and why nobody would be paged."""

from __future__ import annotations

from typing import Final

from tocsin.core.reasons import Text

# --- One message --------------------------------------------------------------------------------------------------

NOT_COMPILED: Final = Text("The configuration of {integration} cannot be compiled; save it again.")
ALERT_OPEN: Final = Text(
    "Alert {alert} is already open, so no one would be paged again. The steps below assume that it is closed."
)
ALERT_STARTS_PAGING: Final = Text(
    "Alert {alert} is open, but no one has been paged about it yet. Its escalation would start."
)
OPENS_WITH_OTHERS: Final = Text("It opens when others arrive: the Overview shows how many are delayed already.")
IF_NOTHING_ELSE: Final = Text("If nothing else arrives for {duration}: {status}, {reason}.")
DELAYED: Final = Text("It is delayed for {duration}. The following is as of then, if it does not close before.")

# --- An escalation ------------------------------------------------------------------------------------------------

DRY_RUN: Final = Text(
    "The integration is in dry-run mode, so no one would be paged. Otherwise, it would send these pages."
)
RATE_LIMIT: Final = Text(
    "{user} wants at most {count} message an hour at one address: those beyond are sent together, as one, when that "
    "hour is over. Critical alerts are never held back by it.",
    "{user} wants at most {count} messages an hour at one address: those beyond are sent together, as one, when that "
    "hour is over. Critical alerts are never held back by it.",
)
ALERT_CREATED: Final = Text("An alert opens, {priority}.")
NO_RECIPIENTS: Final = Text("It pages no one: it has neither an escalation policy nor recipient users.")

# --- A pre-flight check -------------------------------------------------------------------------------------------

CONFIGURATION_UNUSABLE: Final = Text("Its configuration cannot be used: {problem}")
LOG_ONLY_ROUTE: Final = Text("The route is log only: no one is paged.")
NOBODY_CONFIGURED: Final = Text("No one is paged: no policy or recipient user is configured.")
NOBODY_REACHED: Final = Text("No one would be reached.")
PAGED_LATE: Final = Text("No one is paged for {duration}.")
CLIENT_ROUTES_OMITTED: Final = Text(
    "{count} more route of client table {table} was not checked.",
    "{count} more routes of client table {table} were not checked.",
)

# --- Differences between two versions -----------------------------------------------------------------------------

NO_LONGER_OPEN: Final = Text(
    "{count} message would no longer open an alert", "{count} messages would no longer open an alert"
)
NEWLY_OPEN: Final = Text("{count} more message would open an alert", "{count} more messages would open an alert")
NEWLY_DELAYED: Final = Text(
    "{count} message would open its alert after a delay", "{count} messages would open their alerts after a delay"
)
NO_LONGER_PAGES: Final = Text("{count} alert would no longer page anyone", "{count} alerts would no longer page anyone")
PAGES_OTHERS: Final = Text("{count} alert would page differently", "{count} alerts would page differently")
OTHER_EFFECT: Final = Text("{count} message would have another outcome", "{count} messages would have another outcome")
OTHER_OUTCOME: Final = Text("{after} instead of {before}: {reason}")
OTHER_KEY: Final = Text("another key: {after} instead of {before}")
OWN_KEY: Final = Text("own")
OTHER_FIELDS: Final = Text("different fields: {fields}")
OTHER_MODE: Final = Text("{after} instead of {before}")
OTHER_POLICY: Final = Text("by {after} instead of {before}")
OTHER_RECIPIENTS: Final = Text("pages {after} instead of {before}")
OTHER_PRIORITY: Final = Text("{after} instead of {before}")
NO_POLICY: Final = Text("no policy")
NOBODY: Final = Text("no one")
PAGES: Final = Text("pages")
DRY_RUN_MODE: Final = Text("would page, but is a dry run")
LOG_ONLY: Final = Text("log only")
