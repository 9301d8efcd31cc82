"""Formats alerts and messages as subjects, headlines and sentences for all channels. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import nh3
from django.utils.formats import date_format
from django.utils.translation import ngettext, pgettext
from django.utils.translation.trans_real import get_languages

from tocsin.alerts.states import Priority
from tocsin.core.reasons import Reason, in_locale, local_duration, translate
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.states import Purpose

# ---------- phrases
# The fixed phrases of mails, text messages and pushes in the recipient's language.
#
# Mail subjects and command words (ack, take, close) are the same in every language: mail threads and users' habits
# depend on them.


def available_language(language: str) -> str:
    """Returns the language of a message: "de" for "de-ch"; "en" if the language is not available."""
    offered, code = get_languages(), language.lower()
    if code not in offered:
        code = code.partition("-")[0]
    return code if code in offered else "en"


def localize(reason: Reason, language: str) -> str:
    """Returns the sentence of `reason` in the language of a message, with its moments in UTC."""
    return reason.localized(available_language(language), UTC)


def in_language(language: str, zone: tzinfo | None = None) -> AbstractContextManager[Any]:
    """Activates the language of a message, and a time zone, for a `with` block."""
    return in_locale(available_language(language), zone)


def phrase(language: str, text: str, **values: object) -> str:
    """Returns `text` in `language`, or unchanged if there is no translation, with the placeholders filled in."""
    translated = translate(text, available_language(language))
    return translated.format(**values) if values else translated


def format_date(language: str, local: datetime) -> str:
    """Returns a date and time, such as "25 November 2026, 11:03 CET" or "25. November 2026, 11:03 CET"."""
    with in_language(language):
        day = date_format(local, pgettext("date in a mail", "j F Y"))
    return f"{day}, {local:%H:%M %Z}"


def alert_count(language: str, count: int) -> str:
    """Returns a number of alerts, such as "12 alerts"."""
    with in_language(language):
        return ngettext("{count} alert", "{count} alerts", count).format(count=count)


def spoken_phrase(context: str, text: str, language: str, **values: object) -> str:
    """Returns what a phone call says in a language, in English if it is not available, with the placeholders filled in.

    A vendor's voice says it, so its wording follows the ear, and it has a context of its own in the catalogues of
    translations: a priority agrees with "alert" in gender, and a menu names the keys in order.
    """
    with in_language(language):
        return pgettext(context, text).format(**values)


def voice_of(language: str) -> str:
    """Returns the BCP 47 tag of the voice that speaks a language, as in the names of voices."""
    return spoken_phrase("phone call", "en-GB", language)


#: The maximum length of a source's subject in a headline.
MAX_HEADLINE_CHARS = 200

#: Like the pages' colours: red and orange for what is urgent, none for the rest.
_DOTS = {Priority.CRITICAL: "🔴", Priority.HIGH: "🟠"}

#: Short names of sources.
_SHORT_NAMES = {"haloitsm": "Halo", "halopsa": "Halo", "haloservicedesk": "Halo"}

#: Explicit text direction marks are removed: they could reverse the numbers and names that follow.
_DIRECTIONS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")


def one_line(text: str, max_chars: int | None = None) -> str:
    """Returns `text` on one line without control characters and direction marks, cut to `max_chars` characters."""
    line = " ".join(_CONTROLS.sub(" ", _DIRECTIONS.sub("", text)).split())
    return line if max_chars is None else cut(line, max_chars)


def cut(text: str, max_chars: int) -> str:
    """Returns at most `max_chars` characters of `text`, ended by "…", at a word if one is near."""
    if len(text) <= max_chars:
        return text
    if max_chars < 2:
        return text[:max_chars]
    beginning = text[: max_chars - 1]
    at = beginning.rfind(" ")
    return (beginning[:at] if at > max_chars * 0.6 else beginning).rstrip(" ,;:.-–") + "…"


def headline(alert: AlertContent, max_chars: int = MAX_HEADLINE_CHARS) -> str:
    """Returns the client and subject, such as "Acme: VPN down". A long client is shortened first."""
    subject = one_line(alert.subject) or "Alert without a subject"
    client = one_line(alert.client, 60)
    return cut(f"{client}: {subject}" if client else subject, max_chars)


def mark(alert: AlertContent) -> str:
    """Returns the source's own number, such as "Halo 20817"; empty without one."""
    number = one_line(alert.source_id, 40)
    return f"{source(alert)} {number}".strip() if number else ""


def source(alert: AlertContent) -> str:
    """Returns the source's short name, such as "Halo" for HaloITSM."""
    name = one_line(alert.source, 30)
    return _SHORT_NAMES.get(name.lower(), name)


