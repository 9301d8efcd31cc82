"""Tickets that Tocsin creates in HaloITSM for other alerts: exactly one each."""

from __future__ import annotations

import pytest

from tests.doubles.halo import API_AGENT, TIMEOUT, FakeResponse
from tests.support.halo_pair import HaloPair
from tests.support.people import ACTOR
from tocsin.alerts.commands import Acknowledge
from tocsin.alerts.commands import Reply as Say
from tocsin.alerts.service import find_alert
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.processing.drain import process_now
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.outbound import commands, writeback
from tocsin.outbound.models import Call, TicketLink
from tocsin.outbound.states import CallStatus


def test_alert_gets_one_ticket_despite_repeated_creation_attempts(
    both: HaloPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writeback, "_ticket_creators", writeback._TicketCreators())
    both.change(create_ticket={"on": ["opened"], "priority": "High", "ticket_type": "Incident"})
    api = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Halo", "anyway": True}, actor=ACTOR, now=both.now
    )
    payload: dict[str, object] = {"id": "disk-1", "status": "firing", "subject": "Disk full", "text": "98 %"}
    # The first try makes the ticket, and its answer is lost.
    made = []

    def losing(method: str, path: str) -> FakeResponse | None:
        if (method, path) == ("POST", "/api/Tickets") and not made:
            made.append(both.halo.create_ticket({"summary": f"Disk full (Tocsin #{number[0]})"}, API_AGENT)["id"])
            return TIMEOUT
        return None

    number = [0]
    both.server.api.fault = lambda method, path: None
    (stored,) = process_now([IncomingMessage(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
    assert stored.alert_id is not None
    number[0] = stored.alert_id
    both.server.api.fault = losing
    both.go()
    both.go(60)
    (ticket,) = made
    assert TicketLink.objects.get().ticket == str(ticket)
    assert list(both.halo.tickets) == [ticket]
    # Its own ticket's webhook opens no second alert, and what is done goes to it.
    assert both.alerts(ticket) == []
    both.act(stored.alert_id, Acknowledge)
    both.go()
    assert both.notes(ticket) == ["Alice Andersson acknowledged this at 09:16 UTC."]


def test_dry_run_alert_gets_ticket_when_paging_begins(both: HaloPair) -> None:
    both.change(create_ticket={"on": ["opened"], "ticket_type": "Incident"})
    spec = {"name": "Monitoring", "kind": "api", "outbound": "Halo", "mode": "dry_run", "anyway": True}
    api = integrations.save_integration(spec, actor=ACTOR, now=both.now)

    def arrive() -> int | None:
        payload: dict[str, object] = {"id": "disk-1", "status": "firing", "subject": "Disk full"}
        (stored,) = process_now([IncomingMessage(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
        both.go()
        return stored.alert_id

    number = arrive()
    assert not both.halo.tickets
    integrations.save_integration(spec | {"mode": "page"}, existing=api, actor=ACTOR, now=both.now)
    assert arrive() == number
    assert TicketLink.objects.get().alert_id == number
    assert len(both.halo.tickets) == 1


def test_failed_ticket_creation_succeeds_once_after_recovery(both: HaloPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writeback, "_ticket_creators", writeback._TicketCreators())
    both.change(create_ticket={"on": ["opened"], "ticket_type": "Fault"})
    api = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Halo", "anyway": True}, actor=ACTOR, now=both.now
    )

    opened: list[int] = []

    def opens(name: str) -> int:
        payload: dict[str, object] = {"id": name, "status": "firing", "subject": name}
        (stored,) = process_now([IncomingMessage(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
        assert stored.alert_id is not None
        opened.append(stored.alert_id)
        both.go()
        return stored.alert_id

    def ticket_of(alert: int) -> str:
        return TicketLink.objects.get(alert=alert).ticket

    # A ticket type that is gone: what follows on the alert waits for the ticket.
    first = opens("disk-1")
    both.act(first, Acknowledge)
    both.go()
    assert [(call.action, call.status) for call in both.calls()] == [("create", "dead"), ("write", "dead")]
    assert str(both.calls()[0].error).startswith('Halo has no ticket type "Fault"')
    # Somebody chooses another: it is made with that, and what waited is written on it.
    both.change(create_ticket={"on": ["opened"], "ticket_type": "Incident"})
    both.go()
    assert len(both.notes(int(ticket_of(first)))) == 1
    # Halo is away for more than a day, and had made it all the same before it went.
    made: list[int] = []

    def losing(method: str, path: str) -> FakeResponse | None:
        if (method, path) == ("POST", "/api/Tickets") and not made:
            made.append(both.halo.create_ticket({"summary": f"disk-2 (Tocsin #{opened[-1]})"}, API_AGENT)["id"])
        return TIMEOUT

    both.server.api.fault = losing
    second = opens("disk-2")
    for hour in range(19, 26):
        both.go(hour * 3600)
    assert [call.status for call in both.calls(action="create")] == ["sent", "dead"]
    both.server.api.fault = lambda method, path: None
    both.act(first, Say, text="Still there?")
    both.go(26 * 3600)
    assert ticket_of(second) == str(made[0])
    # A right that is lost and given again: the next thing that happens on the alert tries anew.
    both.halo.missing_rights = {"edit:tickets"}
    third = opens("disk-3")
    both.halo.missing_rights = set()
    both.act(third, Acknowledge)
    both.go()
    assert len(both.notes(int(ticket_of(third)))) == 1
    assert len(both.halo.tickets) == 3


def test_dropped_ticket_is_created_only_on_request_and_once(both: HaloPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writeback, "_ticket_creators", writeback._TicketCreators())
    both.change(create_ticket={"on": ["opened", "escalate"]})
    api = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Halo", "anyway": True}, actor=ACTOR, now=both.now
    )
    payload: dict[str, object] = {"id": "disk-1", "status": "firing", "subject": "Disk full"}
    (stored,) = process_now([IncomingMessage(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
    alert = stored.alert_id or 0
    (call,) = both.calls()
    commands.drop(call, actor=ACTOR, now=both.now)
    both.act(alert, Acknowledge)
    both.change(rate=49)
    both.go()
    # Nothing more is written about it either.
    assert [call.status for call in both.calls()] == [CallStatus.DROPPED]
    assert not both.halo.tickets
    commands.send_again(both.calls()[0], actor=ACTOR, now=both.now)
    both.go()
    assert len(both.halo.tickets) == 1
    for make in (lambda: commands.make_ticket(both.outbound, find_alert(alert), ACTOR, both.now),
                 lambda: commands.send_again(both.calls()[0], actor=ACTOR, now=both.now)):  # fmt: skip
        with pytest.raises(Rejected):
            make()
    # Its call was dropped, and its row pruned: asked for again, Tocsin looks first.
    TicketLink.objects.update(ticket="")
    Call.objects.all().delete()
    commands.make_ticket(both.outbound, find_alert(alert), ACTOR, both.now)
    both.go()
    assert len(both.halo.tickets) == 1
    assert TicketLink.objects.get().ticket == str(next(iter(both.halo.tickets)))
