"""OpenID Connect: discovery, the exchange of a code, and the checks of tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from allauth.socialaccount.providers.oauth2.utils import generate_code_challenge
from django.core.cache import cache

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.identity import commands, reasons
from tocsin.identity.commands import claim_names, stored_secret
from tocsin.identity.models import PRESETS, BrowserSession, IdentityProvider
from tocsin.identity.oidc_tokens import (
    MAX_AGE,
    MAX_LOGOUT_AGE,
    MIN_AGE,
    DocumentClient,
    Expected,
    UnknownKey,
    verify_id_token,
    verify_logout_token,
)
from tocsin.identity.role_mapping import VerifiedAnswer, read_claims
from tocsin.identity.sign_in import VIA

# ---------- provider client
# Requests to an OpenID provider: discovery, keys, the exchange of a code, and user information.
#
# A key that is not among the cached ones makes them be loaded again.


_WELL_KNOWN = "/.well-known/openid-configuration"
#: Where a provider that does not answer is to be corrected.
_FIELD = "issuer"


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What is configured of an OpenID provider."""

    name: str
    issuer: str
    client_id: str
    client_secret: str
    allow_private: bool


@dataclass(frozen=True, slots=True)
class Discovery:
    """The part of a discovery document that Tocsin uses."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    #: Empty: none.
    userinfo_endpoint: str
    uses_basic_auth: bool
    #: Whether every answer names its issuer (RFC 9207).
    sends_issuer: bool


class ProviderClient(DocumentClient):
    """The requests of one sign-in by OpenID Connect."""

    def __init__(self, settings: ProviderSettings, now: datetime) -> None:
        super().__init__(settings.name, now, allow_private=settings.allow_private)
        self.settings = settings

    def discovery(self) -> Discovery:
        """Returns the provider's discovery document. Raises Rejected if there is none, or it is another issuer's."""
        issuer = self.settings.issuer
        # Some issuers end with a slash, which is part of their name, but not doubled in the address.
        document = self._json(issuer.removesuffix("/") + _WELL_KNOWN, MAX_AGE)
        if document.get("issuer") != issuer:
            found = str(document.get("issuer"))[:200]
            raise Rejected("wrong_issuer", reasons.WRONG_ISSUER(found=found, expected=issuer), _FIELD)
        methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Discovery(
            self._endpoint(document, "authorization_endpoint"),
            self._endpoint(document, "token_endpoint"),
            self._endpoint(document, "jwks_uri"),
            self._endpoint(document, "userinfo_endpoint", is_required=False),
            "client_secret_basic" in methods,
            document.get("authorization_response_iss_parameter_supported") is True,
        )

    def verified[T](self, verify: Callable[[list[Mapping[str, Any]]], T]) -> T:
        """Returns what `verify` makes of the provider's keys: of new ones, if it raises UnknownKey with the cached."""
        uri = self.discovery().jwks_uri
        try:
            return verify(self._keys(uri, MAX_AGE))
        except UnknownKey:
            return verify(self._keys(uri, MIN_AGE))

    def exchange(self, code: str, *, code_verifier: str, redirect_uri: str) -> dict[str, Any]:
        """Exchanges a code for tokens. Raises Rejected with the provider's error."""
        discovery, settings = self.discovery(), self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": code_verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if settings.client_secret and discovery.uses_basic_auth:
            pair = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": settings.client_id, "client_secret": settings.client_secret}
        content = urlencode({name: value for name, value in form.items() if value}).encode()
        url = discovery.token_endpoint
        response = self.request("POST", url, headers=headers, content=content, field=_FIELD)
        answer = _json_object(response.body)
        if response.status == 200 and answer is not None and isinstance(answer.get("id_token"), str):
            return answer
        if answer is None or "error" not in answer:
            raise self.unusable(url, response, _FIELD)
        error = _error_text(answer)
        if answer["error"] in ("invalid_client", "unauthorized_client"):
            reason = reasons.WRONG_SECRET(provider=settings.name, error=error)
            raise Rejected("invalid_client", reason, "client_secret")
        raise Rejected("code_rejected", reasons.CODE_REJECTED(provider=settings.name, error=error))

    def userinfo(self, access_token: str) -> dict[str, Any]:
        """Returns the user information of an access token. Raises Rejected."""
        url = self.discovery().userinfo_endpoint
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        response = self.request("GET", url, headers=headers, field=_FIELD)
        answer = _json_object(response.body) if response.status == 200 else None
        if answer is None:
            raise self.unusable(url, response, _FIELD)
        return answer

    def _keys(self, uri: str, max_age: timedelta) -> list[Mapping[str, Any]]:
        keys = self._json(uri, max_age).get("keys")
        return [key for key in keys if isinstance(key, Mapping)] if isinstance(keys, list) else []

    def _json(self, url: str, max_age: timedelta) -> dict[str, Any]:
        return self.document(url, _json_object, accept="application/json", field=_FIELD, max_age=max_age)

    def _endpoint(self, document: Mapping[str, Any], name: str, *, is_required: bool = True) -> str:
        url = document.get(name)
        if not isinstance(url, str) or not url:
            if is_required:
                raise Rejected("unreachable", reasons.ENDPOINT_MISSING(name=name), _FIELD)
            return ""
        if not url.startswith(("https://", "http://") if self.settings.allow_private else "https://"):
            raise self.unreachable(reasons.NOT_HTTPS(), _FIELD)
        return url


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _error_text(answer: Mapping[str, Any]) -> str:
    parts = (answer.get("error"), answer.get("error_description"))
    return ": ".join(part[:300] for part in parts if isinstance(part, str) and part)


# ---------- authorization
# The authorization code flow with PKCE: where a sign-in begins, and what becomes of the provider's answer.


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


# ---------- logout
# Back-channel logout: a provider ends the sessions of a user, or one of them.


def receive_logout(provider: IdentityProvider, token: str, *, now: datetime) -> int:
    """Ends the sessions that a logout token names, and returns their number. Raises Rejected for a token that is not
    the provider's, or was used before."""
    expected = Expected(provider.issuer, provider.client_id, now)
    with client_of(provider, now) as client:
        claims = client.verified(lambda keys: verify_logout_token(token, keys, expected))
    digest = hashlib.sha256(f"{provider.pk} {claims['jti']}".encode()).hexdigest()
    if not cache.add(f"logout {digest}", True, 2 * MAX_LOGOUT_AGE.total_seconds()):
        raise Rejected("replayed", reasons.REPLAYED())
    named = {name: claims[claim] for name, claim in (("sid", "sid"), ("subject", "sub")) if claims.get(claim)}
    ended = commands.end(BrowserSession.objects.filter(provider=provider, **named))
    after, about = {"subject": named.get("subject", ""), "sessions": ended}, audit.about("identity_provider", provider)
    audit.record(AuditActor(None, provider.name, VIA), "backchannel_logout", now=now, after=after, **about)
    return ended
