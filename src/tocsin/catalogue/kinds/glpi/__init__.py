"""GLPI signs body plus timestamp, and lists a ticket's assignees among all members of its team."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from tocsin.catalogue.hooks import Headers, Payload


def is_signed(body: bytes, headers: Headers, secret: str, now: datetime) -> bool:
    """Verifies `X-GLPI-signature`: hex HMAC-SHA256 of the body followed by the timestamp header."""
    signature = headers.get("x-glpi-signature", "").lower()
    timestamp = headers.get("x-glpi-timestamp", "")
    digest = hmac.new(secret.encode(), body + timestamp.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest.encode(), signature.encode())


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Adds the first assigned user, assigned group and requester from the ticket's team to the payload."""
    item = payload.get("item")
    team = item.get("team") if isinstance(item, dict) else None
    if not isinstance(team, list) or "assigned" in payload:
        return [payload]
    names = {
        "assigned": _member_name(team, "assigned", "User"),
        "assigned_group": _member_name(team, "assigned", "Group"),
        "requester": _member_name(team, "requester", "User"),
    }
    return [{**payload, **names}]


def _member_name(team: list[object], role: str, kind: str) -> str:
    """Returns the name of the first team member with that role and type, or ""."""
    for member in team:
        if isinstance(member, dict) and member.get("role") == role and member.get("type") == kind:
            return str(member.get("display_name") or member.get("name") or "")
    return ""
