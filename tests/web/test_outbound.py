"""The pages of outbound integrations: connecting HaloITSM, writeback, user mapping and failures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from ipaddress import ip_network

import pytest
from django.test import Client

from tests.doubles.desk import DeskDouble
from tests.doubles.halo import running
from tests.doubles.http import http_double
from tests.support.people import ACTOR
from tests.web.conftest import Company
from tocsin.access.audit import AuditActor
from tocsin.alerts.models import Alert
from tocsin.catalogue.desks import load_desks
from tocsin.core.config import environment
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.models import Integration
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.models import Call, IntegrationStatus, OutboundIntegration, TicketLink
from tocsin.people.models import User

type BrowserOf = Callable[[User], Client]


def page_text(answer: object) -> str:
    return unescape(answer.content.decode())  # type: ignore[attr-defined]


def test_halo_is_connected_step_by_step(
    company: Company, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = replace(
        environment.current(), allow_targets=(ip_network("127.0.0.0/8"),), base_url="https://tocsin.example.org"
    )
    monkeypatch.setattr(environment, "current", lambda: allowed)
    admin = browser_of(company.admin)
    with running(deliver=lambda hook, body: (200, "{}")) as server:
        form = {"name": "Halo", "base_url": f"{server.url}/tickets?id=1", "client_id": "tocsin", "enabled": "on",
                "client_secret": "wrong", "read_notes": "on", "reread": "on"}  # fmt: skip
        wrong = {**form, "base_url": "no address"}
        assert "ust be your Halo URL" in page_text(admin.post("/outbound/add/haloitsm/", wrong))
        admin.post("/outbound/add/haloitsm/", form)
        row = OutboundIntegration.objects.get()
        assert row.settings["base_url"] == server.url
        assert "rejected the client ID and secret" in page_text(admin.post(f"/outbound/{row.pk}/test", follow=True))
        page = page_text(
            admin.post(f"/outbound/{row.pk}/edit/", {**form, "client_secret": "halo-demo-secret"}, follow=True)
        )
        assert "halo-demo-secret" not in page
        server.halo.missing_rights = {"webhooks", "Team"}
        page = page_text(admin.post(f"/outbound/{row.pk}/test", follow=True))
        assert "as Tocsin API" in page
        assert "Missing permission: List webhooks" in page
        assert "Missing permission: Read teams" in page
        page = page_text(admin.post(f"/outbound/{row.pk}/connect", {"integration": company.halo.pk}, follow=True))
        assert "connected to Halo." in page
        page = page_text(admin.post(f"/outbound/{row.pk}/webhook", {"integration": company.halo.pk}))
        assert "does not permit Tocsin to list its webhooks" in page
        assert "Payload URL" in page
        server.halo.missing_rights = set()
        page = page_text(admin.post(f"/outbound/{row.pk}/webhook", {"integration": company.halo.pk}))
        assert "is set up" in page
        assert "test was delivered (status 200)" in page
        (hook,) = server.halo.webhooks.values()
        assert hook["active"] is True
        assert hook["url"].startswith("https://tocsin.example.org/in/")
        assert len(server.halo.notifications) == 6
        # Once more: the same webhook is mended, not made twice.
        admin.post(f"/outbound/{row.pk}/webhook", {"integration": company.halo.pk})
        assert len(server.halo.webhooks) == 1
        assert len(server.halo.notifications) == 6
        # The test does not arrive: what was made is taken away again.
        server.halo.webhooks.clear()
        server.halo.notifications.clear()
        server.halo.deliveries.clear()
        server.hooks.deliver = lambda hook, body: (502, "Bad Gateway")
        page = page_text(admin.post(f"/outbound/{row.pk}/webhook", {"integration": company.halo.pk}))
        assert "Halo's test did not arrive" in page
        assert "All changes in Halo were rolled back" in page
        assert (server.halo.webhooks, server.halo.notifications) == ({}, {})
        assert "Lists refreshed" in page_text(admin.post(f"/outbound/{row.pk}/refresh", follow=True))
    form = {"acknowledge-note": "on", "close-note": "on", "close-text": "Done", "close-status": "Closed"}
    admin.post(f"/outbound/{row.pk}/sync/", form)
    row.refresh_from_db()
    assert row.settings["sync"]["close"] == {"note": "Done", "status": "Closed"}
    assert row.settings["sync"]["assign"] == {"note": False}
    page = page_text(admin.get(f"/outbound/{row.pk}/people/"))
    assert "Bob Brown (matched by email)" in page
    assert "no match by email" in page
    admin.post(f"/outbound/{row.pk}/people/", {f"agent-{company.manager.pk}": "8"})
    assert row.matches.get().user == company.manager
    page = page_text(admin.post(f"/outbound/{row.pk}/people/", {"do": "import", "agent": ["5"]}, follow=True))
    assert "1 user created." in page
    assert User.objects.get(email="sam@example.org").role == "responder"


def test_foreign_alerts_get_tickets_by_setting_or_button(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    admin = browser_of(company.admin)
    with running(deliver=lambda hook, body: (200, "{}")) as server:
        form = {"name": "Halo", "base_url": server.url, "client_id": "tocsin", "enabled": "on",
                "client_secret": "halo-demo-secret", "read_notes": "on", "reread": "on"}  # fmt: skip
        admin.post("/outbound/add/haloitsm/", form)
    row = OutboundIntegration.objects.get()
    # What nobody chose is not set: the zone of notes is the installation's.
    assert "time_zone" not in row.settings
    page = page_text(admin.get(f"/outbound/{row.pk}/tickets/"))
    assert "None yet" in page
    integration = save_integration(
        {"name": "Monitoring", "kind": "api", "anyway": True}, actor=AuditActor(None, "test", "test"), now=clock.now()
    )
    page = page_text(
        admin.post(f"/outbound/{row.pk}/connect", {"integration": integration.pk, "tab": "tickets"}, follow=True)
    )
    assert "Monitoring connected to Halo." in page
    for what, named in itertools.product(("connect", "webhook"), ("x", "", "9" * 30)):
        response = admin.post(f"/outbound/{row.pk}/{what}", {"integration": named})
        assert response.status_code == 404, "no such integration"
    wrong = admin.post(f"/outbound/{row.pk}/tickets/", {"on": ["exhausted"], "client": "Acme"})
    assert wrong.status_code == 422
    assert "ust be the client's number in Halo" in page_text(wrong)
    assert "create_ticket" not in OutboundIntegration.objects.get().settings
    admin.post(f"/outbound/{row.pk}/tickets/", {"on": ["exhausted"], "client": "12", "summary": "<client>: <subject>"})
    assert OutboundIntegration.objects.get().settings["create_ticket"] == {
        "on": ["exhausted"], "client": "12", "summary": "<client>: <subject>",
    }  # fmt: skip
    alert = open_alert()
    Alert.objects.filter(pk=alert).update(integration=integration.pk)
    responder = browser_of(company.responder)
    assert "Ticket in Halo" in page_text(responder.get(f"/alerts/{alert}/"))
    assert "Create ticket" in page_text(responder.get(f"/alerts/{alert}/"))
    assert "Creating ticket." in page_text(responder.post(f"/alerts/{alert}/ticket", follow=True))
    assert Call.objects.get(action="create").content["client"] == "12"
    page = page_text(responder.get(f"/alerts/{alert}/"))
    assert "Being created." in page
    assert f"/alerts/{alert}/ticket" not in page
    assert "or one is being created" in page_text(responder.post(f"/alerts/{alert}/ticket", follow=True))
    TicketLink.objects.update(ticket="20900")
    assert f"{server.url}/ticket?id=20900" in page_text(responder.get(f"/alerts/{alert}/"))


def test_what_failed_is_seen_on_home_and_sent_again(company: Company, browser_of: BrowserOf) -> None:
    now = clock.now()
    row = OutboundIntegration.objects.create(name="Halo", kind="haloitsm", created_at=now)
    IntegrationStatus.objects.create(integration=row, problem=client.CREDENTIALS_REJECTED(), problem_at=now)
    call = Call.objects.create(
        integration=row, order_key="a", action="write", description=as_reason("Alice took this"), status="dead",
        error=as_reason("No right."), queued_at=now, due_at=now, ticket="20817",
    )  # fmt: skip
    admin = browser_of(company.admin)
    home = page_text(admin.get("/"))
    assert "Halo rejected the client ID and secret." in home
    assert "Halo: 1 call failed." in home
    assert "No right." in page_text(admin.get(f"/outbound/{row.pk}/log/?show=dead"))
    assert "Alice took this" in page_text(admin.get(f"/outbound/{row.pk}/calls/{call.pk}/"))
    assert browser_of(company.responder).post(f"/outbound/{row.pk}/calls/{call.pk}/send-again").status_code == 403
    admin.post(f"/outbound/{row.pk}/calls/{call.pk}/send-again")
    call.refresh_from_db()
    assert call.status == "queued"


def test_described_desk_is_connected_with_lists_and_dry_run(
    company: Company, browser_of: BrowserOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = replace(environment.current(), allow_targets=(ip_network("127.0.0.0/8"),))
    monkeypatch.setattr(environment, "current", lambda: allowed)
    admin = browser_of(company.admin)
    double = DeskDouble(load_desks()["zammad"])
    with http_double(double.serve) as server:
        assert "Token Access" in page_text(admin.get("/outbound/add/zammad/"))
        form = {
            "name": "Zammad",
            "base_url": f"{server.url}/",
            "enabled": "on",
            "customer": "",
            "token": "a-long-token",
        }
        assert "required" in page_text(admin.post("/outbound/add/zammad/", {**form, "token": ""}))
        admin.post("/outbound/add/zammad/", form)
        row = OutboundIntegration.objects.get()
        page = page_text(admin.post(f"/outbound/{row.pk}/test", follow=True))
        assert "Signed in to" in page
        assert "agents: 2" in page
        assert "a-long-token" not in page_text(admin.get(f"/outbound/{row.pk}/edit/"))
        page = page_text(admin.get(f"/outbound/{row.pk}/sync/"))
        assert '<option value="closed">closed</option>' in page
        assert "merged" not in page
        admin.post(f"/outbound/{row.pk}/sync/", {"close-note": "on", "close-status": "closed"})
        page = page_text(admin.get(f"/outbound/{row.pk}/people/"))
        assert "Bob Brown (matched by email)" in page
        inbound = save_integration(
            {"name": "Desk", "kind": "zammad", "outbound": "Zammad", "anyway": True}, actor=ACTOR, now=clock.now()
        )
        page = page_text(admin.post(f"/outbound/{row.pk}/webhook", {"integration": inbound.pk}))
        assert "Created the webhook “Tocsin: Desk” in Zammad." in page
        number = make_alert(inbound, "81")
        page = page_text(admin.post(f"/outbound/{row.pk}/preview", {"alert": f"#{number}", "event": "close"}))
        assert "/api/v1/tickets/81" in page
        assert '{"state": "closed"}' in page
        answer = admin.post(f"/outbound/{row.pk}/preview", {"alert": "x", "event": "close"})
        assert (answer.status_code, "Enter the number of an alert" in page_text(answer)) == (422, True)
        answer = admin.post(f"/outbound/{row.pk}/preview", {"alert": "999999", "event": "close"})
        assert (answer.status_code, "Alert 999999 not found" in page_text(answer)) == (422, True)
        assert not any(name == "note" for name, _body in double.writes)
        # Who may not change it sees neither its lists nor a dry run.
        stranger = browser_of(company.responder)
        assert stranger.post(f"/outbound/{row.pk}/preview", {"alert": str(number), "event": "close"}).status_code == 403


def make_alert(inbound: Integration, ticket: str) -> int:
    now = clock.now()
    alert = Alert.objects.create(
        subject="VPN down", integration=inbound, source="Zammad", source_id=ticket, opened_at=now, last_message_at=now
    )
    return int(alert.pk)
