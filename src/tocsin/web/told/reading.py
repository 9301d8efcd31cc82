"""Finds the pattern of a stored sentence, and fills its translation in. They are RE2: no text makes them hang."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache, reduce
from typing import Any

import re2
from django.utils import timezone, translation
from django.utils.dates import MONTHS_3, WEEKDAYS_ABBR
from django.utils.formats import date_format, number_format
from django.utils.translation import get_language, gettext, ngettext, npgettext, pgettext

from tocsin.core.reasons import JOINED, TEXT, Reason, each_of
from tocsin.web.told.duty_sentences import SENTENCES as OF_DUTY
from tocsin.web.told.failed_calls import FAILED_CALLS
from tocsin.web.told.findings import FINDINGS
from tocsin.web.told.judgements import JUDGEMENTS, TERMS
from tocsin.web.told.mail_answers import SENTENCES as OF_MAIL_ANSWERS
from tocsin.web.told.rejected_forms import REJECTED_FORMS
from tocsin.web.told.rejected_messages import REJECTED_MESSAGES
from tocsin.web.told.sentences import SENTENCES
from tocsin.web.told.shaping_sentences import SENTENCES as OF_SHAPING
from tocsin.web.told.workflow_sentences import SENTENCES as OF_WORKFLOWS

#: Longer texts are bodies and logs, not sentences of Tocsin's.
_MAX_TEXT_CHARS = 800
_MAX_DEPTH = 6
#: What has more is not Tocsin's own either.
_MAX_SENTENCES = 20

_PLACE = re.compile(r"\{([a-z_]+)\}")
_SPAN = r"\d+ (?:day|hour|minute|second)s?(?: \d+ (?:day|hour|minute|second)s?)?"
_DAY = r"[A-Z][a-z]{2} \d{2} [A-Z][a-z]{2}(?: \d{4})? \d{2}:\d{2}"
_WINDOW = r"(?:[a-z]{3}(?:, [a-z]{3})* )?\d\d:\d\d to \d\d:\d\d \([^()]+\)"
_PART = re.compile(r"(\d+) (day|hour|minute|second)s?")
#: Where in a form or file something is wrong: `members[0].user: `. Whoever wrote the file knows it by that name.
_WHERE = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)*: ")
#: Between two facts that decided together. An "and" between anything else may be part of a name.
_AND = re.compile(r' and (?=no value at |[^":;]+ "[^"]*" (?:contains|equals|starts|ends|matches|exists|is |does not ))')
#: A moment as a record has it; what is quoted is somebody else's, and stays.
_MOMENT = re.compile(r'"[^"\n]*"|(\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?) UTC\b')
#: What a ticket's fields are called in a sentence that says what changed; the longer names before the shorter.
_FIELDS = (
    "requester phone", "source status", "ticket type", "respond by", "short text", "long text", "attachments",
    "requester", "category", "priority", "severity", "assignee", "subject", "client", "status", "fix by", "agent",
    "team", "site",
)  # fmt: skip
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BRACKETS = re.compile(r"\(([^()]+)\)")

#: What a place in a pattern takes, by the first part of its name; anything else takes any text, and leaves it as it is.
_TAKES: Mapping[str, str] = {
    "number": r"\d{1,3}(?:,\d{3})+|\d+",
    "span": _SPAN,
    "ago": rf"just now|{_SPAN} ago",
    "day": _DAY,
    "moment": r"\d{4}-\d\d-\d\d \d\d:\d\d UTC",
    "window": _WINDOW,
    "priorities": r"(?:critical|high|medium|low)(?: and (?:critical|high|medium|low))*",
    # A name that ends before the next clause or sentence does.
    "thing": r'(?:[^".:;\n]|\.[^ ])+',
    "role": r"[a-z]+",
    "priority": r"critical|high|medium|low",
    "said": r".+",
    "changes": r".+",
    "terms": r".+",
    "needs": r".+?",
    "event": r"[^;\n]+?",
    "date": r"\d{4}-\d\d-\d\d",
    "people": r".+",
    "step": r"step \d+ of \d+.*?",
    "quoted": r"\".*?\"",
    "field": r'[^":;]+?',
    "name": r"[^;\n]+?",
}


def told(text: str | Reason) -> str:
    """`text` in the reader's language, as far as it is known, with its moments in the reader's zone."""
    if isinstance(text, Reason):
        if text.code == TEXT.code:
            return told(str(text))
        if text.code == JOINED.code:
            return str(text["separator"]).join(told(one) for one in each_of(text))
        return text.localized()
    return _MOMENT.sub(_say_here, _said(text))


def _said(text: str) -> str:
    language = get_language() or "en"
    if language.startswith("en") or not text or len(text) > _MAX_TEXT_CHARS:
        return text
    return _told(str(text), language, 0)


def told_of(name: str, text: str) -> str:
    """`text` in the reader's language, where it may begin with the name of what it is about: "Halo: …"."""
    begin = f"{name}: "
    return f"{begin}{told(text.removeprefix(begin))}" if name and text.startswith(begin) else told(text)


