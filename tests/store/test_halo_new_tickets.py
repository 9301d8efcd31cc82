"""New tickets that changed before Tocsin saw them still page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.doubles.halo import DESK_AGENT, EVENT_ONLY
from tests.support.halo_pair import HaloPair, halo_pair
from tests.support.outbox_harness import allow_loopback
from tests.support.people import ACTOR
from tocsin.alerts.models import AlertEvent
from tocsin.core.reasons import reason_from_json
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.admin.simple_rules import load_observed_statuses
from tocsin.inbound.models import Integration, decompress
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.halo_sync import poller
from tocsin.outbound.halo_sync.ticket_messages import CHANGED_SINCE_CREATION

IN_PROGRESS, ACTION_REQUIRED, RESOLVED, CLOSED = 2, 3, 8, 9


@pytest.fixture
def pulled(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[HaloPair]:
    """Tocsin reads a Halo that sends nothing, and has looked once."""
    allow_loopback(monkeypatch)
    with halo_pair(now) as both:
        both.connect(pull=True)
        yield both


def _logged(both: HaloPair, seconds: float = 5, **fields: Any) -> int:
    both.seconds = seconds
    number: int = both.halo.create_ticket({"summary": "VPN down", **fields}, DESK_AGENT)["id"]
    return number


def _change(both: HaloPair, ticket: int, seconds: float, **fields: Any) -> None:
    both.seconds = seconds
    both.halo.change_ticket(ticket, fields, DESK_AGENT)


def _set(both: HaloPair, **spec: Any) -> None:
    """Changes the inbound integration."""
    integration = Integration.objects.get(pk=both.inbound.pk)
    current = integrations.integration_spec(integration)
    if "settings" in spec:
        spec["settings"] = {**current.get("settings", {}), **spec["settings"]}
    integrations.save_integration(
        {**current, **spec, "anyway": True},
        existing=integration,
        actor=ACTOR,
        now=both.now,
    )


@pytest.mark.parametrize("status", [IN_PROGRESS, RESOLVED])
def test_ticket_first_seen_after_changes_opens_with_current_state(pulled: HaloPair, status: int) -> None:
    ticket = _logged(pulled)
    _change(pulled, ticket, 20, status_id=status)
    pulled.poll(31)
    alert = pulled.alert(ticket)
    assert (alert.status, alert.subject) == ("open", "VPN down")
    assert alert.source_status == {IN_PROGRESS: "In Progress", RESOLVED: "Resolved"}[status]
    opened, updated = pulled.inbox(source_id=str(ticket))
    assert (opened.status, updated.status) == ("Mapped Opened", "Mapped Updated")
    reason = CHANGED_SINCE_CREATION()
    assert reason in [reason_from_json(note) for note in opened.verdict["notes"]]
    assert json.loads(decompress(opened.raw))["message"] == str(reason)
    # Once.
    pulled.poll(62)
    assert len(pulled.inbox(source_id=str(ticket))) == 2


def test_already_assigned_ticket_still_pages_unless_setting_prevents_it(
    pulled: HaloPair,
) -> None:
    ticket = _logged(pulled)
    _change(pulled, ticket, 20, status_id=IN_PROGRESS, agent_id=DESK_AGENT)
    pulled.poll(31)
    alert = pulled.alert(ticket)
    assert (alert.status, alert.source_agent) == ("open", "Sam Service")
    _set(pulled, settings={"owned_ticket_stops": True})
    ticket = _logged(pulled, 40)
    _change(pulled, ticket, 50, status_id=IN_PROGRESS, agent_id=DESK_AGENT)
    pulled.poll(62)
    assert pulled.alert(ticket).status == "assigned"


def test_already_closed_or_filtered_ticket_opens_nothing(pulled: HaloPair) -> None:
    _set(pulled, filters={"field": "team", "operator": "equals", "value": "2nd Line Support"})
    over, other, ours = _logged(pulled), _logged(pulled), _logged(pulled, team="2nd Line Support")
    _change(pulled, over, 20, status_id=CLOSED, agent_id=DESK_AGENT, team="2nd Line Support")
    _change(pulled, other, 20, status_id=IN_PROGRESS)
    _change(pulled, ours, 20, status_id=IN_PROGRESS)
    pulled.poll(31)
    assert [len(pulled.alerts(ticket)) for ticket in (over, other, ours)] == [0, 0, 1]


def test_ticket_older_than_last_poll_opens_nothing_on_status_change(pulled: HaloPair) -> None:
    _set(pulled, settings={"new_tickets_open": False})
    ticket = _logged(pulled)
    pulled.halo.tickets[ticket]["status_id"] = ACTION_REQUIRED
    pulled.poll(31)
    assert pulled.alerts(ticket) == []
    _change(pulled, ticket, 40, status_id=IN_PROGRESS)
    pulled.poll(62)
    pulled.poll(93)
    assert pulled.alerts(ticket) == []


def test_unchanged_new_ticket_uses_its_own_status(
    pulled: HaloPair,
) -> None:
    _set(pulled, settings={"new_tickets_open": False})
    ticket = _logged(pulled)
    pulled.halo.tickets[ticket]["status_id"] = ACTION_REQUIRED
    pulled.poll(31)
    (message,) = pulled.inbox(source_id=str(ticket))
    assert (message.status, message.source_status) == ("Mapped Ignored", "Action Required")
    seen = load_observed_statuses(Integration.objects.get(pk=pulled.inbound.pk), pulled.now)
    assert 'started with "Action Required" and opened no alert' in str(seen.warning)
    pulled.poll(62)
    assert len(pulled.inbox(source_id=str(ticket))) == 1


def test_where_new_has_another_name_it_opens_by_that(pulled: HaloPair) -> None:
    _set(pulled, rules={"open": {"field": "source_status", "operator": "equals", "value": "Action Required"}})
    ticket = _logged(pulled)
    pulled.halo.tickets[ticket]["status_id"] = ACTION_REQUIRED
    _change(pulled, ticket, 20, status_id=IN_PROGRESS)
    pulled.poll(31)
    assert pulled.alert(ticket).source_status == "In Progress"


def test_idle_or_upgraded_halo_recognizes_new_tickets_by_date(
    pulled: HaloPair,
) -> None:
    old = pulled.halo.create_ticket({"summary": "Old"}, DESK_AGENT)["id"]
    pulled.halo.tickets[old] |= {"dateoccurred": "2020-01-01T10:00:00", "status_id": ACTION_REQUIRED}
    status = pulled.status()
    status.poll_state.pop("highest", None)
    status.save()
    ticket = _logged(pulled)
    _change(pulled, ticket, 20, status_id=IN_PROGRESS)
    _change(pulled, old, 20, status_id=IN_PROGRESS)
    pulled.poll(31)
    assert [len(pulled.alerts(one)) for one in (old, ticket)] == [0, 1]


def test_new_tickets_across_several_polls_are_all_recognized(pulled: HaloPair, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (client, poller):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
        monkeypatch.setattr(module, "MAX_LIST_PAGES", 2)
    tickets = [_logged(pulled) for _ in range(9)]
    for ticket in tickets:
        _change(pulled, ticket, 20, status_id=IN_PROGRESS)
    for attempt in range(4):
        pulled.poll(31 + 31 * attempt)
    assert [len(pulled.alerts(ticket)) for ticket in tickets] == [1] * 9


def test_lost_new_ticket_webhook_is_recovered_despite_a_later_one(both: HaloPair) -> None:
    both.server.hooks.should_lose = lambda happened: happened.event == "new ticket logged"
    ticket = both.log()
    both.seconds = 20
    both.halo.change_ticket(ticket, {"status_id": IN_PROGRESS}, DESK_AGENT)
    both.go()
    assert both.alerts(ticket) == []
    both.poll(200)
    alert = both.alert(ticket)
    assert (alert.status, alert.source_status) == ("open", "In Progress")
    first = AlertEvent.objects.filter(alert=alert.pk).earliest("pk")
    assert first.kind == "opened"


def test_ticket_decided_by_webhook_is_not_paged_by_poll(both: HaloPair) -> None:
    _set(both, rules={"open": {"field": "subject", "operator": "contains", "value": "VPN"}})
    ticket = both.log("Printer")
    _set(both, rules={})
    both.seconds = 20
    both.halo.change_ticket(ticket, {"status_id": IN_PROGRESS}, DESK_AGENT)
    both.go()
    both.poll(200)
    both.poll(400)
    assert both.alerts(ticket) == []


def test_new_ticket_that_changed_before_lookup_still_opens(both: HaloPair) -> None:
    both.halo.webhooks["hook"]["payload_type"] = EVENT_ONLY
    ticket = both.halo.create_ticket({"summary": "VPN down"}, DESK_AGENT)["id"]
    over = both.halo.create_ticket({"summary": "Printer"}, DESK_AGENT)["id"]
    both.server.hooks.should_lose = lambda happened: True
    both.halo.change_ticket(ticket, {"status_id": IN_PROGRESS}, DESK_AGENT)
    both.halo.change_ticket(over, {"status_id": CLOSED, "agent_id": DESK_AGENT}, DESK_AGENT)
    both.go()
    alert = both.alert(ticket)
    assert (alert.status, alert.subject) == ("open", "VPN down")
    assert both.alerts(over) == []
    both.poll(200)
    assert both.alert(ticket).source_status == "In Progress"
