"""Notes of simulations: what a simulated result leaves out, and why nobody would be paged."""

from __future__ import annotations

from typing import Final

from tocsin.core.reasons import ReasonType

# --- One message --------------------------------------------------------------------------------------------------

NOT_COMPILED: Final = ReasonType(
    "simulation.not_compiled", "The configuration of {integration} cannot be compiled; save it again."
)
ALERT_OPEN: Final = ReasonType(
    "simulation.alert_open",
    "Alert {alert} is already open, so no one would be paged again. The steps below assume that it is closed.",
)
ALERT_STARTS_PAGING: Final = ReasonType(
    "simulation.alert_starts_paging",
    "Alert {alert} is open, but no one has been paged about it yet. Its escalation would start.",
)
OPENS_WITH_OTHERS: Final = ReasonType(
    "simulation.opens_with_others", "It opens when others arrive: the Overview shows how many are delayed already."
)
IF_NOTHING_ELSE: Final = ReasonType(
    "simulation.if_nothing_else", "If nothing else arrives for {duration}: {status}, {reason}."
)
DELAYED: Final = ReasonType(
    "simulation.delayed",
    "It is delayed for {duration}. The following is as of then, if it does not close before.",
)

# --- An escalation ------------------------------------------------------------------------------------------------

DRY_RUN: Final = ReasonType(
    "simulation.dry_run",
    "The integration is in dry-run mode, so no one would be paged. Otherwise, it would send these pages.",
)
RATE_LIMIT: Final = ReasonType(
    "simulation.rate_limit",
    "{user} wants at most {count} message an hour at one address: those beyond are sent together, as one, when that "
    "hour is over. Critical alerts are never held back by it.",
    "{user} wants at most {count} messages an hour at one address: those beyond are sent together, as one, when that "
    "hour is over. Critical alerts are never held back by it.",
)
ALERT_CREATED: Final = ReasonType("simulation.alert_created", "An alert opens, {priority}.")
NO_RECIPIENTS: Final = ReasonType(
    "simulation.no_recipients", "It pages no one: it has neither an escalation policy nor recipient users."
)

# --- A pre-flight check -------------------------------------------------------------------------------------------

CONFIGURATION_UNUSABLE: Final = ReasonType(
    "preflight.configuration_unusable", "Its configuration cannot be used: {problem}"
)
LOG_ONLY_ROUTE: Final = ReasonType("preflight.log_only_route", "The route is log only: no one is paged.")
NOBODY_CONFIGURED: Final = ReasonType(
    "preflight.nobody_configured", "No one is paged: no policy or recipient user is configured."
)
NOBODY_REACHED: Final = ReasonType("preflight.nobody_reached", "No one would be reached.")
PAGED_LATE: Final = ReasonType("preflight.paged_late", "No one is paged for {duration}.")
CLIENT_ROUTES_OMITTED: Final = ReasonType(
    "preflight.client_routes_omitted",
    "{count} more route of client table {table} was not checked.",
    "{count} more routes of client table {table} were not checked.",
)

# --- Differences between two versions -----------------------------------------------------------------------------

NO_LONGER_OPEN: Final = ReasonType(
    "backtest.no_longer_open",
    "{count} message would no longer open an alert",
    "{count} messages would no longer open an alert",
)
NEWLY_OPEN: Final = ReasonType(
    "backtest.newly_open", "{count} more message would open an alert", "{count} more messages would open an alert"
)
NEWLY_DELAYED: Final = ReasonType(
    "backtest.newly_delayed",
    "{count} message would open its alert after a delay",
    "{count} messages would open their alerts after a delay",
)
NO_LONGER_PAGES: Final = ReasonType(
    "backtest.no_longer_pages",
    "{count} alert would no longer page anyone",
    "{count} alerts would no longer page anyone",
)
PAGES_OTHERS: Final = ReasonType(
    "backtest.pages_others",
    "{count} alert would page differently",
    "{count} alerts would page differently",
)
OTHER_EFFECT: Final = ReasonType(
    "backtest.other_effect",
    "{count} message would have another outcome",
    "{count} messages would have another outcome",
)
OTHER_OUTCOME: Final = ReasonType("backtest.other_outcome", "{after} instead of {before}: {reason}")
OTHER_KEY: Final = ReasonType("backtest.other_key", "another key: {after} instead of {before}")
OWN_KEY: Final = ReasonType("backtest.own_key", "own")
OTHER_FIELDS: Final = ReasonType("backtest.other_fields", "different fields: {fields}")
OTHER_MODE: Final = ReasonType("backtest.other_mode", "{after} instead of {before}")
OTHER_POLICY: Final = ReasonType("backtest.other_policy", "by {after} instead of {before}")
OTHER_RECIPIENTS: Final = ReasonType("backtest.other_recipients", "pages {after} instead of {before}")
OTHER_PRIORITY: Final = ReasonType("backtest.other_priority", "{after} instead of {before}")
NO_POLICY: Final = ReasonType("backtest.no_policy", "no policy")
NOBODY: Final = ReasonType("backtest.nobody", "no one")
PAGES: Final = ReasonType("backtest.pages", "pages")
DRY_RUN_MODE: Final = ReasonType("backtest.dry_run", "would page, but is a dry run")
LOG_ONLY: Final = ReasonType("backtest.log_only", "log only")
