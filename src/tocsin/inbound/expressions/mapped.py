"""The result of mapping one message: values only. How they were found is recomputed when a user asks."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tocsin.core.reasons import Reason
from tocsin.inbound.expressions.fields import Attachment, Value


class MappedFields(msgspec.Struct, frozen=True):
    """`values` contains, by name, the known fields that the message mentions.

    An absent field was not mentioned, so the alert keeps its value. A field that is None (`agent`, `assignee`) was
    explicitly *nobody*. Notes are for users, for example about an unmapped priority.
    """

    values: dict[str, Value]
    tags: dict[str, str]
    custom: dict[str, str]
    notes: tuple[Reason, ...] = ()

    def text(self, name: str) -> str | None:
        """Returns a text field's value, or None."""
        value = self.values.get(name)
        return value if type(value) is str else None

    def moment(self, name: str) -> datetime | None:
        value = self.values.get(name)
        return value if isinstance(value, datetime) else None

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        return value if isinstance(value, bool) else None

    def names(self, name: str) -> tuple[str, ...]:
        value = self.values.get(name)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, tuple) else ()

    def attachments(self) -> tuple[Attachment, ...]:
        value = self.values.get("attachments")
        return tuple(item for item in value if isinstance(item, Attachment)) if isinstance(value, tuple) else ()

    def is_nobody(self, name: str) -> bool:
        """Returns whether the message explicitly says that the field is nobody (an unassigned ticket)."""
        return name in self.values and self.values[name] is None
