"""What an integration may ask of its senders beside the secret URL: Basic, a header, a signature, an address. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tocsin.core.config import Network

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

#: How the log calls the proof that a request came from an address that may send.
ADDRESS = "sender's address"

#: A sender's own scheme of signature: (body, headers, secret, now) → whether it is right.
type Signed = Callable[[bytes, Mapping[str, str], str, datetime], bool]


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
    #: No credential of a sender's: the mailbox that is read for the integration, and its password.
    mailbox: str = ""
    mailbox_password: str = field(default="", repr=False)
    #: From where requests may come; () anywhere.
    networks: tuple[Network, ...] = ()

    @property
    def are_asked(self) -> bool:
        """Whether anything beside the URL is asked."""
        return bool(self.password or self.username or self.header or self.signature_header or self.networks)

    def check(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        address: str | None = None,
        is_signed: Signed | None = None,
        now: datetime | None = None,
    ) -> dict[str, Proof]:
        """How each asked credential was found, by lower-case header name. All must be VALID.

        `address` is the sender's; `is_signed` (with `now`) takes the place of HMAC-SHA256 over the body.
        """
        found: dict[str, Proof] = {}
        if self.username or self.password:
            found["authorization"] = self._basic(headers.get("authorization"))
        if self.header:
            name = self.header.lower()
            found[name] = _compare(headers.get(name), self.header_value)
        if self.signature_header:
            name = self.signature_header.lower()
            if is_signed is not None and now is not None and name in headers:
                right = is_signed(body, headers, self.signature_secret, now)
                found[name] = Proof.VALID if right else Proof.INVALID
            else:
                found[name] = self._signature(headers.get(name), body)
        if self.networks:
            found[ADDRESS] = Proof.VALID if _is_in(address, self.networks) else Proof.INVALID
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


def _is_in(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed.version == network.version and parsed in network for network in networks)


def _compare(given: str | None, wanted: str) -> Proof:
    if given is None:
        return Proof.MISSING
    return Proof.VALID if _same(given.strip(), wanted) else Proof.INVALID


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
