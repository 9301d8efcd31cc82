"""Checks sender credentials beyond the webhook URL: Basic auth, a header, a signature, networks. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tocsin.core.config.environment import Network

#: Headers that contain credentials: the log keeps only whether they were present and valid.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})

#: Request headers stored with a message.
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

#: A signed timestamp further from now is rejected as a replay.
MAX_AGE = timedelta(minutes=5)

#: The name in the log for the check of the sender's IP address.
ADDRESS = "sender's address"

#: A sender's own signature scheme: (body, headers, secret, now) → whether the signature is valid.
type SignatureCheck = Callable[[bytes, Mapping[str, str], str, datetime], bool]


class CredentialSource(StrEnum):
    """The result of checking one credential."""

    VALID = "present, valid"
    INVALID = "present, not valid"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials required, each only if set. Secrets are kept out of `repr`."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    header: str = ""
    header_value: str = field(default="", repr=False)
    signature_header: str = ""
    signature_secret: str = field(default="", repr=False)
    #: The header with the timestamp that the signature covers; "": it covers the body alone, so replays are possible.
    timestamp_header: str = ""
    #: Not a sender's credential: the mailbox to poll for the integration, and its password.
    mailbox: str = ""
    mailbox_password: str = field(default="", repr=False)
    #: Networks that requests may come from; (): any.
    networks: tuple[Network, ...] = ()

    @property
    def are_asked(self) -> bool:
        """Whether anything besides the webhook URL is required."""
        return bool(self.password or self.username or self.header or self.signature_header or self.networks)

    def check(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        address: str | None = None,
        is_signed: SignatureCheck | None = None,
        now: datetime | None = None,
    ) -> dict[str, CredentialSource]:
        """Returns the result for each required credential by lower-case header name. All must be VALID.

        `address` is the sender's IP address. `is_signed`, called with `now`, replaces HMAC-SHA256 over the body. A
        signed timestamp must be at most MAX_AGE from `now`.
        """
        found: dict[str, CredentialSource] = {}
        if self.username or self.password:
            found["authorization"] = self._basic(headers.get("authorization"))
        if self.header:
            name = self.header.lower()
            found[name] = _compare(headers.get(name), self.header_value)
        if self.signature_header:
            name = self.signature_header.lower()
            if is_signed is not None and now is not None and name in headers:
                right = is_signed(body, headers, self.signature_secret, now)
                found[name] = CredentialSource.VALID if right else CredentialSource.INVALID
            else:
                found[name] = self._signature(headers.get(name), body, headers)
            if self.timestamp_header:
                name = self.timestamp_header.lower()
                found[name] = _freshness(headers.get(name), now)
        if self.networks:
            found[ADDRESS] = CredentialSource.VALID if _is_in(address, self.networks) else CredentialSource.INVALID
        return found

    def _basic(self, value: str | None) -> CredentialSource:
        """Checks Basic auth (RFC 7617): "Basic " and base64 of user:password in UTF-8."""
        if value is None:
            return CredentialSource.MISSING
        scheme, _, encoded = value.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return CredentialSource.INVALID
        wanted = f"{self.username}:{self.password}".encode()
        is_right = scheme.lower() == "basic" and hmac.compare_digest(given, wanted)
        return CredentialSource.VALID if is_right else CredentialSource.INVALID

    def _signature(self, value: str | None, body: bytes, headers: Mapping[str, str]) -> CredentialSource:
        """Checks HMAC-SHA256 of the body, in hex or base64, with an optional `sha256=` prefix.

        With a timestamp header, the signed text is `TIME:BODY` as in Grafana, or `TIME.BODY` as in Stripe and Standard
        Webhooks:
        https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
        """
        if value is None:
            return CredentialSource.MISSING
        signed = [body]
        if self.timestamp_header:
            time = headers.get(self.timestamp_header.lower(), "").encode("latin-1", "replace")
            signed = [time + mark + body for mark in (b":", b".")]
        given = value.strip().removeprefix("sha256=")
        digests = [hmac.new(self.signature_secret.encode(), text, hashlib.sha256).digest() for text in signed]
        is_right = any(
            _same(given.lower(), digest.hex()) or _same(given, base64.b64encode(digest).decode()) for digest in digests
        )
        return CredentialSource.VALID if is_right else CredentialSource.INVALID


def stored_headers(headers: Mapping[str, str], proofs: Mapping[str, CredentialSource]) -> dict[str, str]:
    """Returns the headers to store: those of the allow-list, and for credentials only the result of their check."""
    kept = {name: value[:MAX_HEADER] for name, value in headers.items() if name in KEPT_HEADERS and name not in proofs}
    return {**kept, **{name: proof.value for name, proof in proofs.items()}}


def _freshness(value: str | None, now: datetime | None) -> CredentialSource:
    """Checks that a timestamp (Unix seconds or milliseconds, or ISO 8601 with zone) is within MAX_AGE of `now`."""
    if value is None:
        return CredentialSource.MISSING
    at = _moment(value.strip())
    is_fresh = at is not None and now is not None and abs(now - at) <= MAX_AGE
    return CredentialSource.VALID if is_fresh else CredentialSource.INVALID


def _moment(text: str) -> datetime | None:
    try:
        if text.isascii() and text.isdecimal() and len(text) <= 13:
            return datetime.fromtimestamp(int(text) / (1000 if len(text) == 13 else 1), UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return at if at.tzinfo is not None else None


def _is_in(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed.version == network.version and parsed in network for network in networks)


def _compare(given: str | None, wanted: str) -> CredentialSource:
    if given is None:
        return CredentialSource.MISSING
    return CredentialSource.VALID if _same(given.strip(), wanted) else CredentialSource.INVALID


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
