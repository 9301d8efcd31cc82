"""Identity providers, which sign users in by OpenID Connect or SAML. For administrators; secrets are write-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, Field

from tocsin.api.framework.auth import Principal
from tocsin.api.framework.resources import ApiResource, register
from tocsin.identity.models import IdentityProvider
from tocsin.identity.presets import ProviderProtocol
from tocsin.identity.redirect_uris import redirect_uri, saml_entity_id
from tocsin.resources.registry import IDENTITY_PROVIDERS


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
