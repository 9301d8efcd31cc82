"""Links of users to identities at identity providers: users see their own, administrators see all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.identity import commands
from tocsin.identity.models import LinkedIdentity
from tocsin.resources import registry
from tocsin.resources.lookup import find

routes = AuthorizedRouter("linked-identities")


class LinkedIdentitySchema(BaseModel):
    """A user's identity at a provider, by which the user signs in."""

    id: int
    user: str
    provider: str
    issuer: str
    subject: str = Field(description="How the provider names the user: the subject, or by SAML the NameID.")
    created_at: datetime
    signed_in_at: datetime = Field(description="The last sign-in by it.")
    awaits_approval: bool = Field(
        description="A sign-in asked for the link to an administrator or break-glass account; it opens nothing yet."
    )


class LinkedIdentityFilters(PaginationQuery):
    user: str | None = None
    provider: str | None = None


@routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PaginatedList[LinkedIdentitySchema],
    summary="Your identities at identity providers; an administrator sees all",
)
def list_linked_identities(request: HttpRequest, query: Query[LinkedIdentityFilters]) -> dict[str, Any]:
    rows = _visible(caller(request))
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    if query.provider is not None:
        rows = rows.filter(provider__name__iexact=query.provider)
    return page(rows, query, _show)


@routes.get("/{int:id}", Permission.VIEW_SELF, answers=LinkedIdentitySchema, summary="One linked identity")
def get_linked_identity(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show([_find(caller(request), id)])[0]


@routes.delete(
    "/{int:id}",
    Permission.MANAGE_SELF,
    status=204,
    answers=None,
    summary="Remove the link; your own last way to sign in stays",
)
def delete_linked_identity(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    link = _find(principal, id)
    is_own = link.user_id == principal.user.pk
    commands.remove_link(link, is_own=is_own, actor=audit_actor_of(principal), now=principal.now)


@routes.post(
    "/{int:id}/approve",
    Permission.ADMINISTER,
    answers=LinkedIdentitySchema,
    summary="Approve a link that a sign-in asked for",
)
def approve_linked_identity(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal = caller(request)
    commands.approve_link(_find(principal, id), actor=audit_actor_of(principal), now=principal.now)
    return _show([_find(principal, id)])[0]


def _visible(principal: Principal) -> QuerySet[LinkedIdentity]:
    rows = LinkedIdentity.objects.select_related("user", "provider")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _find(principal: Principal, link_id: int) -> LinkedIdentity:
    return find(_visible(principal), str(link_id), label="linked identity")


def _show(rows: Sequence[LinkedIdentity]) -> list[dict[str, Any]]:
    return [
        {
            "id": row.pk,
            "user": row.user.username,
            "provider": row.provider.name,
            "issuer": row.issuer,
            "subject": row.subject,
            "created_at": row.created_at,
            "signed_in_at": row.signed_in_at,
            "awaits_approval": row.awaits_approval,
        }
        for row in rows
    ]
