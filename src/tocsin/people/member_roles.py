"""The roles of a member in a group, in the order in which they are paged."""

from __future__ import annotations

from enum import StrEnum

from tocsin.core.reasons import translatable


class MemberRole(StrEnum):
    PRIMARY = translatable("primary")
    SECONDARY = translatable("secondary")
    MANAGER = translatable("manager")

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Returns value and label pairs for Django's fields."""
        return [(role.value, role.value) for role in cls]
