"""The model's field of a message's body: whoever reads or writes it by the ORM sees it as it came."""

from __future__ import annotations

from typing import Any

from django.db import models

from tocsin.inbound.body_compression import body_of, kept


class BodyField(models.BinaryField):  # type: ignore[type-arg]  # the stubs know arguments that the class does not take
    """Bytes, kept as `bodies` says."""

    def from_db_value(self, value: bytes | memoryview | None, *_: Any) -> bytes | None:
        """The body as it came."""
        return None if value is None else body_of(bytes(value))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """What is stored of it."""
        stored = None if value is None else kept(bytes(value))
        return super().get_db_prep_value(stored, connection, prepared)
