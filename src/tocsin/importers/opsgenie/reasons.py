"""Reasons of imports from Opsgenie."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

CREATE_KEY = ReasonType(
    "import.opsgenie.create_key",
    "Create one under Settings → API key management, with Read and Configuration access. An account in the EU is at https://api.eu.opsgenie.com.",
)
GLOBAL_RULES = ReasonType(
    "import.opsgenie.global_rules",
    "Rules in Opsgenie change, delay or close alerts of every integration; in Tocsin each integration has its own.",
)
SET_ON_INTEGRATIONS = ReasonType(
    "import.opsgenie.set_on_integrations", "Set filters, routes and mapping on the integrations that need them."
)
NO_INCIDENTS = ReasonType("import.opsgenie.no_incidents", "Incidents and services are not part of Tocsin.")
USE_TAGS = ReasonType("import.opsgenie.use_tags", "Tags and routes may replace them.")
EXPORT_UNREADABLE = ReasonType("import.opsgenie.export_unreadable", "This export cannot be read: {problem}")
EXPORT_EMPTY = ReasonType(
    "import.opsgenie.export_empty",
    "it has no users, teams or schedules. Provide a ZIP of the folder OpsGenieBackups, or JSON with the keys users, "
    "teams and schedules.",
)
TOO_MANY_FILES = ReasonType("import.opsgenie.too_many_files", "it contains more than {limit} files.")
NOT_AN_OBJECT = ReasonType(
    "import.opsgenie.not_an_object", "it is JSON, but not an object with users, teams and schedules."
)
ZIP_UNREADABLE = ReasonType("import.opsgenie.zip_unreadable", "it is a ZIP file that cannot be opened.")
EXPORT_TOO_LARGE = ReasonType("import.opsgenie.export_too_large", "it contains more than {size} MiB.")
FILE_NOT_UTF8 = ReasonType("import.opsgenie.file_not_utf8", "{file}: is not UTF-8.")
FILE_TOO_DEEP = ReasonType("import.opsgenie.file_too_deep", "{file}: is nested too deeply.")
FILE_NOT_JSON = ReasonType("import.opsgenie.file_not_json", "{file}: is not JSON: {problem}.")
FILE_NOT_UNPACKED = ReasonType("import.opsgenie.file_not_unpacked", "{file}: cannot be unpacked.")
ROUTING_RULE = ReasonType("import.opsgenie.routing_rule", "integration {integration}: routing rule {rule}")
WAIT_FOR_PING = ReasonType("import.opsgenie.wait_for_ping", "wait for their first ping")
STILL_PING = ReasonType("import.opsgenie.still_ping", "Their senders still ping Opsgenie.")
CHANGE_PING_URL = ReasonType(
    "import.opsgenie.change_ping_url", "Change their URL to Tocsin's, and their key to the heartbeat's token."
)
CHANGE_URL_AND_KEY = ReasonType(
    "import.opsgenie.change_url_and_key",
    "Change the senders' URL to Tocsin's, and their API key to the integration's token.",
)
OWN_FORMAT = ReasonType("import.opsgenie.own_format", "{kind} sends in its own format, to its own address in Opsgenie.")
NOTIFIES_NOBODY = ReasonType("import.opsgenie.notifies_nobody", "notifies no one yet")
RESPONDERS_NOT_A_TEAM = ReasonType(
    "import.opsgenie.responders_not_a_team", "Its responders in Opsgenie are not a team."
)
NO_OWNING_TEAM = ReasonType(
    "import.opsgenie.no_owning_team", "No team owns them in Opsgenie, or the team's default rule notifies no one."
)
TARGET_MISSING = ReasonType("import.opsgenie.target_missing", "Its target could not be imported.")
SUPPORT_HOURS = ReasonType("import.opsgenie.support_hours", "support hours {support_hours}")
FIELD_UNKNOWN_TO_KIND = ReasonType(
    "import.opsgenie.field_unknown_to_kind", "It checks {field}, which messages of this integration do not have."
)
COMPARES_PRIORITIES = ReasonType("import.opsgenie.compares_priorities", "It compares priorities.")
OUTGOING = ReasonType("import.opsgenie.outgoing", "They send from Opsgenie to another system.")
CONNECT_SYSTEM = ReasonType(
    "import.opsgenie.connect_system", "Connect that system under Outbound integrations, Providers or Chat."
)
STILL_SEND = ReasonType("import.opsgenie.still_send", "Those still send to Opsgenie.")
STILL_WRITE = ReasonType("import.opsgenie.still_write", "Their senders still write to Opsgenie's address.")
RESTRICTION_UNREADABLE = ReasonType("import.opsgenie.restriction_unreadable", "Its time restriction cannot be read.")
CONDITION_UNUSABLE = ReasonType(
    "import.opsgenie.condition_unusable", "Its condition cannot be used in Tocsin: {problem}"
)
NO_EXTRA_PROPERTIES = ReasonType(
    "import.opsgenie.no_extra_properties", "It checks extra properties, which messages of this integration do not have."
)
UNNAMED_PROPERTY = ReasonType("import.opsgenie.unnamed_property", "It checks extra properties without naming one.")
FIELD_UNKNOWN = ReasonType("import.opsgenie.field_unknown", "It checks {field}, which messages in Tocsin do not have.")
OPERATION_UNKNOWN = ReasonType(
    "import.opsgenie.operation_unknown", "It uses the operation {operation}, which Tocsin does not have."
)
INTEGRATIONS_ONLY = ReasonType("import.opsgenie.integrations_only", "applies to its integrations only")
SWITCHES_POLICIES = ReasonType("import.opsgenie.switches_policies", "It enables or disables policies in Opsgenie too.")
IS_RESPONDER = ReasonType("import.opsgenie.is_responder", "is a responder")
ROLE_UNKNOWN = ReasonType("import.opsgenie.role_unknown", "Tocsin does not know Opsgenie's custom role {role}.")
SET_ROLE = ReasonType("import.opsgenie.set_role", "Set their role.")
ONE_SET_OF_RULES = ReasonType("import.opsgenie.one_set_of_rules", "have one set of rules for every alert")
RULES_THERE = ReasonType(
    "import.opsgenie.rules_there", "Their rules in Opsgenie repeat, or differ by conditions or time of day."
)
SET_RULES_BY_PRIORITY = ReasonType(
    "import.opsgenie.set_rules_by_priority",
    "They set rules by priority, and quiet hours, under Me → Notification rules.",
)
ABSENCES_OVERLAP = ReasonType("import.opsgenie.absences_overlap", "It overlaps another absence of the user.")
NO_APP = ReasonType("import.opsgenie.no_app", "are no longer reached by Opsgenie's app")
ESCALATION = ReasonType("import.opsgenie.escalation", "escalation {escalation}")
NOTIFIES_GROUP = ReasonType("import.opsgenie.notifies_group", "notifies everyone in {group}")
NOTHING_NARROWER = ReasonType("import.opsgenie.nothing_narrower", "Nothing narrower could be imported.")
POLICY_RULE = ReasonType("import.opsgenie.policy_rule", "{policy}: rule {rule}")
NO_RULE_NOTIFIES = ReasonType("import.opsgenie.no_rule_notifies", "None of its rules notifies an imported user.")
LEAVES_OPEN = ReasonType("import.opsgenie.leaves_open", "leaves the alert open when it is exhausted")
CLOSES_THERE = ReasonType(
    "import.opsgenie.closes_there",
    "Opsgenie closes it after all repeats; Tocsin never closes an unanswered alert automatically.",
)
SCHEDULE_DISABLED = ReasonType("import.opsgenie.schedule_disabled", "The schedule is disabled in Opsgenie.")
SCHEDULE_MISSING = ReasonType("import.opsgenie.schedule_missing", "The schedule could not be imported.")
CREATE_AND_ADD_SCHEDULE = ReasonType(
    "import.opsgenie.create_and_add_schedule", "Create the schedule, and add it to the policy."
)
NOTIFIES_CURRENT = ReasonType(
    "import.opsgenie.notifies_current", "notifies who is on call in {schedule}, not who is next"
)
NO_NEXT_ON_CALL = ReasonType(
    "import.opsgenie.no_next_on_call", "A step in Tocsin knows who is and was on call, not who is next."
)
NAME_ANOTHER = ReasonType("import.opsgenie.name_another", "Choose a second schedule or a user instead.")
NO_RANDOM = ReasonType("import.opsgenie.no_random", "A step in Tocsin does not choose at random.")
NOTIFIES_ON_CALL = ReasonType("import.opsgenie.notifies_on_call", "notifies who is on call in {schedule}")
ROUTED_THERE = ReasonType(
    "import.opsgenie.routed_there",
    "Opsgenie notifies the team {group} by its own routing rules; a step in Tocsin is one step.",
)
ADD_FURTHER_STEPS = ReasonType(
    "import.opsgenie.add_further_steps", "Add the team's further steps if you want them in Tocsin too."
)
SCHEDULE_ROTATION = ReasonType("import.opsgenie.schedule_rotation", "schedule {schedule}: rotation {rotation}")
DISABLED_THERE = ReasonType("import.opsgenie.disabled_there", "It is disabled in Opsgenie.")
NO_ROTATION_WITH_USERS = ReasonType(
    "import.opsgenie.no_rotation_with_users", "None of its rotations has users, or they are over."
)
LOCAL_HANDOFFS = ReasonType("import.opsgenie.local_handoffs", "hands off at the same local time all year")
NOT_WHOLE_DAYS = ReasonType(
    "import.opsgenie.not_whole_days", "Its turns are not whole days, and may move by an hour when clocks change."
)
OVERRIDE_FOR_NOBODY = ReasonType(
    "import.opsgenie.override_for_nobody", "It has no user, or one who is not a user in Tocsin."
)
OVERRIDE_WITHIN_ROTATION = ReasonType(
    "import.opsgenie.override_within_rotation", "from {start} to {end} applies while its rotation is on call"
)
OVERRIDE_OF_RESTRICTED = ReasonType(
    "import.opsgenie.override_of_restricted",
    "It is for a rotation with restrictions: in Opsgenie it applies all the time, in Tocsin it replaces the user on "
    "call.",
)
OVERRIDE_SCHEDULE = ReasonType(
    "import.opsgenie.override_schedule", "Override the whole schedule if {user} should be on call in between too."
)
ROTATION_UNREADABLE = ReasonType("import.opsgenie.rotation_unreadable", "Its type, length or start cannot be read.")
SHIFT_HAS_USERS = ReasonType(
    "import.opsgenie.shift_has_users", "A shift in Tocsin has users, no team and no escalation."
)
EMPTY_TURN_OF_KIND = ReasonType("import.opsgenie.empty_turn_of_kind", "the rotation of {kind} {name} has no user")
NAMED_OVERRIDE = ReasonType("import.opsgenie.named_override", "schedule {schedule}: override {override}")
