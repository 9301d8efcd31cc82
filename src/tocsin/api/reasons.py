"""Reasons in responses: the sentence in the reader's language, with its code and parameters beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from tocsin.core.reason_json import render, show_reason
from tocsin.core.reasons import Reason

#: The two fields beside a reason.
ReasonCode = Annotated[
    str, Field(description="The reason's stable code; see the reference of reason codes. Empty if there is no reason.")
]
ReasonData = Annotated[dict[str, Any], Field(description="The reason's parameters, by name.")]


class ReasonSchema(BaseModel):
    """A reason in a list of reasons."""

    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData


def reason_fields(row: object, name: str = "reason") -> dict[str, Any]:
    """Return `NAME`, `NAME_code` and `NAME_data` of a row's attribute `NAME`, which is a reason."""
    return show_reason(getattr(row, name), name)


def with_reasons(row: object, names: tuple[str, ...], reasons: tuple[str, ...] = ("reason",)) -> dict[str, Any]:
    """Return the named attributes of a row, and its reasons with their codes and parameters."""
    fields: dict[str, Any] = {name: getattr(row, name) for name in names if name not in reasons}
    for name in reasons:
        fields |= reason_fields(row, name)
    return fields


def show_reasons(values: Mapping[str, Reason]) -> dict[str, str]:
    """Return the sentences of reasons by name."""
    return {name: render(reason) for name, reason in values.items()}
