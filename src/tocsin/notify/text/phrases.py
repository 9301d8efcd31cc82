"""The fixed phrases of mails, text messages and pushes in the recipient's language.

Mail subjects and command words (ack, take, close) are the same in every language: mail threads and users' habits depend
on them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import ngettext, pgettext
from django.utils.translation.trans_real import get_languages

from tocsin.core.locale_format import in_locale, local_duration, translate
from tocsin.core.reasons import Reason


def available_language(language: str) -> str:
    """Returns the language of a message: "de" for "de-ch"; "en" if the language is not available."""
    offered, code = get_languages(), language.lower()
    if code not in offered:
        code = code.partition("-")[0]
    return code if code in offered else "en"


def localize(reason: Reason, language: str, zone: tzinfo | None = None) -> str:
    """Returns the sentence of `reason` in the language of a message, with its moments in `zone`, else in UTC."""
    return reason.localized(available_language(language), zone or UTC)


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


def duration_left(language: str, duration: timedelta) -> str:
    """Returns a duration after "within" or "in", such as "12 minutes"."""
    with in_language(language):
        return local_duration(duration, ago=True)


def alert_count(language: str, count: int) -> str:
    """Returns a number of alerts, such as "12 alerts"."""
    with in_language(language):
        return ngettext("{count} alert", "{count} alerts", count).format(count=count)
