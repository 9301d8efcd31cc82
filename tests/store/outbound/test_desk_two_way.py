"""A ticket system that a file describes, both ways: commands on its tickets, its changes on alerts, and no echo."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.support.desk_pair import DeskPair, desk_pair
from tests.support.outbox_harness import allow_loopback
from tests.support.people import ACTOR
from tocsin.access.audit import AuditActor
from tocsin.alerts.commands import Acknowledge, Assign, Close, Unassign
from tocsin.alerts.commands import Reply as Say
from tocsin.alerts.models import Alert
from tocsin.alerts.service import find_alert
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import EgressResponse
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.models import Integration
from tocsin.outbound import commands, writeback
from tocsin.outbound.models import IntegrationStatus, LookUp, TicketLink
from tocsin.outbound.states import CallStatus, OutboundEvent

FULL = {
    "acknowledge": {"note": True, "agent": True, "status": "open"},
    "assign": {"note": True, "agent": True, "status": "open"},
    "reply": {"note": True},
    "close": {"note": True, "status": "closed"},
}


@pytest.fixture
def both(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeskPair]:
    allow_loopback(monkeypatch)
    with desk_pair(now) as made:
        yield made


def test_commands_reach_the_ticket_and_their_echoes_do_nothing(both: DeskPair) -> None:
    both.connect(sync=FULL)
    both.change(81)
    assert both.go()
    (alert,) = both.alerts()
    both.act(alert.pk, Assign)
    both.act(alert.pk, Say, text="Looking <at> it")
    assert both.go()
    assert both.tickets[81] | {"title": ""} == {"state": "open", "owner_id": 5, "title": ""}
    both.act(alert.pk, Close, note="Router restarted.")
    assert both.go()
    assert both.articles[81] == [
        f"Alice Andersson assigned this to themselves at 09:15 UTC. (Tocsin #{alert.pk})",
        f"Alice Andersson: Looking <at> it (Tocsin #{alert.pk})",
        f"Alice Andersson closed the alert at 09:15 UTC. Router restarted. (Tocsin #{alert.pk})",
    ]
    assert both.tickets[81]["state"] == "closed"
    (alert,) = both.alerts()
    assert (alert.status, alert.owner_id) == ("closed", both.users["alice"].pk)
    # The text of the alert is the sender's, not Tocsin's own note.
    assert "Tocsin #" not in alert.long_text
    assert {call.status for call in both.calls()} == {CallStatus.SENT}
    assert both.double.unknown == []


def test_agent_and_status_of_the_desk_reach_the_alert(both: DeskPair) -> None:
    both.connect(sync=FULL)
    both.change(81)
    both.go()
    both.change(81, owner_id=6, state="open")
    both.go()
    (alert,) = both.alerts()
    assert alert.owner_id == both.users["bob"].pk
    both.change(81, state="closed")
    both.go()
    assert both.alerts()[0].status == "closed"
    assert both.calls() == []


@pytest.mark.parametrize("seed", range(8))
def test_two_integrations_of_one_desk_come_to_rest(both: DeskPair, seed: int) -> None:
    chance = random.Random(seed)
    both.connect("One", sync=FULL)
    both.connect("Two", sync=FULL)
    both.change(81)
    assert both.go()
    assert len(both.alerts()) == 2
    acts = 0
    for _ in range(6):
        alert = chance.choice(both.alerts())
        if chance.random() < 0.3:
            both.change(81, state=chance.choice(["open", "new", "closed"]), owner_id=chance.choice([1, 5, 6]))
        else:
            make = chance.choice([Acknowledge, Assign, Say, Close, Unassign])
            try:
                both.act(alert.pk, make, chance.choice(["alice", "bob"]), **({"text": "Hm"} if make is Say else {}))
                acts += 1
            except Rejected:
                continue
        if chance.random() < 0.6:
            assert both.go()
    assert both.go()
    # One call for each command at most: no message of the desk has caused one.
    assert len(both.calls()) <= acts
    before = (len(both.double.writes), both.delivered, len(both.calls()))
    assert both.go()
    assert (len(both.double.writes), both.delivered, len(both.calls())) == before
    assert all("Tocsin #" not in alert.long_text for alert in both.alerts())


def test_alert_of_another_source_gets_one_ticket_that_opens_nothing(both: DeskPair) -> None:
    both.connect(
        create_ticket={"on": ["acknowledge"], "team": "Network", "priority": "3 high"}, customer="a@example.org"
    )
    integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Zammad", "anyway": True}, actor=ACTOR, now=both.now
    )
    inbound = Integration.objects.get(name="Monitoring")
    (number,) = both.post(inbound, {"id": "disk-1", "status": "open", "subject": "Disk full"})
    both.act(number, Acknowledge)
    both.act(number, Acknowledge, "bob")
    assert both.go()
    (create, *_) = [body for name, body in both.double.writes if name == "create"]
    assert create["title"] == f"Disk full (Tocsin #{number})"
    assert (create["group_id"], create["priority_id"], create["customer"]) == (2, 3, "a@example.org")
    assert TicketLink.objects.get().ticket == "1042"
    assert len([name for name, _body in both.double.writes if name == "create"]) == 1
    assert ticket_url_of(number) == f"{both.server.url}/#ticket/zoom/1042"
    # Zammad tells of the new ticket: it opens no alert.
    both.change(1042, title=create["title"])
    both.go()
    assert len(both.alerts()) == 1


def ticket_url_of(number: int) -> str:
    ticket = writeback.ticket_of_alert(Alert.objects.get(pk=number))
    assert ticket is not None
    return ticket.url


def test_credentials_that_end_at_night_hold_everything(both: DeskPair) -> None:
    outbound = both.connect()
    both.change(81)
    both.go()
    (alert,) = both.alerts()
    both.double.instead = lambda name, body: EgressResponse(401, {}, b'{"error": "Invalid token"}')
    both.act(alert.pk, Acknowledge)
    both.act(alert.pk, Say, text="Still here")
    both.go()
    assert [call.status for call in both.calls()] == [CallStatus.QUEUED] * 2
    assert "rejected the credentials" in str(IntegrationStatus.objects.get(pk=outbound.pk).problem)
    both.double.instead = both.answer
    commands.save_outbound(
        {**commands.outbound_spec(outbound), "token": "another"}, existing=outbound, actor=ACTOR, now=both.now
    )
    both.go()
    assert [article.partition(" (")[0] for article in both.articles[81]] == [
        "Alice Andersson acknowledged this at 09:15 UTC.", "Alice Andersson: Still here",
    ]  # fmt: skip


def test_missing_ticket_is_a_dead_letter_with_its_reason(both: DeskPair) -> None:
    both.connect()
    both.change(81)
    both.go()
    (alert,) = both.alerts()
    both.double.instead = lambda name, body: EgressResponse(404, {}, b'{"error": "No such object"}')
    both.act(alert.pk, Acknowledge)
    both.go()
    (call,) = both.calls()
    assert call.status == CallStatus.DEAD
    assert "Zammad has no ticket 81 (404): it was deleted or merged" in str(call.error)


def test_rate_limit_of_an_hour_loses_nothing(both: DeskPair) -> None:
    both.connect()
    both.change(81)
    both.go()
    (alert,) = both.alerts()
    both.double.instead = lambda name, body: EgressResponse(429, {"retry-after": "3600"}, b"")
    both.act(alert.pk, Acknowledge)
    both.go()
    (call,) = both.calls()
    assert (call.status, call.attempts) == (CallStatus.QUEUED, 0)
    both.double.instead = both.answer
    both.seconds += 4000
    both.go()
    assert both.calls()[0].status == CallStatus.SENT


def test_agent_who_left_is_named_and_the_note_is_written(both: DeskPair) -> None:
    both.connect(sync=FULL)
    LookUp.objects.filter(list_name="agent", name__startswith="Alice").delete()
    both.change(81)
    both.go()
    (alert,) = both.alerts()
    nobody = EgressResponse(200, {}, b"[]")
    both.double.instead = lambda name, body: nobody if name == "look_up_user" else both.answer(name, body)
    both.act(alert.pk, Assign)
    both.go()
    assert "No agent in Zammad has the email address alice@example.org" in str(both.calls()[0].result)
    assert len(both.articles[81]) == 1


def test_preview_names_the_requests_and_writes_nothing(both: DeskPair) -> None:
    outbound = both.connect(sync=FULL)
    both.change(81)
    both.go()
    (alert,) = both.alerts()
    actor = AuditActor(both.users["alice"].pk, "Alice Andersson", "web")
    planned = writeback.preview(outbound, find_alert(alert.pk), OutboundEvent.CLOSE, actor, both.now)
    assert [(one.method, one.url.removeprefix(both.server.url), one.body) for one in planned][-1] == (
        "PUT", "/api/v1/tickets/81", '{"state": "closed"}',
    )  # fmt: skip
    assert (both.double.writes, both.calls()) == ([], [])
    assert writeback.preview(outbound, find_alert(alert.pk), OutboundEvent.HOLD, actor, both.now) == []
