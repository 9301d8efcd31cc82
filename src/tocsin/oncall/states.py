"""The states of what people do about their shifts, as the database keeps them."""

from __future__ import annotations

from enum import StrEnum


class SwapState(StrEnum):
    """What became of a swap that somebody asked for."""

    ASKED = "asked"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Value and label, as Django's fields want them."""
        return [(state.value, state.value) for state in cls]


class FeedKind(StrEnum):
    """Whose shifts a calendar feed has."""

    #: Its owner's own.
    PERSON = "person"
    GROUP = "group"
    SCHEDULE = "schedule"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Value and label, as Django's fields want them."""
        return [(kind.value, kind.value) for kind in cls]
