"""Reasons of imports from PagerDuty."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

READ_SCHEDULE = ReasonType("import.pagerduty.read_schedule", "Read schedule {schedule}")
CREATE_KEY = ReasonType(
    "import.pagerduty.create_key",
    "Create one under Integrations → API Access Keys, read-only. An account in the EU is at https://api.eu.pagerduty.com.",
)
EVENT_RULES = ReasonType(
    "import.pagerduty.event_rules",
    "Rules in PagerDuty change and route events before a service gets them; in Tocsin each integration has its own.",
)
SET_ROUTES_WHERE_NEEDED = ReasonType(
    "import.pagerduty.set_routes_where_needed", "Set routes and filters on the integrations that need them."
)
ROUTE_EVENTS = ReasonType("import.pagerduty.route_events", "They route events to services in PagerDuty.")
SET_ROUTES = ReasonType("import.pagerduty.set_routes", "Set routes and filters on the integrations.")
PAGE_NOBODY = ReasonType("import.pagerduty.page_nobody", "They page no one.")
USE_TAG = ReasonType("import.pagerduty.use_tag", "A tag may replace them.")
NO_APP = ReasonType("import.pagerduty.no_app", "are no longer reached by PagerDuty's app")
POLICY_LEVEL = ReasonType("import.pagerduty.policy_level", "{policy}: level {level}")
NO_LEVEL_NOTIFIES = ReasonType("import.pagerduty.no_level_notifies", "None of its levels notifies an imported user.")
NOTIFIES_EVERYBODY = ReasonType("import.pagerduty.notifies_everybody", "notifies everyone at once")
ROUND_ROBIN_THERE = ReasonType(
    "import.pagerduty.round_robin_there",
    "PagerDuty assigns each incident to the next in turn; a step in Tocsin does not.",
)
ASKS_AGAIN = ReasonType("import.pagerduty.asks_again", "asks again after an acknowledgement")
NO_TIMEOUT_THERE = ReasonType(
    "import.pagerduty.no_timeout_there",
    "Some of its services have no acknowledgement timeout; in Tocsin every acknowledgement has one.",
)
SHORTEST_TIMEOUT = ReasonType(
    "import.pagerduty.shortest_timeout", "has the shortest acknowledgement timeout of its services"
)
TIMEOUT_OF_POLICY = ReasonType("import.pagerduty.timeout_of_policy", "In Tocsin the policy has it.")
ADD_TO_STEP = ReasonType("import.pagerduty.add_to_step", "Add the users to the step.")
SCHEDULE_LAYER = ReasonType("import.pagerduty.schedule_layer", "schedule {schedule}: {layer}")
NO_LAYER_WITH_USERS = ReasonType(
    "import.pagerduty.no_layer_with_users", "None of its layers has users, or they are over."
)
TURNS_UNREADABLE = ReasonType("import.pagerduty.turns_unreadable", "Its rotation cannot be read.")
NOT_WHOLE_MINUTES = ReasonType("import.pagerduty.not_whole_minutes", "Its turns are not whole minutes.")
UNKNOWN_USER = ReasonType("import.pagerduty.unknown_user", "{user} is not a user in Tocsin.")
EMPTY_TURN = ReasonType("import.pagerduty.empty_turn", "the rotation of {name} has no user")
LAYER_RESTRICTION_UNREADABLE = ReasonType(
    "import.pagerduty.layer_restriction_unreadable", "One of its restrictions cannot be read."
)
NO_AUTO_CLOSE = ReasonType("import.pagerduty.no_auto_close", "do not close alerts automatically")
AUTO_RESOLVE_THERE = ReasonType(
    "import.pagerduty.auto_resolve_there",
    "They resolve incidents after a time in PagerDuty; in Tocsin only the sender or a user closes an alert.",
)
SERVICE = ReasonType("import.pagerduty.service", "service {service}")
HAS_NO_POLICY = ReasonType("import.pagerduty.has_no_policy", "has no policy that pages anybody")
POLICY_MISSING = ReasonType("import.pagerduty.policy_missing", "Its policy could not be imported.")
CHOOSE_POLICY = ReasonType("import.pagerduty.choose_policy", "Choose one on the Settings tab.")
PRIORITY_BY_SEVERITY = ReasonType("import.pagerduty.priority_by_severity", "has priorities by severity at all hours")
URGENCY_BY_HOURS = ReasonType(
    "import.pagerduty.urgency_by_hours", "Its urgency in PagerDuty differs within and outside of support hours."
)
CREATE_SUPPORT_HOURS = ReasonType(
    "import.pagerduty.create_support_hours", "Create support hours, and a route for each."
)
CHANGE_URL_AND_KEY = ReasonType(
    "import.pagerduty.change_url_and_key",
    "Change the senders' URL to Tocsin's, and their routing key to the integration's token.",
)
OWN_FORMAT = ReasonType(
    "import.pagerduty.own_format", "It sends in its own format, which PagerDuty converts to events."
)
STILL_SEND = ReasonType("import.pagerduty.still_send", "Those still send to PagerDuty.")
STILL_WRITE = ReasonType("import.pagerduty.still_write", "Their senders still write to PagerDuty's address.")
