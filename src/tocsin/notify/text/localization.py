"""Translates stored English sentences into a user's language. A higher layer that knows the translations registers its
function here, so that this layer does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable

from tocsin.core.reasons import TEXT, Reason
from tocsin.notify.text.phrases import available_language

#: Translates a stored sentence: `(text, language) → text`.
type LocalizeText = Callable[[str, str], str]

_localizers: list[LocalizeText] = []


def register_localizer(localizer: LocalizeText) -> None:
    """Registers `localizer` as the translation function."""
    _localizers[:] = [localizer]


def localize(text: Reason | str, language: str) -> str:
    """Returns `text` in `language`, such as "de" or "de-ch"; unchanged if messages are not available in
    that language.
    """
    target_language = available_language(language)
    if isinstance(text, Reason) and text.code != TEXT.code:
        return str(text) if target_language == "en" else text.localized(target_language)
    sentence = str(text)
    return sentence if target_language == "en" or not _localizers else _localizers[0](sentence, target_language)
