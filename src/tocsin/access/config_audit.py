"""The end of every command that changes configuration: it is on record, and all nodes load it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version


class NamedObject(Protocol):
    """A row of the configuration that people know by a name."""

    @property
    def pk(self) -> Any: ...
    @property
    def name(self) -> str: ...


def record(
    noun: str,
    row: NamedObject,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
    *,
    actor: AuditActor,
    now: datetime,
    secrets: Sequence[str] = (),
) -> bool:
    """Records that `row`, a `noun`, was made (no `before`), deleted (no `after`) or changed, and has it loaded again.

    That `secrets` of these names were set is on record; what they are or were, never. Inside the caller's Django
    transaction. Returns False, and does nothing, when there is no difference.
    """
    if after is not None and secrets:
        after = {**after, "secrets_changed": list(secrets)}
    is_change = audit.record_change(
        actor, now=now, object_type=noun, object_id=row.pk, object_name=row.name, before=before, after=after
    )
    if is_change:
        config_version.changed()
    return is_change
