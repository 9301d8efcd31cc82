"""System shows the last backup."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.test import Client

from tests.web.conftest import Company
from tocsin.core.config import settings_store
from tocsin.core.config.settings_store import LastBackup
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.people.models import User
from tocsin.web import system


def fact(client: Client) -> str:
    """What System says about the last backup."""
    return client.get("/system/").content.decode().partition("Last backup")[2].partition("</dl>")[0]


def test_system_shows_the_last_backup_and_warns_after_a_week(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    client = browser_of(company.admin)
    assert "none yet" in fact(client)
    for age, is_overdue in ((timedelta(days=2), False), (timedelta(days=8), True)):
        with database.transaction() as connection:
            settings_store.record_backup(connection, LastBackup(clock.now() - age, "db1:/backup/tocsin", 12_000_000))
        for part in (f"{age.days} d ago", "11.4\xa0MB", "db1:/backup/tocsin"):
            assert part in fact(client)
        assert ("wait-text" in fact(client)) == is_overdue
        # Home says so too, to those who see its health.
        assert ("The last backup was made" in client.get("/").content.decode()) == is_overdue


def test_each_setting_stands_under_one_heading() -> None:
    names = [name for _heading, fields in system.SECTIONS for name in fields]
    assert sorted(names) == sorted(system.SystemSettingsForm().fields)


def test_settings_are_summed_up_by_what_was_changed(company: Company, browser_of: Callable[[User], Client]) -> None:
    client = browser_of(company.admin)
    settings_store.set("require_mfa", ["admin"])
    settings_store.set("bundle_pages", False)
    summary = {
        str(heading): changed for heading, _fields, changed in client.get("/settings/").context["form"].sections()
    }
    assert summary["Access"] == [("Second factor required for", "admin")]
    assert summary["Messages"] == [("Bundle pages sent in quick succession", "no")]
    assert summary["Retention"] == []
    assert 'href="#settings-2"' in client.get("/settings/").content.decode()
