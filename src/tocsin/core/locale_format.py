"""Formats durations, moments and lists, in English for records and in the active language for a reader. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from django.utils import timezone, translation
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext, ngettext, npgettext, pgettext

_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNIT_NAMES = {"d": "day", "h": "hour", "m": "minute", "s": "second"}
#: A shorter time ago is "just now".
_JUST_NOW = timedelta(seconds=5)


_UNCHANGED = nullcontext()


def in_locale(language: str | None, zone: tzinfo | None) -> AbstractContextManager[Any]:
    """Activates a language and a time zone for a `with` block; None leaves what is active.

    To activate one costs more than to render a sentence, so what is active already is not activated again.
    """
    other_language = language is not None and language != translation.get_language()
    other_zone = zone is not None and zone is not timezone.get_current_timezone()
    if not other_language and not other_zone:
        return _UNCHANGED
    stack = ExitStack()
    if language is not None and other_language:
        stack.enter_context(translation.override(language))
    if zone is not None and other_zone:
        stack.enter_context(timezone.override(zone))
    return stack


def translate(text: str, language: str | None = None) -> str:
    """Translates a fixed text, by default into the active language."""
    return _translate(text, language or translation.get_language())


# Django looks for a text without a translation, and so for every English one, in the catalogue of each application.
@lru_cache(maxsize=4096)
def _translate(text: str, language: str | None) -> str:
    if language is None:
        return gettext(text)
    with translation.override(language):
        return gettext(text)


def split_seconds(seconds: int) -> list[tuple[int, str]]:
    """Returns the non-zero parts of a duration as (amount, unit), days first."""
    parts = []
    for unit, length in _UNIT_SECONDS.items():
        amount, seconds = divmod(seconds, length)
        if amount:
            parts.append((amount, unit))
    return parts


def english_duration(duration: timedelta) -> str:
    """Formats a duration for a sentence: "5 minutes", "1 hour 30 minutes". At most two units; never negative."""
    parts = split_seconds(max(0, int(duration.total_seconds())))[:2]
    return (
        " ".join(f"{amount} {_UNIT_NAMES[unit]}{'' if amount == 1 else 's'}" for amount, unit in parts) or "0 seconds"
    )


def english_ago(duration: timedelta) -> str:
    """Formats the time since a moment: "just now", "2 minutes ago". One unit."""
    return "just now" if duration < _JUST_NOW else f"{english_duration(_largest_unit(duration))} ago"


def english_moment(at: datetime) -> str:
    """Formats a moment in UTC: "2026-11-24 10:00 UTC". Records are the same for every reader."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def english_list(texts: Sequence[str]) -> str:
    """Joins texts: "a, b and c"."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def local_duration(duration: timedelta, *, ago: bool = False) -> str:
    """Formats a duration in the active language. After "ago", some languages need another case."""
    parts = split_seconds(max(0, int(duration.total_seconds())))[:2] or [(0, "s")]
    return " ".join(_amount(amount, unit, ago=ago) for amount, unit in parts)


def local_ago(duration: timedelta) -> str:
    """Formats the time since a moment in the active language."""
    if duration < _JUST_NOW:
        return gettext("just now")
    return gettext("%(span)s ago") % {"span": local_duration(_largest_unit(duration), ago=True)}


def local_moment(at: datetime) -> str:
    """Formats a moment in the active language and time zone: "Tue 24 Nov 2026, 11:00 CET"."""
    local = timezone.localtime(at)
    return f"{local_date(local)}, {local:%H:%M} {local.tzname()}"


def local_date(day: date) -> str:
    """Formats a day in the active language: "Tue 24 Nov 2026"."""
    return date_format(day, pgettext("date format", "D j M Y"))


def local_count(number: int) -> str:
    """Formats a whole number with the thousands separator of the active language."""
    return number_format(number, force_grouping=True) if abs(number) >= 1000 else str(number)


def local_term(word: str) -> str:
    """Translates a fixed word of Tocsin's, such as a role. An empty word stays empty."""
    return translate(word) if word else ""


def local_list(texts: Sequence[str]) -> str:
    """Joins texts in the active language: "a, b and c"."""
    if len(texts) < 2:
        return "".join(texts)
    return gettext("%(first)s and %(last)s") % {"first": ", ".join(texts[:-1]), "last": texts[-1]}


def _largest_unit(duration: timedelta) -> timedelta:
    amount, unit = split_seconds(int(duration.total_seconds()))[0]
    return timedelta(seconds=amount * _UNIT_SECONDS[unit])


def _amount(number: int, unit: str, *, ago: bool) -> str:
    match unit:
        case "d" if ago:
            return npgettext("ago", "%(count)d day", "%(count)d days", number) % {"count": number}
        case "d":
            return ngettext("%(count)d day", "%(count)d days", number) % {"count": number}
        case "h":
            return ngettext("%(count)d hour", "%(count)d hours", number) % {"count": number}
        case "m":
            return ngettext("%(count)d minute", "%(count)d minutes", number) % {"count": number}
        case _:
            return ngettext("%(count)d second", "%(count)d seconds", number) % {"count": number}
