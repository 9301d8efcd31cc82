"""Renders a sandbox message as its channel would show it, with working buttons and keys. It never acts."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext_lazy

from tocsin.alerts.states import CommandKind
from tocsin.core.config import environment
from tocsin.notify.models import SandboxMessage
from tocsin.notify.text import signed_links
from tocsin.people import encrypted_addresses
from tocsin.web.ui.choices import channel_name
from tocsin.web.ui.richtext import safe_html

LAYOUTS = ("email", "sms", "voice", "push", "chat")

#: The keys of a phone in rows. A key with a word works if the call offers it.
KEYPAD = (
    (("1", gettext_lazy("repeat")), ("2", ""), ("3", "")),
    (("4", ""), ("5", ""), ("6", gettext_lazy("escalate"))),
    (("7", gettext_lazy("acknowledge")), ("8", gettext_lazy("take")), ("9", gettext_lazy("close"))),
)

BUTTONS = (
    (CommandKind.ACKNOWLEDGE, gettext_lazy("Acknowledge")),
    (CommandKind.ASSIGN, gettext_lazy("Assign to me")),
    (CommandKind.CLOSE, gettext_lazy("Close")),
)


def message_context(row: SandboxMessage) -> dict[str, Any]:
    """Return the template context of one message."""
    content = row.content
    link = content.get("link") or ""
    layout = "push" if row.channel == "ntfy" else row.channel if row.channel in LAYOUTS else "push"
    script = content.get("script") or {}
    return {
        "row": row,
        "channel": channel_name(row.channel),
        "address": encrypted_addresses.display_form(row.address),
        "layout": layout,
        "subject": content.get("subject", ""),
        "text": content.get("text", ""),
        "body": safe_html(content.get("text", "")),
        "has_html": bool(content.get("html")),
        "sender": parse_sender(),
        "headers": content.get("headers") or {},
        "links": [(b["label"], b["url"], local_path(b["url"])) for b in content.get("buttons") or []],
        "link": local_path(link),
        "buttons": BUTTONS if layout in ("push", "chat") and signed_links.token_of(link) else (),
        "spoken": [
            part
            for part in (script.get("greeting"), script.get("message"), script.get("message"), script.get("menu"))
            if part
        ]
        or [content.get("text", "")],
        "language": script.get("language", "en-GB"),
        "keypad": keypad(script.get("keys", "")) if layout == "voice" else (),
    }


def keypad(keys: str) -> list[list[dict[str, Any]]]:
    """Return the keys, each with its word if it works in this call."""
    return [[{"digit": d, "word": word if d in keys else "", "works": d in keys} for d, word in row] for row in KEYPAD]


def parse_sender() -> str:
    """Return the sender of e-mails."""
    return environment.current().email_from or f"Tocsin <tocsin@{urlsplit(environment.current().public_url).hostname}>"


def local_path(url: str) -> str:
    """Return the path of a URL of this installation, or "" for any other URL."""
    base = environment.current().public_url
    return url[len(base) :] or "/" if url.startswith(base) and urlsplit(url).netloc == urlsplit(base).netloc else ""
