"""The roles of a member in a group, in the order in which they are paged."""

from __future__ import annotations

from tocsin.core.reasons import translatable
from tocsin.core.stored_enum import StoredEnum


class MemberRole(StoredEnum):
    PRIMARY = translatable("primary")
    SECONDARY = translatable("secondary")
    MANAGER = translatable("manager")
