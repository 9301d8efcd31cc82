"""Reasons in JSON for people and programs: the sentence in the reader's language, its code and its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import get_language

from tocsin.core.reasons import Reason


def render(reason: Reason) -> str:
    """Returns the sentence in the active language: of a request, the one that Accept-Language asks for.

    In English it is the record, the same for every reader. A user who is signed in has chosen a language.
    """
    return str(reason) if (get_language() or "en").startswith("en") else reason.localized()


def show_reason(reason: Reason, name: str = "reason") -> dict[str, Any]:
    """Returns `NAME`, `NAME_code` and `NAME_data` of a reason."""
    return {name: render(reason), f"{name}_code": reason.code, f"{name}_data": reason.data}


def list_reasons(reasons: Iterable[Reason]) -> list[dict[str, Any]]:
    """Returns each reason as an object with `reason`, `reason_code` and `reason_data`."""
    return [show_reason(reason) for reason in reasons]
