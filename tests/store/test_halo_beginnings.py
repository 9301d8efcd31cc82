"""Tickets that were created since the last look, and have moved on before Tocsin saw them: they page all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.doubles.halo import DESK_AGENT, EVENT_ONLY
from tests.store.halo import Pair, pair
from tests.store.people import ACTOR
from tests.store.sending import allow_loopback
from tocsin.alerts.models import AlertEvent
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin.observed_statuses import statuses_seen
from tocsin.inbound.body_compression import body_of
from tocsin.inbound.models import Integration
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.halo_sync import poller

IN_PROGRESS, ACTION_REQUIRED, RESOLVED, CLOSED = 2, 3, 8, 9


@pytest.fixture
def pulled(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Tocsin reads a Halo that sends nothing, and has looked once."""
    allow_loopback(monkeypatch)
    with pair(now) as both:
        both.connect(pull=True)
        yield both


def _logged(both: Pair, seconds: float = 5, **fields: Any) -> int:
    both.seconds = seconds
    number: int = both.halo.log({"summary": "VPN down", **fields}, DESK_AGENT)["id"]
    return number


def _change(both: Pair, ticket: int, seconds: float, **fields: Any) -> None:
    both.seconds = seconds
    both.halo.change(ticket, fields, DESK_AGENT)


def _set(both: Pair, **spec: Any) -> None:
    """Changes the inbound integration."""
    door = Integration.objects.get(pk=both.inbound.pk)
    integrations.save_integration(
        {**integrations.integration_spec(door), **spec, "anyway": True}, existing=door, actor=ACTOR, now=both.now
    )


@pytest.mark.parametrize("status", [IN_PROGRESS, RESOLVED])
def test_a_ticket_that_is_new_no_more_when_it_is_first_seen_opens_and_then_shows_how_it_stands(
    pulled: Pair, status: int
) -> None:
    ticket = _logged(pulled)
    _change(pulled, ticket, 20, status_id=status)
    pulled.look(31)
    alert = pulled.alert(ticket)
    assert (alert.status, alert.subject) == ("open", "VPN down")
    assert alert.source_status == {IN_PROGRESS: "In Progress", RESOLVED: "Resolved"}[status]
    opened, updated = pulled.inbox(source_id=str(ticket))
    assert (opened.status, updated.status) == ("Mapped Opened", "Mapped Updated")
    said = "created since the last look, and moved on before this one: it is taken in as it was created"
    assert said in opened.verdict["notes"]
    assert json.loads(body_of(opened.raw))["message"] == said
    # Once.
    pulled.look(62)
    assert len(pulled.inbox(source_id=str(ticket))) == 2


def test_an_agent_whom_it_has_by_then_is_shown_and_pages_are_sent_unless_the_setting_says_otherwise(
    pulled: Pair,
) -> None:
    ticket = _logged(pulled)
    _change(pulled, ticket, 20, status_id=IN_PROGRESS, agent_id=DESK_AGENT)
    pulled.look(31)
    alert = pulled.alert(ticket)
    assert (alert.status, alert.source_agent) == ("open", "Sam Service")
    _set(pulled, settings={"owned_ticket_stops": True})
    ticket = _logged(pulled, 40)
    _change(pulled, ticket, 50, status_id=IN_PROGRESS, agent_id=DESK_AGENT)
    pulled.look(62)
    assert pulled.alert(ticket).status == "assigned"


def test_what_was_closed_by_then_and_what_is_filtered_out_opens_nothing(pulled: Pair) -> None:
    _set(pulled, filters={"field": "team", "operator": "equals", "value": "2nd Line Support"})
    over, other, ours = _logged(pulled), _logged(pulled), _logged(pulled, team="2nd Line Support")
    _change(pulled, over, 20, status_id=CLOSED, agent_id=DESK_AGENT, team="2nd Line Support")
    _change(pulled, other, 20, status_id=IN_PROGRESS)
    _change(pulled, ours, 20, status_id=IN_PROGRESS)
    pulled.look(31)
    assert [len(pulled.alerts(ticket)) for ticket in (over, other, ours)] == [0, 0, 1]


def test_a_ticket_that_is_older_than_the_last_look_opens_nothing_by_moving_on(pulled: Pair) -> None:
    ticket = _logged(pulled)
    pulled.halo.tickets[ticket]["status_id"] = ACTION_REQUIRED
    pulled.look(31)
    assert pulled.alerts(ticket) == []
    _change(pulled, ticket, 40, status_id=IN_PROGRESS)
    pulled.look(62)
    pulled.look(93)
    assert pulled.alerts(ticket) == []