def subject(message: Message) -> str:
    """Returns the subject of a mail, such as "[P1 Critical] Acme: VPN down (Halo 20817) (Tocsin #42)". It stays the
    same for an alert, so that mail programs keep its mails in one thread.
    """
    if not message.alerts:
        title = one_line(message.title, MAX_HEADLINE_CHARS) or "Tocsin"
        return f"[Tocsin] {title}" if message.purpose is Purpose.NOTICE else title
    first = message.alerts[0]
    if len(message.alerts) > 1:
        return _bundle_subject(message)
    if message.purpose is Purpose.NOTICE:
        return f"[Tocsin] {one_line(message.title, MAX_HEADLINE_CHARS)} (Tocsin #{first.id})"
    parts = [f"[{priority(first)}]", headline(first)]
    if first.is_test:
        parts.insert(0, "[TEST]")
    if source_mark := mark(first):
        parts.append(f"({source_mark})")
    return " ".join([*parts, f"(Tocsin #{first.id})"])


def _bundle_subject(message: Message) -> str:
    first, *remaining = message.alerts
    count = len(message.alerts) + message.omitted_count
    if message.purpose is Purpose.NOTICE:
        return f"[Tocsin] {one_line(message.title, MAX_HEADLINE_CHARS)} (Tocsin #{first.id})"
    if message.purpose is Purpose.ALL_CLEAR:
        return f"All clear for {count} alerts (Tocsin #{first.id})"
    worst = min(message.alerts, key=lambda alert: alert.priority.rank)
    summary = f"{headline(first, 100)} (Tocsin #{first.id}) and {len(remaining) + message.omitted_count} more"
    return f"[{priority(worst)}] {count} alerts: {summary}"


def priority(alert: AlertContent, language: str = "") -> str:
    """Returns the priority as it is shown everywhere, such as "P1 Critical"."""
    return f"P{alert.priority.rank + 1} {phrase(language, alert.priority.capitalize())}"


def marked_priority(alert: AlertContent, language: str = "") -> str:
    """Returns the priority for a push or chat, which have no colours of their own: "🔴 P1 Critical"."""
    return f"{_DOTS.get(alert.priority, '')} {priority(alert, language)}".lstrip()


def deadline(alert: AlertContent, now: datetime, language: str) -> str:
    """Returns how much time the SLA leaves, such as "Respond within 12 minutes"; empty without one."""
    if alert.respond_by is not None:
        if alert.respond_by <= now:
            return phrase(language, "Response overdue")
        return phrase(language, "Respond within {span}", span=time_left(alert.respond_by, now, language))
    if alert.fix_by is not None:
        if alert.fix_by <= now:
            return phrase(language, "Resolution overdue")
        return phrase(language, "Resolve within {span}", span=time_left(alert.fix_by, now, language))
    return ""


def time_left(at: datetime, now: datetime, language: str) -> str:
    """Returns the time until `at`, to the minute from two minutes on: "12 minutes"."""
    left = at - now
    if left > timedelta(minutes=2):
        left -= left % timedelta(minutes=1)
    with in_language(language):
        return local_duration(left, ago=True)


def short(alert: AlertContent) -> str:
    """Returns the alert's short text, else its subject, for a text message or a call."""
    return one_line(alert.short_text) or one_line(alert.subject) or "Alert without a subject"


def first_name(name: str) -> str:
    """Returns the first name, for the greeting of a call."""
    return one_line(name, 60).split(" ")[0]


def named(alert: AlertContent, max_chars: int = MAX_HEADLINE_CHARS, language: str = "") -> str:
    """Returns an alert as an entry of a list, such as "#42 P1 Critical Acme: VPN down (Halo 20817)"."""
    source_mark = mark(alert)
    return (
        f"#{alert.id} {priority(alert, language)} "
        f"{headline(alert, max_chars)}{f' ({source_mark})' if source_mark else ''}"
    )


def ack_reminder_question(language: str, recipient_name: str) -> str:
    """Returns the question, with the name if it is known."""
    if recipient_name:
        return phrase(language, "Still on it, {who}?", who=recipient_name)
    return phrase(language, "Still on it?")


def ack_reminder_hint(language: str) -> str:
    """Returns what to do about an acknowledgement reminder, and what happens otherwise."""
    return phrase(language, "Acknowledge again within 5 minutes, or others are paged.")


def sentences(message: Message) -> list[str]:
    """Returns the message as plain sentences, one per alert: for pushes, chats and the plain part of mails."""
    more = [and_more(message)] if message.omitted_count else []
    match message.purpose:
        case Purpose.ALL_CLEAR:
            return [*(all_clear_text(alert, message.language) for alert in message.alerts), *more]
        case Purpose.ACK_REMINDER:
            question = ack_reminder_question(message.language, first_name(message.recipient))
            hint = ack_reminder_hint(message.language)
            return [f"{question} {headline(alert)} (#{alert.id}). {hint}" for alert in message.alerts]
        case Purpose.PAGE if len(message.alerts) > 1:
            return [*(named(alert, language=message.language) for alert in message.alerts), *more]
        case Purpose.PAGE:
            return [short(alert) for alert in message.alerts]
        case _:
            return [notice(message)]


