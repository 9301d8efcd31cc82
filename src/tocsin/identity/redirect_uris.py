"""The addresses that are entered at an identity provider. They never change: the slug stays when the name does."""

from __future__ import annotations

from tocsin.core.config import environment
from tocsin.identity.models import IdentityProvider


def redirect_uri(provider: IdentityProvider) -> str:
    """Returns the address to which the provider sends its answers."""
    return f"{_base(provider)}login/callback/"


def logout_uri(provider: IdentityProvider) -> str:
    """Returns the address to which the provider sends back-channel logouts."""
    return f"{_base(provider)}backchannel-logout/"


def scim_uri() -> str:
    """Returns the address of the SCIM API, the same for every provider: the token says which one it is."""
    return f"{environment.current().public_url}/scim/v2"


def _base(provider: IdentityProvider) -> str:
    return f"{environment.current().public_url}/accounts/{provider.kind}/{provider.slug}/"
