"""Reasons in responses: the sentence in the reader's language, with its code and parameters beside it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

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
