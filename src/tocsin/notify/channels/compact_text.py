"""Renders the compact form that pushes and chats share: a title, a few sentences, and buttons that open a page."""

from __future__ import annotations

from dataclasses import replace

from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.interfaces import Message, MessageButton, Rendered
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting, html_sanitizer
from tocsin.notify.text.phrases import alert_count, phrase

#: A longer ticket URL would leave no room for the text.
_MAX_URL_CHARS = 1000


def render(message: Message, *, max_chars: int, max_details_chars: int) -> Rendered:
    """Returns a title and a text of at most `max_chars` characters. A single alert's details are limited to
    `max_details_chars` characters.
    """
    first = message.alerts[0] if message.alerts else None
    link = first.link if first and len(message.alerts) == 1 else message.home_url
    return Rendered(
        subject=formatting.cut(sanitize(_title(message)), 200),
        text=formatting.cut(sanitize(_fit_text(message, max_details_chars, max_chars)), max_chars),
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
            return f"{test}{formatting.marked_priority(alert, message.language)}: {formatting.headline(alert)}"
        case Purpose.PAGE:
            worst = min(message.alerts, key=lambda alert: alert.priority.rank)
            count = alert_count(message.language, len(message.alerts) + message.omitted_count)
            return f"{formatting.marked_priority(worst, message.language)}: {count}"
        case Purpose.ALL_CLEAR:
            return phrase(message.language, "All clear")
        case Purpose.ACK_REMINDER:
            return phrase(message.language, "Still on it?")
        case Purpose.NOTICE | Purpose.TEST:
            return formatting.one_line(message.title) or "Tocsin"


def _fit_text(message: Message, max_details_chars: int, max_chars: int) -> str:
    """Returns the text. Of several alerts it names as many as fit and counts the others."""
    text = _text(message, max_details_chars)
    while len(text) > max_chars and len(message.alerts) > 1:
        message = replace(message, alerts=message.alerts[:-1], omitted_count=message.omitted_count + 1)
        text = "\n".join(formatting.sentences(message) if len(message.alerts) > 1 else [_first_and_count(message)])
    return text


def _first_and_count(message: Message) -> str:
    return f"{formatting.named(message.alerts[0], language=message.language)}\n{formatting.and_more(message)}"


def _text(message: Message, max_details_chars: int) -> str:
    lines = formatting.sentences(message)
    if message.purpose is Purpose.PAGE and len(message.alerts) == 1:
        alert = message.alerts[0]
        origin = [formatting.mark(alert), formatting.one_line(alert.site, 60), formatting.one_line(alert.requester, 60)]
        if origin_line := ", ".join(part for part in origin if part):
            lines.append(origin_line)
        if deadline := formatting.deadline(alert, message.at, message.language):
            lines.append(deadline)
        if alert.long_text and max_details_chars:
            lines.append(html_sanitizer.plain(alert.long_text, max_details_chars))
        lines.append(f"#{alert.id}")
    return "\n".join(line for line in lines if line)


def _buttons(message: Message, link: str) -> tuple[MessageButton, ...]:
    if message.purpose not in (Purpose.PAGE, Purpose.ACK_REMINDER) or not link:
        return ()
    if len(message.alerts) > 1:
        return (MessageButton(phrase(message.language, "Open the alerts"), link),)
    label = (
        phrase(message.language, "Acknowledge or assign to me")
        if message.recipient
        else phrase(message.language, "Open the alert")
    )
    ticket = formatting.one_line(message.alerts[0].source_url)
    if not ticket.startswith(("http://", "https://")) or len(ticket) > _MAX_URL_CHARS:
        return (MessageButton(label, link),)
    return (MessageButton(label, link), MessageButton(phrase(message.language, "Open the ticket"), ticket))
