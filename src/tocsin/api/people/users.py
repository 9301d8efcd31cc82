"""Users: visible to all users, with addresses masked for callers who may not see them; edited by administrators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission, Role
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.pagination import PaginationQuery
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.notify.enqueue import mfa_reset_notice
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.resources import registry
from tocsin.resources.resource import ResourceSpec

_NOT_A_TEXT = ReasonType("api.password_not_a_text", "must be text.")


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
        raise Rejected("invalid", AT_PATH(path="password", problem=_NOT_A_TEXT()), "password")
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


class RemovedFactorsResponse(BaseModel):
    #: `totp`, `webauthn` (passkeys and security keys), `recovery_codes`.
    taken_away: list[str]


@routes.post(
    "/{id}/reset-second-factor",
    Permission.ADMINISTER,
    answers=RemovedFactorsResponse,
    summary="For somebody who lost theirs: the password alone signs in, until another is set up",
)
def reset_second_factor(request: HttpRequest, id: str) -> dict[str, Any]:
    principal, user = caller(request), USERS.find(id)
    return {
        "taken_away": mfa_reset_notice.remove_second_factors(user, actor=audit_actor_of(principal), now=principal.now)
    }


register(USERS)
