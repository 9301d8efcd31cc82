"""Reasons in responses: the sentence in the reader's language, with its code and parameters beside it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from tocsin.api.components import COMPONENTS, Component


class _Parameter(BaseModel, extra="forbid"):
    """An object that stands for a parameter which is neither a text nor a number."""


class MomentParameter(_Parameter):
    at: datetime


class DayParameter(_Parameter):
    day: date


class DurationParameter(_Parameter):
    seconds: float


class AgoParameter(_Parameter):
    seconds_ago: float


class TermParameter(_Parameter):
    term: str = Field(description="A fixed English word.")


class PersonParameter(_Parameter):
    name: str
    user: int | None = Field(description="The user's ID.")


class AlertParameter(_Parameter):
    alert: int


class NestedReason(_Parameter):
    code: str
    data: ReasonData


#: One parameter, and all of a reason by name.
_PARAMETER, DATA = Component("ReasonParameter"), Component("ReasonParameters")
_SINGLE = (
    str
    | int
    | MomentParameter
    | DayParameter
    | DurationParameter
    | AgoParameter
    | TermParameter
    | PersonParameter
    | AlertParameter
    | NestedReason
)

#: The two fields beside a reason.
ReasonCode = Annotated[
    str, Field(description="The reason's stable code; see the reference of reason codes. Empty if there is no reason.")
]
ReasonData = Annotated[dict[str, Any], DATA.annotation, Field(description="The reason's parameters, by name.")]


class ReasonSchema(BaseModel):
    """A reason in a list of reasons."""

    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData


def parameter_schemas() -> dict[str, Any]:
    """Returns the schemas of a reason's parameters, by the name of the component."""
    schema = TypeAdapter(_SINGLE | list[_SINGLE]).json_schema(ref_template=COMPONENTS + "{model}")
    parameters = {"type": "object", "additionalProperties": _PARAMETER.reference, "title": DATA.name}
    return {**schema.pop("$defs"), _PARAMETER.name: schema, DATA.name: parameters}
