"""Entries of the audit log in responses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from tocsin.access.audit_log.export import entry_fields
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
    return [entry_fields(entry, with_address=with_address) for entry in entries]
