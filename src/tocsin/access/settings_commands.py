"""Changes the installation-wide settings: validates them, writes the audit log, and makes all nodes reload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from django.db import transaction

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version, settings_store
from tocsin.core.hooks import Hooks

#: Called with the values of changed settings, once they are committed.
FOLLOWERS: Hooks[Callable[[Mapping[str, object]], object]] = Hooks()


def change_settings(values: Mapping[str, object], *, actor: AuditActor, now: datetime) -> bool:
    """Sets the given settings, and leaves the others. Returns whether any changed.

    Raises Rejected, naming the setting, for an unknown name or an invalid value.
    """
    validated = settings_store.validated(values)
    with boundary.command():
        config_version.lock()
        before = {name: settings_store.get(name) for name in validated}
        changed = audit.record_change(
            actor, now=now, object_type="settings", object_id="", object_name="settings", before=before, after=validated
        )
        if changed:
            settings_store.write(validated)
    if changed:
        for follow in FOLLOWERS.of():
            transaction.on_commit(partial(follow, validated))
    return changed
