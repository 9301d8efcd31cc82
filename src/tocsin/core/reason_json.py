"""Reasons in JSON for people and programs: the sentence in the reader's language, its code and its parameters."""

from __future__ import annotations

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


def show_fields(row: object, *names: str) -> dict[str, Any]:
    """Returns the named attributes of an object, those that are reasons with their codes and parameters."""
    fields: dict[str, Any] = {}
    for name in names:
        value = getattr(row, name)
        fields |= show_reason(value, name) if isinstance(value, Reason) else {name: value}
    return fields
