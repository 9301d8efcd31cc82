"""API tokens: users see their own, administrators see all. A secret is shown once, in the response that creates it.

A token that creates or revokes others can do so only within its own limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access import tokens
from tocsin.access.models import ApiToken
from tocsin.access.roles import Permission, TokenScope
from tocsin.api.errors import show
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    UtcDatetime,
    audit_actor_of,
    caller,
    forbidden,
    page,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.people.changes import api_tokens
from tocsin.people.models import User
from tocsin.resources.registry import SERVICE_ACCOUNTS
from tocsin.resources.resource import find, find_named

routes = AuthorizedRouter("tokens")

_EXAMPLE = {"name": "deploy script", "scope": "configure", "groups": ["Platform"]}


class TokenSchema(BaseModel):
    """A token without its secret. `prefix` is the beginning of the secret."""

    id: int
    user: str
    name: str
    prefix: str
    scope: TokenScope
    groups: list[str] = Field(description="The groups to which it is limited; empty: not limited.")
    clients: list[str] = Field(description="The clients to which it is limited; empty: not limited.")
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    last_used_from: str | None
    revoked_at: datetime | None


class CreatedTokenResponse(TokenSchema):
    token: str = Field(description="The secret. It is never shown again.")
    status_page: str | None = Field(
        description="The address of the clients' status page, with the secret in it; null unless limited to clients."
    )


class TokenFilters(PaginationQuery):
    user: str | None = None
    name: str | None = None
    revoked: bool | None = None


class NewTokenBody(Schema):
    model_config = {"extra": "forbid"}

    name: str = Field(max_length=1000, description="What it is for.")
    user: str | None = Field(
        default=None,
        description="Its owner, a user or service account; else you. Administrators create those of others.",
    )
    scope: TokenScope = Field(
        default=TokenScope.READ, description="What it may do at most. Each scope includes the previous ones."
    )
    groups: list[str] = Field(
        default=[], max_length=100, description="Groups, by name or ID. It sees and changes only what belongs to them."
    )
    clients: list[str] = Field(
        default=[],
        max_length=tokens.MAX_CLIENTS,
        description="Names of clients. It sees only their alerts and reports, and changes nothing.",
    )
    expires_at: UtcDatetime | None = Field(
        default=None,
        description="When it ends, at most three years from now. Default: in a year, or with the creating token.",
    )


@routes.get(
    "", Permission.VIEW_SELF, answers=PaginatedList[TokenSchema], summary="Your tokens; an administrator sees all"
)
def list_tokens(request: HttpRequest, query: Query[TokenFilters]) -> dict[str, Any]:
    rows = _visible(caller(request))
    if query.user is not None:
        rows = rows.filter(user=_owner(query.user, User.accounts.all()))
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.revoked is not None:
        rows = rows.filter(revoked_at__isnull=not query.revoked)
    return page(rows, query, _show)


@routes.get("/{int:id}", Permission.VIEW_SELF, answers=TokenSchema, summary="One token")
def get_token(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show([_find(caller(request), id)])[0]


@routes.post(
    "",
    Permission.MANAGE_SELF,
    status=201,
    answers=CreatedTokenResponse,
    summary="Create a token",
    extra={"requestBody": {"content": {"application/json": {"example": _EXAMPLE}}}},
)
def create_token(request: HttpRequest, body: NewTokenBody) -> dict[str, Any]:
    principal = caller(request)
    owner = principal.user
    if body.user is not None:
        owner = _owner(body.user, User.accounts.filter(is_active=True))
    if owner != principal.user and not principal.is_admin:
        raise forbidden(principal, Permission.ADMINISTER)
    created = api_tokens.create_token(
        owner,
        body.name,
        scope=body.scope,
        groups=body.groups,
        clients=body.clients,
        expires_at=body.expires_at,
        maker=principal.token,
        actor=audit_actor_of(principal),
        now=principal.now,
    )
    is_of_clients = bool(created.token.clients or owner.clients)
    status_page = reverse("status_page", args=[created.secret]) if is_of_clients else None
    return {
        **_show([created.token])[0],
        "token": created.secret,
        "status_page": status_page and request.build_absolute_uri(status_page),
    }


def _owner(name: str, rows: QuerySet[User]) -> User:
    """Return the user or service account with that name. Raises Rejected("invalid")."""
    return find_named(rows, name, label="active user", field="user", name_column="username")


@routes.delete(
    "/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Revoke a token and those that it created"
)
def revoke_token(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    tokens.revoke(_find(principal, id), actor=audit_actor_of(principal), now=principal.now)


def _visible(principal: Principal) -> QuerySet[ApiToken]:
    rows = ApiToken.objects.select_related("user")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _find(principal: Principal, token_id: int) -> ApiToken:
    return find(_visible(principal), str(token_id), label="token")


def _show(rows: Sequence[ApiToken]) -> list[dict[str, Any]]:
    return [
        show(TokenSchema, row, user=row.user.username, groups=api_tokens.group_names(row.group_ids)) for row in rows
    ]


# ---------- service accounts
# Service accounts, which own API tokens. For administrators.


service_accounts_routes = register(ApiResource(SERVICE_ACCOUNTS, list_summary="Accounts that only own tokens")).routes
