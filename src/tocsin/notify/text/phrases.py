"""The fixed phrases of mails, text messages and pushes in the recipient's language.

Mail subjects and command words (ack, take, close) are the same in every language: mail threads and users' habits depend
on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Any

from django.utils import translation
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


# ---------- voice phrases
# The fixed phrases of phone calls in the recipient's language.
#
# A vendor's voice says them, so their wording follows the ear and they have a context of their own in the catalogues
# of translations: a priority agrees with "alert" in gender, and a menu names the keys in order.


@dataclass(frozen=True, slots=True)
class VoicePhrases:
    """The phrases of one language, with placeholders in braces; `{who}` is a first name, or empty."""

    #: The BCP 47 tag, as in the names of voices.
    code: str
    priorities: Mapping[str, str]
    alert_for: str
    alert: str
    test_alert_for: str
    test_alert: str
    several_for: str
    several: str
    and_more: str
    menu: str
    menu_several: str
    ack_reminder_for: str
    ack_reminder: str
    menu_ack_reminder: str
    menu_repeat: str
    confirm_close: str
    wrong_key: str
    goodbye: str
    done: Mapping[str, str]
    several_done: str
    pressed: str
    no_alert: str


def words(language: str) -> VoicePhrases:
    """Returns the phrases of a language such as "de" or "de-ch"; English if messages are not available in it."""
    return _words(available_language(language))


@cache
def _words(language: str) -> VoicePhrases:
    with translation.override(language):
        return VoicePhrases(
            code=pgettext("phone call", "en-GB"),
            priorities={
                "critical": pgettext("phone call", "Critical"),
                "high": pgettext("phone call", "High"),
                "medium": pgettext("phone call", "Medium"),
                "low": pgettext("phone call", "Low"),
            },
            alert_for=pgettext("phone call", "{priority} alert for {who}."),
            alert=pgettext("phone call", "{priority} alert."),
            test_alert_for=pgettext("phone call", "{priority} test alert for {who}."),
            test_alert=pgettext("phone call", "{priority} test alert."),
            several_for=pgettext("phone call", "{number} alerts for {who}."),
            several=pgettext("phone call", "{number} alerts."),
            and_more=pgettext("phone call", "And {number} more."),
            menu=pgettext(
                "phone call", "Press 7 to acknowledge, 8 to assign to yourself, 6 to escalate, 9 to close, 1 to repeat."
            ),
            menu_several=pgettext(
                "phone call", "Press 7 to acknowledge all, 8 to assign all to yourself, 1 to repeat."
            ),
            ack_reminder_for=pgettext("phone call", "Still on it, {who}?"),
            ack_reminder=pgettext("phone call", "Still on it?"),
            menu_ack_reminder=pgettext(
                "phone call", "Press 7 to acknowledge again, 1 to repeat. Others are paged in 5 minutes."
            ),
            menu_repeat=pgettext("phone call", "Press 1 to repeat."),
            confirm_close=pgettext("phone call", "Press 9 again to close."),
            wrong_key=pgettext("phone call", "Invalid key."),
            goodbye=pgettext("phone call", "Goodbye."),
            done={
                "acknowledge": pgettext("phone call", "You acknowledged alert {id}."),
                "assign": pgettext("phone call", "Alert {id} is assigned to you."),
                "escalate": pgettext("phone call", "You escalated alert {id}."),
                "close": pgettext("phone call", "Alert {id} is closed."),
            },
            several_done=pgettext("phone call", "Done for {number} alerts."),
            pressed=pgettext("phone call", "You pressed {key}. This phone works."),
            no_alert=pgettext("phone call", "You have no open alerts."),
        )
