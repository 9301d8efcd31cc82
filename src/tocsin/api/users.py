"""Users: visible to all users, with addresses masked for callers who may not see them; edited by administrators."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission, Role
from tocsin.api.framework.auth import AuthorizedRouter, PaginationQuery, Principal, audit_actor_of, caller
from tocsin.api.framework.resources import ApiResource, SpecSchema, register
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import sentence
from tocsin.core.validation.inputs import NOT_TEXT, rejected_at
from tocsin.notify import notices
from tocsin.people.changes import groups as commands
from tocsin.people.changes import invitations, users
from tocsin.people.models import Group, User
from tocsin.resources import offboarding, registry
from tocsin.resources.resource import ResourceSpec

log = logging.getLogger(__name__)

_INVITATIONS = {
    "invitations": [
        {"email": "carl@example.org", "name": "Carl Clark", "phone": "+41790000009", "groups": ["Service Desk"]}
    ]
}


class PasswordFields(BaseModel):
    """What only a body has."""

    password: str = Field(max_length=1000, description="New password.")


class UserFilters(PaginationQuery):
    email: str | None = None
    group: str | None = None


def _narrow(rows: QuerySet[User], query: UserFilters, principal: Principal) -> QuerySet[User]:
    if query.email is not None:
        # Filtering by an address must not disclose it to a caller who may not see it.
        rows = rows.filter(email__iexact=query.email)
        rows = rows.filter(pk__in=[user.pk for user in rows if principal.viewer.can_view_addresses_of(user.pk)])
    if query.group is not None:
        rows = rows.filter(memberships__group=registry.GROUPS.resolve(query.group, "group"))
    return rows


def _show(users: Sequence[User], principal: Principal) -> Iterator[dict[str, Any]]:
    for user, spec in zip(users, registry.USERS.specs(users), strict=True):
        if not principal.viewer.can_view_addresses_of(user.pk):
            spec["email"] = principal.viewer.address(user.pk, "email", user.email)
            for method in spec["contact_methods"]:
                method["address"] = principal.viewer.address(user.pk, method["channel"], method["address"])
        yield spec


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: User | None) -> User:
    password = spec.get("password")
    if password is not None and not isinstance(password, str):
        raise rejected_at("password", NOT_TEXT())
    spec_without_password = {name: value for name, value in spec.items() if name != "password"}
    return users.save_user(
        spec_without_password, existing=existing, actor=audit_actor_of(caller), now=caller.now, password=password
    )


USERS = ApiResource(
    registry.USERS,
    query=UserFilters,
    narrow=_narrow,
    filters={"role": (Role, "role"), "active": (bool, "is_active")},
    show=_show,
    save=_save,
    write_only=PasswordFields,
    null_values={"language": "", "notification_rules": {}},
)
routes = USERS.routes


_INVITATION = SpecSchema(invitations.InvitationSpec, has_id=False)


class InvitationsBody(BaseModel):
    """The invited people. Either all of them are invited, or none."""

    model_config = {"extra": "forbid"}

    invitations: list[Annotated[dict[str, Any], _INVITATION.whole.annotation]] = Field(min_length=1)
    send: bool = Field(default=True, description="Whether to mail the invitations.")


class InvitationsResponse(BaseModel):
    """The new users, in the order of the invitations, and those whose mail could not be sent."""

    users: list[str]
    not_sent: list[str]


@routes.post(
    "/invitations",
    Permission.ADMINISTER,
    status=201,
    answers=InvitationsResponse,
    summary="Invite several people; every entry is checked before anybody is invited",
    example=_INVITATIONS,
)
def invite(request: HttpRequest, body: InvitationsBody) -> dict[str, Any]:
    """A phone number is used once its owner verified it. Errors name their place, such as `invitations[6].phone`."""
    principal = caller(request)
    created = invitations.invite(
        body.invitations, time_zone=principal.user.time_zone, actor=audit_actor_of(principal), now=principal.now
    )
    return {
        "users": [user.username for user in created],
        "not_sent": [user.username for user in created if body.send and not _is_sent(user, principal.user)],
    }


def _is_sent(user: User, inviter: User) -> bool:
    try:
        invitations.send(user, inviter)
    except (Temporary, Permanent, OutcomeUnknown) as error:
        log.warning("The invitation of %s could not be mailed: %s", user.username, error)
        return False
    return True


class RemovedFactorsResponse(BaseModel):
    #: `totp`, `webauthn` (passkeys and security keys), `recovery_codes`.
    taken_away: list[str]


@routes.post(
    "/{id}/reset-second-factor",
    Permission.ADMINISTER,
    answers=RemovedFactorsResponse,
    summary="For someone who lost theirs: the password alone signs in, until another is set up",
)
def reset_second_factor(request: HttpRequest, id: str) -> dict[str, Any]:
    principal, user = caller(request), USERS.find(id)
    return {"taken_away": notices.remove_second_factors(user, actor=audit_actor_of(principal), now=principal.now)}


class UserReferences(BaseModel):
    """The objects that name the user, such as `schedule Desk 24x7`."""

    places: list[str]


class ReplacementBody(BaseModel):
    """Who takes everything over."""

    model_config = {"extra": "forbid"}

    by: str = Field(max_length=200, description="Username of the other user.")


@routes.get(
    "/{id}/references",
    Permission.ADMINISTER,
    answers=UserReferences,
    summary="Everything that names a user, and that `replace` changes",
)
def list_references(request: HttpRequest, id: str) -> dict[str, Any]:
    found = offboarding.find_places(USERS.find(id), caller(request).now)
    return {"places": [str(place.reason) for place in found]}


@routes.post(
    "/{id}/replace",
    Permission.ADMINISTER,
    answers=UserReferences,
    summary="Replace a user by another one everywhere, or nowhere if that one cannot take a place over",
    example={"by": "bob"},
)
def replace_everywhere(request: HttpRequest, id: str, body: ReplacementBody) -> dict[str, Any]:
    principal, user, other = caller(request), USERS.find(id), registry.USERS.resolve(body.by, "by")
    replaced = offboarding.replace_everywhere(user, other, actor=audit_actor_of(principal), now=principal.now)
    return {"places": [str(reason) for reason in replaced]}


register(USERS)


# ---------- preferences
# The caller's own preferences: display name, time zone, language, theme, and how the alert list looks.


preferences_routes = AuthorizedRouter("preferences")

EXAMPLE = {"time_zone": "Europe/Zurich", "language": "de", "theme": "dark"}


class _AlertFilter(BaseModel):
    """A saved filter of the alert list."""

    model_config = {"extra": "forbid"}

    name: str
    query: str


class PreferencesResponse(BaseModel):
    """The caller's own preferences."""

    name: str
    time_zone: str
    #: Empty: the browser's language.
    language: str
    #: Empty: the system's theme.
    theme: str
    #: Whether the alert list has one line an alert.
    compact_list: bool
    alert_filters: list[_AlertFilter]


