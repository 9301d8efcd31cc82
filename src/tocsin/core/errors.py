"""The three kinds of error: rejected input, a temporary failure, and a permanent failure that a person must fix."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from tocsin.core.reasons import NO_REASON, Reason, Text, joined

# Problems with a file that a command reads or writes.
FILE_UNREADABLE = Text("{file} cannot be read: {error}.")
FILE_UNWRITABLE = Text("{file} cannot be written: {error}.")
FILE_TOO_LARGE = Text("{file} has more than {limit} MiB.")


class TocsinError(Exception):
    """An error whose text may be shown to a user."""

    reason: Reason

    def __str__(self) -> str:
        return str(self.full_reason)

    @property
    def full_reason(self) -> Reason:
        """The reason, then what to do, if the error says so."""
        return self.reason

    @property
    def detail(self) -> str:
        """The reason in English."""
        return str(self.reason)


class Rejected(TocsinError):
    """Invalid input: a coarse code for programs, the reason, and the name of the input field, if any."""

    def __init__(self, code: str, reason: Reason, field: str | None = None) -> None:
        super().__init__(code, reason, field)
        self.code, self.reason, self.field = code, reason, field

    @property
    def fields(self) -> dict[str, str]:
        """The sentence by field name; empty if the error belongs to no field."""
        return {field: str(reason) for field, reason in self.field_reasons.items()}

    @property
    def field_reasons(self) -> dict[str, Reason]:
        """The reason by field name; empty if the error belongs to no field."""
        return {} if self.field is None else {self.field: self.reason}


class RejectedAll(Rejected):
    """Input with several problems, listed in order in `problems`. The code and field are those of the first."""

    def __init__(self, problems: Sequence[Rejected]) -> None:
        super().__init__(problems[0].code, joined(*(one.reason for one in problems), separator=" "), problems[0].field)
        self.problems = tuple(problems)

    @property
    def field_reasons(self) -> dict[str, Reason]:
        reasons: dict[str, Reason] = {}
        for problem in self.problems:
            reasons.update({field: reason for field, reason in problem.field_reasons.items() if field not in reasons})
        return reasons


class Temporary(TocsinError):
    """A failure that is worth retrying. `retry_after` is the delay that the server requested, if it did."""

    def __init__(self, reason: Reason, retry_after: timedelta | None = None) -> None:
        super().__init__(reason, retry_after)
        self.reason, self.retry_after = reason, retry_after


class Permanent(TocsinError):
    """A failure that a retry does not fix. A person must act; `remedy` says how."""

    def __init__(self, reason: Reason, remedy: Reason = NO_REASON) -> None:
        super().__init__(reason, remedy)
        self.reason, self.remedy_reason = reason, remedy

    @property
    def full_reason(self) -> Reason:
        return joined(self.reason, self.remedy_reason, separator=" ")

    @property
    def remedy(self) -> str | None:
        """What to do, in English."""
        return str(self.remedy_reason) or None
