"""Entries of the audit log in responses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from tocsin.access.models import AuditEntry


class AuditEntrySchema(BaseModel):
    """One entry. Secrets are masked in `before` and `after`."""

    id: int
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    object_name: str
    before: Any
    after: Any
    via: str
    address: str | None


def show_entries(entries: Sequence[AuditEntry], *, with_address: bool = True) -> list[dict[str, Any]]:
    """Return the entries as the API shows them, with the IP addresses of the actors if `with_address`."""
    names = ("id", "at", "action", "object_type", "object_id", "object_name", "before", "after", "via")
    return [
        {
            **{name: getattr(entry, name) for name in names},
            "actor": entry.actor_name,
            "address": entry.address if with_address else None,
        }
        for entry in entries
    ]
