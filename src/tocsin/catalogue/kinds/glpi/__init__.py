"""GLPI signs the body and the time after it; and who has a ticket stands in a list of everybody around it."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from tocsin.catalogue.hooks import Headers, Payload


def is_signed(body: bytes, headers: Headers, secret: str, now: datetime) -> bool:
    """Whether `X-GLPI-signature` is HMAC-SHA256, in hex, of the body and the header of the time."""
    given = headers.get("x-glpi-signature", "").lower()
    at = headers.get("x-glpi-timestamp", "")
    digest = hmac.new(secret.encode(), body + at.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest.encode(), given.encode())


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """The payload with the names of those whom its team lists, by what they are to the ticket."""
    item = payload.get("item")
    team = item.get("team") if isinstance(item, dict) else None
    if not isinstance(team, list) or "assigned" in payload:
        return [payload]
    found = {
        "assigned": _named(team, "assigned", "User"),
        "assigned_group": _named(team, "assigned", "Group"),
        "requester": _named(team, "requester", "User"),
    }
    return [{**payload, **found}]


def _named(team: list[object], role: str, kind: str) -> str:
    """The first of the team with that role and type, by name; "" for nobody."""
    for one in team:
        if isinstance(one, dict) and one.get("role") == role and one.get("type") == kind:
            return str(one.get("display_name") or one.get("name") or "")
    return ""
