"""Builds the payload for the service worker: title, text, target URL, and the buttons with their token. Pure."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from tocsin.notify.channels import chat_buttons
from tocsin.notify.integrations.web_push.encryption import MAX_PAYLOAD_BYTES
from tocsin.notify.interfaces import Rendered
from tocsin.notify.text import formatting, signed_links


def payload(rendered: Rendered, notification_id: str) -> bytes:
    """Returns JSON of at most `MAX_PAYLOAD_BYTES`. The text is shortened first, then the title."""
    token = signed_links.token_of(rendered.link) if rendered.buttons else ""
    values: dict[str, Any] = {
        "id": notification_id,
        "title": rendered.subject,
        "text": rendered.text,
        "url": _path(rendered.link),
        "is_urgent": bool(rendered.buttons),
    }
    if (number := signed_links.alert_of(rendered.link)) is not None:
        # A later push about the same alert, including the all-clear, replaces this one.
        values["tag"] = f"alert-{number}"
    if token:
        values |= {
            "token": token,
            # Browsers show only two buttons, so the most important two come first.
            "acts": [
                {"action": str(button), "title": chat_buttons.label(button, rendered.language)}
                for button in chat_buttons.BUTTONS
            ],
        }
    return _fit(values)


def _path(link: str) -> str:
    """Returns the link without its host: a service worker opens only pages of its own origin."""
    parts = urlsplit(link)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _fit(values: dict[str, Any]) -> bytes:
    for key in ("text", "title"):
        data = _json(values)
        while len(data) > MAX_PAYLOAD_BYTES and values[key]:
            excess = len(data) - MAX_PAYLOAD_BYTES
            values[key] = formatting.cut(values[key], max(0, len(values[key]) - max(1, excess // 4)))
            data = _json(values)
    return _json(values)


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
