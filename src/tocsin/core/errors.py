"""The three kinds of error: rejected input, temporary trouble, and trouble a person must end."""

from __future__ import annotations

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
