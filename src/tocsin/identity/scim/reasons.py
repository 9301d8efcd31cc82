"""Why a SCIM request is refused. The provider shows the sentence in its own log, in English."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

# Problems of a value. Each completes a sentence that begins with its path.
INVALID_VALUE = ReasonType("scim.invalid_value", "{path}: {problem}")
TOO_LONG = ReasonType("scim.too_long", "must have at most {maximum} characters.")
TOO_MANY_VALUES = ReasonType("scim.too_many_values", "must have at most {maximum} values.")
TWO_PRIMARY = ReasonType("scim.two_primary", "only one value can be primary.")
NO_SUCH_MEMBER = ReasonType("scim.no_such_member", "this provider has no user {id}.")
BOTH_LISTS = ReasonType("scim.both_lists", "cannot be combined with excludedAttributes.")

# Problems of a request.
NOT_AN_OBJECT = ReasonType("scim.not_an_object", "An object is expected here.")
TOO_LARGE = ReasonType("scim.too_large", "A body has at most {maximum} KiB.")
NO_OPERATIONS = ReasonType("scim.no_operations", "A PATCH has 1 to {maximum} operations, in Operations.")
UNKNOWN_OPERATION = ReasonType("scim.unknown_operation", "An operation is add, remove or replace.")
INVALID_FILTER = ReasonType("scim.invalid_filter", "The filter cannot be read at character {position}.")
FILTER_TOO_LONG = ReasonType("scim.filter_too_long", "The filter is too long or nested too deeply.")
FILTER_TYPE = ReasonType("scim.filter_type", "{operator} cannot compare {attribute} with this value.")
UNKNOWN_ATTRIBUTE = ReasonType("scim.unknown_attribute", "{name} is not an attribute of {resource}.")
INVALID_PATH = ReasonType("scim.invalid_path", "The path {path} cannot be read.")
NO_TARGET = ReasonType("scim.no_target", "No value matches the path {path}.")
PATH_REQUIRED = ReasonType("scim.path_required", "remove needs a path.")
READ_ONLY = ReasonType("scim.read_only", "{name} cannot be changed.")
CANNOT_REMOVE = ReasonType("scim.cannot_remove", "{name} is required and cannot be removed.")
NOT_FOUND = ReasonType("scim.not_found", "This provider has no {resource} {id}.")
NO_SUCH_ADDRESS = ReasonType("scim.no_such_address", "There is nothing at this address.")
WRONG_METHOD = ReasonType("scim.wrong_method", "{method} is not possible here.")
NOT_SUPPORTED = ReasonType("scim.not_supported", "{name} is not supported.")
CHANGED = ReasonType("scim.changed", "It was changed since: its version is {version}.")
UNAUTHORIZED = ReasonType(
    "scim.unauthorized", "Send the provider's SCIM token: Authorization: Bearer TOKEN. Administrators create it."
)

# What a provider may not do.
USER_EXISTS = ReasonType(
    "scim.user_exists",
    "There is already a user with this userName or email address. Find the user with a filter first.",
)
GROUP_EXISTS = ReasonType("scim.group_exists", "There is already a group {name}.")
EMAIL_DOMAIN = ReasonType("scim.email_domain", "the domain is not among the allowed domains of the provider.")
ADMINISTRATOR_EMAIL = ReasonType(
    "scim.administrator_email",
    "{user} is an administrator whom this provider did not create: only an administrator may change the username and "
    "the email address.",
)
ADMINISTRATOR_ACTIVE = ReasonType(
    "scim.administrator_active",
    "{user} is an administrator whom this provider did not create: it may deactivate the user only if they have a "
    "verified email address in its allowed domains.",
)
LOCAL_EMAIL = ReasonType(
    "scim.local_email",
    "{user} was not created by this provider: it may change the email address for sign-in only if the present one is "
    "verified and in its allowed domains.",
)
BREAK_GLASS = ReasonType("scim.break_glass", "{user} is a break-glass account, which no provider may change or delete.")
NOT_PROVISIONED = ReasonType(
    "scim.not_provisioned", "{user} was not created by this provider: deactivate the user, or delete them in Tocsin."
)
DEACTIVATED_INSTEAD = ReasonType("scim.deactivated_instead", "The user was deactivated, but not deleted. {problem}")
