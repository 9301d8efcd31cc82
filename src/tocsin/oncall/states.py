"""States and kinds of swaps and calendar feeds, as the database stores them."""

from __future__ import annotations

from enum import StrEnum


class SwapState(StrEnum):
    """The state of a swap request."""

    PENDING = "asked"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Returns value and label pairs for Django's fields."""
        return [(state.value, state.value) for state in cls]


class FeedKind(StrEnum):
    """Whose shifts a calendar feed contains."""

    #: The shifts of its owner.
    PERSON = "person"
    GROUP = "group"
    SCHEDULE = "schedule"
    #: Every group.
    ALL = "all"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Returns value and label pairs for Django's fields."""
        return [(kind.value, kind.value) for kind in cls]
