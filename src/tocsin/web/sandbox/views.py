"""The sandbox: what would have been sent, drawn as what it would have been, with buttons that work.

A message holds its reader's own links, which act for them: only an administrator sees those of others.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from tocsin.access.roles import Role
from tocsin.core import config
from tocsin.notify.models import SandboxMessage
from tocsin.web import keyset
from tocsin.web.alerts.timeline import channel_name
from tocsin.web.request import Request, page
from tocsin.web.richtext import safe_html

#: Key on the phone, what it says, and the command it gives.
KEYS = (
    ("7", gettext_lazy("acknowledge"), "acknowledge"),
    ("8", gettext_lazy("take it"), "assign"),
    ("6", gettext_lazy("wake the next"), "escalate"),
    ("9", gettext_lazy("close"), "close"),
)

CHANNELS = ("email", "sms", "voice", "push", "ntfy", "chat")


@require_safe
def sandbox(request: Request) -> HttpResponse:
    """Newest first; each drawn as its channel."""
    rows = visible(request)
    chosen = request.GET.get("channel", "")
    if chosen in CHANNELS:
        rows = rows.filter(channel=chosen)
    found = keyset.by_number(rows, request.GET.get("cursor", ""), size=20)
    context = {
        "rows": [drawn(row) for row in found.rows],
        "page": found,
        "chosen": chosen,
        "channels": [(name, channel_name(name)) for name in CHANNELS],
        "sees_all": request.user.role == Role.ADMIN,
    }
    return page(request, "sandbox/sandbox.html", context, parts=("list",))


def visible(request: Request) -> QuerySet[SandboxMessage]:
    """One's own messages; an administrator sees all."""
    rows = SandboxMessage.objects.select_related("user", "alert")
    return rows if request.user.role == Role.ADMIN else rows.filter(user=request.user)


def drawn(row: SandboxMessage) -> dict[str, Any]:
    """What the template needs of one message."""
    content = row.content
    return {
        "row": row,
        "channel": channel_name(row.channel),
        "shape": row.channel if row.channel in ("email", "sms", "voice") else "push",
        "subject": content.get("subject", ""),
        "text": content.get("text", ""),
        "body": safe_html(content.get("text", "")),
        "buttons": [(b["label"], own_path(b["url"])) for b in content.get("buttons") or [] if own_path(b["url"])],
        "link": own_path(content.get("link") or ""),
        "keys": KEYS if own_path(content.get("link") or "").startswith("/a/") else (),
    }


def own_path(url: str) -> str:
    """The path of one of this installation's own addresses; empty for any other."""
    base = config.current().public_url
    return url[len(base) :] or "/" if url.startswith(base) and urlsplit(url).netloc == urlsplit(base).netloc else ""
