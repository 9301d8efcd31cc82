"""Formats alerts and messages as subjects, headlines and sentences for all channels. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

import nh3
from django.utils.formats import date_format
from django.utils.translation import ngettext, pgettext
from django.utils.translation.trans_real import get_languages

from tocsin.alerts.states import CommandKind, Priority
from tocsin.core.reasons import (
    MORE,
    NO_REASON,
    AlertRef,
    Reason,
    Text,
    in_locale,
    joined,
    local_duration,
    sentence,
    translate,
)
from tocsin.core.validation.inputs import sanitize
from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.states import Purpose

# ---------- command parser
# Parses the command in a text message or its first line: `ack 42`, `take`, `7`, `reply The line is back`. Pure.
#
# Carriers' opt-out words are recognised, but no message ever suggests them as commands.


MAX_REPLY_CHARS = 2000


class Word(StrEnum):
    """Words that are not commands on an alert."""

    HELP = "help"
    REPEAT = "again"
    STOP = "stop"
    START = "start"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A parsed command."""

    action: CommandKind | Word
    #: The alert's number; None means the only open alert.
    number: int | None = None
    #: The further alerts, if several were named.
    other_numbers: tuple[int, ...] = ()
    #: Whether it applies to every alert that is open for the sender.
    is_all: bool = False
    #: The text of a reply.
    text: str = ""