class PreferencesBody(Schema):
    model_config = {"extra": "forbid"}

    name: str | None = Field(default=None, description="The name to show; empty: the username.")
    time_zone: str | None = Field(default=None, description="Such as Europe/Zurich.")
    language: str | None = Field(default=None, description="en or de; empty: as the browser asks.")
    theme: str | None = Field(default=None, description="light or dark; empty: as the system has it.")
    compact_list: bool | None = Field(default=None, description="Whether the alert list has one line an alert.")
    alert_filters: list[_AlertFilter] | None = Field(
        default=None,
        description="The saved filters of the alert list, all of them: `name`, and `query`, the query of its URL.",
        examples=[[{"name": "Critical", "query": "priority=critical"}]],
    )


@preferences_routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PreferencesResponse,
    summary="Your own name, time zone and display settings",
)
def get_preferences(request: HttpRequest) -> dict[str, Any]:
    return users.preferences_spec(caller(request).user)


@preferences_routes.patch(
    "",
    Permission.MANAGE_SELF,
    answers=PreferencesResponse,
    summary="Change the keys of the body of your own; the others stay, null takes one away",
    example=EXAMPLE,
)
def change_preferences(request: HttpRequest, body: PreferencesBody) -> dict[str, Any]:
    principal, changes = caller(request), body.model_dump(exclude_unset=True)
    return users.preferences_spec(
        users.change(principal.user, changes, actor=audit_actor_of(principal), now=principal.now)
    )


# ---------- groups
# Groups. See `api.on_call` for who is on call in a group.


class GroupContactTestQueuedResponse(BaseModel):
    """A test message that was queued."""

    notification_id: UUID


class GroupFields(BaseModel):
    """What is shown of a group besides its settings."""

    masked_members: list[str] = Field(description="Usernames of members whose addresses the others do not see.")


class GroupFilters(PaginationQuery):
    member: str | None = Field(default=None, description="A user's name: the groups that they are in.")


def _narrow_groups(rows: QuerySet[Group], query: GroupFilters, _principal: Principal) -> QuerySet[Group]:
    if query.member is not None:
        rows = rows.filter(memberships__user=registry.USERS.resolve(query.member, "member"))
    return rows


def _show_groups(groups: Sequence[Group], principal: Principal) -> Iterator[dict[str, Any]]:
    for group, spec in zip(groups, registry.GROUPS.specs(groups), strict=True):
        for contact in spec.get("contacts", ()):
            contact["address"] = principal.viewer.group_address(group, contact["channel"], contact["address"])
        masked = [m.user.username for m in group.memberships.all() if not m.shows_addresses]
        yield {**spec, "masked_members": masked}


GROUPS = ApiResource(
    registry.GROUPS, query=GroupFilters, narrow=_narrow_groups, show=_show_groups, read_only=GroupFields
)
groups_routes = GROUPS.routes


@groups_routes.post(
    "/{id}/contacts/{label}/test",
    Permission.MANAGE_TEAMS,
    status=202,
    answers=GroupContactTestQueuedResponse,
    summary="Send a test to a contact of the group, and see in `deliveries?notification_id=` what becomes of it",
)
def test_group_contact(request: HttpRequest, id: str, label: str) -> dict[str, Any]:
    principal = caller(request)
    group = GROUPS.find_authorized(id, principal, Permission.MANAGE_TEAMS)
    contact = group.contacts.filter(label__iexact=label).first()
    if contact is None:
        raise Rejected(
            "not_found", sentence('No contact named "{contact}" in {group}.', contact=label, group=group.name)
        )
    with database.transaction() as connection:
        sent = notices.queue_group_test(connection, contact, principal.user, principal.now)
    return {"notification_id": sent}


@groups_routes.post(
    "/{id}/members/{username}/show-addresses",
    Permission.MANAGE_SELF,
    status=204,
    answers=None,
    summary="Let the group's members see a masked member's addresses: one's own, or as an administrator",
)
def show_member_addresses(request: HttpRequest, id: str, username: str) -> None:
    principal = caller(request)
    group = GROUPS.find(id)
    user = registry.USERS.resolve(username, "username")
    if not principal.viewer.can_view_addresses_of(user.pk):
        raise Rejected("forbidden", sentence("Only {user} or an administrator may do this.", user=user.username))
    commands.show_addresses(group, user, actor=audit_actor_of(principal), now=principal.now)


register(GROUPS)