def told_in(text: str, language: str) -> str:
    """`text` in that language, line by line: for messages, whose reader asks for no page."""
    with translation.override(language):
        return "\n".join(_line(line) for line in text.split("\n"))


def _line(text: str) -> str:
    """A line, also one of a list."""
    bullet = "- " if text.startswith("- ") else ""
    return f"{bullet}{_said(text.removeprefix(bullet))}"


@lru_cache(maxsize=8_192)
def _told(text: str, language: str, depth: int) -> str:
    if " and " in text and (every := _facts(text, language, depth)):
        return every
    if ". " in text and (every := _every_sentence(text, language, depth)):
        return every
    whole = _whole(text, language, depth)
    if whole is not None or depth >= _MAX_DEPTH:
        return text if whole is None else whole
    if where := _WHERE.match(text):
        return f"{where[0]}{_told(text[where.end() :], language, depth + 1)}"
    for divider in ("\n", ". ", "; ", ", ", ": "):
        first, found, rest = text.partition(divider)
        while found:
            end = "." if divider == ". " else ""
            known = _whole(first + end, language, depth + 1)
            if known is not None:
                # A word or two after a colon may be somebody's own.
                is_own = divider == ": " and rest.count(" ") < 2
                after = rest if is_own else _told(rest, language, depth + 1)
                return f"{known}{divider.removeprefix('.')}{after}"
            more, found, rest = rest.partition(divider)
            first = f"{first}{divider}{more}"
    if text.startswith("(") and text.endswith((")", ").")):
        inner, _bracket, end = text[1:].rpartition(")")
        return f"({_pieces(inner, language, depth + 1)}){end}"
    return text


def _every_sentence(text: str, language: str, depth: int) -> str:
    """Several sentences of which each is known, or that are known together; empty for all else. A full stop within a
    name ends none."""
    together = _whole(text, language, depth, _patterns_of_several())
    if together is not None:
        return together
    parts = text.split(". ")
    if len(parts) > _MAX_SENTENCES:
        return ""
    # From the last on: what follows is looked at once, however many ways lead there.
    following = [""] * len(parts)
    for begin in reversed(range(1, len(parts))):
        rest = ". ".join(parts[begin:])
        said = _whole(rest, language, depth, _patterns_of_several())
        following[begin] = (
            said
            if said is not None
            else _in_two(parts, begin, following, language, depth) or _every_clause(rest, language, depth)
        )
    return _in_two(parts, 0, following, language, depth)


def _in_two(parts: Sequence[str], begin: int, following: Sequence[str], language: str, depth: int) -> str:
    """The parts from `begin` on as a known sentence and what follows it, of which all is known; empty for all else."""
    for end in range(begin + 1, len(parts)):
        if following[end] and parts[end][:1].isupper():
            known = _every_clause(f"{'. '.join(parts[begin:end])}.", language, depth)
            if known:
                return f"{known} {following[end]}"
    return ""


def _every_clause(text: str, language: str, depth: int) -> str:
    """A known sentence, or one of several parts of which each is known; empty for all else."""
    whole = _whole(text, language, depth)
    if whole is not None:
        return whole
    known = [said for piece in text.split("; ") if (said := _whole(piece, language, depth)) is not None]
    return "; ".join(known) if len(known) == text.count("; ") + 1 else ""


def _facts(text: str, language: str, depth: int) -> str:
    """Several facts that decided together: `client "Acme" equals Acme and no value at team`; empty for all else."""
    pieces = _AND.split(text)
    known = [said for piece in pieces if (said := _whole(piece, language, depth)) is not None]
    return _in_turn(known) if len(pieces) == len(known) > 1 else ""


def _in_turn(texts: Sequence[str]) -> str:
    return reduce(lambda first, last: gettext("%(first)s and %(last)s") % {"first": first, "last": last}, texts)


def _pieces(text: str, language: str, depth: int) -> str:
    """What stands in brackets: each piece for itself, such as a label beside "3 minutes after the step"."""
    told: list[str] = []
    pieces = text.split(", ")
    while pieces:
        # A piece may have a comma of its own.
        one = _whole(pieces[0], language, depth)
        both = _whole(", ".join(pieces[:2]), language, depth) if one is None and len(pieces) > 1 else None
        told.append(one or both or pieces[0])
        del pieces[: 2 if both else 1]
    return ", ".join(told)


