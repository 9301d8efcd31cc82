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

#: Request headers stored with a message.
STORED_HEADERS = frozenset(
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


class CredentialStatus(StrEnum):
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
    def are_required(self) -> bool:
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
    ) -> dict[str, CredentialStatus]:
        """Returns the result for each required credential by lower-case header name. All must be VALID.

        `address` is the sender's IP address. `is_signed`, called with `now`, replaces HMAC-SHA256 over the body. A
        signed timestamp must be at most MAX_AGE from `now`.
        """
        results: dict[str, CredentialStatus] = {}
        if self.username or self.password:
            results["authorization"] = self._basic(headers.get("authorization"))
        if self.header:
            name = self.header.lower()
            results[name] = _check_value(headers.get(name), self.header_value)
        if self.signature_header:
            name = self.signature_header.lower()
            if is_signed is not None and now is not None and name in headers:
                is_valid = is_signed(body, headers, self.signature_secret, now)
                results[name] = CredentialStatus.VALID if is_valid else CredentialStatus.INVALID
            else:
                results[name] = self._signature(headers.get(name), body, headers)
            if self.timestamp_header:
                name = self.timestamp_header.lower()
                results[name] = _check_timestamp(headers.get(name), now)
        if self.networks:
            results[ADDRESS] = CredentialStatus.VALID if _is_in(address, self.networks) else CredentialStatus.INVALID
        return results

    def _basic(self, value: str | None) -> CredentialStatus:
        """Checks Basic auth (RFC 7617): "Basic " and base64 of user:password in UTF-8."""
        if value is None:
            return CredentialStatus.MISSING
        scheme, _, encoded = value.partition(" ")
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return CredentialStatus.INVALID
        expected = f"{self.username}:{self.password}".encode()
        is_valid = scheme.lower() == "basic" and hmac.compare_digest(decoded, expected)
        return CredentialStatus.VALID if is_valid else CredentialStatus.INVALID

    def _signature(self, value: str | None, body: bytes, headers: Mapping[str, str]) -> CredentialStatus:
        """Checks HMAC-SHA256 of the body, in hex or base64, with an optional `sha256=` prefix.

        With a timestamp header, the signed text is `TIME:BODY` as in Grafana, or `TIME.BODY` as in Stripe and Standard
        Webhooks:
        https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
        """
        if value is None:
            return CredentialStatus.MISSING
        signed = [body]
        if self.timestamp_header:
            time = headers.get(self.timestamp_header.lower(), "").encode("latin-1", "replace")
            signed = [time + separator + body for separator in (b":", b".")]
        signature = value.strip().removeprefix("sha256=")
        digests = [hmac.new(self.signature_secret.encode(), text, hashlib.sha256).digest() for text in signed]
        is_valid = any(
            _is_equal(signature.lower(), digest.hex()) or _is_equal(signature, base64.b64encode(digest).decode())
            for digest in digests
        )
        return CredentialStatus.VALID if is_valid else CredentialStatus.INVALID


def stored_headers(headers: Mapping[str, str], results: Mapping[str, CredentialStatus]) -> dict[str, str]:
    """Returns the headers to store: those of the allow-list, and for credentials only the result of their check."""
    stored = {
        name: value[:MAX_HEADER] for name, value in headers.items() if name in STORED_HEADERS and name not in results
    }
    return {**stored, **{name: result.value for name, result in results.items()}}


def _check_timestamp(value: str | None, now: datetime | None) -> CredentialStatus:
    """Checks that a timestamp (Unix seconds or milliseconds, or ISO 8601 with zone) is within MAX_AGE of `now`."""
    if value is None:
        return CredentialStatus.MISSING
    at = _moment(value.strip())
    is_fresh = at is not None and now is not None and abs(now - at) <= MAX_AGE
    return CredentialStatus.VALID if is_fresh else CredentialStatus.INVALID


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


def _check_value(value: str | None, expected: str) -> CredentialStatus:
    if value is None:
        return CredentialStatus.MISSING
    return CredentialStatus.VALID if _is_equal(value.strip(), expected) else CredentialStatus.INVALID


def _is_equal(value: str, expected: str) -> bool:
    return hmac.compare_digest(value.encode("utf-8", "replace"), expected.encode())
