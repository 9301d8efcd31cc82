"""The authorization code flow with PKCE: where a sign-in begins, and what becomes of the provider's answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from allauth.socialaccount.providers.oauth2.utils import generate_code_challenge

from tocsin.core.errors import Rejected
from tocsin.identity import reasons
from tocsin.identity.claims import VerifiedAnswer, read_claims
from tocsin.identity.commands import claim_names, stored_secret
from tocsin.identity.models import IdentityProvider
from tocsin.identity.oidc.provider_client import ProviderClient, ProviderSettings
from tocsin.identity.oidc.tokens import Expected, verify_id_token
from tocsin.identity.presets import PRESETS


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """What the browser's session remembers until the provider answers."""

    nonce: str
    code_verifier: str


def client_of(provider: IdentityProvider, now: datetime) -> ProviderClient:
    """Returns a client for the requests of one sign-in. Close it when done."""
    settings = ProviderSettings(
        provider.name, provider.issuer, provider.client_id, stored_secret(provider), provider.allow_private
    )
    return ProviderClient(settings, now)


def new_pending() -> tuple[PendingSignIn, str]:
    """Returns what to remember of a new sign-in, and its PKCE challenge (RFC 7636, S256)."""
    pkce = generate_code_challenge()
    challenge = pkce["code_challenge"]
    text = challenge.decode() if isinstance(challenge, bytes) else challenge
    return PendingSignIn(secrets.token_urlsafe(24), pkce["code_verifier"]), text


def authorization_url(
    provider: IdentityProvider, *, redirect_uri: str, state: str, nonce: str, challenge: str, now: datetime
) -> str:
    """Returns the URL at the provider that begins a sign-in. Raises Rejected if the provider cannot be reached."""
    with client_of(provider, now) as client:
        endpoint = client.discovery().authorization_endpoint
    parameters = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes or PRESETS[provider.preset].scopes),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"


def receive(
    provider: IdentityProvider,
    answer: Mapping[str, str],
    pending: PendingSignIn,
    *,
    redirect_uri: str,
    now: datetime,
) -> VerifiedAnswer:
    """Exchanges the code of an answer, and checks everything about it. Raises Rejected."""
    with client_of(provider, now) as client:
        discovery = client.discovery()
        # Without this check, another provider could have its own answer taken for this one's (RFC 9207).
        if answer.get("iss", provider.issuer if not discovery.sends_issuer else "") != provider.issuer:
            raise Rejected("invalid_answer", reasons.ISSUER_PARAMETER())
        if "error" in answer or not answer.get("code"):
            raise _ended(provider, answer)
        tokens = client.exchange(answer["code"], code_verifier=pending.code_verifier, redirect_uri=redirect_uri)
        expected = Expected(provider.issuer, provider.client_id, now)
        raw = client.verified(lambda keys: verify_id_token(tokens["id_token"], keys, expected, nonce=pending.nonce))
        names, subject = claim_names(provider), raw["sub"]
        claims = read_claims(raw, names, issuer=provider.issuer, subject=subject)
        access_token = tokens.get("access_token")
        is_complete = claims.email and claims.username and claims.name and claims.groups is not None
        if not is_complete and discovery.userinfo_endpoint and isinstance(access_token, str):
            userinfo = client.userinfo(access_token)
            if userinfo.get("sub") != subject:
                raise Rejected("invalid_answer", reasons.OTHER_USERINFO())
            raw = {**userinfo, **raw}
            claims = read_claims(raw, names, issuer=provider.issuer, subject=subject)
    return VerifiedAnswer(claims, raw, raw["sid"] if isinstance(raw.get("sid"), str) else "")


def _ended(provider: IdentityProvider, answer: Mapping[str, str]) -> Rejected:
    error = answer.get("error", "")[:100]
    if error == "access_denied":
        return Rejected("cancelled", reasons.CANCELLED(provider=provider.name))
    description = answer.get("error_description", "")[:300]
    text = ": ".join(filter(None, (error, description))) or "no code"
    return Rejected("provider_error", reasons.PROVIDER_ERROR(provider=provider.name, error=text))
