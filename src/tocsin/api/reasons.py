"""Reasons in responses: the sentence in the reader's language, with its code and parameters beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import get_language

from tocsin.core.reasons import Reason, as_reason

#: What the schemas of responses say about the two fields beside a reason.
CODE_DESCRIPTION = "The reason's stable code; see the reference of reason codes. Empty if there is no reason."
DATA_DESCRIPTION = "The reason's parameters, by name."


def render(reason: Reason | str) -> str:
    """Return the sentence in the language that the request asks for with Accept-Language, else in English.

    In English it is the record, the same for every reader. A user who is signed in has chosen a language.
    """
    if isinstance(reason, str) or (get_language() or "en").startswith("en"):
        return str(reason)
    return reason.localized()


def reason_fields(row: object, name: str = "reason") -> dict[str, Any]:
    """Return `NAME`, `NAME_code` and `NAME_data` of a row's attribute `NAME`, which is a reason or still a text."""
    return show_reason(getattr(row, name), name)


def show_reason(value: Reason | str, name: str = "reason") -> dict[str, Any]:
    """Return `NAME`, `NAME_code` and `NAME_data` of a reason."""
    reason = as_reason(value)
    return {name: render(reason), f"{name}_code": reason.code, f"{name}_data": reason.data}


def with_reasons(row: object, names: tuple[str, ...], reasons: tuple[str, ...] = ("reason",)) -> dict[str, Any]:
    """Return the named attributes of a row, and its reasons with their codes and parameters."""
    fields: dict[str, Any] = {name: getattr(row, name) for name in names if name not in reasons}
    for name in reasons:
        fields |= reason_fields(row, name)
    return fields


def show_reasons(values: Mapping[str, Reason]) -> dict[str, str]:
    """Return the sentences of reasons by name."""
    return {name: render(reason) for name, reason in values.items()}
