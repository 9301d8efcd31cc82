"""What a push says to the service worker: title, text, where a tap leads, and the buttons with their token. Pure."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from tocsin.alerts.states import CommandKind
from tocsin.notify.integrations.web_push.encryption import MAX_PAYLOAD_BYTES
from tocsin.notify.interfaces import Rendered
from tocsin.notify.text import formatting, signed_links
from tocsin.notify.text.phrases import say

#: In this order: browsers show two, so the first two must be the ones that matter at night.
ACTS = (
    (CommandKind.ACKNOWLEDGE, "Acknowledge"),
    (CommandKind.ASSIGN, "Take it"),
    (CommandKind.CLOSE, "Close"),
)


def payload(rendered: Rendered, notification_id: str) -> bytes:
    """JSON of at most `MAX_PAYLOAD_BYTES`; what is too long is cut from the text, then from the title."""
    token = signed_links.token_of(rendered.link) if rendered.buttons else ""
    says: dict[str, Any] = {
        "id": notification_id,
        "title": rendered.subject,
        "text": rendered.text,
        "url": _path(rendered.link),
        "is_urgent": bool(rendered.buttons),
    }
    if (number := signed_links.alert_of(rendered.link)) is not None:
        # The next push about it, the all-clear included, takes this one's place.
        says["tag"] = f"alert-{number}"
    if token:
        says |= {
            "token": token,
            "acts": [{"action": str(kind), "title": say(rendered.language, label)} for kind, label in ACTS],
        }
    return _fitted(says)


def _path(link: str) -> str:
    """The link without its host: a service worker opens pages of its own origin only."""
    parts = urlsplit(link)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _fitted(says: dict[str, Any]) -> bytes:
    for key in ("text", "title"):
        data = _json(says)
        while len(data) > MAX_PAYLOAD_BYTES and says[key]:
            over = len(data) - MAX_PAYLOAD_BYTES
            says[key] = formatting.cut(says[key], max(0, len(says[key]) - max(1, over // 4)))
            data = _json(says)
    return _json(says)


def _json(says: dict[str, Any]) -> bytes:
    return json.dumps(says, ensure_ascii=False, separators=(",", ":")).encode()
