"""A finding of `tocsin doctor`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import MORE, NO_REASON, Param, Reason, Text, sentence


class FindingLevel(StrEnum):
    #: Must be fixed.
    PROBLEM = "problem"
    #: For information; no action needed.
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """A problem or a note. `id` is its dotted type; `about` names the affected object if there may be several."""

    id: str
    #: The situation, in sentences.
    detail: Reason
    #: What to do about it; empty only for a note.
    remedy: Reason = NO_REASON
    about: str = ""
    level: FindingLevel = FindingLevel.PROBLEM
    #: The id of the object whose page resolves it, if any.
    object_id: int | None = None
    #: Whether pages are, or soon will be, affected.
    is_urgent: bool = False
    #: Whether it is about other objects too: `object_id` is the first, and a list resolves them.
    is_about_several: bool = False
    #: When it begins, if that is later.
    begins_at: datetime | None = None

    @property
    def is_problem(self) -> bool:
        return self.level is FindingLevel.PROBLEM


def note(name: str, detail: Reason, remedy: Reason = NO_REASON) -> HealthFinding:
    """A finding for information."""
    return HealthFinding(name, detail, remedy, level=FindingLevel.NOTE)


_NO_ANSWER = Text("no answer within {deadline}.")


def reason_of_future(future: Future[Any], deadline: timedelta) -> Reason:
    """Why a check that ran for up to `deadline` failed; `NO_REASON` if it did not."""
    if not future.done():
        return _NO_ANSWER(deadline=deadline)
    error = future.exception()
    if error is None:
        return NO_REASON
    if isinstance(error, Rejected | Temporary | Permanent):
        return error.full_reason
    return sentence("the check failed ({error}).", error=type(error).__name__)


def limited(values: Sequence[Param], limit: int, count: int | None = None) -> tuple[Param, ...]:
    """The first values, and how many more there are. `count` is their total number, if `values` are only some."""
    more = (len(values) if count is None else count) - limit
    return (*values[:limit], MORE(count=more)) if more > 0 else tuple(values[:limit])
