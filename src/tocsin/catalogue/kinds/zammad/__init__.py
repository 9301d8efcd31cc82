"""Zammad signs the body with HMAC-SHA1, in hex, and its default payload names no event."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from tocsin.catalogue.hooks import Headers, Payload

#: A ticket is created in several steps, each of which is an update.
_MAX_CREATION: Final = timedelta(seconds=10)


def is_signed(body: bytes, headers: Headers, secret: str, now: datetime) -> bool:
    """Verifies `X-Hub-Signature`: "sha1=" followed by the hex HMAC-SHA1 of the body."""
    signature = headers.get("x-hub-signature", "").removeprefix("sha1=").lower()
    return hmac.compare_digest(hmac.new(secret.encode(), body, hashlib.sha1).hexdigest().encode(), signature.encode())


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Adds the event "created" to the message about a ticket that was just created."""
    ticket = payload.get("ticket")
    if "event" in payload or not isinstance(ticket, dict) or ticket.get("article_count") != 1:
        return [payload]
    with suppress(TypeError, ValueError):
        created, updated = (datetime.fromisoformat(str(ticket.get(name))) for name in ("created_at", "updated_at"))
        if updated - created < _MAX_CREATION:
            return [{**payload, "event": "created"}]
    return [payload]
