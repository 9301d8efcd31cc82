"""GLPI signs body plus timestamp, and lists a ticket's assignees among all members of its team."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from tocsin.catalogue.hooks import Headers, Payload


def is_signed(body: bytes, headers: Headers, secret: str, now: datetime) -> bool:
    """Verifies `X-GLPI-signature`: hex HMAC-SHA256 of the body followed by the timestamp header."""
    given = headers.get("x-glpi-signature", "").lower()
    at = headers.get("x-glpi-timestamp", "")
    digest = hmac.new(secret.encode(), body + at.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest.encode(), given.encode())


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Adds the first assigned user, assigned group and requester from the ticket's team to the payload."""
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
    """Returns the name of the first team member with that role and type, or ""."""
    for one in team:
        if isinstance(one, dict) and one.get("role") == role and one.get("type") == kind:
            return str(one.get("display_name") or one.get("name") or "")
    return ""
