"""Model field for message bodies: compresses on write and decompresses on read."""

from __future__ import annotations

from typing import Any

from django.db import models

from tocsin.inbound.body_compression import compress, decompress


class BodyField(models.BinaryField):  # type: ignore[type-arg]  # the stubs know arguments that the class does not take
    """A BinaryField compressed as `inbound.body_compression` describes."""

    def from_db_value(self, value: bytes | memoryview | None, *_: Any) -> bytes | None:
        """Returns the original body."""
        return None if value is None else decompress(bytes(value))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Returns the stored form of the body."""
        stored = None if value is None else compress(bytes(value))
        return super().get_db_prep_value(stored, connection, prepared)
