"""What the audit log knows of one object of the configuration: who changed it last. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tocsin.access.models import AuditEntry

#: So many entries of an object are looked through.
_MAX_ENTRIES = 50

#: Named in an entry beside the keys that differ.
_SECRETS = "secrets_changed"


def newest() -> int:
    """The number of the newest entry of all; 0 where there is none."""
    return AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def changes(noun: str, number: object, keys: Collection[str] = (), *, after: int = 0) -> Iterator[AuditEntry]:
    """The changes of an object, newest first: of one of the `keys` of its spec where any are named, else of any; only
    entries with a number beyond `after`."""
    entries = AuditEntry.objects.filter(object_type=noun, object_id=str(number), pk__gt=after)
    for entry in entries.exclude(before__isnull=True, after__isnull=True).order_by("-pk")[:_MAX_ENTRIES]:
        changed = {*(entry.before or ()), *(entry.after or ())}
        if not keys or not changed.isdisjoint({*keys, _SECRETS}):
            yield entry
