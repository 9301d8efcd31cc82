"""Webhooks that Tocsin creates in HaloITSM: monitored, updated, and reported when silent."""

from __future__ import annotations

import json
import threading
from datetime import datetime

import pytest

from tests.doubles.halo import DESK_AGENT, FORBIDDEN
from tests.support.halo_pair import HaloPair, halo_pair
from tests.support.outbox_harness import allow_loopback
from tests.support.people import ACTOR
from tocsin.core.ids import uuid7
from tocsin.core.reasons import NO_REASON
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin import secrets
from tocsin.inbound.deciding.state import WITHOUT_TICKET
from tocsin.inbound.models import Integration
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.connectors.interfaces import IntegrationAccount, RecordedClient
from tocsin.outbound.halo_sync import halo_commands, poller, ticket_messages, webhook_setup


def test_failed_webhook_setup_keeps_the_existing_webhook(both: HaloPair) -> None:
    url = "http://tocsin/in/x"
    line = RecordedClient(both.directory.client, lambda: both.now)
    account = IntegrationAccount(1, "Halo", {"base_url": both.server.url, "client_id": "tocsin"},
                      {"client_secret": both.halo.client_secret})  # fmt: skip
    before = dict(both.halo.webhooks["hook"])

    def waits(attempt: int) -> bool:
        both.server.hooks.run()
        return attempt < 3

    def set_up() -> webhook_setup.WebhookSetupResult:
        halo = client.HaloClient(account).session(line, both.now)
        return webhook_setup.set_up(halo, webhook_setup.DesiredWebhook(url), wait=waits)

    assert set_up().problem == NO_REASON
    # What arrived before says nothing of this test.
    both.server.hooks.deliver = lambda hook, content: (502, "Bad Gateway")
    done = set_up()
    assert "did not arrive" in str(done.problem)
    assert list(both.halo.webhooks) == ["hook"]
    assert {name: both.halo.webhooks["hook"][name] for name in before} == before


def _set_up(both: HaloPair, integration: Integration) -> webhook_setup.WebhookSetupResult:
    both.server.hooks.deliver = lambda hook, content: (200, "{}")
    stop = threading.Event()

    def answer() -> None:
        while not stop.wait(0.02):
            both.server.hooks.run()

    sender = threading.Thread(target=answer)
    sender.start()
    try:
        return halo_commands.set_up_webhook(both.outbound, integration, ACTOR, both.now)
    finally:
        stop.set()
        sender.join()


def test_each_inbound_halo_integration_has_a_monitored_webhook(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with halo_pair(now) as both:
        both.connect()
        other = integrations.save_integration(
            {"name": "Field service", "kind": "haloitsm", "outbound": "Halo", "anyway": True,
             "settings": {"fail_open": False}}, actor=ACTOR, now=both.now,
        )  # fmt: skip
        for integration in (both.inbound, other):
            done = _set_up(both, integration)
            assert not done.problem, done
        first, second = both.halo.webhooks.values()
        assert (first["url"], second["url"]) == (secrets.url_of(both.inbound), secrets.url_of(other))
        both.poll(200)
        assert both.status().webhook_problem == NO_REASON
        # Halo switches the first off, although the second was set up last.
        first["active"] = False
        first["last_status"] = 502
        both.poll(400)
        assert str(both.status().webhook_problem) == (
            "HaloITSM: Halo has disabled the webhook. The last delivery returned 502. Set it up again, or enable "
            "it in Halo."
        )
        assert not _set_up(both, both.inbound).problem
        both.poll(600)
        assert both.status().webhook_problem == NO_REASON
        # The URL is made anew: the webhook that is there gets it, and stays one.
        before = first["id"]
        secrets.rotate_token(other, actor=ACTOR, now=both.now)
        assert halo_commands.schedule_webhook_update(other, both.now)
        assert poller.poll(both.directory, lambda: both.now)
        assert [hook["url"] for hook in both.halo.webhooks.values()] == [
            secrets.url_of(both.inbound), secrets.url_of(other)
        ]  # fmt: skip
        secrets.rotate_token(other, actor=ACTOR, now=both.now)
        done = _set_up(both, other)
        assert done.steps[0] == ticket_messages.WEBHOOK_URL_CHANGED()
        assert [hook["id"] for hook in both.halo.webhooks.values()] == [before, second["id"]]
        # Without the right to change it, the webhook's old address is said.
        secrets.rotate_token(other, actor=ACTOR, now=both.now)
        both.server.api.fault = lambda method, path: FORBIDDEN if (method, path) == ("POST", "/api/Webhook") else None
        both.poll(800)
        assert "Field service: The webhook in Halo still has the old URL" in str(both.status().webhook_problem)
        both.server.api.fault = lambda method, path: None
        del both.halo.webhooks[second["id"]]
        both.poll(1000)
        assert both.status().webhook_problem == ticket_messages.WEBHOOK_OF(
            integration="Field service", problem=ticket_messages.WEBHOOK_DELETED()
        )


def test_silent_webhook_is_reported_until_it_delivers(both: HaloPair) -> None:
    both.server.hooks.should_lose = lambda happened: True
    both.halo.create_ticket({"summary": "One"}, DESK_AGENT)
    both.poll(200)
    both.poll(400)
    assert both.status().webhook_problem == NO_REASON
    # An hour later the next ticket: in between nothing came by webhook either.
    both.seconds = 4000
    both.halo.create_ticket({"summary": "Two"}, DESK_AGENT)
    both.poll(4000)
    assert both.status().webhook_problem == ticket_messages.WEBHOOK_SILENT()
    both.poll(4200)
    assert both.status().webhook_problem
    both.server.hooks.should_lose = lambda happened: False
    both.log("Three")
    both.poll(4400)
    assert both.status().webhook_problem == NO_REASON


def test_halos_webhook_test_needs_no_user(both: HaloPair) -> None:
    sent = {"id": str(uuid7()), "webhook_id": "hook", "event": "test", "message": "This is a test."}
    both.deliver({}, json.dumps(sent).encode())
    (message,) = both.inbox()
    assert (message.status, message.alert_id) == ("Mapped Ignored", None)
    assert message.reason == WITHOUT_TICKET()
    # What names no ticket, and comes from somewhere else, is still for a person to see.
    both.deliver({}, b'{"event": "new ticket logged"}')
    assert both.inbox()[-1].status == "Mapping Failed"