def _listed(text: str, language: str, depth: int) -> str:
    """ "Bob and everybody paged": each piece for itself. An "and" between names may be part of one, and stays."""
    first, both, last = text.rpartition(" and ")
    known = _whole(last, language, depth) if both else None
    if known is None:
        return _pieces(text, language, depth)
    return gettext("%(first)s and %(last)s") % {"first": _pieces(first, language, depth), "last": known}


def _whole(text: str, language: str, depth: int, patterns: Sequence[_Pattern] | None = None) -> str | None:
    """The translation of a text that is one known sentence, whatever its first letter and its full stop."""
    forms = [form for form in _forms(text) if form[0].strip()]
    for said, finish in forms:
        translated = gettext(said) if "\n" not in said else said
        if translated != said:
            return finish(translated)
    # No pattern has a full stop at its end: its last place would take it, and more than its own.
    open_ended = [form for form in forms if not form[0].endswith(".")]
    for pattern in _patterns() if patterns is None else patterns:
        for said, finish in open_ended:
            if pattern.hint in said and (matched := pattern.expression.fullmatch(said)):
                return finish(pattern.fill(matched.groupdict(), language, depth + 1))
    return None


def _forms(text: str) -> list[tuple[str, Callable[[str], str]]]:
    """The text, and how it would stand elsewhere in a sentence: without its full stop, with another first letter."""
    forms: list[tuple[str, Callable[[str], str]]] = [(text, str)]
    bare, stop = (text[:-1], ".") if text.endswith(".") else (text, "")
    if stop:
        forms.append((bare, lambda said: f"{said}."))
    first = bare[:1]
    swapped = first.lower() if first.isupper() else first.upper()
    if swapped != first:
        recase = (lambda said: said[:1].upper() + said[1:]) if first.isupper() else str
        forms.append((swapped + bare[1:], lambda said: f"{recase(said)}{stop}"))
    return forms


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    #: The longest piece that stands fast: a text without it is not looked at.
    hint: str
    expression: Any

    def fill(self, values: Mapping[str, str | None], language: str, depth: int) -> str:
        known = {name: _value(name, value or "", language, depth) for name, value in values.items()}
        return _PLACE.sub(lambda place: known.get(place[1], place[0]), gettext(self.text))


@cache
def _patterns() -> tuple[_Pattern, ...]:
    every = (
        *SENTENCES,
        *JUDGEMENTS,
        *OF_WORKFLOWS,
        *OF_SHAPING,
        *OF_DUTY,
        *OF_MAIL_ANSWERS,
        *FINDINGS,
        *REJECTED_FORMS,
        *REJECTED_MESSAGES,
        *FAILED_CALLS,
    )
    made = [_pattern(text) for text in every if _PLACE.search(text)]
    # The more of a sentence stands fast, the surer it is meant. What may end any other is taken from it first.
    ends = ("{said}, during {thing}", "{said}, outside {thing}")
    return tuple(sorted(made, key=lambda pattern: (pattern.text not in ends, -len(_PLACE.sub("", pattern.text)))))


@cache
def _patterns_of_several() -> tuple[_Pattern, ...]:
    """Those that are several sentences."""
    return tuple(pattern for pattern in _patterns() if ". " in pattern.text)


def _pattern(text: str) -> _Pattern:
    pieces = _PLACE.split(text)
    fixed, names = pieces[::2], pieces[1::2]
    # re2 has no types.
    escape: Callable[[str], str] = re2.escape
    parts = [escape(fixed[0])]
    for name, after in zip(names, fixed[1:], strict=True):
        takes = _TAKES.get(name.partition("_")[0], r".+?")
        parts.append(f"(?P<{name}>{takes}){escape(after)}")
    compiled = re2.compile("(?s)" + "".join(parts))  # type: ignore[no-untyped-call]
    return _Pattern(text, max(fixed, key=len), compiled)


