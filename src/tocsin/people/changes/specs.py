"""Users, contact methods and groups as YAML, the API and forms write them. The commands resolve names."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from django.conf import settings
from pydantic import AfterValidator, Field, ValidationInfo

from tocsin.access.roles import Role
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.spec import InvalidValue, Spec, SpecErrors
from tocsin.core.validation.spec_types import Line, ListOf, Name, OneOf, TimeZone, list_of_choices
from tocsin.core.validation.text_sanitizing import fold_login
from tocsin.people import addresses
from tocsin.people.member_roles import MemberRole
from tocsin.people.notification_rules import NotificationRules, RepeatSpec, RuleDelay

MAX_CLIENTS = 100

_OBSERVERS_ONLY = ReasonType("user.clients_of_observers_only", "are possible with the role observer only.")

LANGUAGES = tuple(code for code, _name in settings.LANGUAGES)


def _email(text: str) -> str:
    try:
        # Lower case, as django-allauth stores and looks up addresses.
        return fold_login(addresses.email(text))
    except Rejected as rejection:
        raise InvalidValue(rejection.reason, rejection.code) from None


def _channel(text: str) -> str:
    if text not in addresses.channels():
        raise InvalidValue(addresses.unknown_channel(text), "unknown_channel")
    return text


def _address(text: str, info: ValidationInfo) -> str:
    channel = info.data["channel"]
    try:
        return addresses.validate_address(channel, text) if channel else text
    except Rejected as rejection:
        raise InvalidValue(rejection.reason, rejection.code) from None


Email = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(_email)]

#: The name of a user.
Username = Annotated[str, Field(min_length=1, max_length=200)]

ContactLabel = Annotated[Line, Field(min_length=1, max_length=100)]

Channel = Annotated[str, Field(min_length=1, max_length=20), AfterValidator(_channel)]

#: An address in the form of the channel, which is read before it.
Address = Annotated[str, Field(min_length=1, max_length=addresses.MAX_ADDRESS_CHARS), AfterValidator(_address)]


class ContactSpec(Spec):
    """One contact method."""

    label: ContactLabel = Field(description="Name of the contact method, unique for its user.")
    channel: Channel = Field(description="Channel: `email`, `sms`, `voice`, `push`, `ntfy`, or a chat service.")
    address: Address = Field(
        description="Address in the form of the channel, such as a phone number with country code."
    )
    repeat: RepeatSpec = Field(default=RepeatSpec(), description="Repeats of a page.")
    wait: RuleDelay = Field(default=timedelta(), description="Delay after the escalation step.")
    is_enabled: bool = Field(default=True, alias="enabled", description="Whether the contact method is used.")


#: The name of a client, as alerts have it; case does not matter.
ClientName = Annotated[Line, Field(min_length=1, max_length=200)]


class UserSpec(Spec):
    """A user. Without `contact_methods`, `notification_rules` or `language`, these stay unchanged."""

    notification_rules: NotificationRules | None = Field(
        default=None, description="When and by which contact methods the user is paged. Default: unchanged."
    )
    username: Name = Field(description="Unique name, for sign-in and references.")
    name: Line = Field(default="", max_length=200, description="Full name, shown to other users.")
    email: Email = Field(description="Email address, for sign-in and password resets.")
    role: Annotated[Role, OneOf()] = Field(
        default=Role.RESPONDER, description="Role, which decides what the user may do."
    )
    time_zone: TimeZone | None = Field(
        default=None, description="Time zone of the user. Default: the setting `time_zone`."
    )
    is_active: bool = Field(default=True, alias="active", description="Whether the user can sign in and is paged.")
    is_break_glass: bool | None = Field(
        default=None,
        alias="break_glass",
        description="Whether the user may sign in with a password even if only single sign-on is allowed. Default: "
        "unchanged.",
    )
    language: Annotated[str, OneOf(("", *LANGUAGES))] | None = Field(
        default=None,
        description="Language of the web interface and of messages; empty: that of the browser. Default: unchanged.",
    )
    clients: ListOf[ClientName] = Field(
        default=(),
        max_length=MAX_CLIENTS,
        description="Makes an observer a client observer, who sees the alerts and reports of these clients only.",
    )
    contact_methods: ListOf[ContactSpec] | None = Field(
        default=None,
        description="Contact methods, in the order of use. Default: unchanged; a new user gets one by email.",
    )

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("contact_methods", (method.label for method in self.contact_methods or ()))
        if self.clients and self.role is not Role.OBSERVER:
            errors.add("clients", _OBSERVERS_ONLY())


_MemberRoles = Annotated[
    tuple[MemberRole, ...],
    list_of_choices(MemberRole),
    AfterValidator(lambda roles: tuple(role for role in MemberRole if role in roles)),
]


#: A role in a group. Nobody administers a single group; empty: the user's own role.
GroupRole = Annotated[str, OneOf(("", Role.RESPONDER, Role.MANAGER))]


class MemberSpec(Spec):
    """A member of a group."""

    user: Username = Field(description="Username of the member.")
    role: GroupRole | None = Field(
        default=None, description="Role for this group's objects, if higher than the user's own. Default: unchanged."
    )
    roles: _MemberRoles = Field(default=(), description="On-call roles of the member, where no schedule applies.")


class GroupContactSpec(Spec):
    """A contact of a whole group."""

    label: ContactLabel = Field(description="Name of the contact, unique in its group.")
    channel: Channel = Field(description="Channel of the address.")
    address: Address = Field(description="Address in the form of the channel.")


class GroupSpec(Spec):
    """A group of users who are paged together."""

    name: Name
    description: str = Field(default="", max_length=2000, description="Description, shown to users.")
    time_zone: TimeZone | None = Field(
        default=None, description="Time zone of the group. Default: the setting `time_zone`."
    )
    members: ListOf[MemberSpec] = Field(default=(), description="Members, in the order in which they are paged.")
    contacts: ListOf[GroupContactSpec] = Field(default=(), description="Addresses of the whole group.")

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("contacts", (contact.label for contact in self.contacts))
        errors.add_duplicates("members", (member.user for member in self.members))
