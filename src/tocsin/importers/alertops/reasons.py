"""Reasons of imports from AlertOps."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

CREATE_KEY = ReasonType(
    "import.alertops.create_key",
    "Create one in AlertOps under Administration → Subscription Settings, or in your profile.",
)
WORKFLOWS_NOT_IMPORTED = ReasonType("import.alertops.workflows_not_imported", "Workflows are not imported.")
CREATE_THEM = ReasonType("import.alertops.create_them", "Create them in Tocsin.")
OUT_OF_OFFICE = ReasonType("import.alertops.out_of_office", "out of office")
API_UNDOCUMENTED = ReasonType("import.alertops.api_undocumented", "Its format in the API is not documented.")
ENTER_ABSENCES = ReasonType("import.alertops.enter_absences", "Enter who is away, and who covers.")
OPENS_AT_ONCE = ReasonType("import.alertops.opens_at_once", "opens alerts immediately")
WAITS_THERE = ReasonType("import.alertops.waits_there", "AlertOps waits for more alerts, or for support hours.")
DELAY_ON_ROUTING = ReasonType(
    "import.alertops.delay_on_routing", "Delay them on the Routing tab, or add a route for support hours."
)
GROUPS_NOTHING = ReasonType("import.alertops.groups_nothing", "does not group alerts")
GROUPS_THERE = ReasonType("import.alertops.groups_there", "AlertOps groups its alerts.")
GROUP_ON_ROUTING = ReasonType("import.alertops.group_on_routing", "Group them on the Routing tab.")
ONE_POLICY = ReasonType("import.alertops.one_policy", "has one policy for all alerts")
OTHER_POLICY_THERE = ReasonType(
    "import.alertops.other_policy_there", "AlertOps chooses another by time of day or by the message."
)
ADD_ROUTES = ReasonType("import.alertops.add_routes", "Add routes on the Routing tab.")
SAME_RECIPIENTS = ReasonType("import.alertops.same_recipients", "has the same recipients for all alerts")
DYNAMIC_GROUPS_THERE = ReasonType("import.alertops.dynamic_groups_there", "AlertOps chooses groups by the message.")
STILL_SEND = ReasonType("import.alertops.still_send", "Those still send to AlertOps.")
CHANGE_TO_OVERVIEW_URL = ReasonType(
    "import.alertops.change_to_overview_url", "Change their URL to the one on the integration's Overview tab."
)
FIELD_NOT_MAPPED = ReasonType("import.alertops.field_not_mapped", "has no {field}")
IS_NOT_IMPORTED = ReasonType("import.alertops.is_not_imported", "It is not imported.")
MAP_FIELD = ReasonType("import.alertops.map_field", "Map it on the Mapping tab.")
CHOOSE_RECIPIENT = ReasonType("import.alertops.choose_recipient", "Choose the recipient on the Settings tab.")
NO_POLICY_OR_GROUP = ReasonType("import.alertops.no_policy_or_group", "have no policy, or no group for its roles")
POLICY_OR_RECIPIENTS_MISSING = ReasonType(
    "import.alertops.policy_or_recipients_missing", "Their policy or recipients could not be imported."
)
CHOOSE_BOTH = ReasonType("import.alertops.choose_both", "Choose them on the Settings tab.")
NO_OWN_MAPPING = ReasonType("import.alertops.no_own_mapping", "has no custom mapping and rules")
MAPPING_UNUSABLE = ReasonType("import.alertops.mapping_unusable", "They cannot be used in Tocsin: {problem}")
MAP_FIRST_MESSAGE = ReasonType("import.alertops.map_first_message", "Map the first message on the Mapping tab.")
OPENS_FOR_EVERY_EMAIL = ReasonType("import.alertops.opens_for_every_email", "opens an alert for every email")
MARKERS_THERE = ReasonType(
    "import.alertops.markers_there", "Its rules in AlertOps take texts from between two markers."
)
SET_RULES = ReasonType("import.alertops.set_rules", "Set them on the Rules tab.")
OWN_RULE_OMITTED = ReasonType(
    "import.alertops.own_rule_omitted", "does not {action} by its own rule ({operator} {values})"
)
NO_SUCH_RULE = ReasonType("import.alertops.no_such_rule", "Tocsin has no such comparison, or the open rule is missing.")
SET_RULE = ReasonType("import.alertops.set_rule", "Set it on the Rules tab.")
FILTER_OMITTED = ReasonType("import.alertops.filter_omitted", "does not filter by {field} ({condition})")
NO_SUCH_COMPARISON = ReasonType("import.alertops.no_such_comparison", "Tocsin has no such comparison.")
ADD_FILTER = ReasonType("import.alertops.add_filter", "Add a filter on the Rules tab.")
NO_NOTIFICATION_TIMES = ReasonType(
    "import.alertops.no_notification_times", "are reached at any time by every contact method"
)
NOTIFICATION_TIMES_THERE = ReasonType(
    "import.alertops.notification_times_there", "Their contact methods have notification times in AlertOps."
)
SET_QUIET_HOURS = ReasonType("import.alertops.set_quiet_hours", "They set quiet hours under Me → Notification rules.")
GROUP = ReasonType("import.alertops.group", "group {group}")
NO_MEMBER = ReasonType("import.alertops.no_member", "has no member {user}")
ADD_USERS = ReasonType("import.alertops.add_users", "Add its users one by one.")
GROUP_MEMBER = ReasonType("import.alertops.group_member", "group {group}: member {user}")
NO_ROLE = ReasonType("import.alertops.no_role", "has no role {role}")
KNOWN_ROLES = ReasonType("import.alertops.known_roles", "Tocsin's roles are primary, secondary and manager.")
USE_KNOWN_ROLE = ReasonType("import.alertops.use_known_role", "Use one of those.")
METHODS_NOT_IMPORTED = ReasonType(
    "import.alertops.methods_not_imported", "Pushes, direct messages and SMS by email are not imported."
)
ENABLE_PUSH_AND_CHAT = ReasonType(
    "import.alertops.enable_push_and_chat", "Each user enables push under Me → Devices, and connects chats under Me."
)
GROUP_CONTACT = ReasonType("import.alertops.group_contact", "group {group}: contact {contact}")
ONLY_EMAILS_AND_NUMBERS = ReasonType(
    "import.alertops.only_emails_and_numbers", "Only email addresses and numbers are imported."
)
CONNECT_CHATS = ReasonType(
    "import.alertops.connect_chats", "Connect chats under Providers, and add the channel to the group."
)
NOTIFIES_NO_ROLE = ReasonType("import.alertops.notifies_no_role", "notifies no {role}")
DISABLED_THERE = ReasonType("import.alertops.disabled_there", "It is disabled in AlertOps.")
NO_KNOWN_ROLE = ReasonType("import.alertops.no_known_role", "None of its roles exists in Tocsin.")
NOTIFIES_NO_CONTACTS = ReasonType("import.alertops.notifies_no_contacts", "does not notify group contacts")
ARE_NOT_IMPORTED = ReasonType("import.alertops.are_not_imported", "They are not imported.")
NAME_ON_STEPS = ReasonType("import.alertops.name_on_steps", "Add them to the policy's steps.")
STARTS_NOTHING = ReasonType("import.alertops.starts_nothing", "starts no {kind}")
GROUP_SHIFT = ReasonType("import.alertops.group_shift", "group {group}: shift {shift}")
NOBODY_IMPORTED = ReasonType("import.alertops.nobody_imported", "No imported user has it.")
USER_TWICE = ReasonType("import.alertops.user_twice", "A user is in its order twice.")
NOBODY_OR_UNREADABLE = ReasonType(
    "import.alertops.nobody_or_unreadable", "No imported user has it, or its frequency cannot be read."
)
HOURS_UNREADABLE = ReasonType("import.alertops.hours_unreadable", "Its hours cannot be read.")
ON_HOLIDAYS_TOO = ReasonType("import.alertops.on_holidays_too", "is on call on holidays too")
HOLIDAYS_THERE = ReasonType("import.alertops.holidays_there", "AlertOps respects holidays.")
ADD_HOLIDAY_CALENDAR = ReasonType("import.alertops.add_holiday_calendar", "Add a holiday calendar, and `skip`.")
