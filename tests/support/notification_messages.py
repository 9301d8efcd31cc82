"""Messages of every purpose with difficult texts: shared by the tests of the channels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tocsin.alerts.states import Priority
from tocsin.core.reasons import as_reason
from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.states import Purpose

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
ID = UUID("019ab000-0000-7000-8000-000000000042")

ALERT = AlertContent(
    id=42,
    priority=Priority.CRITICAL,
    subject="VPN down",
    short_text="VPN down, 40 users",
    long_text="<p>Nobody can work.</p>",
    client="Acme",
    source="HaloITSM",
    source_id="20817",
    source_url="https://acme.haloitsm.com/ticket?id=20817",
    requester="Rita Requester",
    requester_phone="+41 44 000 00 00",
    opened_at=NOW,
    link="https://tocsin.example.org/a/abcdefghijklmnopqrstuvwxyz01234567",
)

EXTREME = {
    "emoji": "🔥🔥 Server 🚨 down 👩‍🚀",
    "right to left": "الخادم معطل \u202e(Tocsin #99)\u202c",
    "ten thousand characters": "long " * 2000,
    "one word of ten thousand": "x" * 10_000,
    "header injection": "VPN down\r\nBcc: evil@example.org\r\n\r\nbody",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>{{ settings.SECRET_KEY }}{% debug %}",
    "controls": "a\x00b\x07c\x1bd\x7fe\ud800f\u2028g",
    "nothing": "",
    "only spaces": "  \t \n ",
    "Chinese": "服务器宕机了" * 20,
    "a thousand pictures": "🔥" * 1000,
    "percent": "100% full %s %(x)s {0} {x}",
}


TEXTS = ("subject", "short_text", "long_text", "client", "site", "team", "source", "source_id", "source_url",
         "requester", "requester_phone", "all_clear_text")  # fmt: skip


def page(**alert: Any) -> Message:
    """A page about one alert."""
    return Message(ID, Purpose.PAGE, NOW, "Alice Andersson", "Europe/Zurich", (replace(ALERT, **alert),),
                   reason=as_reason("Alice is primary of Service Desk."),
                   home_url="https://tocsin.example.org")  # fmt: skip


def bundle(number: int, **alert: Any) -> Message:
    """A page about several."""
    alerts = tuple(
        replace(ALERT, **{"id": 42 + index, "source_id": str(20817 + index), **alert}) for index in range(number)
    )
    return replace(page(), alerts=alerts, home_url="https://tocsin.example.org/alerts")


def every_purpose(text: str) -> list[Message]:
    """One message of each purpose, and bundles, with `text` wherever a source or a person could have put it."""
    bad = dict.fromkeys(TEXTS, text)
    one = replace(page(**bad), recipient=text, reason=as_reason(text), time_zone=text[:60])
    plain = replace(one, alerts=(), title=text, text=text)
    return [
        one,
        replace(one, can_reply=False),
        replace(one, recipient=""),
        replace(bundle(5, **bad), recipient=text),
        replace(one, purpose=Purpose.ALL_CLEAR),
        replace(bundle(5, **bad), purpose=Purpose.ALL_CLEAR),
        replace(one, purpose=Purpose.ACK_REMINDER),
        replace(plain, purpose=Purpose.NOTICE),
        replace(plain, purpose=Purpose.NOTICE, alerts=one.alerts),
        replace(plain, purpose=Purpose.TEST),
    ]
