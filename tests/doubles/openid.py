"""An OpenID provider that answers whatever a test wants, forged tokens included."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.doubles.http import HttpDouble, Request, Response, http_double

CLIENT_ID, CLIENT_SECRET = "tocsin", "a-client-secret"


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A key of its own for each name; made once, because that takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "weak" else 2048)


def public_pem(name: str) -> bytes:
    return rsa_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(name: str) -> dict[str, Any]:
    found = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(name).public_key(), as_dict=True)
    return {**found, "kid": name, "use": "sig", "alg": "RS256"}


def unsigned(claims: Mapping[str, Any]) -> str:
    """A token with `alg: none`."""
    parts = ({"alg": "none", "typ": "JWT", "kid": "first"}, dict(claims))
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def signed_with_public_key(claims: Mapping[str, Any], name: str) -> str:
    """A token whose HMAC secret is the provider's public key (key confusion)."""
    import hmac

    header = {"alg": "HS256", "typ": "JWT", "kid": name}
    body = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, dict(claims))
    )
    mac = hmac.new(public_pem(name), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@dataclass
class OpenIdDouble:
    """Its tokens are right, unless a test changes something."""

    http: HttpDouble
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    #: Names of the published keys, and of the one that signs.
    keys: list[str] = field(default_factory=lambda: ["first"])
    signs_with: str = "first"
    #: Makes the ID token of the right claims.
    forge: Callable[[dict[str, Any]], str] | None = None
    #: Replaces the discovery document's values.
    discovery: dict[str, Any] = field(default_factory=dict)
    token_answer: Response | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    authorizations: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return self.http.url

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        headers = {"kid": self.signs_with, **header}
        return jwt.encode(dict(claims), rsa_key(self.signs_with), algorithm="RS256", headers=headers)

    def authorize(self, url: str, **changes: str) -> str:
        """What the browser does at the provider: returns the path of the callback to which it is sent back."""
        asked = dict(parse_qsl(urlsplit(url).query))
        code = f"code-{len(self.authorizations)}"
        self.authorizations[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.issuer, **changes}
        target = urlsplit(asked["redirect_uri"])
        return f"{target.path}?{urlencode(answer)}"

    def answer(self, request: Request) -> Response:
        match urlsplit(request.path).path:
            case "/.well-known/openid-configuration":
                return _json(
                    {
                        "issuer": self.issuer,
                        "authorization_endpoint": f"{self.issuer}/authorize",
                        "token_endpoint": f"{self.issuer}/token",
                        "jwks_uri": f"{self.issuer}/keys",
                        "userinfo_endpoint": f"{self.issuer}/userinfo",
                        **self.discovery,
                    }
                )
            case "/keys":
                return _json({"keys": [jwk(name) for name in self.keys]})
            case "/token":
                return self.token_answer or self._token(request)
            case "/userinfo":
                return _json({"sub": self.claims.get("sub"), **self.userinfo})
        return Response(404)

    def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {pair}":
            return _json({"error": "invalid_client", "error_description": "wrong secret"}, 401)
        asked = self.authorizations.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if asked is None or asked["code_challenge"] != challenge.decode() or asked["code_challenge_method"] != "S256":
            return _json({"error": "invalid_grant"}, 400)
        now = self.now()
        right = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=5)).timestamp()),
            "nonce": asked["nonce"],
            **self.claims,
        }
        claims = {name: value for name, value in right.items() if value is not None}
        token = self.forge(claims) if self.forge else self.sign(claims)
        return _json({"access_token": "access", "token_type": "Bearer", "id_token": token})


def _json(document: Mapping[str, Any], status: int = 200) -> Response:
    return Response(status, json.dumps(document).encode())


@contextmanager
def openid_double() -> Iterator[OpenIdDouble]:
    """A running provider."""
    with http_double() as http:
        double = OpenIdDouble(http)
        http.answering = double.answer
        yield double
