"""The attributes of SCIM users and groups as Tocsin has them (RFC 7643), and the values that each accepts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.validation.inputs import NOT_BOOLEAN, NOT_TEXT, REQUIRED

# ---------- reasons
# Why a SCIM request is refused. The provider shows the sentence in its own log, in English.


# Problems of a value. Each completes a sentence that begins with its path.
INVALID_VALUE = Text("{path}: {problem}")
TOO_LONG = Text("must have at most {maximum} characters.")
TOO_MANY_VALUES = Text("must have at most {maximum} values.")
NO_SUCH_MEMBER = Text("this provider has no user {id}.")
BOTH_LISTS = Text("cannot be combined with excludedAttributes.")

# Problems of a request.
NOT_AN_OBJECT = Text("An object is expected here.")
NO_OPERATIONS = Text("A PATCH has 1 to {maximum} operations, in Operations.")
UNKNOWN_OPERATION = Text("An operation is add, remove or replace.")
INVALID_FILTER = Text("The filter cannot be read at character {position}.")
FILTER_TOO_LONG = Text("The filter is too long or nested too deeply.")
FILTER_TYPE = Text("{operator} cannot compare {attribute} with this value.")
UNKNOWN_ATTRIBUTE = Text("{name} is not an attribute of {resource}.")
INVALID_PATH = Text("The path {path} cannot be read.")
NO_TARGET = Text("No value matches the path {path}.")
PATH_REQUIRED = Text("remove needs a path.")
READ_ONLY = Text("{name} cannot be changed.")
CANNOT_REMOVE = Text("{name} is required and cannot be removed.")
NO_SUCH_ADDRESS = Text("There is nothing at this address.")
WRONG_METHOD = Text("{method} is not possible here.")
CHANGED = Text("It was changed since: its version is {version}.")
UNAUTHORIZED = Text("Send the provider's SCIM token: Authorization: Bearer TOKEN. Administrators create it.")

# What a provider may not do.
USER_EXISTS = Text("There is already a user with this userName or email address. Find the user with a filter first.")
GROUP_EXISTS = Text("There is already a group {name}.")
ADMINISTRATOR_EMAIL = Text(
    "{user} is an administrator whom this provider did not create: only an administrator may change the username and "
    "the email address."
)
ADMINISTRATOR_ACTIVE = Text(
    "{user} is an administrator whom this provider did not create: it may deactivate the user only if they have a "
    "verified email address in its allowed domains."
)
LOCAL_EMAIL = Text(
    "{user} was not created by this provider: it may change the email address for sign-in only if the present one is "
    "verified and in its allowed domains."
)
BREAK_GLASS = Text("{user} is a break-glass account, which no provider may change or delete.")
NOT_PROVISIONED = Text("{user} was not created by this provider: deactivate the user, or delete them in Tocsin.")
DEACTIVATED_INSTEAD = Text("The user was deactivated, but not deleted. {problem}")


USER_URN = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP_URN = "urn:ietf:params:scim:schemas:core:2.0:Group"

MAX_TEXT_CHARS = 1000
#: Of one attribute other than a group's members.
MAX_VALUES = 20
MAX_MEMBERS = 20_000


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute, in the words of RFC 7643, section 7."""

    name: str
    description: str = ""
    type: str = "string"
    is_multi: bool = False
    is_required: bool = False
    mutability: str = "readWrite"
    returned: str = "default"
    uniqueness: str = "none"
    is_case_exact: bool = False
    canonical_values: tuple[str, ...] = ()
    reference_types: tuple[str, ...] = ()
    sub: tuple[Attribute, ...] = ()
    max_values: int = MAX_VALUES

    @property
    def is_read_only(self) -> bool:
        return self.mutability == "readOnly"

    def find(self, name: str) -> Attribute | None:
        """Returns the sub-attribute of that name, ignoring case."""
        return next((one for one in self.sub if one.name.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class ResourceSchema:
    """One kind of resource."""

    urn: str
    name: str
    endpoint: str
    description: str
    attributes: tuple[Attribute, ...]
    #: Attributes that RFC 7643 has and Tocsin does not keep, in lower case: accepted, and passed over.
    ignored: frozenset[str] = frozenset()

    def find(self, name: str) -> Attribute | None:
        """Returns the attribute of that name, ignoring case; the attributes of every resource included."""
        every = (*self.attributes, *COMMON)
        return next((one for one in every if one.name.lower() == name.lower()), None)

    def is_ignored(self, name: str) -> bool:
        """Returns whether a value of that attribute is passed over: an extension, or what Tocsin does not keep."""
        return name.lower() in self.ignored or name.lower().startswith("urn:")


COMMON = (
    Attribute("schemas", is_multi=True, mutability="readOnly", returned="always"),
    Attribute("id", mutability="readOnly", returned="always", is_case_exact=True),
    Attribute("externalId", is_case_exact=True),
    Attribute(
        "meta",
        type="complex",
        mutability="readOnly",
        sub=(
            Attribute("resourceType", mutability="readOnly", is_case_exact=True),
            Attribute("created", type="dateTime", mutability="readOnly"),
            Attribute("lastModified", type="dateTime", mutability="readOnly"),
            Attribute("location", mutability="readOnly", is_case_exact=True),
            Attribute("version", mutability="readOnly", is_case_exact=True),
        ),
    ),
)


def _addresses(name: str, description: str, types: tuple[str, ...], *, is_required: bool = False) -> Attribute:
    return Attribute(
        name,
        description,
        type="complex",
        is_multi=True,
        is_required=is_required,
        sub=(
            Attribute("value", "The address.", is_required=is_required),
            Attribute("type", "What it is for.", canonical_values=types),
            Attribute("primary", "Whether it is the preferred one.", type="boolean"),
        ),
    )


def _reference(kind: str, mutability: str) -> tuple[Attribute, Attribute]:
    """Returns what names a resource of that kind: its id and its address."""
    name = f"The {kind.lower()}'s"
    return (
        Attribute("value", f"{name} id.", mutability=mutability, is_case_exact=True),
        Attribute(
            "$ref", f"{name} address.", "reference", mutability=mutability, is_case_exact=True, reference_types=(kind,)
        ),
    )


USER = ResourceSchema(
    USER_URN,
    "User",
    "/Users",
    "A person who signs in, acts on alerts or is paged.",
    (
        Attribute("userName", "Unique name, for sign-in.", is_required=True, uniqueness="server"),
        Attribute(
            "name",
            "The parts of the name. Tocsin shows displayName, else formatted, else both parts.",
            type="complex",
            sub=(
                Attribute("formatted", "The whole name."),
                Attribute("familyName", "The family name."),
                Attribute("givenName", "The given name."),
            ),
        ),
        Attribute("displayName", "The name that other users see."),
        # Never removed: somebody deactivated would be active again. A new user without it is active.
        Attribute("active", "Whether the user can sign in and is paged.", type="boolean", is_required=True),
        _addresses(
            "emails", "The primary one is for sign-in and password resets.", ("work", "home", "other"), is_required=True
        ),
        _addresses(
            "phoneNumbers",
            "One becomes a contact method of a user without any for SMS or calls; the user verifies it with a code.",
            ("work", "mobile", "home", "other"),
        ),
        Attribute("preferredLanguage", "The language of the web interface and of messages, such as de."),
        Attribute("locale", "The language, where preferredLanguage is missing, such as de-CH."),
        Attribute("timezone", "The time zone, such as Europe/Zurich."),
        Attribute(
            "groups",
            "The groups of which the user is a member.",
            type="complex",
            is_multi=True,
            mutability="readOnly",
            sub=(*_reference("Group", "readOnly"), Attribute("display", "The group's name.", mutability="readOnly")),
        ),
    ),
    ignored=frozenset(
        name.lower()
        for name in (
            "nickName", "profileUrl", "title", "userType", "password", "ims", "photos", "addresses", "entitlements",
            "roles", "x509Certificates", "name.middleName", "name.honorificPrefix", "name.honorificSuffix",
            "emails.display", "phoneNumbers.display",
        )
    ),
)  # fmt: skip

GROUP = ResourceSchema(
    GROUP_URN,
    "Group",
    "/Groups",
    "A group of the directory. Its members get the roles and memberships that the provider's mapping names.",
    (
        Attribute("displayName", "The name, as the mapping names it.", is_required=True, uniqueness="server"),
        Attribute(
            "members",
            "The members. Groups in groups are not possible.",
            type="complex",
            is_multi=True,
            max_values=MAX_MEMBERS,
            sub=(
                *_reference("User", "immutable"),
                Attribute("type", "The kind of member.", mutability="immutable", canonical_values=("User",)),
            ),
        ),
    ),
    ignored=frozenset({"members.display"}),
)

SCHEMAS = (USER, GROUP)

#: What a new resource is before it is written.
NO_DOCUMENT: Mapping[str, Any] = MappingProxyType({})


def invalid(path: str, problem: Reason) -> Rejected:
    """Returns the rejection of the value at `path`, which SCIM calls `invalidValue`."""
    return Rejected("invalid_value", INVALID_VALUE(path=path[:200], problem=problem), path[:200])


def read_resource(schema: ResourceSchema, body: object) -> dict[str, Any]:
    """Returns the writable attributes of a POST or PUT under their canonical names, without those that have no value.

    Attributes that only the server writes, and unknown ones, are passed over, as RFC 7644 says. The caller checks what
    is required. Raises Rejected.
    """
    if not isinstance(body, Mapping):
        raise Rejected("invalid_syntax", NOT_AN_OBJECT())
    document: dict[str, Any] = {}
    for name, value in body.items():
        attribute = schema.find(str(name))
        if attribute is not None and not attribute.is_read_only:
            assign(document, attribute, read_value(attribute, value, attribute.name))
    return document


def writable(schema: ResourceSchema, document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes of a document that a provider writes."""
    return {name: value for name, value in document.items() if (one := schema.find(name)) and not one.is_read_only}


def require(schema: ResourceSchema, document: Mapping[str, Any]) -> None:
    """Raises Rejected, naming the place, if a required attribute has no value."""
    for attribute in schema.attributes:
        if not attribute.is_required:
            continue
        if attribute.name not in document:
            raise invalid(attribute.name, REQUIRED())
        for number, value in enumerate(document[attribute.name] if attribute.is_multi else ()):
            for sub in attribute.sub:
                if sub.is_required and sub.name not in value:
                    raise invalid(f"{attribute.name}[{number}].{sub.name}", REQUIRED())


def assign(target: dict[str, Any], attribute: Attribute, value: Any) -> None:
    """Sets a value, or removes it if it is none: null, an empty list and an empty object (RFC 7643, section 2.5)."""
    if value in (None, [], {}):
        target.pop(attribute.name, None)
    else:
        target[attribute.name] = value


def read_value(attribute: Attribute, value: object, path: str) -> Any:
    """Returns the value of an attribute in its canonical form; None without one. Raises Rejected, naming the place."""
    if value is None:
        return None
    if not attribute.is_multi:
        return read_one(attribute, value, path)
    # Providers send a single value where a list is expected.
    values = value if isinstance(value, list) else [value]
    if len(values) > attribute.max_values:
        raise invalid(path, TOO_MANY_VALUES(maximum=attribute.max_values))
    found = [read_one(attribute, one, f"{path}[{number}]") for number, one in enumerate(values)]
    kept = [one for one in found if one not in (None, {})]
    if sum(1 for one in kept if isinstance(one, dict) and one.get("primary")) > 1:
        raise invalid(path, sentence("only one value can be primary."))
    return kept


def read_one(attribute: Attribute, value: object, path: str) -> Any:
    """Returns one value of an attribute in its canonical form. Raises Rejected, naming the place."""
    match attribute.type:
        case "boolean":
            return _boolean(value, path)
        case "complex":
            return _complex(attribute, value, path)
        case _:
            return _text(value, path)


def _boolean(value: object, path: str) -> bool:
    # Entra ID sends "True" and "False" as text.
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise invalid(path, NOT_BOOLEAN())
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise invalid(path, NOT_TEXT())
    if len(value) > MAX_TEXT_CHARS:
        raise invalid(path, TOO_LONG(maximum=MAX_TEXT_CHARS))
    return value


def _complex(attribute: Attribute, value: object, path: str) -> dict[str, Any]:
    if isinstance(value, str) and attribute.is_multi:
        # Okta and others send a member or an address as text.
        value = {"value": value}
    if not isinstance(value, Mapping):
        raise invalid(path, NOT_AN_OBJECT())
    result: dict[str, Any] = {}
    for name, item in value.items():
        sub = attribute.find(str(name))
        if sub is not None:
            assign(result, sub, read_value(sub, item, f"{path}.{sub.name}"))
    return result


def values_at(document: Mapping[str, Any], attribute: Attribute, sub: Attribute | None) -> Iterator[Any]:
    """Yields the values of an attribute or sub-attribute; of a complex one without a sub-attribute, its `value`."""
    found = document.get(attribute.name)
    name = sub.name if sub is not None else "value" if attribute.sub else None
    for one in found if isinstance(found, list) else [] if found is None else [found]:
        value = one.get(name) if name is not None and isinstance(one, Mapping) else one
        if value is not None:
            yield value
