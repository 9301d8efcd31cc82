"""Documents of identity providers, such as their keys: requested, and cached in the process.

A document that does not help, such as keys without the one that signed, can be requested again.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import jwt
from jwt.types import Options

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import Reason, sentence
from tocsin.identity import reasons
from tocsin.identity.role_mapping import storable

#: For all requests of one sign-in together, in seconds.
DEADLINE = 15.0
#: How long documents are used.
MAX_AGE = timedelta(hours=1)
#: They are requested again at most this often, so that forged answers cause no flood of requests.
MIN_AGE = timedelta(seconds=10)

_MAX_DOCUMENT_BYTES = 1024 * 1024

#: By address: when it was loaded, and what was made of it.
DOCUMENTS: dict[str, tuple[datetime, Any]] = {}


class DocumentClient:
    """The requests of one sign-in to a provider, which end together after `DEADLINE`. Close it when done."""

    def __init__(self, provider_name: str, now: datetime, *, allow_private: bool) -> None:
        self._provider_name, self._now, self._allow_private = provider_name, now, allow_private
        self._http = HttpClient(trusted=allow_private)
        self._end = time.monotonic() + DEADLINE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def document[T](
        self, url: str, parse: Callable[[bytes], T | None], *, accept: str, field: str, max_age: timedelta = MAX_AGE
    ) -> T:
        """Returns what `parse` makes of a document, which is requested again if the cached one is older than `max_age`.

        Raises Rejected, with `field`, if there is none.
        """
        key = f"{self._allow_private} {url}"
        cached = DOCUMENTS.get(key)
        if cached is not None and timedelta() <= self._now - cached[0] < max_age:
            found: T = cached[1]
            return found
        response = self.request("GET", url, headers={"Accept": accept}, field=field)
        document = parse(response.body) if response.status == 200 else None
        if document is None:
            raise self.unusable(url, response, field)
        DOCUMENTS[key] = (self._now, document)
        return document

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], field: str, content: bytes = b""
    ) -> EgressResponse:
        """Sends one request. Raises Rejected("unreachable"), with `field`."""
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
            raise self.unreachable(error.full_reason, field) from None

    def unreachable(self, error: Reason, field: str) -> Rejected:
        """Returns the error that the provider does not answer."""
        return Rejected("unreachable", reasons.UNREACHABLE(provider=self._provider_name, error=error), field)

    def unusable(self, url: str, response: EgressResponse, field: str) -> Rejected:
        """Returns the error that the provider answered something else."""
        reason = reasons.BAD_RESPONSE(
            provider=self._provider_name, url=url.partition("?")[0], status=str(response.status)
        )
        return Rejected("unreachable", reason, field)


# ---------- tokens
# Checks tokens that an OpenID provider signed: OpenID Connect Core 3.1.3.7, Back-Channel Logout 2.6. Pure.
#
# PyJWT checks the signature only. The times are checked here, by the `now` of the request.


#: How far the clocks of Tocsin and of a provider may differ.
MAX_SKEW = timedelta(seconds=60)
#: A logout token older than this is not accepted, and used ones are remembered for twice as long.
MAX_LOGOUT_AGE = timedelta(minutes=5)

#: Accepted algorithms and the key type of each. None of them is symmetric, so that no public key serves as a secret.
KEY_TYPES: Mapping[str, str] = {
    **{
        f"{family}{bits}": kty
        for family, kty in (("RS", "RSA"), ("PS", "RSA"), ("ES", "EC"))
        for bits in (256, 384, 512)
    },
    "EdDSA": "OKP",
}

_SIGNATURE_ONLY: Options = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_MAX_TOKEN_CHARS = 100_000
#: Shorter RSA keys are no proof of anybody (NIST SP 800-131A).
MIN_RSA_BITS = 2048
#: Seconds since 1970 of the year 9999.
_LATEST = 253_402_300_800
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class UnknownKey(Rejected):
    """The token names a key that is not among the given ones. The provider may have new ones."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to agree with."""

    issuer: str
    client_id: str
    now: datetime
    max_skew: timedelta = MAX_SKEW


def verify_service_token(token: str, keys: Sequence[Mapping[str, Any]], expected: Expected) -> dict[str, Any]:
    """Returns the claims of a token by which a service signs its own requests. Raises Rejected("invalid_token"), or
    UnknownKey."""
    claims = _verify(token, keys, expected, types=("", "jwt", "at+jwt"), begin="nbf")
    _check_expiry(claims, expected)
    return claims


def verify_id_token(token: str, keys: Sequence[Mapping[str, Any]], expected: Expected, *, nonce: str) -> dict[str, Any]:
    """Returns the claims of an ID token. Raises Rejected("invalid_token"), or UnknownKey."""
    claims = _verify(token, keys, expected, types=("", "jwt", "application/jwt"))
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise _invalid(reasons.WRONG_NONCE())
    _check_expiry(claims, expected)
    if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255:
        raise _invalid(reasons.CLAIM_MISSING(claim="sub"))
    return claims


