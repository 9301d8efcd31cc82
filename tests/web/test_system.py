"""System shows the last backup; settings and the variables that win over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.test import Client

from tests.support.form_data import filled
from tests.web.conftest import Company
from tocsin.access import audit
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.config import environment, settings_store
from tocsin.core.config.settings_store import LastBackup
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.models import Setting
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
    settings_store.set("smtp_url", SMTP)
    summary = {
        str(heading): changed for heading, _fields, changed in client.get("/settings/").context["form"].sections()
    }
    assert summary["Access"] == [("Second factor required for", "admin")]
    assert summary["Messages"] == [("Bundle pages sent in quick succession", "no")]
    assert summary["Retention"] == []
    text = client.get("/settings/").content.decode()
    assert 'href="#settings-2"' in text
    assert "smtp.example.org" in str(summary["Public URL and email"])
    assert "s3cret" not in text


SMTP = "smtp://mailer:s3cret%40x@smtp.example.org:587"


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Sets a variable, which is read at once."""

    def set_variable(name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        environment.read_again()

    yield set_variable
    monkeypatch.undo()
    environment.use_settings({})
    environment.read_again()


def test_public_url_and_smtp_server_of_settings_apply_at_once(
    company: Company, browser_of: Callable[[User], Client], own_environment: Callable[[str, str], None]
) -> None:
    client = browser_of(company.admin)
    form = filled(client.get("/settings/").content.decode()) | {
        "base_url": "https://tocsin.example.org/",
        "smtp_url": SMTP,
    }
    assert client.post("/settings/", form).status_code == 302
    config = environment.current()
    assert (config.public_url, config.smtp_url) == ("https://tocsin.example.org", SMTP)
    assert config.from_settings == {"base_url", "smtp_url"}
    stored = json.dumps(dict(Setting.objects.values_list("name", "value")))
    assert "s3cret" not in stored
    page = client.get("/settings/").content.decode()
    assert "smtp://mailer:•••@smtp.example.org:587" in page
    assert "s3cret" not in page + client.get("/audit/").content.decode()
    # The masked password stays the stored one, but only for its server.
    form = filled(client.get("/settings/").content.decode()) | {"organisation_name": "Acme"}
    assert client.post("/settings/", form).status_code == 302
    assert environment.current().smtp_url == SMTP
    moved = filled(client.get("/settings/").content.decode()) | {"smtp_url": "smtp://mailer:•••@evil.example.org:587"}
    answer = client.post("/settings/", moved)
    assert answer.status_code == 422
    assert "enter the secret again" in answer.content.decode()
    assert environment.current().smtp_url == SMTP


def test_a_variable_wins_over_its_setting_and_is_named(
    company: Company, browser_of: Callable[[User], Client], own_environment: Callable[[str, str], None]
) -> None:
    audit.change_settings({"base_url": "https://stored.example.org"}, actor=COMMAND_LINE, now=clock.now())
    own_environment("TOCSIN_BASE_URL", "http://testserver")
    assert environment.current().public_url == "http://testserver"
    client = browser_of(company.admin)
    page = client.get("/settings/").content.decode()
    assert "TOCSIN_BASE_URL sets this on the server." in page
    form = filled(client.get("/settings/").content.decode()) | {"base_url": "https://other.example.org"}
    assert client.post("/settings/", form).status_code == 302
    assert settings_store.get("base_url") == "https://stored.example.org"


def test_external_heartbeat_of_settings_applies_and_is_a_secret(
    company: Company, browser_of: Callable[[User], Client], own_environment: Callable[[str, str], None]
) -> None:
    client = browser_of(company.admin)
    url = "https://hc.example.org/ping/0f8b-s3cret"
    form = filled(client.get("/settings/").content.decode()) | {"heartbeat_url": url}
    assert client.post("/settings/", form).status_code == 302
    assert environment.current().heartbeat_url == url
    assert "s3cret" not in json.dumps(dict(Setting.objects.values_list("name", "value")))
    page = client.get("/settings/").content.decode()
    assert 'value="https://hc.example.org/…"' in page
    assert "s3cret" not in page + client.get("/audit/").content.decode()
    assert client.post("/settings/", filled(page)).status_code == 302
    assert environment.current().heartbeat_url == url, "what is shown keeps what is stored"
    answer = client.post("/settings/", filled(page) | {"heartbeat_url": "https://evil.example.org/…"})
    assert answer.status_code == 422
    assert "enter the secret again" in answer.content.decode()
    own_environment("TOCSIN_HEARTBEAT_URL", "https://other.example.org/s3cret")
    page = client.get("/settings/").content.decode()
    assert "TOCSIN_HEARTBEAT_URL sets this on the server." in page
    assert "https://other.example.org/…" in page
    assert "s3cret" not in page
    client.post("/settings/", filled(page) | {"heartbeat_url": ""})
    own_environment("TOCSIN_HEARTBEAT_URL", "")
    assert environment.current().heartbeat_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [("base_url", "tocsin.example.org"), ("base_url", "https://x.example.org/path"), ("smtp_url", "smtp.example.org"),
     ("email_from", "nobody"), ("heartbeat_url", "hc.example.org/ping")],
)  # fmt: skip
def test_an_invalid_setting_of_a_variable_says_what_to_enter(database: str, name: str, value: str) -> None:
    with pytest.raises(Rejected, match=r"Enter .* such as") as refused:
        audit.change_settings({name: value}, actor=COMMAND_LINE, now=clock.now())
    assert refused.value.field == name