def test_a_ticket_that_is_as_it_was_created_is_decided_by_its_own_status_and_the_statuses_seen_tell_of_it(
    pulled: Pair,
) -> None:
    ticket = _logged(pulled)
    pulled.halo.tickets[ticket]["status_id"] = ACTION_REQUIRED
    pulled.look(31)
    (message,) = pulled.inbox(source_id=str(ticket))
    assert (message.status, message.source_status) == ("Mapped Ignored", "Action Required")
    seen = statuses_seen(Integration.objects.get(pk=pulled.inbound.pk), pulled.now)
    assert 'came first with "Action Required", and opened nothing' in seen.warning
    pulled.look(62)
    assert len(pulled.inbox(source_id=str(ticket))) == 1


def test_where_new_has_another_name_it_opens_by_that(pulled: Pair) -> None:
    _set(pulled, rules={"open": {"field": "source_status", "operator": "equals", "value": "Action Required"}})
    ticket = _logged(pulled)
    pulled.halo.tickets[ticket]["status_id"] = ACTION_REQUIRED
    _change(pulled, ticket, 20, status_id=IN_PROGRESS)
    pulled.look(31)
    assert pulled.alert(ticket).source_status == "In Progress"


def test_a_halo_without_a_ticket_of_late_and_one_connected_before_this_version_know_new_ones_by_their_date(
    pulled: Pair,
) -> None:
    old = pulled.halo.log({"summary": "Old"}, DESK_AGENT)["id"]
    pulled.halo.tickets[old] |= {"dateoccurred": "2020-01-01T10:00:00", "status_id": ACTION_REQUIRED}
    standing = pulled.standing()
    standing.poll_state.pop("highest", None)
    standing.save()
    ticket = _logged(pulled)
    _change(pulled, ticket, 20, status_id=IN_PROGRESS)
    _change(pulled, old, 20, status_id=IN_PROGRESS)
    pulled.look(31)
    assert [len(pulled.alerts(one)) for one in (old, ticket)] == [0, 1]


def test_new_tickets_over_several_looks_are_all_known_as_new(pulled: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (client, poller):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
        monkeypatch.setattr(module, "MAX_LIST_PAGES", 2)
    tickets = [_logged(pulled) for _ in range(9)]
    for ticket in tickets:
        _change(pulled, ticket, 20, status_id=IN_PROGRESS)
    for look in range(4):
        pulled.look(31 + 31 * look)
    assert [len(pulled.alerts(ticket)) for ticket in tickets] == [1] * 9


def test_a_lost_webhook_of_a_new_ticket_is_made_up_for_although_a_later_one_came(both: Pair) -> None:
    both.server.hooks.loses = lambda happened: happened.event == "new ticket logged"
    ticket = both.log()
    both.seconds = 20
    both.halo.change(ticket, {"status_id": IN_PROGRESS}, DESK_AGENT)
    both.go()
    assert both.alerts(ticket) == []
    both.look(200)
    alert = both.alert(ticket)
    assert (alert.status, alert.source_status) == ("open", "In Progress")
    first = AlertEvent.objects.filter(alert=alert.pk).earliest("pk")
    assert first.kind == "opened"


def test_a_webhook_that_told_of_the_new_ticket_has_decided_and_the_look_pages_nobody(both: Pair) -> None:
    _set(both, rules={"open": {"field": "subject", "operator": "contains", "value": "VPN"}})
    ticket = both.log("Printer")
    _set(both, rules={})
    both.seconds = 20
    both.halo.change(ticket, {"status_id": IN_PROGRESS}, DESK_AGENT)
    both.go()
    both.look(200)
    both.look(400)
    assert both.alerts(ticket) == []


def test_a_new_ticket_that_has_moved_on_before_halo_could_be_asked_about_it_opens(both: Pair) -> None:
    both.halo.webhooks["hook"]["payload_type"] = EVENT_ONLY
    ticket = both.halo.log({"summary": "VPN down"}, DESK_AGENT)["id"]
    over = both.halo.log({"summary": "Printer"}, DESK_AGENT)["id"]
    both.server.hooks.loses = lambda happened: True
    both.halo.change(ticket, {"status_id": IN_PROGRESS}, DESK_AGENT)
    both.halo.change(over, {"status_id": CLOSED, "agent_id": DESK_AGENT}, DESK_AGENT)
    both.go()
    alert = both.alert(ticket)
    assert (alert.status, alert.subject) == ("open", "VPN down")
    assert both.alerts(over) == []
    both.look(200)
    assert both.alert(ticket).source_status == "In Progress"