def _value(name: str, value: str, language: str, depth: int) -> str:
    match name.partition("_")[0]:
        case "number" if "," in value:
            return number_format(int(value.replace(",", "")), force_grouping=True)
        case "span":
            return say_span(value, ago=name == "span_in")
        case "day":
            return _say_day(value)
        case "ago":
            if value == "just now":
                return gettext("just now")
            return gettext("%(span)s ago") % {"span": say_span(value.removesuffix(" ago"), ago=True)}
        case "priorities":
            return _in_turn([_say_priority(one) for one in value.split(" and ")])
        case "window":
            return _say_window(value)
        case "priority":
            return _say_priority(value)
        case "role" | "field":
            return gettext(value)
        case "needs":
            # A name with a comma in it comes together again as it was.
            return ", ".join(_told(one, language, depth) for one in value.split(", "))
        case "terms":
            return ", ".join(map(_term, value.split(", ")))
        case "event":
            return gettext(value) if value == "an event without a title" else value
        case "date":
            return _say_date(value)
        case "changes":
            return "; ".join(_change(one, language, depth) for one in value.split("; "))
        case "said" | "step":
            return _told(value, language, depth)
        case "people":
            known = _listed(value, language, depth) if "(" not in value else value
            return _BRACKETS.sub(lambda label: f"({_pieces(label[1], language, depth)})", known)
        case _:
            return value


def _change(text: str, language: str, depth: int) -> str:
    """ "site Zürich", "team 1st → 2nd", "long text changed": the field's name is ours, the rest is the ticket's."""
    known = _whole(text, language, depth)
    if known is not None:
        return known
    label = next((one for one in _FIELDS if text.startswith(f"{one} ")), None)
    return text if label is None else f"{gettext(label)}{text.removeprefix(label)}"


def _say_date(text: str) -> str:
    """ "2026-11-28" as the language writes a day."""
    try:
        return date_format(date.fromisoformat(text), pgettext("date format", "D j M Y"))
    except ValueError:
        return text


def _term(text: str) -> str:
    """ "only guid", "no moment": what is between ours is the mapping's."""
    known = gettext(text)
    begin = next((one for one in TERMS if text.startswith(f"{one} ")), None)
    if known != text or begin is None:
        return known
    return f"{gettext(begin)}{text.removeprefix(begin)}".replace("” and “", f"” {gettext('and')} “")


def _say_day(text: str) -> str:
    """ "Sat 28 Nov 18:00", with a year or without, as the language writes it."""
    weekday, day, month, *year, clock = text.split(" ")
    if weekday not in _WEEKDAYS or month not in _MONTHS:
        return text
    values = {
        "weekday": WEEKDAYS_ABBR[_WEEKDAYS.index(weekday)],
        "day": int(day),
        "month": MONTHS_3[_MONTHS.index(month) + 1].capitalize(),
        "clock": clock,
    }
    if year:
        return pgettext("a moment", "%(weekday)s %(day)s %(month)s %(year)s %(clock)s") % {**values, "year": year[0]}
    return pgettext("a moment", "%(weekday)s %(day)s %(month)s %(clock)s") % values


def _say_priority(text: str) -> str:
    """Within a sentence."""
    return gettext(text.capitalize()).lower()


def _say_window(text: str) -> str:
    """ "mon, tue 08:00 to 18:00 (Europe/Zurich)", with or without the days."""
    begin, _to, end = text.partition(" to ")
    days, _space, clock = begin.rpartition(" ")
    named = [WEEKDAYS_ABBR[_WEEKDAYS.index(day.capitalize())] for day in days.split(", ") if day]
    values = {"begin": clock, "end": end}
    return f"{', '.join(map(str, named))} {gettext('%(begin)s to %(end)s') % values}".strip()


def _say_here(found: re.Match[str]) -> str:
    """ "2026-11-24 10:00 UTC" by the reader's own clock: "Tue 24 Nov 2026, 11:00 CET"."""
    if found[1] is None:
        return found[0]
    try:
        local = timezone.localtime(datetime.fromisoformat(f"{found[1]}Z"))
    except (ValueError, OverflowError):
        # Somebody's own, then, such as a 30th of February.
        return found[0]
    day = date_format(local, pgettext("date format", "D j M Y"))
    return f"{day}, {local.strftime('%H:%M:%S' if found[2] else '%H:%M')} {local.tzname()}"


def say_span(text: str, *, ago: bool = False) -> str:
    """A span of `durations.say` in the reader's language; after "ago" some languages want another case."""
    return _PART.sub(lambda part: _amount(int(part[1]), part[2], ago=ago), text)


def _amount(number: int, unit: str, *, ago: bool) -> str:
    match unit:
        case "day" if ago:
            return npgettext("ago", "%(count)d day", "%(count)d days", number) % {"count": number}
        case "day":
            return ngettext("%(count)d day", "%(count)d days", number) % {"count": number}
        case "hour":
            return ngettext("%(count)d hour", "%(count)d hours", number) % {"count": number}
        case "minute":
            return ngettext("%(count)d minute", "%(count)d minutes", number) % {"count": number}
        case _:
            return ngettext("%(count)d second", "%(count)d seconds", number) % {"count": number}
