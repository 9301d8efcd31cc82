"""Translates stored English sentences into a user's language. A higher layer that knows the translations registers its
function here, so that this layer does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo

from tocsin.core.reasons import JOINED, TEXT, Reason, each_of
from tocsin.notify.text.phrases import available_language

#: Translates a stored sentence: `(text, language) → text`.
type LocalizeText = Callable[[str, str], str]

_localizers: list[LocalizeText] = []


def register_localizer(localizer: LocalizeText) -> None:
    """Registers `localizer` as the translation function."""
    _localizers[:] = [localizer]


def localize(text: Reason | str, language: str, zone: tzinfo | None = None) -> str:
    """Returns `text` in `language`, such as "de" or "de-ch", with its moments in `zone`; in English if messages are not
    available in that language.
    """
    target_language = available_language(language)
    if isinstance(text, str):
        return text if target_language == "en" or not _localizers else _localizers[0](text, target_language)
    if text.code == TEXT.code:
        return localize(str(text), language)
    if text.code == JOINED.code:
        return str(text["separator"]).join(localize(one, language, zone) for one in each_of(text))
    return text.localized(target_language, zone or UTC)