def verify_logout_token(token: str, keys: Sequence[Mapping[str, Any]], expected: Expected) -> dict[str, Any]:
    """Returns the claims of a back-channel logout token: `sub`, `sid` or both, and a `jti` for the caller to remember.

    Raises Rejected("invalid_token"), or UnknownKey.
    """
    claims = _verify(token, keys, expected, types=("", "jwt", "logout+jwt", "application/logout+jwt"))
    events = claims.get("events")
    is_logout = isinstance(events, Mapping) and isinstance(events.get(_LOGOUT_EVENT), Mapping)
    # An ID token has a nonce: it must not pass for a logout token.
    if not is_logout or "nonce" in claims:
        raise _invalid(sentence("The token is not a logout token."))
    if "exp" in claims:
        _check_expiry(claims, expected)
    if _moment(claims, "iat") < (expected.now - MAX_LOGOUT_AGE).timestamp():
        raise _invalid(reasons.EXPIRED())
    if not isinstance(claims.get("jti"), str) or not claims["jti"]:
        raise _invalid(reasons.CLAIM_MISSING(claim="jti"))
    if not any(isinstance(claims.get(name), str) and claims[name] for name in ("sub", "sid")):
        raise _invalid(reasons.CLAIM_MISSING(claim="sub"))
    return claims


def _verify(
    token: str, keys: Sequence[Mapping[str, Any]], expected: Expected, *, types: tuple[str, ...], begin: str = "iat"
) -> dict[str, Any]:
    """Returns the claims of a token whose type, signature, issuer, audience and begin are right."""
    if len(token) > _MAX_TOKEN_CHARS:
        raise _invalid(reasons.MALFORMED())
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise _invalid(reasons.MALFORMED()) from None
    algorithm = str(header.get("alg"))
    if algorithm not in KEY_TYPES:
        raise _invalid(reasons.ALGORITHM(algorithm=algorithm[:40]))
    if "crit" in header or str(header.get("typ", "")).lower() not in types:
        raise _invalid(reasons.MALFORMED())
    claims = _decode(token, _key(header, algorithm, keys), algorithm)
    for name in ("sub", "sid", "jti"):
        if isinstance(claims.get(name), str):
            storable(claims[name], name)
    if claims.get("iss") != expected.issuer:
        raise _invalid(reasons.WRONG_ISSUER(found=str(claims.get("iss"))[:200], expected=expected.issuer))
    _check_audience(claims, expected.client_id)
    latest = (expected.now + expected.max_skew).timestamp()
    if _moment(claims, begin) > latest or ("nbf" in claims and _moment(claims, "nbf") > latest):
        raise _invalid(reasons.NOT_YET_VALID())
    return claims


def _key(header: Mapping[str, Any], algorithm: str, keys: Sequence[Mapping[str, Any]]) -> Any:
    """Returns the key that a token names, for its algorithm only. Without a name, the only one of that type."""
    fitting = [
        key
        for key in keys
        if key.get("kty") == KEY_TYPES[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and ("kid" not in header or key.get("kid") == header["kid"])
    ]
    if len(fitting) != 1:
        raise UnknownKey("invalid_token", reasons.UNKNOWN_KEY())
    try:
        key = jwt.PyJWK(dict(fitting[0]), algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, KeyError, TypeError):
        raise UnknownKey("invalid_token", reasons.UNKNOWN_KEY()) from None
    if KEY_TYPES[algorithm] == "RSA" and key.key_size < MIN_RSA_BITS:
        raise UnknownKey("invalid_token", reasons.WEAK_SIGNATURE(bits=key.key_size, minimum=MIN_RSA_BITS))
    return key


def _decode(token: str, key: Any, algorithm: str) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=[algorithm], options=_SIGNATURE_ONLY)
    except jwt.InvalidSignatureError:
        raise _invalid(reasons.BAD_SIGNATURE()) from None
    except (jwt.PyJWTError, ValueError, TypeError):
        raise _invalid(reasons.MALFORMED()) from None
    return claims


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    party = claims.get("azp")
    is_ambiguous = len(audiences) > 1 and party is None
    if client_id not in audiences or is_ambiguous or (party is not None and party != client_id):
        raise _invalid(reasons.WRONG_AUDIENCE())


def _check_expiry(claims: Mapping[str, Any], expected: Expected) -> None:
    if _moment(claims, "exp") <= (expected.now - expected.max_skew).timestamp():
        raise _invalid(reasons.EXPIRED())


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if value is None:
        raise _invalid(reasons.CLAIM_MISSING(claim=name))
    # JSON's NaN is later than no moment and earlier than none; an integer may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LATEST:
        raise _invalid(reasons.INVALID_CLAIM(claim=name))
    return float(value)


def _invalid(reason: Reason) -> Rejected:
    return Rejected("invalid_token", reason)
