"""What an integration may ask of its senders beside the secret URL: Basic, a header, a signature. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

#: Headers whose values are credentials: of them the log keeps only whether they were there and right.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})

#: The headers of a message that are kept.
KEPT_HEADERS = frozenset(
    {
        "content-type",
        "content-length",
        "user-agent",
        "x-request-id",
        "x-forwarded-for",
        "x-halo-event",
        "x-github-event",
        "x-gitlab-event",
        "date",
    }
)

MAX_HEADER = 300


class Proof(StrEnum):
    """How a credential was found."""

    VALID = "present, valid"
    INVALID = "present, not valid"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What must be right, each only when set. Secrets are kept out of `repr`."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    header: str = ""
    header_value: str = field(default="", repr=False)
    signature_header: str = ""
    signature_secret: str = field(default="", repr=False)

    @property
    def are_asked(self) -> bool:
        """Whether anything beside the URL is asked."""
        return bool(self.password or self.username or self.header or self.signature_header)

    def check(self, headers: Mapping[str, str], body: bytes) -> dict[str, Proof]:
        """How each asked credential was found, by lower-case header name. All must be VALID."""
        found: dict[str, Proof] = {}
        if self.username or self.password:
            found["authorization"] = self._basic(headers.get("authorization"))
        if self.header:
            name = self.header.lower()
            found[name] = _compare(headers.get(name), self.header_value)
        if self.signature_header:
            name = self.signature_header.lower()
            found[name] = self._signature(headers.get(name), body)
        return found

    def _basic(self, value: str | None) -> Proof:
        """RFC 7617: "Basic " and base64 of user:password, UTF-8."""
        if value is None:
            return Proof.MISSING
        scheme, _, encoded = value.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return Proof.INVALID
        wanted = f"{self.username}:{self.password}".encode()
        is_right = scheme.lower() == "basic" and hmac.compare_digest(given, wanted)
        return Proof.VALID if is_right else Proof.INVALID

    def _signature(self, value: str | None, body: bytes) -> Proof:
        """HMAC-SHA256 of the body, in hex or base64, with or without `sha256=` before it."""
        if value is None:
            return Proof.MISSING
        digest = hmac.new(self.signature_secret.encode(), body, hashlib.sha256).digest()
        given = value.strip().removeprefix("sha256=")
        is_right = _same(given.lower(), digest.hex()) or _same(given, base64.b64encode(digest).decode())
        return Proof.VALID if is_right else Proof.INVALID


def kept_headers(headers: Mapping[str, str], proofs: Mapping[str, Proof]) -> dict[str, str]:
    """Of a message's headers what may be kept: an allow-list, and of credentials how they were found."""
    kept = {name: value[:MAX_HEADER] for name, value in headers.items() if name in KEPT_HEADERS and name not in proofs}
    return {**kept, **{name: proof.value for name, proof in proofs.items()}}


def _compare(given: str | None, wanted: str) -> Proof:
    if given is None:
        return Proof.MISSING
    return Proof.VALID if _same(given.strip(), wanted) else Proof.INVALID


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
