"""Writes entries of the audit log for other programs: as fields of the API, CSV and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

from tocsin.access.models import AuditEntry
from tocsin.core.validation import csv_text

_FIELDS = ("action", "object_type", "object_id", "object_name", "before", "after", "via")


class ExportFormat(StrEnum):
    """The file formats, named by their suffix."""

    CSV = "csv"
    JSON_LINES = "jsonl"

    @property
    def content_type(self) -> str:
        """The media type of the file."""
        return "text/csv; charset=utf-8" if self is ExportFormat.CSV else "application/jsonl; charset=utf-8"


def entry_fields(entry: AuditEntry, *, with_address: bool) -> dict[str, Any]:
    """Returns the fields of an entry, with the IP address of the actor if `with_address`."""
    return {
        "id": entry.pk,
        "at": entry.at,
        "actor": entry.actor_name,
        **{name: getattr(entry, name) for name in _FIELDS},
        "address": entry.address if with_address else None,
    }


def export(entries: Iterable[AuditEntry], file_format: ExportFormat, *, with_address: bool) -> Iterator[str]:
    """Yields the file in parts. In CSV, `before` and `after` are JSON."""
    if file_format is ExportFormat.CSV:
        yield csv_text.write([["id", "at", "actor", *_FIELDS, "address"]])
    for entry in entries:
        fields = entry_fields(entry, with_address=with_address) | {"at": entry.at.isoformat()}
        if file_format is ExportFormat.CSV:
            states = {name: None if (state := fields[name]) is None else _json(state) for name in ("before", "after")}
            yield csv_text.write([(fields | states).values()])
        else:
            yield _json(fields) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
