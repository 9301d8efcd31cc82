"""The SCIM tokens of identity providers: created, replaced and revoked by administrators, shown once."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import audit_actor_of, caller
from tocsin.api.people.identity_providers import IDENTITY_PROVIDERS_API
from tocsin.identity.redirect_uris import scim_uri
from tocsin.identity.scim import tokens

routes = IDENTITY_PROVIDERS_API.routes


class ScimTokenResponse(BaseModel):
    """What to enter at the identity provider."""

    url: str = Field(description="Address of the SCIM API.")
    token: str = Field(description="The bearer token. It is never shown again.")


@routes.post(
    "/{id}/scim-token",
    Permission.ADMINISTER,
    status=201,
    answers=ScimTokenResponse,
    summary="Create the token with which the provider provisions users; an earlier one ends at once",
)
def create_scim_token(request: HttpRequest, id: str) -> dict[str, Any]:
    principal, provider = caller(request), IDENTITY_PROVIDERS_API.find(id)
    return {"url": scim_uri(), "token": tokens.rotate(provider, actor=audit_actor_of(principal), now=principal.now)}


@routes.delete(
    "/{id}/scim-token",
    Permission.ADMINISTER,
    status=204,
    answers=None,
    summary="End provisioning by the provider; users, and what they were given, stay",
)
def revoke_scim_token(request: HttpRequest, id: str) -> None:
    principal, provider = caller(request), IDENTITY_PROVIDERS_API.find(id)
    tokens.turn_off(provider, actor=audit_actor_of(principal), now=principal.now)
