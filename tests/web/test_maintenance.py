"""Maintenance windows and delayed alerts on pages, and delays on the routing tab."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.test import Client
from django.utils import translation

from tests.web.conftest import Company
from tests.web.integrations.test_rule_editor import Bench
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.configure import plan
from tocsin.core.ids import uuid7
from tocsin.inbound.admin import commands
from tocsin.inbound.maintenance import describe_times
from tocsin.inbound.maintenance_commands import save_window, window_spec
from tocsin.inbound.models import DelayedAlert, InboundMessage, Integration, MaintenanceWindow
from tocsin.inbound.processing import drain
from tocsin.inbound.storage.messages import IncomingMessage, element_of
from tocsin.people.models import User
from tocsin.web import home

type BrowserOf = Callable[[User], Client]


def form(company: Company, **changed: object) -> dict[str, object]:
    starts, ends = company.now - timedelta(hours=1), company.now + timedelta(hours=3)
    return {
        "name": "Server room", "action": "hold", "repeat": "once", "time_zone": "UTC", "operator": "equals",
        "starts": f"{starts:%Y-%m-%dT%H:%M}", "ends": f"{ends:%Y-%m-%dT%H:%M}",
        "scope": "selected", "integrations": [company.halo.pk],
        **changed,
    }  # fmt: skip


def arrive(integration: Integration, company: Company, number: int) -> InboundMessage:
    payload = {"object_id": number, "ticket": {"id": number, "summary": f"Rack {number}", "status": {"name": "New"}}}
    raw = json.dumps(payload).encode()
    element = element_of(raw, "application/json", lenient=True)
    incoming = IncomingMessage(uuid7(), integration.pk, company.now, raw, element, "application/json")
    drain.process_now([incoming], company.now)
    return InboundMessage.objects.get(pk=incoming.id)


def test_a_window_is_previewed_saved_seen_in_force_and_ended(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    arrive(company.halo, company, 1)
    preview = client.post("/maintenance/new/", form(company, do="preview"))
    text = preview.content.decode()
    assert preview.status_code == 200
    assert not MaintenanceWindow.objects.exists()
    assert "Rack 1" in text
    assert "Once, from" in text
    assert client.post("/maintenance/new/", form(company)).status_code == 302
    row = MaintenanceWindow.objects.get()
    assert row.integrations == [company.halo.pk]
    waits = arrive(company.halo, company, 2)
    assert waits.status == "Mapped Delayed"
    assert "held back" in client.get(f"/inbound-log/{waits.pk}/").content.decode()
    for path in ("/", "/maintenance/", "/system/", f"/integrations/{company.halo.pk}/"):
        assert "Server room" in client.get(path).content.decode(), path
    overview = client.get(f"/integrations/{company.halo.pk}/").content.decode()
    assert "Rack 2" in overview
    for path in ("/inbound-log/?outcome=delayed", f"/inbound-log/{waits.pk}/"):
        assert "data-countdown" in client.get(path).content.decode(), path
    assert (
        "Its alert opens when the maintenance Server room ends"
        in client.get(f"/inbound-log/{waits.pk}/").content.decode()
    )
    assert client.post(f"/maintenance/{row.pk}/end").status_code == 302
    assert DelayedAlert.objects.get().due_at is not None
    assert client.post(f"/maintenance/{row.pk}/delete/").status_code == 302


def test_long_window_is_confirmed_before_it_is_saved(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    nightly = {"repeat": "daily", "from": "20:00", "to": "07:00"}
    asked = client.post("/maintenance/new/", form(company, **nightly))
    assert asked.status_code == 422
    text = asked.content.decode()
    assert "covers 12 days 20 hours of 28 days" in text
    assert '<input type="checkbox" name="anyway"' in text
    assert not MaintenanceWindow.objects.exists()
    assert client.post("/maintenance/new/", form(company, **nightly, anyway="on")).status_code == 302
    row = MaintenanceWindow.objects.get()
    spec = window_spec(row)
    assert spec["anyway"] is True
    save_window(spec, existing=row, actor=COMMAND_LINE, now=company.now)
    caches["process"].clear()
    (warning,) = [one for one in home.find_warnings(company.now) if "maintenance window" in one.text]
    assert warning.text.startswith(
        "The maintenance window Server room covers 12 days 20 hours of the next 28 days, and its alerts page no one: "
    )
    assert warning.url == f"/maintenance/{row.pk}/"


@pytest.mark.parametrize(
    ("language", "times", "message"),
    [
        (
            "en",
            {"starts": "2026-12-05 08:00", "ends": "2026-12-06 18:00"},
            "Once, from Sat 5 Dec 2026, 08:00 to Sun 6 Dec 2026, 18:00 (Europe/Zurich)",
        ),
        (
            "de",
            {"repeat": "weekly", "days": ["tue", "thu"], "from": "22:00", "to": "02:00", "first_day": "2026-12-01"},
            "Jeden Dienstag und Donnerstag von 22:00 bis 02:00 (Europe/Zurich), ab Di, 1. Dez 2026",
        ),
        (
            "en",
            {"repeat": "monthly", "days": ["2nd tue", "last day", "11"], "from": "22:00", "lasts": "56h"},
            "On the 2nd Tuesday, last day and 11th of each month from 22:00 for 2 days 8 hours (Europe/Zurich)",
        ),
        (
            "de",
            {"repeat": "monthly", "days": ["last sun"], "from": "22:00", "to": "23:00", "last_day": "2026-12-31"},
            "Am letzten Sonntag jedes Monats von 22:00 bis 23:00 (Europe/Zurich), bis Do, 31. Dez 2026",
        ),
    ],
)
def test_window_is_described_in_readers_language_and_dates(
    language: str, times: dict[str, object], message: str
) -> None:
    with translation.override(language):
        assert describe_times({"time_zone": "Europe/Zurich", **times}).localized() == message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ends": "2020-01-01T10:00"}, "Must be after starts"),
        ({"starts": ""}, "is required"),
        ({"repeat": "weekly", "from": "22:00", "to": "23:00"}, "Are required"),
        (
            {"repeat": "monthly", "month_days": "someday", "from": "22:00", "lasts": "1h"},
            "is not a day of a month",
        ),
        ({"tags": "environment"}, "Use name = value."),
        ({"condition": "{field: ["}, "condition"),
        ({"integrations": []}, "Select at least one integration, or choose all integrations."),
        ({"scope": ""}, "Choose one."),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    company: Company, browser_of: BrowserOf, changed: dict[str, object], message: str
) -> None:
    answer = browser_of(company.admin).post("/maintenance/new/", form(company, **changed))
    assert answer.status_code == 422
    assert message in answer.content.decode()


def test_a_window_comes_back_into_its_form_as_it_is(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    again = {
        "repeat": "monthly", "month_days": "2nd tue, last day", "from": "22:00", "lasts": "8h",
        "tags": "environment = test", "field": "client", "operator": "one of", "value": "Acme, Globex",
    }  # fmt: skip
    assert client.post("/maintenance/new/", form(company, **again)).status_code == 302
    row = MaintenanceWindow.objects.get()
    assert row.condition == {"field": "client", "operator": "one of", "value": ["Acme", "Globex"]}
    text = client.get(f"/maintenance/{row.pk}/").content.decode()
    for value in ("2nd tue, last day", "22:00", "8h", "environment = test", "Acme, Globex"):
        assert value in text


def test_all_integrations_are_an_explicit_choice(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    assert not client.get("/maintenance/new/").context["form"]["scope"].value()
    assert client.post("/maintenance/new/", form(company, scope="all")).status_code == 302
    row = MaintenanceWindow.objects.get()
    assert row.integrations == []
    assert client.get(f"/maintenance/{row.pk}/").context["form"]["scope"].value() == "all"
    assert client.post(f"/maintenance/{row.pk}/", form(company)).status_code == 302
    row.refresh_from_db()
    assert row.integrations == [company.halo.pk]
    named = client.get(f"/maintenance/new/?integration={company.halo.pk}").context["form"]
    assert named["scope"].value() == "selected"


def test_a_field_of_model_and_spec_is_everywhere(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    assert client.post("/maintenance/new/", form(company, ticket_reference=" CHG0031234 ")).status_code == 302
    row = MaintenanceWindow.objects.get()
    assert 'name="ticket_reference" value="CHG0031234"' in client.get(f"/maintenance/{row.pk}/").content.decode()
    assert client.get(f"/api/v1/maintenance-windows/{row.pk}").json()["ticket_reference"] == "CHG0031234"
    assert "ticket_reference: CHG0031234" in plan.write(plan.export_configuration(with_secrets=False))
    entry = AuditEntry.objects.get(object_type="maintenance_window")
    assert entry.after["ticket_reference"] == "CHG0031234"


def test_condition_of_a_newer_version_is_named(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    assert client.post("/maintenance/new/", form(company)).status_code == 302
    MaintenanceWindow.objects.update(condition={"moon": "full"})
    row = MaintenanceWindow.objects.get()
    page = client.get(f"/maintenance/{row.pk}/")
    assert page.status_code == 200
    assert "when.moon" in page.content.decode()


def test_a_manager_holds_back_only_what_is_their_own(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.manager)
    owned = {"group": company.desk.pk}
    assert client.post("/maintenance/new/", form(company, scope="all", integrations=[], **owned)).status_code == 422
    Integration.objects.filter(pk=company.halo.pk).update(group=company.night)
    assert client.post("/maintenance/new/", form(company, **owned)).status_code == 403
    assert not MaintenanceWindow.objects.exists()
    assert browser_of(company.observer).get("/maintenance/new/").status_code == 403
    assert browser_of(company.observer).get("/maintenance/").status_code == 200


def test_routing_tab_sets_delay_and_opens_or_releases_delayed_alerts(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.admin)
    bench = Bench(client, company, "routing")
    fields = {**bench.fields(), "suppression.delay.kind": "wait", "suppression.delay.wait": "soon", "do": "save"}
    wrong = client.post(bench.path, fields)
    assert "is not a duration" in wrong.content.decode()
    assert client.post(bench.path, {**fields, "suppression.delay.wait": "5m"}).status_code == 302
    halo = Integration.objects.get(pk=company.halo.pk)
    assert commands.integration_spec(halo)["delay"] == {"wait": "5m"}
    assert 'value="5m"' in client.get(bench.path).content.decode()
    arrive(halo, company, 1)
    message = arrive(halo, company, 2)
    for path in (f"/integrations/{halo.pk}/", f"/inbound-log/{message.pk}/"):
        german = client.get(path, headers={"accept-language": "de"}).content.decode()
        assert "nach 5 Minuten, außer er schließt vorher" in german, path
        assert "unless it closes first" not in german, path
    first, second = (row.key_hash.hex() for row in DelayedAlert.objects.order_by("since", "source_id"))
    assert client.post(f"/delayed/{first}/open").status_code == 302
    assert client.post(f"/delayed/{second}/drop").status_code == 302
    due_at = DelayedAlert.objects.get().due_at
    assert due_at is not None
    assert due_at <= company.now + timedelta(minutes=1)
    message.refresh_from_db()
    assert message.status == "Mapped Ignored"
    assert message.reason.code == "{user} dropped the delayed alert"
    assert client.post(f"/delayed/{second}/drop").status_code == 302
    assert browser_of(company.observer).post(f"/delayed/{first}/drop").status_code == 403


def test_every_suppression_setting_round_trips_through_the_form(company: Company, browser_of: BrowserOf) -> None:
    parts = {
        "delay": {"alerts": 3, "within": "10m", "per": "integration"},
        "grouping": {"by": "<field:client>", "within": "30m"},
        "parent": "<parent_id>",
        "flapping": {"alerts": 4, "within": "30m", "stable": "10m"},
        "flood": {"burst": 20, "every": "1m"},
    }
    spec = {
        **commands.integration_spec(company.halo),
        **parts,
        "routes": [{"delay": "none"}, {"delay": {"wait": "1m"}}],
    }
    commands.save_integration(spec, existing=company.halo, actor=COMMAND_LINE, now=company.now)
    before = commands.integration_spec(Integration.objects.get(pk=company.halo.pk))
    client = browser_of(company.admin)
    bench = Bench(client, company, "routing")
    assert client.post(bench.path, {**bench.fields(), "do": "save"}).status_code == 302
    after = commands.integration_spec(Integration.objects.get(pk=company.halo.pk))
    assert {key: after.get(key) for key in parts} == parts
    assert after["routes"] == before["routes"]
