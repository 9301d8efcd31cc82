"""Finds the bounced notification and the reason in a delivery status notification (RFC 3464). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email import message_from_string
from email.message import EmailMessage, Message
from typing import Any
from uuid import UUID

from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.text import formatting

MAX_REASON_CHARS = 200

#: Tocsin's Message-ID: the notification id, its signed reference and its number of alerts.
_ID = re.compile(r"([0-9a-f]{8}-[0-9a-f-]{27})\.([A-Za-z0-9_-]{20,80})\.[0-9]{1,3}@")


@dataclass(frozen=True, slots=True)
class Bounce:
    """A permanent delivery failure of one of Tocsin's mails."""

    notification: UUID
    #: The unverified signed reference.
    token: str
    #: The server's diagnostic on one line; may contain the address.
    reason: str


def parse_bounce(mail: EmailMessage) -> Bounce | None:
    """Returns the bounce if the report says that one of Tocsin's mails failed, else None. A delay is not a bounce: the
    server keeps trying.
    """
    if mail.get_content_type() != "multipart/report":
        return None
    reason, original = "", ""
    for part in mail.walk():
        match part.get_content_type():
            case "message/delivery-status":
                reason = reason or _failed(part)
            case "message/rfc822":
                original = original or _message_id(part.get_payload())
            case "text/rfc822-headers":
                original = original or _message_id(message_from_string(_text(part)))
    match = _ID.search(original)
    if not reason or match is None:
        return None
    try:
        return Bounce(UUID(match[1]), match[2], reason)
    except ValueError:
        return None


def _failed(part: Message) -> str:
    """Returns the reason of the first failed recipient; empty if none failed."""
    groups: Any = part.get_payload()
    for group in groups if isinstance(groups, list) else []:
        if str(group.get("Action", "")).strip().lower() == "failed":
            diagnostic = str(group.get("Diagnostic-Code", "")).partition(";")[2] or str(group.get("Status", ""))
            return formatting.one_line(sanitize(diagnostic), MAX_REASON_CHARS) or "no reason given"
    return ""


def _message_id(payload: object) -> str:
    inner = payload[0] if isinstance(payload, list) and payload else payload
    return str(inner.get("Message-ID", "")) if isinstance(inner, Message) else ""


def _text(part: Message) -> str:
    raw = part.get_payload(decode=True)
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""
