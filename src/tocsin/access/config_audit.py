"""The last part of every configuration command: writes the audit log, and makes all nodes reload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version


class NamedObject(Protocol):
    """A configuration row with a name."""

    @property
    def pk(self) -> Any: ...
    @property
    def name(self) -> str: ...


def record(
    object_type: str,
    row: NamedObject,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
    *,
    actor: AuditActor,
    now: datetime,
    secrets: Sequence[str] = (),
) -> bool:
    """Records that `row`, a `object_type`, was created (no `before`), deleted (no `after`) or changed, and makes nodes
    reload.

    `secrets` names the secrets that were set; their values are never recorded. Runs in the caller's Django transaction.
    Returns False, and does nothing, if there is no difference.
    """
    if after is not None and secrets:
        after = {**after, "secrets_changed": list(secrets)}
    is_change = audit.record_change(
        actor,
        now=now,
        object_type=object_type,
        object_id=row.pk,
        object_name=row.name,
        before=before,
        after=after,
        group_id=row.pk if object_type == "group" else getattr(row, "group_id", None),
    )
    if is_change:
        config_version.bump()
    return is_change
