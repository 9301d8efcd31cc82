"""The three kinds of error: rejected input, temporary trouble, and trouble a person must end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class TocsinError(Exception):
    """An error whose text may be shown to a person."""


class Rejected(TocsinError):
    """Input that cannot be used: a code for programs, a sentence for people, and the field or place it is about."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field

    @property
    def fields(self) -> dict[str, str]:
        """The sentence by field, where there is one."""
        return {} if self.field is None else {self.field: self.detail}


class RejectedAll(Rejected):
    """Input with several things wrong in it. It reads as the first of them; `problems` has all, in order."""

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
    """Something that is worth trying again, after `retry_after` where the other side said so."""

    def __init__(self, detail: str, retry_after: timedelta | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class Permanent(TocsinError):
    """Something that trying again does not mend: a person must act, and `remedy` says how."""

    def __init__(self, detail: str, remedy: str | None = None) -> None:
        super().__init__(detail if remedy is None else f"{detail} {remedy}")
        self.detail = detail
        self.remedy = remedy
