"""API tokens: users see their own, administrators see all. A secret is shown once, in the response that creates it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access import tokens
from tocsin.access.models import ApiToken
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller, forbidden
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.people.models import User
from tocsin.resources import registry
from tocsin.resources.lookup import find, find_named

routes = AuthorizedRouter("tokens")


class TokenSchema(BaseModel):
    """A token without its secret. `prefix` is the beginning of the secret."""

    id: int
    user: str
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class CreatedTokenResponse(TokenSchema):
    token: str = Field(description="The secret. It is never shown again.")


class TokenFilters(PaginationQuery):
    user: str | None = None
    name: str | None = None
    revoked: bool | None = None


class NewTokenBody(Schema):
    model_config = {"extra": "forbid"}

    name: str = Field(max_length=1000, description="What it is for.")
    user: str | None = Field(
        default=None, description="Whose it is; else yours. Only an administrator makes those of others."
    )


@routes.get(
    "", Permission.MANAGE_SELF, answers=PaginatedList[TokenSchema], summary="Your tokens; an administrator sees all"
)
def list_tokens(request: HttpRequest, query: Query[TokenFilters]) -> dict[str, Any]:
    rows = _visible(caller(request))
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.revoked is not None:
        rows = rows.filter(revoked_at__isnull=not query.revoked)
    return page(rows, query, _show)


@routes.get("/{int:id}", Permission.MANAGE_SELF, answers=TokenSchema, summary="One token")
def get_token(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show([_find(caller(request), id)])[0]


@routes.post(
    "",
    Permission.MANAGE_SELF,
    status=201,
    answers=CreatedTokenResponse,
    summary="Create a token",
    extra={"requestBody": {"content": {"application/json": {"example": {"name": "deploy script"}}}}},
)
def create_token(request: HttpRequest, body: NewTokenBody) -> dict[str, Any]:
    principal = caller(request)
    owner = principal.user
    if body.user is not None:
        owner = find_named(
            User.objects.filter(is_active=True), body.user, label="active user", field="user", name_column="username"
        )
    if owner != principal.user and not principal.is_admin:
        raise forbidden(principal, Permission.ADMINISTER)
    created = tokens.create(owner, body.name, actor=audit_actor_of(principal), now=principal.now)
    return {**_show([created.token])[0], "token": created.secret}


@routes.delete(
    "/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Revoke a token, at once and for good"
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
    names = ("id", "name", "prefix", "created_at", "last_used_at", "revoked_at")
    return [{**{name: getattr(row, name) for name in names}, "user": row.user.username} for row in rows]
