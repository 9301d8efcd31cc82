"""The translations of fixed phrases in mails, text messages and pushes. Pure data.

The English text is the key. Mail subjects and command words (ack, take, close) are the same in every language: mail
threads and users' habits depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

GERMAN: Mapping[str, str] = {
    "Critical": "Kritisch",
    "High": "Hoch",
    "Medium": "Mittel",
    "Low": "Niedrig",
    "Summary": "Kurz",
    "Ticket": "Ticket",
    "Client": "Kunde",
    "Site": "Standort",
    "Team": "Team",
    "Requester": "Anfragender",
    "Phone": "Telefon",
    "Opened": "Eröffnet",
    "Messages": "Meldungen",
    "Acknowledge": "Bestätigen",
    "Take it": "Übernehmen",
    "Close": "Schließen",
    "Acknowledge, take or close": "Bestätigen, übernehmen oder schließen",
    "Acknowledge again, take or close": "Noch einmal bestätigen, übernehmen oder schließen",
    "Acknowledge or take": "Bestätigen oder übernehmen",
    "Open the alert": "Alarm öffnen",
    "Open the alerts": "Alarme öffnen",
    "Open Tocsin": "Tocsin öffnen",
    "Close alert {number}?": "Alarm {number} schließen?",
    "Nobody is paged about it any more.": "Niemand wird mehr deswegen gerufen.",
    "Keep it open": "Offen lassen",
    "Open the ticket": "Ticket öffnen",
    "{count} alerts need an answer.": "{count} Alarme brauchen eine Antwort.",
    "alert {number}": "Alarm {number}",
    "{count} alert": "{count} Alarm",
    "{count} alerts": "{count} Alarme",
    "All clear": "Entwarnung",
    "Still on it?": "Noch dran?",
    "Still on it, {who}?": "Noch dran, {who}?",
    "Acknowledge again within 5 minutes, or others are paged.": (
        "Bestätigen Sie innerhalb von 5 Minuten noch einmal, sonst werden andere gerufen."
    ),
    "And {more} more": "Und {more} weitere",
    "Alert #{number} needs nobody any more. Nothing to do.": "Alarm #{number} braucht niemanden mehr. Nichts zu tun.",
    "Alert without a subject": "Alarm ohne Betreff",
    "The links are for you alone and are valid for seven days. Opening one changes nothing.": (
        "Die Links sind nur für Sie und gelten sieben Tage. Sie zu öffnen ändert nichts."
    ),
    "Or answer this mail: ack, take, close or escalate alone on the first line.": (
        "Oder antworten Sie auf diese Mail: ack, take, close oder escalate allein in der ersten Zeile."
    ),
    "Or answer this mail: ack, take, close or escalate and the number (ack {number}) alone on the first line.": (
        "Oder antworten Sie auf diese Mail: ack, take, close oder escalate und die Nummer (ack {number}) allein in der "
        "ersten Zeile."
    ),
    "Anything else you write is noted on the alert.": "Alles andere, was Sie schreiben, wird am Alarm vermerkt.",
    "Reply ACK {number}, TAKE {number}.": "Antwort ACK {number}, TAKE {number}.",
    "Reply ACK {number} within 5 minutes, or others are paged.": (
        "Antwort ACK {number} in 5 Minuten, sonst werden andere gerufen."
    ),
    "Reply ACK {every}, or ACK {number} for one.": "Antwort ACK {every}, oder ACK {number} für einen.",
    "{who} pressed {button}: {said}": "{who} hat {button} gedrückt: {said}",
    "All clear for {numbers}. Nothing to do.": "Entwarnung für {numbers}. Nichts zu tun.",
    "{count} alerts: ": "{count} Alarme: ",
    " and {more} more": " und {more} weitere",
}

_LANGUAGES: Mapping[str, Mapping[str, str]] = {"de": GERMAN}

#: The languages in which messages are available.
AVAILABLE_LANGUAGES = ("en", *_LANGUAGES)

_MONTHS: Mapping[str, tuple[str, ...]] = {
    "de": (
        "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November",
        "Dezember",
    ),
}  # fmt: skip


def available_language(language: str) -> str:
    """Returns the language of a message: "de" for "de-ch"; "en" if the language is not available."""
    base_language = language.lower().partition("-")[0]
    return base_language if base_language in _LANGUAGES else "en"


def phrase(language: str, text: str, **values: object) -> str:
    """Returns `text` in `language`, or unchanged if there is no translation, with the placeholders filled in."""
    translated = _LANGUAGES.get(available_language(language), {}).get(text, text)
    return translated.format(**values) if values else translated


def format_date(language: str, local: datetime) -> str:
    """Returns a date and time, such as "25 November 2026, 11:03 CET" or "25. November 2026, 11:03 CET"."""
    months = _MONTHS.get(available_language(language))
    if months is None:
        return f"{local.day} {local:%B %Y, %H:%M %Z}"
    return f"{local.day}. {months[local.month - 1]} {local:%Y, %H:%M %Z}"
