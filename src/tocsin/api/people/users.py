"""Users: visible to all users, with addresses masked for callers who may not see them; edited by administrators."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission, Role
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.object_reader import AT_PATH
from tocsin.notify.enqueue import mfa_reset_notice
from tocsin.people.changes import users
from tocsin.people.models import Group, User

_NOT_A_TEXT = ReasonType("api.password_not_a_text", "must be text.")

routes = AuthorizedRouter("users")

EXAMPLE = {
    "username": "carol",
    "name": "Carol Clark",
    "email": "carol@example.org",
    "role": "responder",
    "time_zone": "Europe/Zurich",
    "contact_methods": [{"label": "Email-Official", "channel": "email", "address": "carol@example.org"}],
}


class UserFilters(PaginationQuery):
    username: str | None = None
    email: str | None = None
    role: Role | None = None
    active: bool | None = None
    group: str | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Users")
def list_users(request: HttpRequest, query: Query[UserFilters]) -> dict[str, Any]:
    principal, rows = caller(request), _rows()
    if query.username is not None:
        rows = rows.filter(username__iexact=query.username)
    if query.email is not None:
        # Filtering by an address must not disclose it to a caller who may not see it.
        rows = rows.filter(email__iexact=query.email)
        rows = rows.filter(pk__in=[user.pk for user in rows if principal.viewer.can_view_addresses_of(user.pk)])
    if query.role is not None:
        rows = rows.filter(role=query.role)
    if query.active is not None:
        rows = rows.filter(is_active=query.active)
    if query.group is not None:
        group = find_named(Group.objects.all(), query.group, label="group", field="group")
        rows = rows.filter(memberships__group=group)
    return page(rows, query, lambda page_rows: [_show(user, principal) for user in page_rows])


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


def _rows() -> QuerySet[User]:
    return User.objects.prefetch_related("contact_methods")


def _show(user: User, principal: Principal) -> dict[str, Any]:
    spec = users.user_spec(user)
    if not principal.viewer.can_view_addresses_of(user.pk):
        spec["email"] = principal.viewer.address(user.pk, "email", user.email)
        for method in spec["contact_methods"]:
            method["address"] = principal.viewer.address(user.pk, method["channel"], method["address"])
    return {"id": user.pk, **spec}


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: User | None) -> User:
    password = spec.get("password")
    if password is not None and not isinstance(password, str):
        raise Rejected("invalid", AT_PATH(path="password", problem=_NOT_A_TEXT()), "password")
    spec_without_password = {name: value for name, value in spec.items() if name != "password"}
    return users.save_user(
        spec_without_password, existing=existing, actor=audit_actor_of(caller), now=caller.now, password=password
    )


def _delete(user: User, actor: AuditActor, principal: Principal) -> None:
    users.delete_user(user, actor=actor, now=principal.now)


USERS = ApiResource(
    routes=routes,
    label="user",
    change_permission=Permission.ADMINISTER,
    rows=_rows,
    to_spec=users.user_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda _user: None,
    example=EXAMPLE,
    name_column="username",
    null_values={"language": "", "notification_rules": {}},
)
register(USERS)
