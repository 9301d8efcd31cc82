"""Reads the audit log of one configuration object: who changed it last. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tocsin.access.models import AuditEntry

#: Maximum entries of an object that are searched.
_MAX_ENTRIES = 50

#: Listed in an entry besides the keys that differ.
_SECRETS = "secrets_changed"


def newest_change() -> int:
    """Returns the id of the newest entry; 0 if there is none."""
    return AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def list_changes(
    object_type: str, object_id: object, keys: Collection[str] = (), *, after: int = 0
) -> Iterator[AuditEntry]:
    """Yields the changes of an object with an id above `after`, newest first. If `keys` are given, only changes of one
    of these keys of its spec, or of a secret."""
    entries = AuditEntry.objects.filter(object_type=object_type, object_id=str(object_id), pk__gt=after)
    for entry in entries.exclude(before__isnull=True, after__isnull=True).order_by("-pk")[:_MAX_ENTRIES]:
        changed = {*(entry.before or ()), *(entry.after or ())}
        if not keys or not changed.isdisjoint({*keys, _SECRETS}):
            yield entry
