"""The three kinds of error: rejected input, a temporary failure, and a permanent failure that a person must fix."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class TocsinError(Exception):
    """An error whose text may be shown to a user."""


class Rejected(TocsinError):
    """Invalid input: a code for programs, a sentence for people, and the name of the input field, if any."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field

    @property
    def fields(self) -> dict[str, str]:
        """The sentence by field name; empty if the error belongs to no field."""
        return {} if self.field is None else {self.field: self.detail}


class RejectedAll(Rejected):
    """Input with several problems, listed in order in `problems`. The code and field are those of the first."""

    def __init__(self, problems: Sequence[Rejected]) -> None:
        first, *others = problems
        super().__init__(first.code, " ".join([first.detail, *(other.detail for other in others)]), first.field)
        self.problems = tuple(problems)

    @property
    def fields(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for problem in self.problems:
            found = {**problem.fields, **found}
        return found


class Temporary(TocsinError):
    """A failure that is worth retrying. `retry_after` is the delay that the server requested, if it did."""

    def __init__(self, detail: str, retry_after: timedelta | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class Permanent(TocsinError):
    """A failure that a retry does not fix. A person must act; `remedy` says how."""

    def __init__(self, detail: str, remedy: str | None = None) -> None:
        super().__init__(detail if remedy is None else f"{detail} {remedy}")
        self.detail = detail
        self.remedy = remedy
