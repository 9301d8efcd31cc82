"""Reasons of imports that several products share: objects, differences, why, and what to do about them."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

READ_OBJECTS = ReasonType("import.read_objects", "Read {total} {kind}")
NOT_READ = ReasonType("import.not_read", "not read")
INTEGRATION = ReasonType("import.integration", "integration {integration}")
WAIT_FOR_SENDERS = ReasonType("import.wait_for_senders", "wait for their senders")
DOES_NOT_NOTIFY = ReasonType("import.does_not_notify", "does not notify {target}")
UNKNOWN_HERE = ReasonType("import.unknown_here", "It was not imported, and does not exist in Tocsin.")
USER = ReasonType("import.user", "user {user}")
NOT_IMPORTED = ReasonType("import.not_imported", "not imported")
NO_EMAIL = ReasonType("import.no_email", "No email address is set.")
NOT_A_USER = ReasonType("import.not_a_user", "It is not a user in Tocsin.")
FEWER_METHODS = ReasonType("import.fewer_methods", "have fewer contact methods")
POLICY = ReasonType("import.policy", "policy {policy}")
CREATE_POLICY = ReasonType("import.create_policy", "Create a policy instead.")
NOT_IN_SCHEDULE = ReasonType("import.not_in_schedule", "not in the schedule")
ADD_SHIFT = ReasonType("import.add_shift", "Add an equivalent shift.")
DOES_NOT_SAY_WHY = ReasonType("import.does_not_say_why", "it does not say why")
RETRYING = ReasonType("import.retrying", "{problem}; retrying in {seconds} s")
NO_API_KEY = ReasonType("import.no_api_key", "An API key is required.")
INVALID_API_KEY = ReasonType(
    "import.invalid_api_key", "This is not an API key: it is too long, or contains spaces or other invalid characters."
)
OTHER_HOST = ReasonType("import.other_host", "{product} named a page on another host than {base}, which is not read.")
NOT_JSON = ReasonType("import.not_json", "{product} did not answer with JSON at {path}.")
CHECK_API_BASE = ReasonType("import.check_api_base", "Is {base} the address of its API?")
TOO_MANY_OBJECTS = ReasonType(
    "import.too_many_objects", "{product} has more than {limit} objects to read, which is too many to import."
)
PRODUCT_BUSY = ReasonType("import.product_busy", "{product} is busy")
KEY_UNKNOWN = ReasonType("import.key_unknown", "{product} does not know this key.")
KEY_NOT_ALLOWED = ReasonType("import.key_not_allowed", "{product} does not permit this key to read {path}.")
NOTHING_AT_PATH = ReasonType("import.nothing_at_path", "{product} has nothing at {path}.")
REDIRECTED = ReasonType("import.redirected", "{product} redirects from {path}.")
SET_API_ADDRESS = ReasonType("import.set_api_address", "Set the address of the API itself.")
ANSWERED_ERROR = ReasonType("import.answered_error", "{product} answered {status} at {path}: {message}.")
ENDED_TOO_SOON = ReasonType("import.ended_too_soon", "{product}'s response at {path} ended too soon.")
TRY_AGAIN = ReasonType("import.try_again", "Try again; the limit is {timeout} seconds and {size} MiB.")
STILL_FAILING = ReasonType(
    "import.still_failing", "{product} answered {status} at {path}, {attempts} times. Try again later."
)
SCHEDULE = ReasonType("import.schedule", "schedule {schedule}")
BELONGS_TO_GROUP = ReasonType("import.belongs_to_group", "belongs to the group {group}")
SCHEDULES_HAVE_GROUPS = ReasonType("import.schedules_have_groups", "In Tocsin every schedule belongs to a group.")
ACK_TIMEOUT = ReasonType("import.ack_timeout", "ask “Still on it?” 30 minutes after an acknowledgement")
ACK_NEVER_ENDS = ReasonType(
    "import.ack_never_ends",
    "In {product} an acknowledgement never expires; in Tocsin it ends if the user does not answer.",
)
EXTEND_TIMEOUT = ReasonType(
    "import.extend_timeout", "Increase the acknowledgement timeout on the policy if that is too soon."
)
NAME_TAKEN = ReasonType("import.name_taken", "Another {kind} has the same name but for upper and lower case.")
RENAMED = ReasonType("import.renamed", "is named {name}")
OTHER_ZONE = ReasonType("import.other_zone", "has the time zone {zone}")
UNKNOWN_ZONE = ReasonType("import.unknown_zone", "The tz database has no time zone {zone}.")
SET_ZONE = ReasonType("import.set_zone", "Set the right one.")
USE_OTHER_KEY = ReasonType("import.use_other_key", "Read again with a key that may read it.")
HAVE_NO_POLICY = ReasonType("import.have_no_policy", "have no policy that pages anybody")
CHOOSE_POLICY_AND_RECIPIENTS = ReasonType(
    "import.choose_policy_and_recipients", "Choose a policy and recipients on the Settings tab."
)
ADD_ROUTE = ReasonType("import.add_route", "Add a route on the Routing tab.")
WAIT_FOR_EMAILS = ReasonType("import.wait_for_emails", "wait for emails")
CHANGE_TO_GUIDE_ADDRESS = ReasonType(
    "import.change_to_guide_address", "Change it to the address on the integration's Guide tab."
)
GENERIC_KIND = ReasonType("import.generic_kind", "use the general kind instead of {kind}")
TOO_MANY_STEPS = ReasonType("import.too_many_steps", "ends after {count} step", "ends after {count} steps")
STEP_LIMIT = ReasonType("import.step_limit", "A policy has no more of them.")
USE_ROTATION = ReasonType("import.use_rotation", "Escalate to one user at a time, or use a rotation.")
CREATE_SCHEDULE = ReasonType("import.create_schedule", "Create one, and add it to the policies that need it.")
TOO_MANY_OCCURRENCES = ReasonType("import.too_many_occurrences", "It would take {spans} shifts in {weeks} weeks.")
CONVERTING = ReasonType("import.converting", "Converting…")
COMPARING = ReasonType("import.comparing", "Comparing with the current configuration…")
NOT_READY = ReasonType("import.not_ready", "This import is not ready to be applied.")
INTERRUPTED = ReasonType("import.interrupted", "The import was interrupted because its server stopped. Start it again.")
ANOTHER_RUNNING = ReasonType("import.another_running", "Another import is running. Wait for it, or discard it first.")
UNEXPECTED_ERROR = ReasonType(
    "import.unexpected_error", "An unexpected error occurred; the server's log has the details."
)
ENTER_MAINTENANCE = ReasonType("import.enter_maintenance", "Add it under Maintenance.")
MAINTENANCE = ReasonType("import.maintenance", "maintenance {window}")
NO_END = ReasonType("import.no_end", "It has no end, or none that can be read; a window in Tocsin needs one.")
DISABLE_OR_ENTER = ReasonType("import.disable_or_enter", "Disable its integrations, or add it under Maintenance.")
NOTHING_AFFECTED = ReasonType("import.nothing_affected", "None of its integrations was imported.")
SET_URL_OR_CHOOSE_KIND = ReasonType(
    "import.set_url_or_choose_kind",
    "Set the integration's URL in it and map its first message, or choose a kind of the catalogue.",
)
NO_COVER = ReasonType("import.no_cover", "has no cover from {start} to {end} by {cover}")
ENTER_ABSENCE = ReasonType("import.enter_absence", "Add it under Me → Out of office, shortened to fit.")
PUSH_NEEDS_DEVICE = ReasonType(
    "import.push_needs_device", "Pushes go to a browser or app that the user has registered in Tocsin."
)
ENABLE_PUSH = ReasonType("import.enable_push", "Each user enables push under Me → Devices.")
DOES_NOT_NOTIFY_KIND = ReasonType("import.does_not_notify_kind", "does not notify {kind} {target}")
OVERRIDE_NOT_IMPORTED = ReasonType("import.override_not_imported", "from {start} to {end} not imported")
ENTER_OVERRIDE = ReasonType("import.enter_override", "Add an override for that time.")
EDIT_SHIFT = ReasonType("import.edit_shift", "Edit the shift and choose a user.")
SHARED_EMAIL = ReasonType("import.shared_email", "They have the same email address; in Tocsin each user has their own.")
REACHED_BY_EMAIL = ReasonType("import.reached_by_email", "are reached by email")
NO_USABLE_RULES = ReasonType("import.no_usable_rules", "Their rules in {product} use nothing that could be imported.")
ADD_METHOD = ReasonType("import.add_method", "They add a contact method under Me.")
IS_USER = ReasonType("import.is_user", "is {user} in Tocsin")
CREATE_USER = ReasonType("import.create_user", "Create a user with another address.")
KEEP_THEIR_DATA = ReasonType("import.keep_their_data", "keep their name, role, time zone and contact methods")
USERS_ALREADY = ReasonType("import.users_already", "They are users already.")
ADD_UNDER_USERS = ReasonType("import.add_under_users", "Add what is missing under Users.")
OVERLAPS_OWN_ABSENCE = ReasonType(
    "import.overlaps_own_absence", "It overlaps an absence that the user entered in Tocsin."
)
NOT_A_PHONE_NUMBER = ReasonType("import.not_a_phone_number", "It has more than a phone number in it.")
ONE_NUMBER_LESS = ReasonType("import.one_number_less", "has one number for {channel} less ({number})")
INVALID_NUMBER = ReasonType("import.invalid_number", "No country has such a number, or it has an extension.")
CORRECT_NUMBER = ReasonType("import.correct_number", "They add the right one under Me.")
ONE_EMAIL_LESS = ReasonType("import.one_email_less", "has one email address less")
NOT_AN_EMAIL = ReasonType("import.not_an_email", "It is not an email address.")
TURN_LENGTH = ReasonType("import.turn_length", "A turn of {interval} is shorter than an hour or longer than a year.")
CYCLE_TOO_LONG = ReasonType(
    "import.cycle_too_long", "Its order repeats after {cycle}, which does not fit into {weeks} weeks."
)

# Several objects at once.
MORE_NAMES = ReasonType("import.more_names", "{names} and {count} more", "{names} and {count} more")
OBJECTS = ReasonType("import.objects", "{kind} {names}")
NAMED = ReasonType("import.named", "{kind} {name}")
UNNAMED = ReasonType("import.unnamed", "{kind} without a name")
PATH = ReasonType("import.path", "{path}")
READ_USERS = ReasonType("import.read_users", "Read {position} of {total} users")
UNKNOWN_PRODUCT = ReasonType("import.unknown_product", '"{product}" is not one of {products}.')
NO_EXPORT = ReasonType("import.no_export", "{product} has no export that can be read; enter an API key.")
EXPIRED = ReasonType(
    "import.expired", "It was not applied for a week, and what was read has been removed. Read it again."
)
SCHEDULE_OVERRIDE = ReasonType("import.schedule_override", "schedule {schedule}: override")
UNREADABLE = ReasonType("import.unreadable", "It cannot be read: {problem}")
