"""Signs and verifies the personal links in mails and pushes: for one user and one alert or swap, valid for seven days.
Acts on nothing.

A token is short, because text messages carry it: base64url (RFC 4648, 5) of the alert's and the user's ids, the minute
it expires, and the first 16 bytes of an HMAC-SHA256 over those.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from enum import StrEnum
from uuid import UUID

from tocsin.core.config import crypto
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text

VALID_FOR = timedelta(days=7)

_MAC = 16
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
#: Longer input cannot be a valid token and is not decoded.
_MAX_TOKEN_CHARS = 80
_OF_ALERT = re.compile(r"//[^/]+(?:/a/(?P<token>[\w-]{20,80})|/alerts/(?P<number>\d{1,18}))/?$", re.ASCII)

_EXPIRED = Text("This link has expired. Sign in instead.")
_INVALID = Text("This link is incomplete or was not created by this installation. Sign in instead.")


class LinkSubject(StrEnum):
    """What a token is about. One for another subject is invalid."""

    ALERT = "link"
    #: An alert, in a place that others can read.
    REFERENCE = "reference"
    SWAP = "swap"
    #: All active alerts about which the user was paged.
    PAGED = "paged"


def sign(subject_id: int, user_id: int, now: datetime, subject: LinkSubject = LinkSubject.ALERT) -> str:
    """Returns a token of about 34 URL-safe characters: for seven days from `now`, `user_id` may act on the subject."""
    minute = -((_EPOCH - now - VALID_FOR) // _MINUTE)
    payload = _number(subject_id) + _number(user_id) + minute.to_bytes(4)
    return _encode_signed(payload, subject)


def verify(token: str, now: datetime, subject: LinkSubject = LinkSubject.ALERT) -> tuple[int, int]:
    """Returns the subject's id and the user id of a token made by `sign` with any of the known keys.

    Raises Rejected("invalid_link") or Rejected("expired_link").
    """
    payload = _payload(token, subject)
    try:
        subject_id, remainder = _read_number(payload)
        user_id, remainder = _read_number(remainder)
    except IndexError:
        raise _invalid() from None
    if now >= _EPOCH + int.from_bytes(remainder) * _MINUTE:
        raise Rejected("expired_link", _EXPIRED())
    return subject_id, user_id


def reference_of(link: str) -> str:
    """Returns a reference to a personal link for places that others can read, such as a message id. It names the same
    user and alert and expires at the same time, but opens no page. Empty for any other link.
    """
    try:
        return _encode_signed(_payload(token_of(link), LinkSubject.ALERT), LinkSubject.REFERENCE)
    except Rejected:
        return ""


def verify_reference(token: str, now: datetime) -> tuple[int, int]:
    """Returns the alert id and user id of a reference made by `reference_of`. Raises Rejected as `verify` does."""
    return verify(token, now, LinkSubject.REFERENCE)


def path(token: str, subject: LinkSubject = LinkSubject.ALERT) -> str:
    """Returns the path of the page that a token opens."""
    return f"/swap/{token}" if subject is LinkSubject.SWAP else f"/a/{token}"


def alert_of(link: str) -> int | None:
    """Returns the alert id of a link made here, personal or not; None for any other link, as that of several alerts.

    Does not verify the signature: only for messages that Tocsin itself has made.
    """
    match = _OF_ALERT.search(link)
    if match is None:
        return None
    if match["number"]:
        return int(match["number"])
    try:
        return _read_number(base64.urlsafe_b64decode(match["token"] + "=" * (-len(match["token"]) % 4)))[0] or None
    except (binascii.Error, ValueError, IndexError):
        return None


def token_of(link: str) -> str:
    """Returns the signed personal token in a link; empty without one."""
    match = _OF_ALERT.search(link)
    return match["token"] or "" if match else ""


def _encode_signed(payload: bytes, subject: LinkSubject) -> str:
    return base64.urlsafe_b64encode(payload + _mac(crypto.secret_keys()[0], payload, subject)).rstrip(b"=").decode()


def _payload(token: str, subject: LinkSubject) -> bytes:
    if len(token) > _MAX_TOKEN_CHARS or not token.isascii():
        raise _invalid()
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid() from None
    payload, mac = raw[:-_MAC], raw[-_MAC:]
    keys = crypto.secret_keys()
    if not payload or not any(hmac.compare_digest(mac, _mac(key, payload, subject)) for key in keys):
        raise _invalid()
    return payload


def _invalid() -> Rejected:
    return Rejected("invalid_link", _INVALID())


def _mac(key: str, payload: bytes, subject: LinkSubject) -> bytes:
    # A separate key per subject, so that no other signature or token can be used as a link.
    subject_key = hashlib.sha256(f"{subject}:{key}".encode()).digest()
    return hmac.digest(subject_key, payload, "sha256")[:_MAC]


def _number(value: int) -> bytes:
    """Encodes `value` in groups of 7 bits, least significant first; all but the last have the high bit set (LEB128)."""
    if value < 0:
        raise ValueError("numbers of rows are not negative")
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _read_number(data: bytes) -> tuple[int, bytes]:
    value, shift, index = 0, 0, 0
    while data[index] & 128:
        value |= (data[index] & 127) << shift
        shift, index = shift + 7, index + 1
    return value | data[index] << shift, data[index + 1 :]


# ---------- message ids
# The signed reference that matches a mail reply to its alert and user. It is part of the Message-ID, which mail
# programs repeat in `In-Reply-To` and `References`, and of the Reply-To address, for servers that rewrite ids. Pure.
#
# The reference names the user and alert of the mail's own link but opens no page, because message ids appear in server
# logs.


_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}\.([A-Za-z0-9_-]{20,80})\.([0-9]{1,3})@")
#: In an address, the token consists of lower-case letters and digits only, because some servers change the case of
#: local parts.
_TAG = re.compile(r"\+([a-z2-7]{30,64})@", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MessageReference:
    """An unverified token, and the number of alerts in the mail."""

    token: str
    alert_count: int = 1


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """The address that users reply to."""

    address: str
    #: Whether the address may carry a tag, which survives servers that rewrite message ids.
    is_tagged: bool = False

    def headers(self, link: str) -> dict[str, str]:
        """Returns the Reply-To header of a mail with this link."""
        return {"Reply-To": reply_to(self.address, link) if self.is_tagged else self.address}


def message_id(notification_id: UUID, link: str, alerts: int, host: str) -> str:
    """Returns the Message-ID of a mail with this link. Without a personal link, it carries no reference."""
    token = reference_of(link)
    return f"<{notification_id}.{token}.{alerts}@{host}>" if token else f"<{notification_id}@{host}>"


def reply_to(address: str, link: str) -> str:
    """Returns `address` tagged with the link's reference, if any, such as `alerts+mfrgg…@example.org`."""
    token = reference_of(link)
    local, at, domain = parseaddr(address)[1].rpartition("@")
    if not token or not at:
        return address
    tag = base64.b32encode(_bytes(token)).decode().rstrip("=").lower()
    # RFC 5321, 4.5.3.1.1: at most 64 characters before the @.
    return f"{local}+{tag}@{domain}" if len(local) + 1 + len(tag) <= 64 else address


def find_references(ids: str, addresses: Iterable[str]) -> list[MessageReference]:
    """Returns the references in `In-Reply-To` and `References`, the latest first, then those in addresses."""
    references = [MessageReference(match[1], int(match[2])) for match in _ID.finditer(ids)]
    tags = [match[1] for address in addresses if (match := _TAG.search(address))]
    return [*reversed(references), *(MessageReference(token) for tag in tags if (token := _token(tag)))]


def _token(tag: str) -> str:
    try:
        raw = base64.b32decode(tag.upper() + "=" * (-len(tag) % 8))
    except binascii.Error:
        return ""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
