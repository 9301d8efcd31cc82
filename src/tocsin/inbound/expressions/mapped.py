"""What a mapping found in one message. Values only: how they were found is recomputed when somebody asks."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tocsin.inbound.expressions.fields import Attachment, Value


class MappedFields(msgspec.Struct, frozen=True):
    """`values` holds the known fields that the message says something about, by name.

    A field that is absent was not mentioned: what an alert knows already stays. A field that is present as None
    (`agent`, `assignee`) was mentioned as *nobody*. Notes are sentences for people, such as an unmapped priority.
    """

    values: dict[str, Value]
    tags: dict[str, str]
    custom: dict[str, str]
    notes: tuple[str, ...] = ()

    def text(self, name: str) -> str | None:
        """A field that holds text, or None."""
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

    def says_nobody(self, name: str) -> bool:
        """Whether the message says that there is nobody in this field (an unassigned ticket)."""
        return name in self.values and self.values[name] is None