def and_more(message: Message) -> str:
    """Returns the count of alerts that a message covers but does not name, with a link: "And 12 more: https://…"."""
    return f"{how_many_more(message)}: {message.home_url}" if message.home_url else f"{how_many_more(message)}."


def how_many_more(message: Message) -> str:
    """Returns "And 12 more", where the words themselves become the link."""
    return phrase(message.language, "And {more} more", more=message.omitted_count)


def all_clear_text(alert: AlertContent, language: str = "") -> str:
    """Returns the text of an all-clear, such as "Taken by Alice: VPN down (#42). Nothing to do." """
    return one_line(alert.all_clear_text) or phrase(
        language, "Alert #{number} no longer needs a response. No action needed.", number=alert.id
    )


def notice(message: Message) -> str:
    """Returns the text of a notice or test, with its line breaks."""
    text = sanitize(message.text).strip() or one_line(message.title)
    return text or phrase(message.language, "No further details.")


def listed(names: Iterable[str]) -> str:
    """Joins names, such as "Alice", "Alice and Bob" or "Alice, Bob and Carol"."""
    *leading, last = [*names] or [""]
    return f"{', '.join(leading)} and {last}" if leading else last


# ---------- html sanitizer
# Converts untrusted text from sources to safe HTML and to plain text for mails. Pure.


#: The maximum length of a long text in a mail; the alert's page shows all of it.
MAX_TEXT_CHARS = 20_000

_TAGS = {
    "a", "b", "blockquote", "br", "code", "dd", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "hr", "i", "li", "ol",
    "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href"}, "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}}
_SCHEMES = {"http", "https", "mailto", "tel"}

#: Tags that identify a text as HTML. Other words in angle brackets, such as `Object.<anonymous>` or `List<String>`, are
#: ordinary log text.
_KNOWN = _TAGS | {
    "!doctype", "article", "base", "big", "body", "button", "center", "font", "footer", "form", "h5", "h6", "head",
    "header", "html", "iframe", "img", "input", "label", "link", "main", "meta", "nav", "o:p", "object", "script",
    "section", "small", "style", "svg", "tfoot", "title", "tt",
}  # fmt: skip
_MARKUP = re.compile(rf"</?(?:{'|'.join(sorted(_KNOWN))})(\s[^<>]*)?/?>", re.IGNORECASE)
_ENDS = re.compile(r"<(?:br|hr)\b[^<>]*>|</(?:p|div|li|tr|h[1-6]|blockquote|pre|table|dd|dt)\s*>", re.IGNORECASE)
_CELLS = re.compile(r"</t[dh]\s*>", re.IGNORECASE)
_EMPTY_LINES = re.compile(r"\n\s*\n\s*(\n\s*)+")


def is_html(text: str) -> bool:
    """Returns whether `text` contains HTML tags."""
    return _MARKUP.search(text) is not None


def safe_html(text: str) -> str:
    """Returns `text`, plain or HTML, as HTML without scripts, styles, images, forms or unsafe URL schemes."""
    sanitized = sanitize(text)
    if not is_html(sanitized):
        return "<br>\n".join(html.escape(line) for line in cut(sanitized, MAX_TEXT_CHARS).splitlines())
    rel = "noopener noreferrer"
    cleaned = nh3.clean(
        sanitized[:MAX_TEXT_CHARS], tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, link_rel=rel
    )
    return f"{cleaned}…" if len(sanitized) > MAX_TEXT_CHARS else cleaned


def plain(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Returns `text`, plain or HTML, as plain text with its line breaks."""
    result = sanitize(text)[: MAX_TEXT_CHARS * 3]
    if is_html(result):
        result = strip_tags(result, "script", "style", "head", "title")
        # In HTML, a line break is only a space.
        result = re.sub(r"[ \t\r\n]+", " ", result)
        result = _CELLS.sub(" ", _ENDS.sub("\n", result))
        result = html.unescape(nh3.clean(result, tags=set()))
    lines = "\n".join(line.strip() for line in result.replace("\xa0", " ").splitlines())
    return cut(_EMPTY_LINES.sub("\n\n", lines).strip(), max_chars)


def strip_tags(text: str, *tags: str) -> str:
    """Removes these elements from HTML, in one pass per tag. An element without an end tag is kept."""
    for tag in tags:
        begins, ends = (re.compile(rf"<{slash}{tag}\b", re.IGNORECASE) for slash in ("", "/"))
        pieces, at = list[str](), 0
        while (begin := begins.search(text, at)) is not None and (end := ends.search(text, begin.end())) is not None:
            pieces.append(text[at : begin.start()])
            at = text.find(">", end.end()) + 1 or len(text)
        text = "".join((*pieces, text[at:]))
    return text
