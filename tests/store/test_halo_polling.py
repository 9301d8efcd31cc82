"""Polling recovers changes of lost, late or missing webhooks, in pull mode too."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from tests.doubles.halo import DESK_AGENT, EXPIRED, FORBIDDEN, FakeResponse
from tests.support.halo_pair import HaloPair, halo_pair
from tests.support.outbox_harness import allow_loopback
from tocsin.alerts.commands import Acknowledge, Assign
from tocsin.alerts.commands import Reply as Say
from tocsin.alerts.models import AlertEvent
from tocsin.core.db import database as connections
from tocsin.core.reasons import NO_REASON
from tocsin.outbound import reasons
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.halo_sync import poller, ticket_messages
from tocsin.outbound.states import CallStatus


def test_one_poll_recovers_every_ticket_despite_lost_webhooks(both: HaloPair) -> None:
    lost = iter(range(10_000))
    both.server.hooks.should_lose = lambda happened: next(lost) % 2 == 0
    tickets = [both.halo.create_ticket({"summary": f"Ticket {number}"}, DESK_AGENT)["id"] for number in range(120)]
    for ticket in tickets[::3]:
        both.halo.change_ticket(ticket, {"agent_id": DESK_AGENT}, DESK_AGENT)
        both.halo.change_ticket(ticket, {"status_id": 9}, DESK_AGENT)
    both.go()
    both.poll(60)
    both.go()
    for number, ticket in enumerate(tickets):
        alerts = both.alerts(ticket)
        # One that was opened and closed before anybody heard of it needs nobody.
        assert len(alerts) == 1 or (number % 3 == 0 and not alerts), ticket
        assert [a.status for a in alerts if a.status in ("open", "assigned")] == ([] if number % 3 == 0 else ["open"])
    messages = [message for message in both.inbox() if message.headers.get("x-tocsin-found-by")]
    assert messages
    before = len(both.inbox())
    both.poll(240)
    assert len(both.inbox()) == before


#: `TOCSIN_TEST_WRITES=1000` writes a thousand.
def test_rate_limited_writes_arrive_in_order_per_ticket(both: HaloPair) -> None:
    both.server.hooks.should_lose = lambda happened: happened.event != "new ticket logged"
    tickets = [both.log(f"Ticket {number}") for number in range(10)]
    numbers = {ticket: both.alert(ticket).pk for ticket in tickets}
    rounds = int(os.environ.get("TOCSIN_TEST_WRITES", "120")) // 10
    for attempt in range(rounds):
        for ticket in tickets:
            both.act(numbers[ticket], Say, text=f"note {attempt}")
    both.server.api.limit = (20, 10.0)
    for step in range(1, 5 * rounds):
        both.go(step * 5)
        if not both.calls(status=CallStatus.QUEUED):
            break
    assert any(row == ("POST", "/api/Actions") for row in both.server.api.requests)
    assert [both.notes(ticket) for ticket in tickets] == [
        [f"Alice Andersson: note {attempt}" for attempt in range(rounds)] for _ in tickets
    ]
    assert {(call.status, call.attempts) for call in both.calls()} == {(CallStatus.SENT, 1)}


def test_changes_beyond_one_poll_are_all_read_with_notes(both: HaloPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    monkeypatch.setattr(poller, "PAGE_SIZE", 2)
    monkeypatch.setattr(client, "MAX_LIST_PAGES", 2)
    monkeypatch.setattr(poller, "MAX_LIST_PAGES", 2)
    monkeypatch.setattr(ticket_messages, "MAX_TICKETS_PER_POLL", 2)
    both.server.hooks.should_lose = lambda happened: True
    both.seconds = 1000
    # The newest change has the lowest number, so that it is on the first page.
    tickets = [both.log(f"Ticket {number}") for number in range(7)]
    both.seconds = 1600
    both.halo.change_ticket(tickets[0], {"summary": "Ticket 0, changed"}, DESK_AGENT)
    for number in tickets[:4]:
        body = {"ticket_id": number, "outcome_id": 7, "note": f"seen {number}"}
        both.halo.add_action(body, DESK_AGENT, "Sam")
    for attempt in range(6):
        both.poll(1700 + 200 * attempt)
    assert [len(both.alerts(ticket)) for ticket in tickets] == [1] * 7
    for ticket in tickets[:4]:
        replies = AlertEvent.objects.filter(alert=both.alert(ticket).pk, kind="replied")
        assert [event.data["text"] for event in replies] == [f"seen {ticket}"]


def test_future_dates_and_hidden_notes_hide_no_other_change(both: HaloPair) -> None:
    ticket = both.log()
    both.server.hooks.should_lose = lambda happened: True
    both.halo.tickets[ticket]["last_update"] = "2999-01-01T00:00:00"
    both.server.api.fault = lambda method, path: FORBIDDEN if (method, path) == ("GET", "/api/Actions") else None
    both.poll(200)
    other = both.log("second")
    both.poll(400)
    before = both.status()
    assert both.alert(other).status == "open"
    assert "Halo does not permit Tocsin to read the actions of ticket" in str(before.poll_error)
    both.halo.change_ticket(other, {"summary": "third"}, DESK_AGENT)
    both.halo.delete(ticket, DESK_AGENT)
    both.poll(600)
    both.poll(800)
    assert (both.alert(other).subject, both.alert(ticket).status) == ("third", "cancelled")
    assert both.status().polled_until > before.polled_until


def hide(both: HaloPair, *tickets: int) -> None:
    """Halo shows these tickets nowhere, as after a role has lost a permission."""
    both.halo.hidden |= set(tickets)
    both.server.api.fault = lambda method, path: (
        FakeResponse(404) if path.rpartition("/")[2] in map(str, tickets) and "/Tickets/" in path else None
    )


def test_tickets_that_tocsin_never_saw_are_not_closed_by_absence(both: HaloPair) -> None:
    tickets = [both.log(f"Alarm {number}") for number in range(9)]
    hide(both, *tickets)
    both.log("Visible")
    for second in (200, 400, 600, 800):
        both.poll(second)
    assert {both.alert(ticket).status for ticket in tickets} == {"open"}
    with connections.transaction() as connection:
        (problem,) = reasons.find_problems(connection)
    assert "Tocsin cannot see 9 tickets with an open alert in Halo" in str(problem.reason)
    both.halo.hidden.clear()
    both.server.api.fault = lambda method, path: None
    both.poll(1000)
    both.poll(1200)
    assert both.status().poll_error == NO_REASON


def test_seen_ticket_is_closed_only_beside_a_visible_one(both: HaloPair) -> None:
    alone, gone, other = both.log("Alone"), both.log("Gone"), both.log("Other")
    both.halo.tickets[alone]["client_id"] = 77
    both.poll(200)
    hide(both, alone, gone)
    both.poll(400)
    both.poll(600)
    assert [both.alert(ticket).status for ticket in (alone, gone, other)] == ["open", "cancelled", "open"]
    hide(both, alone, gone, other)
    both.poll(800)
    both.poll(1000)
    assert [both.alert(ticket).status for ticket in (alone, other)] == ["open", "open"]


def test_rate_limited_poll_pauses_all_calls_for_that_time(both: HaloPair) -> None:
    ticket = both.log()
    both.server.api.fault = lambda method, path: FakeResponse(429, None, {"Retry-After": "90"})
    both.poll(300)
    both.server.api.fault = lambda method, path: None
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go(389)
    assert both.notes(ticket) == []
    both.go(391)
    assert len(both.notes(ticket)) == 1


def test_ticket_merged_into_another_merges_its_alert(both: HaloPair) -> None:
    parent, child, orphan = both.log("VPN down"), both.log("VPN down too"), both.log("Printer")
    both.server.hooks.should_lose = lambda happened: True
    both.halo.merge(child, parent, DESK_AGENT)
    elsewhere = both.log("Nobody here heard of this one")
    both.halo.change_ticket(elsewhere, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
    both.halo.merge(orphan, elsewhere, DESK_AGENT)
    both.poll(200)
    merged, over = both.alert(child), both.alert(orphan)
    assert (merged.status, merged.merged_into_id) == ("merged", both.alert(parent).pk)
    # There is no alert to become part of: it needs nobody any more.
    assert over.status == "cancelled"
    last = AlertEvent.objects.filter(alert=over.pk).latest("pk")
    assert f"ticket {orphan} was merged into {elsewhere} in Halo" in str(last.reason)
    both.poll(400)
    both.go()
    assert (both.alert(child).status, both.alert(parent).status) == ("merged", "open")


def test_pull_mode_imports_tickets_every_30_seconds_without_webhooks(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with halo_pair(now) as both:
        both.connect(pull=True)
        # Before the first look tickets were Halo's own business.
        ticket = both.halo.create_ticket({"summary": "VPN down"}, DESK_AGENT)["id"]
        assert not poller.poll(both.directory, lambda: both.now)
        both.go(31)
        assert poller.poll(both.directory, lambda: both.now)
        alert = both.alert(ticket)
        assert (alert.subject, alert.status, alert.source_status) == ("VPN down", "open", "New")
        both.act(alert.pk, Assign)
        both.halo.add_action({"ticket_id": ticket, "outcome": "Private Note", "note": "On site"}, DESK_AGENT)
        both.go(62)
        assert poller.poll(both.directory, lambda: both.now)
        assert "replied" in both.story(alert.pk)
        assert both.notes(ticket) == ["Alice Andersson assigned this to themselves at 09:15 UTC."]
        both.halo.change_ticket(ticket, {"agent_id": DESK_AGENT, "status_id": 9}, DESK_AGENT)
        both.go(93)
        assert poller.poll(both.directory, lambda: both.now)
        assert both.alert(ticket).status == "closed"
        # No webhook is asked about, and none is missed.
        assert not [path for _method, path in both.server.api.requests if "Webhook" in path]
        assert both.status().webhook_problem == NO_REASON


def test_failing_poll_is_visible_to_users(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    with halo_pair(now) as both:
        both.connect(pull=True)

        def broken(look: object) -> None:
            raise KeyError("whatever it is")

        monkeypatch.setattr(poller.PollRun, "run", broken)
        both.go(31)
        assert poller.poll(both.directory, lambda: both.now)
        assert both.status().poll_error == ticket_messages.NOT_UNDERSTOOD()


def test_long_poll_keeps_its_lease(both: HaloPair) -> None:
    both.log()
    leases = []

    def keep(method: str, path: str) -> None:
        if path.startswith("/api/"):
            with connections.transaction() as connection:
                leases.append(connection.execute("SELECT poll_lease_until FROM outbound_integrationstatus").fetchone())

    both.server.api.fault = keep
    both.poll(200)
    assert len(leases) == 2
    assert leases == sorted(set(leases))
    assert both.status().poll_lease_until is None


def test_poll_that_lost_its_lease_stops_without_writing(both: HaloPair) -> None:
    before = both.status()
    both.log()
    theirs = datetime(2100, 1, 1, tzinfo=UTC)

    def take_over(method: str, path: str) -> None:
        if path == "/api/Tickets":
            with connections.transaction() as connection:
                connection.execute("UPDATE outbound_integrationstatus SET poll_lease_until = %s", (theirs,))

    both.server.api.fault = take_over
    both.poll(200)
    after = both.status()
    assert (after.poll_lease_until, after.last_polled_at, after.poll_state) == (
        theirs,
        before.last_polled_at,
        before.poll_state,
    )


@pytest.mark.parametrize("back", [3_600, 86_400])
def test_clock_rollback_never_blocks_polling_or_writing(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch, back: int
) -> None:
    allow_loopback(monkeypatch)
    with halo_pair(now) as both:
        both.connect(pull=True, rate=2)
        # Of both, as where a machine's clock was wrong and is set right.
        both.seconds = -back
        ticket = both.halo.create_ticket({"summary": "VPN down"}, DESK_AGENT)["id"]
        both.halo.tickets[ticket]["last_update"] = "2026-11-24T10:15:30.000"
        both.go()
        assert poller.poll(both.directory, lambda: both.now)
        both.act(both.alert(ticket).pk, Assign)
        both.go(1 - back)
        assert len(both.notes(ticket)) == 1
        # What was queued before that, too.
        both.seconds = 0
        both.act(both.alert(ticket).pk, Say, text="On my way")
        both.seconds = 2 - back
        both.box.keep_leases()
        both.go()
        assert len(both.notes(ticket)) == 2
        # And then each half minute, as before.
        assert not poller.poll(both.directory, lambda: both.now)
        both.go(32 - back)
        assert poller.poll(both.directory, lambda: both.now)


def test_rate_limit_of_halo_applies_to_polls_too(both: HaloPair) -> None:
    both.server.api.fault = lambda method, path: FakeResponse(429, None, {"Retry-After": "900"})
    both.poll(300)
    both.server.api.fault = lambda method, path: None
    both.seconds = 310
    assert not poller.poll(both.directory, lambda: both.now)
    both.seconds = 1201
    assert poller.poll(both.directory, lambda: both.now)


def test_failed_halo_poll_is_retried_soon_and_recovers(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with halo_pair(now) as both:
        both.connect(pull=True)
        both.server.api.fault = lambda method, path: EXPIRED
        both.poll(31)
        assert str(both.status().problem).startswith("Halo refused")
        ticket = both.halo.create_ticket({"summary": "VPN down"}, DESK_AGENT)["id"]
        both.server.api.fault = lambda method, path: None
        both.seconds = 300
        assert not poller.poll(both.directory, lambda: both.now)
        both.seconds = 332
        assert poller.poll(both.directory, lambda: both.now)
        assert both.alert(ticket).status == "open"
        status = both.status()
        assert (status.problem, status.blocked_until, status.poll_error) == (NO_REASON, None, NO_REASON)
