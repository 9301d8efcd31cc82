"""Users: visible to all users, with addresses masked for callers who may not see them; edited by administrators."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpRequest
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission, Role
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.pagination import PaginationQuery
from tocsin.api.framework.resources import ApiResource, register
from tocsin.api.framework.spec_schemas import SpecSchema
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.validation.field_errors import NOT_TEXT, rejected_at
from tocsin.notify.enqueue import mfa_reset_notice
from tocsin.people.changes import invitations, users
from tocsin.people.models import User
from tocsin.resources import registry
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
    extra={"requestBody": {"content": {"application/json": {"example": _INVITATIONS}}}},
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
    return {
        "taken_away": mfa_reset_notice.remove_second_factors(user, actor=audit_actor_of(principal), now=principal.now)
    }


register(USERS)
