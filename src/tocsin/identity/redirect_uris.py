"""The addresses that are entered at an identity provider. They never change: the slug stays when the name does."""

from __future__ import annotations

from tocsin.core.config import environment
from tocsin.identity.models import IdentityProvider
from tocsin.identity.presets import ProviderProtocol


def redirect_uri(provider: IdentityProvider) -> str:
    """Returns the address to which the provider sends its answers."""
    return f"{_base(provider)}{'login/callback/' if provider.kind == ProviderProtocol.OIDC else 'acs/'}"


def saml_entity_id(provider: IdentityProvider) -> str:
    """Returns the name by which a SAML provider knows Tocsin, which is also the address of Tocsin's metadata."""
    return f"{_base(provider)}metadata/"


def logout_uri(provider: IdentityProvider) -> str:
    """Returns the address to which the provider sends back-channel logouts."""
    return f"{_base(provider)}backchannel-logout/"


def scim_uri() -> str:
    """Returns the address of the SCIM API, the same for every provider: the token says which one it is."""
    return f"{environment.current().public_url}/scim/v2"


def _base(provider: IdentityProvider) -> str:
    return f"{environment.current().public_url}/accounts/{provider.kind}/{provider.slug}/"
