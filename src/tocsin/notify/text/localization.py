"""Says what was decided in a person's language. Decisions are stored in English; the room above that knows the words of
other languages hangs them in here."""

from __future__ import annotations

from collections.abc import Callable

from tocsin.notify.text.phrases import spoken

#: Says what was decided in a language: `(text, language) → text`.
type LocalizeText = Callable[[str, str], str]

_told: list[LocalizeText] = []


def tell_by(told: LocalizeText) -> None:
    """Has `told` translate what people are told, from now on."""
    _told[:] = [told]


def tell(text: str, language: str) -> str:
    """`text` in `language`, such as "de" or "de-ch"; as it is in one that messages do not speak."""
    said_in = spoken(language)
    return text if said_in == "en" or not _told else _told[0](text, said_in)
