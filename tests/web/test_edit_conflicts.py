"""Edit conflicts: the second save is warned, loses nothing, and may be repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from tests.support.form_data import filled
from tests.support.variants import first
from tests.web.conftest import Company, make_user
from tocsin.access.audit import COMMAND_LINE, AuditActor
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import specs
from tocsin.inbound.maintenance_commands import save_window
from tocsin.inbound.models import Integration
from tocsin.notify.models import Provider
from tocsin.notify.providers.commands import provider_spec, save_provider
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.changes.overrides import save_override
from tocsin.oncall.models import Schedule
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.models import LookUp, OutboundIntegration
from tocsin.people.changes import out_of_office
from tocsin.people.changes import users as people
from tocsin.people.models import User
from tocsin.workflows.commands import save_workflow
from tocsin.workflows.models import Workflow

type BrowserOf = Callable[[User], Client]


@dataclass(frozen=True, slots=True)
class Shared:
    """A form, the field that both change, and to what: the first and the second."""

    path: str
    field: str
    by_first: str
    by_second: str
    form: str = ""
    button: tuple[str, str] = ("", "")


def _named(path: str, form: str = "") -> Shared:
    return Shared(path, "name", "By the first", "By the second", form)


def _schedule(company: Company) -> Schedule:
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob", "alice"]}
    spec = {"name": "Desk", "group": "Service Desk", "shifts": [{"name": "W", "rotate": rotate, "start": "2026-01-05"}]}
    return oncall.save_schedule(spec, actor=COMMAND_LINE, now=company.now)


def _halo(company: Company) -> OutboundIntegration:
    spec = {
        "name": "Halo", "kind": "haloitsm", "base_url": "https://acme.haloitsm.com", "client_id": "id",
        "client_secret": "secret", "sync": {"close": {"note": True}},
    }  # fmt: skip
    row = save_outbound(spec, actor=COMMAND_LINE, now=company.now)
    LookUp.objects.bulk_create(
        LookUp(
            integration=row, list_name="agent", number=number, name=f"Agent {number}", data={}, refreshed_at=company.now
        )
        for number in ("7", "8")
    )
    return row


def _shared(kind: str, company: Company) -> Shared:
    made: dict[str, Any] = {"actor": COMMAND_LINE, "now": company.now}
    later = company.now + timedelta(days=3)
    halo = f"/integrations/{company.halo.pk}"
    row: Any
    spec: dict[str, Any]
    match kind:
        case "schedule":
            return _named(f"/on-call/schedules/{_schedule(company).pk}/edit/", "schedule-form")
        case "group":
            return _named(f"/groups/{company.desk.pk}/edit/")
        case "policy":
            return _named(f"/policies/{company.policy.pk}/edit/")
        case "workflow":
            row = save_workflow({"name": "Flow", "trigger": "opened", "actions": [{"do": "close"}]}, **made)
            return _named(f"/workflows/{row.pk}/edit/")
        case "provider":
            spec = {"name": "Mail", "kind": "smtp", "host": "mail.example.org", "sender": "t@example.org"}
            return _named(f"/providers/{save_provider(spec, **made).pk}/")
        case "support hours":
            windows = [{"days": ["mon"], "from": "08:00", "to": "18:00"}]
            hours = oncall.save_support_hours({"name": "Office", "windows": windows}, **made)
            return _named(f"/on-call/support-hours/{hours.pk}/")
        case "holiday calendar":
            row = oncall.save_holiday_calendar({"name": "Swiss", "country": "CH"}, **made)
            return _named(f"/on-call/holidays/{row.pk}/", "calendar-form")
        case "client table":
            spec = {"name": "Clients", "clients": [{"client": "Acme", "group": "Night"}]}
            return _named(f"/client-tables/{specs.save_client_table(spec, **made).pk}/")
        case "maintenance window":
            spec = {
                "name": "Patch day", "starts": "2030-12-01 22:00", "ends": "2030-12-02 02:00", "action": "suppress",
                "integrations": ["HaloITSM"],
            }  # fmt: skip
            return _named(f"/maintenance/{save_window(spec, **made).pk}/")
        case "user":
            return _named(f"/users/{company.responder.pk}/")
        case "settings":
            return Shared("/settings/", "organisation_name", "First Ltd", "Second Ltd")
        case "override":
            schedule = _schedule(company)
            spec = {"schedule": "Desk", "user": "bob", "from": company.now.isoformat(), "to": later.isoformat()}
            row = save_override(spec, **made)
            assert row.schedule == schedule
            return _named(f"/on-call/overrides/{row.pk}/")
        case "absence":
            spec = {"from": company.now.isoformat(), "to": later.isoformat()}
            row = out_of_office.save_absence(company.admin, spec, **made)
            return Shared(f"/me/absences/{row.pk}/", "note", "At sea", "In the hills")
        case "integration settings":
            return _named(f"{halo}/settings/")
        case "integration credentials":
            return Shared(
                f"{halo}/security/", "basic_username", "one", "two", button=("basic_password", "a long password")
            )
        case "mapping":
            return Shared(f"{halo}/mapping/", "yaml", "dedup_key: a\n", "dedup_key: b\n", button=("do", "save"))
        case "rules":
            rule = "rules:\n  open:\n    field: source_status\n    operator: equals\n    value: {}\n"
            return Shared(f"{halo}/rules/", "yaml", rule.format("One"), rule.format("Two"), button=("do", "save"))
        case "routing":
            route = "routes:\n- priority: {}\n"
            return Shared(f"{halo}/routing/", "yaml", route.format("low"), route.format("high"), button=("do", "save"))
        case "which tickets page":
            return Shared(f"{halo}/paging-preset/", "which", "urgent", "all", button=("do", "save"))
        case "outbound integration":
            return _named(f"/outbound/{_halo(company).pk}/edit/")
        case "what is written back":
            return Shared(f"/outbound/{_halo(company).pk}/sync/", "close-text", "Over.", "Done.")
        case "tickets":
            return Shared(f"/outbound/{_halo(company).pk}/tickets/", "summary", "One", "Two")
        case "who is who":
            return Shared(f"/outbound/{_halo(company).pk}/people/", f"agent-{company.responder.pk}", "7", "8")
        case "contact method":
            spec = {"label": "Mobile", "channel": "sms", "address": "+41790000001"}
            row = people.save_contact_method(company.admin, spec, **made)
            return Shared(f"/me/contact-methods/{row.pk}/", "address", "+41790000002", "+41790000003")
        case "notification rules":
            return Shared("/me/notification-rules/", "most_per_hour", "10", "20")
    raise AssertionError(kind)


EVERY = (
    "schedule", "group", "policy", "workflow", "user", "settings", "absence", "integration settings", "mapping",
    "rules", "outbound integration", "what is written back",
    "provider", "support hours", "holiday calendar", "client table", "maintenance window", "override", "routing",
    "integration credentials", "which tickets page", "tickets", "who is who", "contact method", "notification rules",
)  # fmt: skip


@pytest.mark.parametrize("kind", first(12, EVERY))
def test_second_save_is_warned_once_and_loses_nothing(kind: str, company: Company, browser_of: BrowserOf) -> None:
    shared = _shared(kind, company)
    second = make_user("nora", "admin", "Nora North")
    is_own = kind in ("absence", "contact method", "notification rules")
    if is_own:
        second = company.admin
    opened = [
        (browser, filled(browser.get(shared.path).content.decode(), shared.form))
        for browser in (browser_of(company.admin), browser_of(second))
    ]
    pressed = {shared.button[0]: [shared.button[1]]} if shared.button[0] else {}
    (first, form), (other, old) = opened
    answer = first.post(shared.path, {**form, **pressed, shared.field: [shared.by_first]})
    assert answer.status_code == 302
    refused = other.post(shared.path, {**old, **pressed, shared.field: [shared.by_second]})
    shown = refused.content.decode()
    assert refused.status_code == 422
    by = "You" if is_own else "Alice Andersson"
    assert f"{by} changed this in the meantime (" in shown
    again = filled(shown, shared.form)
    assert again[shared.field] == [shared.by_second], "what was typed is kept"
    assert filled(first.get(shared.path).content.decode(), shared.form)[shared.field] == [shared.by_first]
    assert other.post(shared.path, {**again, **pressed}).status_code == 302
    assert filled(first.get(shared.path).content.decode(), shared.form)[shared.field] == [shared.by_second]


def test_form_redisplayed_with_errors_still_shows_earlier_conflict(company: Company, browser_of: BrowserOf) -> None:
    path = f"/groups/{company.desk.pk}/edit/"
    first, second = browser_of(company.admin), browser_of(company.manager)
    old = filled(second.get(path).content.decode())
    assert first.post(path, {**old, "name": ["By the first"]}).status_code == 302
    wrong = second.post(path, {**old, "name": [""]})
    assert wrong.status_code == 422
    assert "in the meantime" not in wrong.content.decode()
    response = second.post(path, {**filled(wrong.content.decode()), "name": ["By the second"]})
    assert "Alice Andersson changed this in the meantime (" in response.content.decode()
    assert "By the first" in first.get(path).content.decode()


def test_change_from_another_tab_is_neither_reported_nor_lost(company: Company, browser_of: BrowserOf) -> None:
    first, second = browser_of(company.admin), browser_of(company.manager)
    mapping, rules = (f"/integrations/{company.halo.pk}/{tab}/" for tab in ("mapping", "rules"))
    of_mapping = filled(first.get(mapping).content.decode())
    of_rules = filled(second.get(rules).content.decode())
    saved = first.post(mapping, {**of_mapping, "yaml": ["dedup_key: a\n"], "do": ["save"]})
    rule = "rules:\n  open:\n    field: source_status\n    operator: equals\n    value: New\n"
    also = second.post(rules, {**of_rules, "yaml": [rule], "do": ["save"]})
    assert (saved.status_code, also.status_code) == (302, 302)
    spec = integrations.integration_spec(Integration.objects.get(pk=company.halo.pk))
    assert spec["dedup_key"] == "a"
    assert spec["rules"]["open"]["value"] == "New"


def test_secret_entered_by_another_user_is_a_conflict(company: Company, browser_of: BrowserOf) -> None:
    spec = {"name": "Mail", "kind": "smtp", "host": "mail.example.org", "sender": "t@example.org", "username": "t"}
    row = save_provider(spec, actor=COMMAND_LINE, now=company.now)
    path = f"/providers/{row.pk}/"
    browser = browser_of(company.admin)
    old = filled(browser.get(path).content.decode())
    save_provider(
        {**spec, "password": "new"}, existing=row, actor=AuditActor(None, "Nora North", "api"), now=company.now
    )
    response = browser.post(path, {**old, "password": ["other"]})
    assert "Nora North changed this in the meantime (" in response.content.decode()
    assert "password" not in str(provider_spec(Provider.objects.get()))


def test_second_press_of_same_button_undoes_nothing(company: Company, browser_of: BrowserOf) -> None:
    flow = save_workflow({"name": "Flow", "trigger": "opened", "actions": [{"do": "close"}]}, actor=COMMAND_LINE,
                         now=company.now)  # fmt: skip
    halo = _halo(company)
    first, second = browser_of(company.admin), browser_of(company.admin)
    shown = [filled(one.get(f"/workflows/{flow.pk}/").content.decode(), f"/workflows/{flow.pk}/switch")
             for one in (first, second)]  # fmt: skip
    for browser, form in zip((first, second), shown, strict=True):
        browser.post(f"/workflows/{flow.pk}/switch", form)
    assert not Workflow.objects.get().is_enabled, "both switched it off"
    path = f"/outbound/{halo.pk}/"
    for _time in "connect", "disconnect":
        shown = [filled(one.get(path).content.decode(), f"{path}connect") for one in (first, second)]
        for browser, form in zip((first, second), shown, strict=True):
            browser.post(f"{path}connect", form)
        connected = Integration.objects.get(pk=company.halo.pk).outbound_id
        assert connected == (halo.pk if _time == "connect" else None)


#: The objects that have a page which asks before it deletes, with the tail of their own page's path.
DELETED = {
    "schedule": "edit/", "group": "edit/", "policy": "edit/", "workflow": "edit/", "provider": "", "support hours": "",
    "holiday calendar": "", "client table": "", "maintenance window": "", "user": "", "outbound integration": "edit/",
    "integration settings": "settings/",
}  # fmt: skip


@pytest.mark.parametrize("kind", first(4, DELETED))
def test_deletion_is_warned_once_about_changes_since_confirmation(
    kind: str, company: Company, browser_of: BrowserOf
) -> None:
    shared = _shared(kind, company)
    path = f"{shared.path.removesuffix(DELETED[kind])}delete/"
    first, second = browser_of(company.admin), browser_of(make_user("nora", "admin", "Nora North"))
    requests = filled(second.get(path).content.decode(), "delete-form")
    form = filled(first.get(shared.path).content.decode(), shared.form)
    assert first.post(shared.path, {**form, shared.field: [shared.by_first]}).status_code == 302
    refused = second.post(path, requests)
    shown = refused.content.decode()
    assert refused.status_code == 409
    assert "Alice Andersson changed this in the meantime (" in shown
    answer = second.post(path, filled(shown, "delete-form"))
    assert "in the meantime" not in answer.content.decode()
