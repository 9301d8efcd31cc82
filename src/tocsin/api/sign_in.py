"""How people and programs sign in: identity providers, linked identities, signed-in devices, API tokens and service
accounts. Secrets are write-only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from tocsin.identity import commands
from tocsin.identity.models import (
    BrowserSession,
    IdentityProvider,
    LinkedIdentity,
    ProviderProtocol,
    redirect_uri,
    saml_entity_id,
    scim_uri,
)
from tocsin.identity.scim import documents
from tocsin.people.changes import api_tokens
from tocsin.people.models import User
from tocsin.resources import registry
from tocsin.resources.registry import IDENTITY_PROVIDERS, SERVICE_ACCOUNTS
from tocsin.resources.resource import find, find_named


class IdentityProviderFields(BaseModel):
    """What is shown of an identity provider besides its settings."""

    redirect_uri: str = Field(description="Address to enter at the provider, to which it sends its answers.")
    entity_id: str = Field(description="SAML: Tocsin's name, which is also the address of its metadata.")
    has_client_secret: bool = Field(description="Whether a client secret is stored.")
    scim_token_prefix: str = Field(description="Beginning of the SCIM token; empty without one.")


def _show(rows: Sequence[IdentityProvider], _principal: Principal) -> Iterator[dict[str, Any]]:
    for row, spec in zip(rows, IDENTITY_PROVIDERS.specs(rows), strict=True):
        yield {
            **spec,
            "redirect_uri": redirect_uri(row),
            "entity_id": saml_entity_id(row) if row.kind == ProviderProtocol.SAML else "",
            "has_client_secret": bool(row.client_secret),
            "scim_token_prefix": row.scim_token_prefix,
        }


IDENTITY_PROVIDERS_API = ApiResource(
    IDENTITY_PROVIDERS,
    filters={"enabled": (bool, "is_enabled")},
    show=_show,
    read_only=IdentityProviderFields,
)
routes = register(IDENTITY_PROVIDERS_API).routes


# ---------- scim tokens
# The SCIM tokens of identity providers: created, replaced and revoked by administrators, shown once.


scim_tokens_routes = IDENTITY_PROVIDERS_API.routes


class ScimTokenResponse(BaseModel):
    """What to enter at the identity provider."""

    url: str = Field(description="Address of the SCIM API.")
    token: str = Field(description="The bearer token. It is never shown again.")


@scim_tokens_routes.post(
    "/{id}/scim-token",
    Permission.ADMINISTER,
    status=201,
    answers=ScimTokenResponse,
    summary="Create the token with which the provider provisions users; an earlier one ends at once",
)
def create_scim_token(request: HttpRequest, id: str) -> dict[str, Any]:
    principal, provider = caller(request), IDENTITY_PROVIDERS_API.find(id)
    return {
        "url": scim_uri(),
        "token": documents.rotate_token(provider, actor=audit_actor_of(principal), now=principal.now),
    }


@scim_tokens_routes.delete(
    "/{id}/scim-token",
    Permission.ADMINISTER,
    status=204,
    answers=None,
    summary="End provisioning by the provider; users, and what they were given, stay",
)
def revoke_scim_token(request: HttpRequest, id: str) -> None:
    principal, provider = caller(request), IDENTITY_PROVIDERS_API.find(id)
    documents.turn_off(provider, actor=audit_actor_of(principal), now=principal.now)


# ---------- linked identities
# Links of users to identities at identity providers: users see their own, administrators see all.


linked_identities_routes = AuthorizedRouter("linked-identities")


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


@linked_identities_routes.get(
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
    return page(rows, query, _show_linked_identities)


@linked_identities_routes.get(
    "/{int:id}", Permission.VIEW_SELF, answers=LinkedIdentitySchema, summary="One linked identity"
)
def get_linked_identity(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show_linked_identities([_find(caller(request), id)])[0]


@linked_identities_routes.delete(
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


@linked_identities_routes.post(
    "/{int:id}/approve",
    Permission.ADMINISTER,
    answers=LinkedIdentitySchema,
    summary="Approve a link that a sign-in asked for",
)
def approve_linked_identity(request: HttpRequest, id: Number) -> dict[str, Any]:
    principal = caller(request)
    commands.approve_link(_find(principal, id), actor=audit_actor_of(principal), now=principal.now)
    return _show_linked_identities([_find(principal, id)])[0]


def _visible(principal: Principal) -> QuerySet[LinkedIdentity]:
    rows = LinkedIdentity.objects.select_related("user", "provider")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _find(principal: Principal, link_id: int) -> LinkedIdentity:
    return find(_visible(principal), str(link_id), label="linked identity")


def _show_linked_identities(rows: Sequence[LinkedIdentity]) -> list[dict[str, Any]]:
    return [show(LinkedIdentitySchema, row, user=row.user.username, provider=row.provider.name) for row in rows]


# ---------- signed in devices
# Browsers in which users are signed in: users see and end their own sessions, administrators all.


signed_in_devices_routes = AuthorizedRouter("signed-in-devices")


class SignedInDeviceSchema(BaseModel):
    """A browser in which a user is signed in."""

    id: str
    user: str
    provider: str | None = Field(description="Identity provider of the sign-in; null for a password or passkey.")
    address: str | None = Field(description="IP address of the sign-in.")
    user_agent: str
    created_at: datetime = Field(description="The sign-in.")
    seen_at: datetime = Field(description="The last request, to within some minutes.")


class SignedInDeviceFilters(PaginationQuery):
    user: str | None = None


@signed_in_devices_routes.get(
    "",
    Permission.VIEW_SELF,
    answers=PaginatedList[SignedInDeviceSchema],
    summary="Your signed-in devices; an administrator sees all",
)
def list_signed_in_devices(request: HttpRequest, query: Query[SignedInDeviceFilters]) -> dict[str, Any]:
    rows = _visible_signed_in_devices(caller(request))
    if query.user is not None:
        rows = rows.filter(user=registry.USERS.resolve(query.user, "user"))
    return page(rows, query, _show_signed_in_devices)


@signed_in_devices_routes.get(
    "/{id}", Permission.VIEW_SELF, answers=SignedInDeviceSchema, summary="One signed-in device"
)
def get_signed_in_device(request: HttpRequest, id: str) -> dict[str, Any]:
    return _show_signed_in_devices([_find_signed_in_devices(caller(request), id)])[0]


@signed_in_devices_routes.delete("/{id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Sign out there")
def delete_signed_in_device(request: HttpRequest, id: str) -> None:
    principal = caller(request)
    row = _find_signed_in_devices(principal, id)
    commands.end(BrowserSession.objects.filter(pk=row.pk))
    commands.record_end(row.user, 1, actor=audit_actor_of(principal), now=principal.now)


def _visible_signed_in_devices(principal: Principal) -> QuerySet[BrowserSession]:
    owner = None if principal.is_admin else principal.user
    return commands.active_sessions(owner, principal.now).select_related("user")


def _find_signed_in_devices(principal: Principal, key: str) -> BrowserSession:
    return find(_visible_signed_in_devices(principal), key, label="device", name_column="session_key")


def _show_signed_in_devices(rows: Sequence[BrowserSession]) -> list[dict[str, Any]]:
    return [
        show(
            SignedInDeviceSchema,
            row,
            id=row.pk,
            user=row.user.username,
            provider=row.provider.name if row.provider else None,
        )
        for row in rows
    ]


# ---------- tokens
# API tokens: users see their own, administrators see all. A secret is shown once, in the response that creates it.
#
# A token that creates or revokes others can do so only within its own limits.


tokens_routes = AuthorizedRouter("tokens")

_EXAMPLE = {"name": "deploy script", "scope": "configure", "groups": ["Platform"]}


class AssistantCallSchema(BaseModel):
    """A call of a tool by MCP."""

    at: datetime
    tool: str
    changes: int = Field(description="How many objects it was to change; 0: it only read.")


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
    calls: list[AssistantCallSchema] = Field(description="The last calls of an assistant that uses it, newest first.")


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


@tokens_routes.get(
    "", Permission.VIEW_SELF, answers=PaginatedList[TokenSchema], summary="Your tokens; an administrator sees all"
)
def list_tokens(request: HttpRequest, query: Query[TokenFilters]) -> dict[str, Any]:
    rows = _visible_tokens(caller(request))
    if query.user is not None:
        rows = rows.filter(user=_owner(query.user, User.accounts.all()))
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.revoked is not None:
        rows = rows.filter(revoked_at__isnull=not query.revoked)
    return page(rows, query, _show_tokens)


@tokens_routes.get("/{int:id}", Permission.VIEW_SELF, answers=TokenSchema, summary="One token")
def get_token(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show_tokens([_find_tokens(caller(request), id)])[0]


@tokens_routes.post(
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
        **_show_tokens([created.token])[0],
        "token": created.secret,
        "status_page": status_page and request.build_absolute_uri(status_page),
    }


def _owner(name: str, rows: QuerySet[User]) -> User:
    """Return the user or service account with that name. Raises Rejected("invalid")."""
    return find_named(rows, name, label="active user", field="user", name_column="username")


@tokens_routes.delete(
    "/{int:id}", Permission.MANAGE_SELF, status=204, answers=None, summary="Revoke a token and those that it created"
)
def revoke_token(request: HttpRequest, id: Number) -> None:
    principal = caller(request)
    tokens.revoke(_find_tokens(principal, id), actor=audit_actor_of(principal), now=principal.now)


def _visible_tokens(principal: Principal) -> QuerySet[ApiToken]:
    rows = ApiToken.objects.select_related("user")
    return rows if principal.is_admin else rows.filter(user=principal.user)


def _find_tokens(principal: Principal, token_id: int) -> ApiToken:
    return find(_visible_tokens(principal), str(token_id), label="token")


def _show_tokens(rows: Sequence[ApiToken]) -> list[dict[str, Any]]:
    return [
        show(
            TokenSchema,
            row,
            user=row.user.username,
            groups=api_tokens.group_names(row.group_ids),
            calls=[show(AssistantCallSchema, call) for call in tokens.last_calls(row)],
        )
        for row in rows
    ]


# ---------- service accounts
# Service accounts, which own API tokens. For administrators.


service_accounts_routes = register(ApiResource(SERVICE_ACCOUNTS, list_summary="Accounts that only own tokens")).routes
