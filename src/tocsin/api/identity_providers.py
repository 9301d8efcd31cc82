"""Identity providers, which sign users in by OpenID Connect or SAML. For administrators; secrets are write-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import show
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
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
from tocsin.resources import registry
from tocsin.resources.registry import IDENTITY_PROVIDERS
from tocsin.resources.resource import find


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
