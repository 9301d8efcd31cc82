"""One-click changes apply to the current object, not to the one at the start of the request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from django.db import connections, transaction

from tests.support.ingest import NOW, make_integration
from tests.support.locks import wait_for_waiters
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.config import settings_store
from tocsin.inbound.admin import commands, secrets
from tocsin.inbound.admin.commands import integration_spec, save_integration
from tocsin.inbound.admin.simple_rules import StatusEffect, set_status
from tocsin.inbound.maintenance_commands import end_now, save_window
from tocsin.inbound.models import Integration, MaintenanceWindow

pytestmark = pytest.mark.usefixtures("database")

BY: Mapping[str, Any] = {"actor": COMMAND_LINE, "now": NOW}


def while_somebody_saves(click: Callable[[], object], save: Callable[[], object]) -> None:
    """Clicks while a transaction that changes configuration is not over yet, in which `save` is called then."""
    ended: list[object] = []

    def work() -> None:
        try:
            ended.append(click())
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    with transaction.atomic():
        settings_store.lock()
        thread.start()
        wait_for_waiters(unless=lambda: bool(ended))
        save()
    thread.join(timeout=30)
    assert ended


@pytest.mark.parametrize("click", ["a status", "an old version", "a new URL"])
def test_an_integration_keeps_what_was_saved_while_a_click_waited(click: str) -> None:
    integration = make_integration(settings={"anyway": True})
    save_integration({**integration_spec(integration), "dedup_key": "mine"}, existing=integration, **BY)
    held_integration = Integration.objects.get(pk=integration.pk)
    clicks: dict[str, Callable[[], object]] = {
        "a status": lambda: set_status(held_integration, "Parked", StatusEffect.CLOSE, **BY),
        "an old version": lambda: commands.restore_version(held_integration, 1, **BY),
        "a new URL": lambda: secrets.rotate_token(held_integration, **BY),
    }

    def rename() -> None:
        fresh = Integration.objects.get(pk=integration.pk)
        save_integration({**integration_spec(fresh), "name": "Renamed", "dedup_key": "theirs"}, existing=fresh, **BY)

    while_somebody_saves(clicks[click], rename)
    spec = integration_spec(Integration.objects.get(pk=integration.pk))
    assert spec["name"] == "Renamed"
    if click != "an old version":
        assert spec["dedup_key"] == "theirs"


def test_ending_a_window_keeps_a_concurrent_save() -> None:
    times = {"starts": "2026-11-01 00:00", "ends": "2026-11-30 00:00", "time_zone": "UTC"}
    make_integration(name="Desk", settings={"anyway": True})
    window = save_window({"name": "Patch day", "integrations": ["Desk"], **times}, **BY)
    held_window = MaintenanceWindow.objects.get(pk=window.pk)
    spec = {"name": "Renamed", "integrations": ["Desk"], **times}
    while_somebody_saves(lambda: end_now(held_window, **BY), lambda: save_window(spec, existing=window, **BY))
    now = MaintenanceWindow.objects.get(pk=window.pk)
    assert now.name == "Renamed"
    assert now.times["ends"] != times["ends"], "and it is over"
