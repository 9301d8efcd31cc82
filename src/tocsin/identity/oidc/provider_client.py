"""Requests to an OpenID provider: discovery, keys, the exchange of a code, and user information.

Documents and keys are cached in the process. A key that is not among the cached ones makes them be loaded again.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import Reason
from tocsin.identity import reasons
from tocsin.identity.oidc.tokens import UnknownKey

#: For all requests of one sign-in together, in seconds.
DEADLINE = 15.0
#: How long documents and keys are used.
MAX_AGE = timedelta(hours=1)
#: Keys are loaded again for an unknown one at most this often, so that forged tokens cause no flood of requests.
MIN_AGE = timedelta(seconds=10)

_WELL_KNOWN = "/.well-known/openid-configuration"
_MAX_DOCUMENT_BYTES = 512 * 1024

_cache: dict[str, tuple[datetime, Any]] = {}
_cache_lock = threading.Lock()


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


class ProviderClient:
    """The requests of one sign-in, which end together after `DEADLINE`. Close it when done."""

    def __init__(self, settings: ProviderSettings, now: datetime) -> None:
        self.settings = settings
        self._now = now
        self._http = HttpClient(trusted=settings.allow_private)
        self._end = time.monotonic() + DEADLINE

    def __enter__(self) -> ProviderClient:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def discovery(self) -> Discovery:
        """Returns the provider's discovery document. Raises Rejected if there is none, or it is another issuer's."""
        issuer = self.settings.issuer
        # Some issuers end with a slash, which is part of their name, but not doubled in the address.
        document = self._cached(issuer.removesuffix("/") + _WELL_KNOWN, MAX_AGE)
        if document.get("issuer") != issuer:
            found = str(document.get("issuer"))[:200]
            raise Rejected("wrong_issuer", reasons.WRONG_ISSUER(found=found, expected=issuer), "issuer")
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
        response = self._request("POST", url, headers=headers, content=content)
        answer = _json_object(response.body)
        if response.status == 200 and answer is not None and isinstance(answer.get("id_token"), str):
            return answer
        if answer is None or "error" not in answer:
            raise self._unusable(url, response)
        error = _error_text(answer)
        if answer["error"] in ("invalid_client", "unauthorized_client"):
            reason = reasons.WRONG_SECRET(provider=settings.name, error=error)
            raise Rejected("invalid_client", reason, "client_secret")
        raise Rejected("code_rejected", reasons.CODE_REJECTED(provider=settings.name, error=error))

    def userinfo(self, access_token: str) -> dict[str, Any]:
        """Returns the user information of an access token. Raises Rejected."""
        url = self.discovery().userinfo_endpoint
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        response = self._request("GET", url, headers=headers)
        answer = _json_object(response.body) if response.status == 200 else None
        if answer is None:
            raise self._unusable(url, response)
        return answer

    def _keys(self, uri: str, max_age: timedelta) -> list[Mapping[str, Any]]:
        keys = self._cached(uri, max_age).get("keys")
        return [key for key in keys if isinstance(key, Mapping)] if isinstance(keys, list) else []

    def _cached(self, url: str, max_age: timedelta) -> dict[str, Any]:
        """Returns a document, which is requested again if the cached one is older than `max_age`."""
        key = f"{self.settings.allow_private} {url}"
        with _cache_lock:
            cached = _cache.get(key)
        if cached is not None and timedelta() <= self._now - cached[0] < max_age:
            return dict(cached[1])
        response = self._request("GET", url, headers={"Accept": "application/json"})
        document = _json_object(response.body) if response.status == 200 else None
        if document is None:
            raise self._unusable(url, response)
        with _cache_lock:
            _cache[key] = (self._now, document)
        return document

    def _request(self, method: str, url: str, *, headers: Mapping[str, str], content: bytes = b"") -> EgressResponse:
        try:
            return self._http.request(
                method,
                url,
                headers=headers,
                content=content,
                deadline=max(0.1, self._end - time.monotonic()),
                max_bytes=_MAX_DOCUMENT_BYTES,
            )
        except (Temporary, Permanent, OutcomeUnknown) as error:
            raise self._unreachable(error.full_reason) from None

    def _endpoint(self, document: Mapping[str, Any], name: str, *, is_required: bool = True) -> str:
        url = document.get(name)
        if not isinstance(url, str) or not url:
            if is_required:
                raise Rejected("unreachable", reasons.ENDPOINT_MISSING(name=name), "issuer")
            return ""
        if not url.startswith(("https://", "http://") if self.settings.allow_private else "https://"):
            raise self._unreachable(reasons.NOT_HTTPS())
        return url

    def _unreachable(self, error: Reason) -> Rejected:
        return Rejected("unreachable", reasons.UNREACHABLE(provider=self.settings.name, error=error), "issuer")

    def _unusable(self, url: str, response: EgressResponse) -> Rejected:
        reason = reasons.BAD_RESPONSE(
            provider=self.settings.name, url=url.partition("?")[0], status=str(response.status)
        )
        return Rejected("unreachable", reason, "issuer")


def clear_cache() -> None:
    """For tests: forgets all documents and keys."""
    with _cache_lock:
        _cache.clear()


def expire_cache(age: timedelta) -> None:
    """For tests: makes all documents and keys older."""
    with _cache_lock:
        for key, (loaded_at, document) in _cache.items():
            _cache[key] = (loaded_at - age, document)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _error_text(answer: Mapping[str, Any]) -> str:
    parts = (answer.get("error"), answer.get("error_description"))
    return ": ".join(part[:300] for part in parts if isinstance(part, str) and part)
