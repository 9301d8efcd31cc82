"""Renders the compact form that pushes and chats share: a title, a few sentences, and buttons that open a page."""

from __future__ import annotations

from dataclasses import replace

from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.interfaces import Message, MessageButton, Rendered
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting, html_sanitizer
from tocsin.notify.text.phrases import phrase

#: A longer ticket URL would leave no room for the text.
_MAX_URL_CHARS = 1000


def render(message: Message, *, longest: int, details: int) -> Rendered:
    """Returns a title and a text of at most `longest` characters. A single alert's details are limited to `details`
    characters.
    """
    first = message.alerts[0] if message.alerts else None
    link = first.link if first and len(message.alerts) == 1 else message.home
    return Rendered(
        subject=formatting.cut(sanitize(_title(message)), 200),
        text=formatting.cut(sanitize(_fitting(message, details, longest)), longest),
        buttons=_buttons(message, link),
        link=link,
        language=message.language,
        priority=min((alert.priority for alert in message.alerts), key=lambda priority: priority.rank, default=None),
    )


def _title(message: Message) -> str:
    match message.purpose:
        case Purpose.PAGE if len(message.alerts) == 1:
            alert = message.alerts[0]
            test = "TEST " if alert.is_test else ""
            return f"{test}{phrase(message.language, formatting.priority(alert))}: {formatting.headline(alert)}"
        case Purpose.PAGE:
            return phrase(message.language, "{count} alerts", count=len(message.alerts) + message.more)
        case Purpose.ALL_CLEAR:
            return phrase(message.language, "All clear")
        case Purpose.STILL_ON_IT:
            return phrase(message.language, "Still on it?")
        case Purpose.NOTICE | Purpose.TEST:
            return formatting.one_line(message.title) or "Tocsin"


def _fitting(message: Message, details: int, longest: int) -> str:
    """Returns the text. Of several alerts it names as many as fit and counts the others."""
    text = _text(message, details)
    while len(text) > longest and len(message.alerts) > 1:
        message = replace(message, alerts=message.alerts[:-1], more=message.more + 1)
        text = "\n".join(formatting.sentences(message) if len(message.alerts) > 1 else [_only(message)])
    return text


def _only(message: Message) -> str:
    return f"{formatting.named(message.alerts[0], language=message.language)}\n{formatting.and_more(message)}"


def _text(message: Message, details: int) -> str:
    lines = formatting.sentences(message)
    if message.purpose is Purpose.PAGE and len(message.alerts) == 1:
        alert = message.alerts[0]
        where = [formatting.mark(alert), formatting.one_line(alert.site, 60), formatting.one_line(alert.requester, 60)]
        if said := ", ".join(part for part in where if part):
            lines.append(said)
        if alert.long_text and details:
            lines.append(html_sanitizer.plain(alert.long_text, details))
        lines.append(f"#{alert.id}")
    return "\n".join(line for line in lines if line)


def _buttons(message: Message, link: str) -> tuple[MessageButton, ...]:
    if message.purpose not in (Purpose.PAGE, Purpose.STILL_ON_IT) or not link:
        return ()
    if len(message.alerts) > 1:
        return (MessageButton(phrase(message.language, "Open the alerts"), link),)
    label = phrase(message.language, "Acknowledge or take" if message.recipient else "Open the alert")
    ticket = formatting.one_line(message.alerts[0].source_url)
    if not ticket.startswith(("http://", "https://")) or len(ticket) > _MAX_URL_CHARS:
        return (MessageButton(label, link),)
    return (MessageButton(label, link), MessageButton(phrase(message.language, "Open the ticket"), ticket))
