"""The signed reference that matches a mail reply to its alert and user. It is part of the Message-ID, which mail
programs repeat in `In-Reply-To` and `References`, and of the Reply-To address, for servers that rewrite ids. Pure.

The reference names the user and alert of the mail's own link but opens no page, because message ids appear in server
logs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parseaddr
from uuid import UUID

from tocsin.notify.text import signed_links

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
    token = signed_links.reference_of(link)
    return f"<{notification_id}.{token}.{alerts}@{host}>" if token else f"<{notification_id}@{host}>"


def reply_to(address: str, link: str) -> str:
    """Returns `address` tagged with the reference of `link`, such as `alerts+mfrgg…@example.org`; unchanged if the link
    has none.
    """
    token = signed_links.reference_of(link)
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