_COMMANDS = {
    "ack": CommandKind.ACKNOWLEDGE,
    "acknowledge": CommandKind.ACKNOWLEDGE,
    "7": CommandKind.ACKNOWLEDGE,
    "take": CommandKind.ASSIGN,
    "assign": CommandKind.ASSIGN,
    "8": CommandKind.ASSIGN,
    "escalate": CommandKind.ESCALATE,
    "6": CommandKind.ESCALATE,
    "close": CommandKind.CLOSE,
    "9": CommandKind.CLOSE,
}
_WORDS = {"help": Word.HELP, "info": Word.HELP, "?": Word.HELP, "1": Word.REPEAT, "again": Word.REPEAT}
#: The carriers' opt-out and opt-in words (CTIA, Messaging Principles; Twilio and Telnyx use the same lists).
_STOP = frozenset({"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "optout", "revoke"})
_START = frozenset({"start", "yes", "unstop"})

#: Commands that may be followed by other text ("ack, on my way"), because no ordinary sentence begins with them. "Close
#: to home" must close nothing, nor must "9 minutes".
_UNMISTAKABLE = frozenset({"ack", "acknowledge"})

#: A word, also directly followed by a number (`ack42`), or digits alone; optionally in quotes, as it appears in the
#: instructions.
_QUOTES = "\"'“”„‚‘’«»"
_FIRST = re.compile(rf"[\s{_QUOTES}]*([^\W\d_]+|[0-9]+|\?)[\s:,.#!{_QUOTES}]*", re.UNICODE)
_NUMBER = re.compile(r"#?([0-9]{1,18})\b[\s:,.]*")
#: Nothing but numbers: "42 43", "#42, #43", "42 and 43". In "42 5 minutes", only the first number is an alert.
NUMBERS = re.compile(r"#?[0-9]{1,18}(?:(?:[\s,;+&]|\band\b|\bund\b)+#?[0-9]{1,18})*[\s.!]*", re.IGNORECASE)
#: The maximum number of alerts that one message can name.
MAX_NAMED_ALERTS = 20
_ALL = re.compile(r"all\W*", re.IGNORECASE)


def parse_command(text: str) -> ParsedCommand:
    """Returns the command in `text`."""
    normalized = " ".join(text.split()).casefold().rstrip(".!")
    if normalized in _STOP:
        return ParsedCommand(Word.STOP)
    if normalized in _START:
        return ParsedCommand(Word.START)
    first = _FIRST.match(text)
    if first is None:
        return ParsedCommand(Word.UNKNOWN)
    word, remainder = first[1].casefold(), text[first.end() :]
    if word == "reply":
        return _reply(remainder)
    if word in _WORDS:
        return ParsedCommand(_WORDS[word])
    command = _COMMANDS.get(word)
    if command is None:
        return ParsedCommand(Word.UNKNOWN)
    # On a phone keypad, closing takes two presses ("9 9"); by text, one is enough.
    if command is CommandKind.CLOSE and remainder.strip() == "9" and word == "9":
        return ParsedCommand(command)
    if NUMBERS.fullmatch(remainder):
        numbers = list(dict.fromkeys(int(number) for number in re.findall("[0-9]+", remainder)))
        return ParsedCommand(command, numbers[0], tuple(numbers[1:MAX_NAMED_ALERTS]))
    number = _NUMBER.match(remainder)
    if number is not None:
        return ParsedCommand(command, int(number[1]))
    if _ALL.fullmatch(remainder):
        return ParsedCommand(command, is_all=True)
    return ParsedCommand(command) if word in _UNMISTAKABLE or not remainder else ParsedCommand(Word.UNKNOWN)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a member asks a bot for that is about no alert: who is on call, or, with a text, a new alert."""

    alert_text: str = ""


_REQUEST = re.compile(r"\s*(?:(on[\s-]?call)\b[\s?!.]*|alert[\s:]+(\S.*))", re.IGNORECASE | re.DOTALL)


def parse_request(text: str) -> ChatRequest | None:
    """Returns the request in a message to a bot; None for a command or anything else."""
    match = _REQUEST.fullmatch(text)
    return None if match is None else ChatRequest(match[2] or "")


def _reply(remainder: str) -> ParsedCommand:
    """Parses "42 The line is back" or, for the only open alert, "The line is back"."""
    number = re.match(r"#([0-9]{1,18})\b[\s:,.]*|([0-9]{1,18})\s+(?=\S)", remainder)
    text = remainder[number.end() :] if number else remainder
    reply_text = text.strip()[:MAX_REPLY_CHARS]
    if not reply_text:
        return ParsedCommand(Word.UNKNOWN)
    return ParsedCommand(CommandKind.REPLY, int(number[1] or number[2]) if number else None, text=reply_text)


_UNKNOWN = Text("Unknown command. {help}")
_BULK_RESULTS = {
    CommandKind.ACKNOWLEDGE: Text("You acknowledged {count} alert.", "You acknowledged {count} alerts."),
    CommandKind.ASSIGN: Text("{count} alert is assigned to you.", "{count} alerts are assigned to you."),
    CommandKind.HOLD: Text("You snoozed {count} alert.", "You snoozed {count} alerts."),
    CommandKind.ESCALATE: Text("You escalated {count} alert.", "You escalated {count} alerts."),
    CommandKind.CLOSE: Text("You closed {count} alert.", "You closed {count} alerts."),
    CommandKind.REPLY: Text("You added a note to {count} alert.", "You added a note to {count} alerts."),
}
_REJECTED = Text(
    "{count} alert could not be changed. Open it to see why.",
    "{count} alerts could not be changed. Open them to see why.",
)

HELP = sentence(
    "ACK: acknowledge. ASSIGN: assign to me. CLOSE: close. ESCALATE: page the next step. REPLY text: add a note. "
    "With several alerts add the number (ACK 42), or ACK ALL."
)
CHAT_HELP = joined(
    HELP, sentence("ON CALL: who is on call now. ALERT text: create an alert for your groups."), separator=" "
)
UNKNOWN = _UNKNOWN(help=HELP)
NONE_OPEN = sentence("You have no open alerts.")

#: The alerts that an answer names.
_MAX_LISTED_ALERTS = 6


def word_of(command: CommandKind) -> str:
    """Returns the word that requests the command in a text message."""
    return {CommandKind.ACKNOWLEDGE: "ACK"}.get(command, command.upper())


def ask_which_alert(command: CommandKind, numbers: Sequence[int]) -> Reason:
    """Returns the answer where several alerts are open and the command names none."""
    word = word_of(command)
    alerts: list[Reason] = [sentence("#{alert}", alert=AlertRef(number)) for number in numbers[:_MAX_LISTED_ALERTS]]
    if len(numbers) > _MAX_LISTED_ALERTS:
        alerts.append(MORE(count=len(numbers) - _MAX_LISTED_ALERTS))
    example = f"{word} {numbers[0]}"
    if command is CommandKind.REPLY:
        return sentence(
            "{count} alert is open for you: {alerts}. Send {command}.",
            "{count} alerts are open for you: {alerts}. Send {command}.",
            count=len(numbers),
            alerts=tuple(alerts),
            command=example,
        )
    return sentence(
        "{count} alert is open for you: {alerts}. Send {command}, or {command_for_all}.",
        "{count} alerts are open for you: {alerts}. Send {command}, or {command_for_all}.",
        count=len(numbers),
        alerts=tuple(alerts),
        command=example,
        command_for_all=f"{word} ALL",
    )


def bulk_result(command: CommandKind, done_count: int, rejected_count: int) -> Reason:
    """Returns the answer to one command on several alerts."""
    done = _BULK_RESULTS[command](count=done_count)
    return joined(done, _REJECTED(count=rejected_count) if rejected_count else NO_REASON, separator=" ")


# ---------- dtmf
# Maps phone keys to actions: 1 repeat, 2 list, 6 escalate, 7 acknowledge, 8 assign to me, 9 twice close. Pure.


class Key(StrEnum):
    """What a key does that is not a command on an alert."""

    #: Read the prompt (again).
    REPEAT = "repeat"
    #: Read the alerts one by one.
    LIST = "list"
    #: It has no function here: say so and repeat the prompt.
    INVALID = "invalid"
    #: Ask for the same key again.
    CONFIRM = "confirm"


_DTMF_COMMANDS = {key: _COMMANDS[key] for key in "6789"}


def interpret_key(digit: str, pending_digit: str, keys: str) -> CommandKind | Key:
    """Returns what `digit` does if `keys` are offered; "" means that someone picked up."""
    if not digit or digit == "1":
        return Key.REPEAT
    if digit == "2" and digit in keys:
        return Key.LIST
    if digit not in keys or digit not in _DTMF_COMMANDS:
        return Key.INVALID
    return Key.CONFIRM if digit == "9" and pending_digit != "9" else _DTMF_COMMANDS[digit]


# ---------- phrases
# The fixed phrases of mails, text messages and pushes in the recipient's language.
#
# Mail subjects and command words (ack, assign, close) are the same in every language: mail threads and users' habits
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
    name = message.storm or headline(first, 100)
    more = len(remaining) + message.omitted_count
    return f"[{priority(worst)}] {count} alerts: {name} (Tocsin #{first.id}) and {more} more"


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


def counted_alerts(message: Message) -> str:
    """Returns how many alerts a message is about, and what a storm has in common: "60 alerts: Globex: Host web-# …"."""
    count = alert_count(message.language, len(message.alerts) + message.omitted_count)
    return f"{count}: {message.storm}" if message.storm else count


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
