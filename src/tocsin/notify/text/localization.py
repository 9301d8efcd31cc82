"""Translates stored English sentences into a user's language. A higher layer that knows the translations registers its
function here, so that this layer does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable

from tocsin.notify.text.phrases import spoken

#: Translates a stored sentence: `(text, language) → text`.
type LocalizeText = Callable[[str, str], str]

_told: list[LocalizeText] = []


def register_localizer(told: LocalizeText) -> None:
    """Registers `told` as the translation function."""
    _told[:] = [told]


def localize(text: str, language: str) -> str:
    """Returns `text` in `language`, such as "de" or "de-ch"; unchanged if messages are not available in
    that language.
    """
    said_in = spoken(language)
    return text if said_in == "en" or not _told else _told[0](text, said_in)
