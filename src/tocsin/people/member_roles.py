"""The roles a member can have in a group, in the order in which they are called."""

from __future__ import annotations

from enum import StrEnum


class MemberRole(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"
    MANAGER = "manager"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Value and label, as Django's fields want them."""
        return [(role.value, role.value) for role in cls]
