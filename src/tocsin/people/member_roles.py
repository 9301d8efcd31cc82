"""The roles of a member in a group, in the order in which they are paged."""

from __future__ import annotations

from enum import StrEnum


class MemberRole(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"
    MANAGER = "manager"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Returns value and label pairs for Django's fields."""
        return [(role.value, role.value) for role in cls]
