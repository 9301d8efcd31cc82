"""The fixed phrases of phone calls in each available language. Pure data.

Not in Django's catalogue of translations: they are what a vendor's voice says, in the language of that voice, and
their wording follows the ear. A priority agrees with "alert" in gender, and a menu names the keys in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
    code_is: str


ENGLISH = VoicePhrases(
    code="en-GB",
    priorities={"critical": "Critical", "high": "High", "medium": "Medium", "low": "Low"},
    alert_for="{priority} alert for {who}.",
    alert="{priority} alert.",
    test_alert_for="{priority} test alert for {who}.",
    test_alert="{priority} test alert.",
    several_for="{number} alerts for {who}.",
    several="{number} alerts.",
    and_more="And {number} more.",
    menu="Press 7 to acknowledge, 8 to take it, 6 to escalate, 9 to close, 1 to hear it again.",
    menu_several="Press 7 to acknowledge them, 8 to take them, 1 to hear them again.",
    ack_reminder_for="Still on it, {who}?",
    ack_reminder="Still on it?",
    menu_ack_reminder="Press 7 to acknowledge again, 1 to hear it again. In 5 minutes others are paged.",
    menu_repeat="Press 1 to hear it again.",
    confirm_close="Press 9 again to close.",
    wrong_key="This key does nothing.",
    goodbye="Goodbye.",
    done={
        "acknowledge": "You acknowledged alert {id}.",
        "assign": "Alert {id} is assigned to you.",
        "escalate": "You escalated alert {id}.",
        "close": "Alert {id} is closed.",
    },
    several_done="Done for {number} alerts.",
    pressed="You pressed {key}. This phone works.",
    no_alert="You have no open alerts.",
    code_is="Your code is {code}.",
)

GERMAN = VoicePhrases(
    code="de-DE",
    priorities={"critical": "Kritischer", "high": "Dringender", "medium": "Mittlerer", "low": "Unwichtiger"},
    alert_for="{priority} Alarm für {who}.",
    alert="{priority} Alarm.",
    test_alert_for="{priority} Testalarm für {who}.",
    test_alert="{priority} Testalarm.",
    several_for="{number} Alarme für {who}.",
    several="{number} Alarme.",
    and_more="Und {number} weitere.",
    menu="Drücken Sie 7 zum Bestätigen, 8 zum Übernehmen, 6 zum Eskalieren, 9 zum Schliessen, "
    "1 um es noch einmal zu hören.",
    menu_several="Drücken Sie 7 um sie zu bestätigen, 8 um sie zu übernehmen, 1 um sie noch einmal zu hören.",
    ack_reminder_for="Noch dran, {who}?",
    ack_reminder="Noch dran?",
    menu_ack_reminder="Drücken Sie 7 um noch einmal zu bestätigen, 1 um es noch einmal zu hören. "
    "In 5 Minuten werden andere gerufen.",
    menu_repeat="Drücken Sie 1 um es noch einmal zu hören.",
    confirm_close="Drücken Sie noch einmal 9 zum Schliessen.",
    wrong_key="Diese Taste hat keine Wirkung.",
    goodbye="Auf Wiederhören.",
    done={
        "acknowledge": "Sie haben Alarm {id} bestätigt.",
        "assign": "Alarm {id} ist Ihnen zugewiesen.",
        "escalate": "Sie haben Alarm {id} eskaliert.",
        "close": "Alarm {id} ist geschlossen.",
    },
    several_done="Erledigt für {number} Alarme.",
    pressed="Sie haben {key} gedrückt. Dieses Telefon funktioniert.",
    no_alert="Für Sie ist kein Alarm offen.",
    code_is="Ihr Code lautet {code}.",
)

_LANGUAGES: Mapping[str, VoicePhrases] = {"en": ENGLISH, "de": GERMAN}


def words(language: str) -> VoicePhrases:
    """Returns the phrases of a language such as "de" or "de-ch"; English if calls are not available in it."""
    return _LANGUAGES.get(language.lower().partition("-")[0], ENGLISH)
