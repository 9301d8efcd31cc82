"""The e-mail channel: subject, plain and HTML parts, and the headers for threading, importance and auto-reply
suppression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from django.template import Context, Engine, Template
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_noop

from tocsin.alerts.states import CommandChannel, Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence, translatable
from tocsin.core.validation.inputs import sanitize
from tocsin.notify.interfaces import AlertContent, Channel, Message, MessageButton, Rendered
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting, signed_links
from tocsin.notify.text.formatting import available_language, format_date, phrase

_COLOURS = {Priority.CRITICAL: "#b81414", Priority.HIGH: "#b35900", Priority.MEDIUM: "#42505f", Priority.LOW: "#667382"}
#: The icons of the pages, as characters (without the emoji's look): mail programs show neither SVG nor fonts of others.
_SYMBOLS = {
    Priority.CRITICAL: "\u26a0\ufe0e",
    Priority.HIGH: "\u21c8",
    Priority.MEDIUM: "\u2191",
    Priority.LOW: "\u2193",
}

#: RFC 5321, 4.1.2, without quoted local parts and address literals, which no person's mailbox uses.
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


class EmailChannel(Channel):
    name = "email"
    label = "Email"
    nouns = (translatable("email"), "emails")
    icon = "mail"
    address_help = translatable("an email address")
    example = "alice@example.org"
    quietness = 0
    bundle_limit = 300
    counts_omitted = False
    command_channel = CommandChannel.EMAIL
    layout = "email"

    def accepts_code(self, address: str) -> bool:
        return True

    def render(self, message: Message) -> Rendered:
        subject = sanitize(formatting.subject(message))
        first = message.alerts[0] if message.alerts else None
        return Rendered(
            subject=subject,
            text=_plain(message),
            html=_html(message, subject),
            headers=headers(message),
            buttons=tuple(MessageButton(_button(message), alert.link) for alert in message.alerts if alert.link),
            link=first.link if first else message.home_url,
            priority=first.priority if first else None,
        )

    def normalize_address(self, text: str) -> str:
        entered = text.strip()
        local, at, domain = entered.rpartition("@")
        if at and not domain.isascii():
            try:
                entered = f"{local}@{domain.encode('idna').decode()}"
            except UnicodeError:
                entered = ""
        if len(entered) > 254 or len(local) > 64 or not _ADDRESS.fullmatch(entered):
            raise Rejected(
                "invalid_address",
                sentence('"{address}" is not an email address. Enter one like ann@example.org.', address=text[:100]),
            )
        return entered


def headers(message: Message) -> dict[str, str]:
    """Returns the headers that do not depend on the provider.

    All mails about an alert reply to one message that was never sent, so that every mail program groups them in one
    thread (RFC 5322, 3.6.4). The Message-ID carries the signed reference that matches a reply to its user and alert.
    `Auto-Submitted` (RFC 3834) and Exchange's own header suppress automatic replies.
    """
    host = urlsplit(message.home_url).hostname or "localhost"
    link = message.alerts[0].link if message.alerts else ""
    values = {
        "Message-ID": signed_links.message_id(message.notification_id, link, len(message.alerts), host),
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "X-Tocsin-Purpose": str(message.purpose),
    }
    if message.alerts:
        root = f"<alert-{message.alerts[0].id}@{host}>"
        values |= {"In-Reply-To": root, "References": root}
        values["X-Tocsin-Alert"] = ", ".join(str(alert.id) for alert in message.alerts)
    if message.purpose is Purpose.PAGE and message.alerts[0].priority in (Priority.CRITICAL, Priority.HIGH):
        values |= {"Importance": "high", "X-Priority": "1"}
    return values


_SINGLE_HINT = gettext_noop("Or reply to this email with ack, assign, close or escalate on the first line.")
_BUNDLE_HINT = gettext_noop(
    "Or reply to this email with ack, assign, close or escalate and the number (ack {number}) on the first line."
)


@dataclass(frozen=True, slots=True)
class _Fact:
    label: str
    text: str
    url: str = ""


def _plain(message: Message) -> str:
    parts = ["\n".join(_lead(message))]
    parts += [_plain_alert(message, alert) for alert in message.alerts]
    parts += ["\n".join(f"{link.label}: {link.url}" for link in message.links)]
    parts.append("\n".join(_foot(message)))
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def _plain_alert(message: Message, alert: AlertContent) -> str:
    lines = [formatting.named(alert, language=message.language)]
    lines += [
        f"{fact.label}: {fact.text}{f' {fact.url}' if _is_web(fact.url) else ''}" for fact in _facts(message, alert)
    ]
    if alert.link:
        lines += ["", f"{_button(message)}: {alert.link}"]
    if details := _details(message, alert):
        lines += ["", formatting.plain(details)]
    return "\n".join(lines)


def _html(message: Message, subject: str) -> str:
    language, is_bundle = message.language, len(message.alerts) > 1
    blocks = [
        {
            "priority": f"{_SYMBOLS[alert.priority]} {formatting.priority(alert, language)}",
            "colour": _COLOURS[alert.priority],
            "is_test": alert.is_test,
            "is_vip": alert.is_vip,
            "headline": f"{f'#{alert.id} ' if is_bundle else ''}{formatting.headline(alert)}",
            "facts": _facts(message, alert),
            "link": alert.link,
            "button": _button(message),
            # Sanitised by `safe_html`: the only text in the template that is not escaped.
            "details": mark_safe(formatting.safe_html(_details(message, alert))),  # noqa: S308
        }
        for alert in message.alerts
    ]
    context = {
        "subject": subject,
        "language": available_language(language),
        "lead": list(_blocks(message)),
        "alerts": blocks,
        "links": message.links,
        "foot": _foot(message),
    }
    return _template().render(Context(context))


def _blocks(message: Message) -> Iterator[dict[str, Any]]:
    """Yields the lines of the introduction. Successive ones with tabs are the rows of a table."""
    for has_cells, lines in groupby(_lead(message), lambda line: "\t" in line):
        if has_cells:
            yield {"rows": [line.split("\t") for line in lines]}
        else:
            yield from (_line(message, line) for line in lines)


def _line(message: Message, line: str) -> dict[str, str]:
    """Returns a line of the introduction. The count of further alerts, and a URL on a line of its own, become links."""
    if message.omitted_count and line == formatting.and_more(message) and _is_web(message.home_url):
        return {"text": formatting.how_many_more(message), "url": message.home_url}
    return {"text": line, "url": line if _is_web(line) and " " not in line else ""}


@cache
def _template() -> Template:
    return Engine(dirs=[str(Path(__file__).parent)]).get_template("mail.html")


def _lead(message: Message) -> list[str]:
    """Returns the introduction before the alerts."""
    match message.purpose:
        case Purpose.PAGE if len(message.alerts) > 1:
            count = len(message.alerts) + message.omitted_count
            lead = phrase(message.language, "{count} alerts need a response.", count=count)
            storm = [message.storm] if message.storm else []
            return [lead, *storm, *([formatting.and_more(message)] if message.omitted_count else [])]
        case Purpose.PAGE:
            return []
        case Purpose.NOTICE | Purpose.TEST:
            return [line for line in formatting.notice(message).splitlines() if line.strip()]
        case Purpose.ALL_CLEAR | Purpose.ACK_REMINDER:
            return formatting.sentences(message)


def _foot(message: Message) -> list[str]:
    lines = [formatting.one_line(message.reason.localized())] if message.reason else []
    # A message that asks for a response has personal links; other links lead to a page behind the login.
    needs_answer = bool(message.recipient) and message.purpose in (Purpose.PAGE, Purpose.ACK_REMINDER)
    if message.links or (needs_answer and any(alert.link for alert in message.alerts)):
        lines.append(
            phrase(message.language, "These links are personal and valid for 7 days. Opening one changes nothing.")
        )
    if needs_answer and message.can_reply:
        hint = _BUNDLE_HINT if len(message.alerts) > 1 else _SINGLE_HINT
        hint = phrase(message.language, hint, number=message.alerts[0].id)
        lines.append(f"{hint} {phrase(message.language, 'Anything else you write is added to the alert as a note.')}")
    return lines


def _button(message: Message) -> str:
    if message.purpose is Purpose.PAGE and message.recipient:
        return phrase(message.language, "Acknowledge, assign to me or close")
    if message.purpose is Purpose.ACK_REMINDER:
        return phrase(message.language, "Acknowledge again, assign to me or close")
    return phrase(message.language, "Open the alert")


def _details(message: Message, alert: AlertContent) -> str:
    return alert.long_text if message.purpose is Purpose.PAGE and len(message.alerts) == 1 else ""


def _facts(message: Message, alert: AlertContent) -> list[_Fact]:
    line = formatting.one_line
    ticket = formatting.mark(alert)
    phone = line(alert.requester_phone, 50)
    number = re.sub(r"[^0-9+]", "", phone)
    facts = [
        _Fact(gettext_noop("Summary"), line(alert.short_text, 500) if alert.short_text != alert.subject else ""),
        _Fact(gettext_noop("Ticket"), ticket, line(alert.source_url) if _is_web(alert.source_url) else ""),
        _Fact(gettext_noop("Client"), line(alert.client, 200)),
        _Fact(gettext_noop("Site"), line(alert.site, 200)),
        _Fact(gettext_noop("Team"), line(alert.team, 200)),
        _Fact(gettext_noop("Requester"), line(alert.requester, 200)),
        _Fact(gettext_noop("Phone"), phone, f"tel:{quote(number)}" if number else ""),
        _Fact(gettext_noop("Opened"), _moment(alert.opened_at, message.time_zone, message.language)),
        _Fact(gettext_noop("Respond by"), _deadline(alert.respond_by, message)),
        _Fact(gettext_noop("Fix by"), _deadline(alert.fix_by, message)),
        _Fact(gettext_noop("Messages"), str(alert.count) if alert.count > 1 else ""),
    ]
    return [replace(fact, label=phrase(message.language, fact.label)) for fact in facts if fact.text]


def _deadline(at: datetime | None, message: Message) -> str:
    """Returns a moment of the SLA with the time left: "25 November 2026, 11:15 CET (in 12 minutes)"."""
    if at is None:
        return ""
    language, left = message.language, phrase(message.language, "overdue")
    if at > message.at:
        left = phrase(language, "in {span}", span=formatting.time_left(at, message.at, language))
    return f"{_moment(at, message.time_zone, language)} ({left})"


def _moment(at: datetime | None, zone: str, language: str) -> str:
    if at is None:
        return ""
    try:
        local = at.astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError):
        local = at
    return format_date(language, local)


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))
