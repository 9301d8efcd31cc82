"""Renders reasons in a recipient's language and time zone."""

from __future__ import annotations

from datetime import UTC, tzinfo

from tocsin.core.reasons import Reason
from tocsin.notify.text.phrases import available_language


def localize(text: Reason | str, language: str, zone: tzinfo | None = None) -> str:
    """Returns `text` in `language`, such as "de" or "de-ch", with its moments in `zone`; in English if messages are not
    available in that language. A text that is no reason stays as it is.
    """
    return text if isinstance(text, str) else text.localized(available_language(language), zone or UTC)
