"""States and kinds of swaps and calendar feeds, as the database stores them."""

from __future__ import annotations

from tocsin.access.roles import StoredEnum


class SwapState(StoredEnum):
    """The state of a swap request."""

    PENDING = "asked"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


class FeedKind(StoredEnum):
    """Whose shifts a calendar feed contains."""

    #: The shifts of its owner.
    PERSON = "person"
    GROUP = "group"
    SCHEDULE = "schedule"
    #: Every group.
    ALL = "all"
