"""Reasons of imports from Grafana OnCall."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

OWN_ADDRESS = ReasonType("import.grafana.own_address", "Each Grafana OnCall has its own address.")
SET_API_BASE = ReasonType(
    "import.grafana.set_api_base",
    "Set it with --api-base: it is shown under Settings, such as https://oncall.example.org.",
)
CREATE_KEY = ReasonType(
    "import.grafana.create_key", "Create one in OnCall under Settings → API tokens; the API's address is there too."
)
CALL_OTHER_SYSTEMS = ReasonType("import.grafana.call_other_systems", "They call other systems.")
CREATE_OUTBOUND_INTEGRATIONS = ReasonType(
    "import.grafana.create_outbound_integrations", "Create outbound integrations."
)
NO_DEFAULT_CHAIN = ReasonType(
    "import.grafana.no_default_chain", "Their default route in OnCall has no chain, or one that could not be imported."
)
STILL_WRITE = ReasonType("import.grafana.still_write", "Their senders still write to OnCall's address.")
OWN_TEMPLATE = ReasonType("import.grafana.own_template", "OnCall reads this format by its own template.")
STILL_SEND = ReasonType("import.grafana.still_send", "Those still send to OnCall.")
ROUTE_TO = ReasonType("import.grafana.route_to", "integration {integration}: route to {target}")
ROUTE_NOT_IMPORTED = ReasonType("import.grafana.route_not_imported", "not imported ({pattern})")
TEMPLATE_ROUTE = ReasonType(
    "import.grafana.template_route",
    "It matches a template or a pattern over the whole message; a route in Tocsin matches fields.",
)
SET_URL_AND_MAP = ReasonType("import.grafana.set_url_and_map", "Set its URL in the senders, and map the first message.")
CHANGE_URL = ReasonType("import.grafana.change_url", "Change their URL to the integration's webhook URL.")
NO_METHODS_IN_API = ReasonType(
    "import.grafana.no_methods_in_api", "OnCall's API shows no phone numbers, chat accounts or devices."
)
ADD_METHODS = ReasonType(
    "import.grafana.add_methods", "Each user adds their number and chats under Me, and enables push under Me → Devices."
)
WAITS_FOR_TIME = ReasonType(
    "import.grafana.waits_for_time", "OnCall waits until a time of day; steps in Tocsin run when they are due."
)
ADD_SUPPORT_HOURS_ROUTE = ReasonType(
    "import.grafana.add_support_hours_route",
    "Add a route for support hours to the integration if nights should be quiet.",
)
WAITS_FOR_ALERTS = ReasonType("import.grafana.waits_for_alerts", "OnCall waits for more alerts.")
DELAY_OR_GROUP = ReasonType("import.grafana.delay_or_group", "Delay or group alerts on the integration instead.")
CALLS_WEBHOOK = ReasonType("import.grafana.calls_webhook", "It calls a webhook.")
CREATE_OUTBOUND_INTEGRATION = ReasonType(
    "import.grafana.create_outbound_integration", "Create an outbound integration."
)
CLOSES_ALERT = ReasonType(
    "import.grafana.closes_alert", "It closes the alert; Tocsin never closes an unanswered alert automatically."
)
NOTIFIES_SLACK_GROUP = ReasonType("import.grafana.notifies_slack_group", "It notifies a user group of Slack.")
CREATE_GROUP = ReasonType("import.grafana.create_group", "Create a group, and notify all its members.")
NOTIFIES_SLACK_CHANNEL = ReasonType("import.grafana.notifies_slack_channel", "It notifies a channel of Slack.")
CREATE_GROUP_CONTACT = ReasonType(
    "import.grafana.create_group_contact", "Add the channel as a group contact, and notify that."
)
DECLARES_INCIDENT = ReasonType("import.grafana.declares_incident", "It declares an incident in Grafana.")
NOT_IN_POLICY = ReasonType("import.grafana.not_in_policy", "not in the policy")
TARGETS_MISSING = ReasonType("import.grafana.targets_missing", "Its targets were not imported.")
ADD_TO_POLICY = ReasonType("import.grafana.add_to_policy", "Add the users to the policy.")
CHAIN_STEP = ReasonType("import.grafana.chain_step", "chain {chain}: step {step}")
CHAIN = ReasonType("import.grafana.chain", "chain {chain}")
NO_STEP_NOTIFIES = ReasonType("import.grafana.no_step_notifies", "None of its steps notifies an imported user.")
NOTIFIES_ALL = ReasonType("import.grafana.notifies_all", "notifies all of them at once")
ROUND_ROBIN_THERE = ReasonType(
    "import.grafana.round_robin_there", "OnCall takes the next in turn for each alert; a step in Tocsin does not."
)
NO_EQUIVALENT = ReasonType("import.grafana.no_equivalent", "Tocsin has no equivalent of {kind}.")
NO_IMPORTANT_RULES = ReasonType("import.grafana.no_important_rules", "page by each user's usual notification rules")
IMPORTANT_THERE = ReasonType(
    "import.grafana.important_there", "Their steps are important in OnCall, and use each user's important rules."
)
SET_METHODS = ReasonType(
    "import.grafana.set_methods", "Set contact methods on the steps, or notification rules by priority."
)
SCHEDULE_SHIFT = ReasonType("import.grafana.schedule_shift", "schedule {schedule}: shift {shift}")
NO_SHIFT_WITH_USERS = ReasonType(
    "import.grafana.no_shift_with_users", "None of its shifts has users, or they are over."
)
FEWER_IN_TURN = ReasonType("import.grafana.fewer_in_turn", "has fewer users in a turn")
SOMEBODY_UNKNOWN = ReasonType("import.grafana.somebody_unknown", "Someone in it is not a user in Tocsin.")
ADD_MISSING_USER = ReasonType("import.grafana.add_missing_user", "Add the missing users.")
SHIFT_UNREADABLE = ReasonType("import.grafana.shift_unreadable", "Its start or duration cannot be read.")
SOME_MONTHS = ReasonType("import.grafana.some_months", "It is for some months or days of the month only.")
RULE_UNREADABLE = ReasonType("import.grafana.rule_unreadable", "Its rule cannot be read.")
RECURS_BY = ReasonType("import.grafana.recurs_by", "It recurs by an unsupported rule: {frequency}.")
HOURLY_WITH_GAPS = ReasonType("import.grafana.hourly_with_gaps", "It recurs by the hour, with gaps.")
CYCLE_FITS_NO_YEAR = ReasonType("import.grafana.cycle_fits_no_year", "Its rotation repeats after more than a year.")
TURNS_OVERLAP = ReasonType("import.grafana.turns_overlap", "Its turns overlap.")
DAILY_ON_SOME_DAYS = ReasonType(
    "import.grafana.daily_on_some_days", "Its daily turns are on some days of the week only."
)
