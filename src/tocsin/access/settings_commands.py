"""Changing the installation's settings: checked, recorded in the audit log, and known to every node."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version, settings_store


def change_settings(values: Mapping[str, object], *, actor: AuditActor, now: datetime) -> bool:
    """Sets the named settings; the others stay. Returns whether any changed.

    Raises Rejected, which names the setting, for an unknown name or a bad value.
    """
    wanted = settings_store.checked(values)
    with transaction.atomic():
        config_version.lock()
        before = {name: settings_store.get(name) for name in wanted}
        changed = audit.record_change(
            actor, now=now, object_type="settings", object_id="", object_name="settings", before=before, after=wanted
        )
        if changed:
            settings_store.write(wanted)
    return changed
