"""Enumerations whose values a column stores. Pure."""

from __future__ import annotations

from enum import StrEnum


class StoredEnum(StrEnum):
    """The values of a column."""

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Returns value and label pairs for Django's fields."""
        return [(member.value, member.value) for member in cls]
