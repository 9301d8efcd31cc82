"""HaloITSM both ways, with a real Halo double: what people do here stands on the ticket, what agents do there is
followed here, nothing is lost while either is away, and what Tocsin wrote never comes back as somebody's act."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.doubles.halo import API_AGENT, DESK_AGENT, EVENT_ONLY, EXPIRED, FORBIDDEN, SMALL, TIMEOUT, UNASSIGNED, Reply
from tests.store.halo import Pair, pair
from tests.store.people import ACTOR
from tests.store.sending import allow_loopback
from tocsin.alerts.models import AlertEvent
from tocsin.alerts.orders import Acknowledge, Assign, Close, Hold, Reopen, Unacknowledge
from tocsin.alerts.orders import Reply as Say
from tocsin.alerts.states import Priority
from tocsin.core import database as store
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.inbound import commands as integrations
from tocsin.inbound import secrets
from tocsin.inbound.decode import Element
from tocsin.inbound.loop import drain
from tocsin.inbound.messages import Incoming
from tocsin.inbound.models import Integration
from tocsin.inbound.taking import take_in
from tocsin.notify.models import Notification
from tocsin.outbound import calls, commands, halo, reactor, standings
from tocsin.outbound.connectors.contract import Account, Line
from tocsin.outbound.connectors.haloitsm import client, looking, notes, webhook
from tocsin.outbound.models import AgentMatch, Call, TicketLink
from tocsin.outbound.states import CallStatus
from tocsin.workflows import commands as workflow_commands
from tocsin.workflows import loop as workflows
from tocsin.workflows import reactor as workflow_reactor
from tocsin.workflows.models import Run


@pytest.fixture
def both(database: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    allow_loopback(monkeypatch)
    with pair(now) as made:
        made.connect()
        made.hook()
        yield made


def test_what_people_do_here_stands_on_the_ticket_as_private_notes(both: Pair) -> None:
    ticket = both.log()
    alert = both.alert(ticket).pk
    both.act(alert, Acknowledge)
    both.act(alert, Assign)
    both.act(alert, Say, text="Looking <at> it")
    both.act(alert, Hold, until=both.now + timedelta(hours=1))
    both.act(alert, Close, note="Router restarted.")
    both.go()
    assert both.notes(ticket) == [
        "Alice Andersson acknowledged this at 09:15 UTC.",
        "Alice Andersson took this at 09:15 UTC.",
        "Alice Andersson: Looking &lt;at&gt; it",
        "Alice Andersson put this on hold at 09:15 UTC, until 10:15 UTC.",
        "Alice Andersson closed the alert at 09:15 UTC. Router restarted.",
    ]
    assert {(one["hiddenfromuser"], one["sendemail"]) for one in both.halo.actions} == {(True, False)}
    # By default nothing else is touched: a status can mail the customer.
    assert (both.halo.tickets[ticket]["status_id"], both.halo.tickets[ticket]["agent_id"]) == (1, UNASSIGNED)
    # Its own notes came back as messages, with the status New: they open nothing again.
    assert len(both.alerts(ticket)) == 1


def test_halopsa_is_written_to_and_followed_as_haloitsm_is(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with pair(now) as both:
        both.connect("halopsa", create_ticket={"on": ["opened"]})
        both.hook()
        assert "Sam Service" in Integration.objects.get(pk=both.inbound.pk).settings["agents"].values()
        ticket = both.log()
        alert = both.alert(ticket)
        assert (alert.source, alert.source_url) == ("HaloPSA", f"https://acme.haloitsm.com/ticket?id={ticket}")
        both.act(alert.pk, Acknowledge)
        both.halo.change(ticket, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
        both.go()
        assert both.notes(ticket) == ["Alice Andersson acknowledged this at 09:15 UTC."]
        assert (both.alert(ticket).status, both.alert(ticket).owner_name) == ("assigned", "Sam Service")
        # A workflow writes on it too.
        with store.transaction() as connection:
            calls.write_on_ticket(connection, alert.pk, both.now, note="Checked.", status="In Progress")
        both.go()
        assert both.notes(ticket)[-1] == "Checked."
        # The alert came from a ticket of this Halo: no second one is made for it.
        assert [*both.halo.tickets] == [ticket]


def test_status_and_agent_follow_where_that_is_switched_on_and_closing_assigns_first(both: Pair) -> None:
    both.change(
        sync={
            "assign": {"note": True, "agent": True, "status": "In Progress"},
            "close": {"note": "Done by <who>", "status": "closed"},
        },
    )
    first, second = both.log("one"), both.log("two")
    both.act(both.alert(first).pk, Assign)
    both.go()
    assert (both.halo.tickets[first]["agent_id"], both.halo.tickets[first]["status_id"]) == (7, 2)
    # Nobody has the second: Halo closes no ticket without an agent.
    both.act(both.alert(second).pk, Close, who="bob")
    both.go()
    assert (both.halo.tickets[second]["agent_id"], both.halo.tickets[second]["status_id"]) == (8, 9)
    assert both.notes(second) == ["Done by Bob Brown"]
    assert "because Halo closes no ticket without an agent" in both.calls()[-1].result
    assert (both.alert(first).status, both.alert(first).owner_id) == ("assigned", both.users["alice"].pk)


def test_what_agents_do_there_is_followed_here_and_their_notes_become_replies(both: Pair) -> None:
    # Halo's "Unassigned" is an agent whom people may call something else, and who may have an address.
    both.halo.lists["Agent"][0] |= {"name": "Nicht zugewiesen", "email": "desk@example.org"}
    ticket = both.log()
    alert = both.alert(ticket).pk
    both.halo.change(ticket, {"agent_id": DESK_AGENT}, DESK_AGENT)
    both.halo.change(ticket, {"agent_id": UNASSIGNED}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).status == "open"
    assert both.story(alert)[-2:] == ["unassigned", "escalation_started"]
    both.halo.change(ticket, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
    both.go()
    assert (both.alert(ticket).status, both.alert(ticket).owner_name) == ("assigned", "Sam Service")
    both.halo.act({"ticket_id": ticket, "outcome": "Private Note", "note": "Calling the site"}, 7)
    both.halo.act({"ticket_id": ticket, "outcome": "Private Note", "note": "Own", "hiddenfromuser": True}, API_AGENT)
    both.look(200)
    replies = AlertEvent.objects.filter(alert=alert, kind="replied")
    assert [(event.actor_name, event.data["text"], event.via) for event in replies] == [
        ("Alice Andersson", "Calling the site", "halo")
    ]
    both.look(400)
    both.go()
    assert replies.count() == 1
    assert both.notes(ticket) == ["None"]
    both.halo.change(ticket, {"status_id": 9}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).status == "closed"
    both.halo.change(ticket, {"status_id": 1}, DESK_AGENT)
    both.go()
    assert len(both.live(ticket)) == 1


def test_an_agent_whom_halo_calls_otherwise_is_the_user_all_the_same_and_is_known_when_the_ticket_is_taken_away(
    both: Pair,
) -> None:
    both.change(sync={"assign": {"agent": True}})
    alice, bob = (row for row in both.halo.lists["Agent"] if row["id"] in (7, 8))
    alice["name"] = "Andersson, Alice"
    bob |= {"name": "Brown, B.", "email": "bb@desk.example"}
    AgentMatch.objects.create(integration=both.outbound, user=both.users["bob"], number="8")
    both.look(13 * 3600)
    for agent, user in ((7, "alice"), (8, "bob")):
        given, taken = both.log("given there"), both.log("taken here")
        both.halo.change(given, {"agent_id": agent}, DESK_AGENT)
        both.act(both.alert(taken).pk, Assign, user)
        both.go()
        assert both.halo.tickets[taken]["agent_id"] == agent
        assert [both.alert(ticket).owner for ticket in (given, taken)] == [both.users[user]] * 2
        for ticket in (given, taken):
            both.halo.change(ticket, {"agent_id": UNASSIGNED}, DESK_AGENT)
        both.go()
        assert [both.alert(ticket).status for ticket in (given, taken)] == ["open", "open"]
    # Without Halo's lists the address alone tells who it is.
    integrations.save_integration(
        {"name": "HaloITSM", "kind": "haloitsm", "settings": {"fail_open": False}, "anyway": True},
        existing=both.inbound, actor=ACTOR, now=both.now,
    )  # fmt: skip
    ticket = both.log("not connected")
    for agent, status in ((7, "assigned"), (UNASSIGNED, "open")):
        both.halo.change(ticket, {"agent_id": agent}, DESK_AGENT)
        both.go()
        assert both.alert(ticket).status == status


def test_halo_away_for_an_hour_loses_nothing_and_keeps_the_order(both: Pair) -> None:
    ticket = both.log()
    alert = both.alert(ticket).pk
    both.server.api.fault = lambda method, path: TIMEOUT
    both.act(alert, Acknowledge)
    both.go()
    both.act(alert, Assign)
    for minute in range(1, 61):
        both.go(minute * 60)
    assert "504" in both.standing().trouble
    assert [call.status for call in both.calls()] == [CallStatus.QUEUED, CallStatus.QUEUED]
    both.look()
    with store.transaction() as connection:
        # Said once, although neither writing nor reading works.
        assert [one.kind for one in standings.wrong(connection)] == ["away"]
    # Meanwhile somebody closed the ticket, and no webhook told of it.
    both.server.hooks.loses = lambda happened: True
    both.halo.change(ticket, {"agent_id": 8}, 8)
    both.halo.change(ticket, {"status_id": 9}, 8)
    both.server.api.fault = lambda method, path: None
    both.go(3600 + 301)
    assert [note.split(" at ")[0] for note in both.notes(ticket)] == [
        "Alice Andersson acknowledged this", "Alice Andersson took this",
    ]  # fmt: skip
    # After an outage Tocsin looks at once.
    assert both.standing().look_at <= both.now
    both.look()
    assert both.alert(ticket).status == "closed"


def test_with_half_of_all_webhooks_lost_every_ticket_is_exactly_one_alert_after_one_look(both: Pair) -> None:
    lost = iter(range(10_000))
    both.server.hooks.loses = lambda happened: next(lost) % 2 == 0
    tickets = [both.halo.log({"summary": f"Ticket {number}"}, DESK_AGENT)["id"] for number in range(120)]
    for ticket in tickets[::3]:
        both.halo.change(ticket, {"agent_id": DESK_AGENT}, DESK_AGENT)
        both.halo.change(ticket, {"status_id": 9}, DESK_AGENT)
    both.go()
    both.look(60)
    both.go()
    for number, ticket in enumerate(tickets):
        found = both.alerts(ticket)
        # One that was opened and closed before anybody heard of it needs nobody.
        assert len(found) == 1 or (number % 3 == 0 and not found), ticket
        assert [a.status for a in found if a.status in ("open", "assigned")] == ([] if number % 3 == 0 else ["open"])
    by_look = [message for message in both.inbox() if message.headers.get("x-tocsin-found-by")]
    assert by_look
    before = len(both.inbox())
    both.look(240)
    assert len(both.inbox()) == before


#: `TOCSIN_TEST_WRITES=1000` writes a thousand.
def test_many_writes_against_a_rate_limit_all_arrive_in_order_for_each_ticket(both: Pair) -> None:
    both.server.hooks.loses = lambda happened: happened.event != "new ticket logged"
    tickets = [both.log(f"Ticket {number}") for number in range(10)]
    numbers = {ticket: both.alert(ticket).pk for ticket in tickets}
    turns = int(os.environ.get("TOCSIN_TEST_WRITES", "120")) // 10
    for turn in range(turns):
        for ticket in tickets:
            both.act(numbers[ticket], Say, text=f"note {turn}")
    both.server.api.limit = (20, 10.0)
    for step in range(1, 5 * turns):
        both.go(step * 5)
        if not both.calls(status=CallStatus.QUEUED):
            break
    assert any(row == ("POST", "/api/Actions") for row in both.server.api.requests)
    assert [both.notes(ticket) for ticket in tickets] == [
        [f"Alice Andersson: note {turn}" for turn in range(turns)] for _ in tickets
    ]
    assert {(call.status, call.attempts) for call in both.calls()} == {(CallStatus.SENT, 1)}


def test_a_message_without_status_or_owner_waits_until_halo_was_asked(both: Pair) -> None:
    for payload in (SMALL, EVENT_ONLY):
        both.halo.webhooks["hook"]["payload_type"] = payload
        ticket = both.log("Printer on fire")
        alert = both.alert(ticket)
        assert (alert.subject, alert.source_status) == ("Printer on fire", "New")
        both.halo.change(ticket, {"agent_id": DESK_AGENT, "status_id": 9}, DESK_AGENT)
        both.go()
        assert both.alert(ticket).status == "closed"
    assert not both.inbox(status="Pending")
    # Halo does not answer: the message waits ten seconds, and is then decided as it is.
    both.server.api.fault = lambda method, path: TIMEOUT
    ticket = both.log("Nobody answers")
    assert both.alert(ticket).subject == f"Halo {ticket}"


def test_a_message_is_decided_without_halo_while_it_refuses_tocsin_is_away_or_asks_for_patience(both: Pair) -> None:
    both.halo.webhooks["hook"]["payload_type"] = EVENT_ONLY

    def reason_of_a_ticket() -> tuple[str, int]:
        asked = len(both.server.api.requests)
        both.log("Something")
        return both.inbox()[-1].reason, len(both.server.api.requests) - asked

    both.halo.client_secret = "another"
    both.halo.tokens.clear()
    said, asked = reason_of_a_ticket()
    assert said.endswith("; decided without asking Halo, which refuses Tocsin until somebody acts")
    assert asked > 0
    # From then on the bar holds, and the message does not wait for it either.
    assert "does not accept the client id and secret" in both.standing().problem
    assert reason_of_a_ticket() == (said.replace(str(both.inbox()[-2].source_id), both.inbox()[-1].source_id), 0)
    both.change(client_secret="another")
    both.server.api.fault = lambda method, path: Reply(429, None, {"Retry-After": "90"})
    assert reason_of_a_ticket()[0].endswith("; decided without asking Halo, which asks for patience")
    assert reason_of_a_ticket()[1] == 0
    both.seconds += 120
    # A short patience is waited for.
    both.server.api.fault = lambda method, path: Reply(429, None, {"Retry-After": "4"})
    ticket = both.halo.log({"summary": "Soon"}, DESK_AGENT)["id"]
    both.go()
    assert [message.source_id for message in both.inbox(status="Pending")] == [str(ticket)]
    both.server.api.fault = lambda method, path: None
    both.go(both.seconds + 5)
    assert (both.alert(ticket).subject, both.inbox(status="Pending")) == ("Soon", [])
    both.server.api.fault = lambda method, path: TIMEOUT
    for _ in range(5):
        assert reason_of_a_ticket()[0].endswith("; decided without asking Halo, which does not answer")
    assert reason_of_a_ticket()[1] == 0
    # Halo is back: the first that is asked about ends it.
    both.server.api.fault = lambda method, path: None
    both.seconds += 60
    assert "decided without" not in reason_of_a_ticket()[0]
    assert (both.standing().failures, both.standing().trouble) == (0, "")
    # Nobody asks at all: after ten seconds it is decided all the same, and says so.
    both.halo.log({"summary": "Nobody asks"}, DESK_AGENT)
    both.server.hooks.run()
    both.seconds += 10
    drain(both.registry, both.numbers, both.now)
    assert both.inbox()[-1].reason.endswith("; decided without its system, which did not answer in 10 seconds")
    assert not both.inbox(status="Pending")


def test_a_write_that_is_under_way_is_no_act_of_somebody_when_it_comes_back(both: Pair) -> None:
    both.change(sync={"assign": {"note": False, "agent": True}, "close": {"status": "Closed"}})
    ticket = both.log()
    alert = both.alert(ticket).pk
    # Alice takes it, her write leaves, and before its echo arrives Bob takes it over.
    both.act(alert, Assign)
    both.box.turn()
    both.box.settle()
    both.seconds += 10
    both.act(alert, Assign, who="bob")
    both.server.hooks.run()
    assert both.alert(ticket).owner_id == both.users["bob"].pk
    both.go()
    assert both.alert(ticket).owner_id == both.users["bob"].pk
    assert both.halo.tickets[ticket]["agent_id"] == 8
    # A person in Halo gives it back to Alice: that is an act, although Tocsin wrote the same agent before.
    both.halo.change(ticket, {"agent_id": 7}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).owner_id == both.users["alice"].pk
    # Closed here and reopened by a person before the echo of the close arrives.
    both.act(alert, Close)
    both.box.turn()
    both.box.settle()
    both.act(alert, Reopen)
    both.server.hooks.run()
    assert both.alert(ticket).status != "closed"


def test_an_agent_that_tocsin_wrote_is_an_act_once_somebody_gave_the_ticket_away_in_between(both: Pair) -> None:
    both.change(sync={"assign": {"agent": True}})
    ticket = both.log()
    # Alice has the ticket there already when Tocsin writes her: Halo tells of no change.
    both.halo.change(ticket, {"agent_id": 7}, DESK_AGENT)
    both.server.hooks.waiting.clear()
    both.act(both.alert(ticket).pk, Assign)
    both.go()
    both.go(30)
    both.halo.change(ticket, {"agent_id": UNASSIGNED}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).status == "open"
    # Somebody gives it to her again, and only a look finds it.
    both.halo.change(ticket, {"agent_id": 7}, DESK_AGENT)
    both.server.hooks.waiting.clear()
    both.look(60)
    assert (both.alert(ticket).status, both.alert(ticket).owner_id) == ("assigned", both.users["alice"].pk)


def test_what_was_set_although_the_note_was_refused_is_nobodys_act_when_it_comes_back_late(both: Pair) -> None:
    whole = {**integrations.integration_spec(both.inbound), "recipients": {"users": ["alice"]}}
    integrations.save_integration(whole, existing=both.inbound, actor=ACTOR, now=both.now)
    both.change(sync={"acknowledge": {"note": True, "agent": True, "priority": "Critical"}})
    ticket = both.log(priority_id=3)
    both.halo.refused_actions = {"Private Note"}
    both.act(both.alert(ticket).pk, Acknowledge)
    both.box.turn()
    both.box.settle()
    assert [call.status for call in both.calls()] == [CallStatus.DEAD]
    assert both.halo.tickets[ticket]["agent_id"] == 7
    both.go(20)
    found = both.alert(ticket)
    assert (found.status, found.owner_id, found.priority) == ("open", None, Priority.CRITICAL)
    assert "told" not in both.story(found.pk)


def test_a_priority_and_a_team_that_tocsin_wrote_page_nobody_anew_and_pull_no_workflow(both: Pair) -> None:
    whole = integrations.integration_spec(both.inbound)
    integrations.save_integration(
        {**whole, "recipients": {"users": ["alice"]}, "routes": [
            {"name": "Second line", "when": {"field": "team", "operator": "contains", "value": "2nd"},
             "recipients": {"users": ["bob"]}}
        ]}, existing=both.inbound, actor=ACTOR, now=both.now,
    )  # fmt: skip
    written = {"priority": "Critical", "team": "2nd Line Support", "status": "In Progress"}
    both.change(sync={"acknowledge": {"note": True, "agent": True, **written}, "reply": {**written, "note": True}})
    for trigger in ("status_changed", "updated"):
        spec = {"name": trigger, "trigger": trigger, "actions": [{"do": "notify", "users": ["bob"]}]}
        workflow_commands.save_workflow(spec, actor=ACTOR, now=both.now)
    workflow_reactor.look_again()
    ticket = both.log(priority_id=3)
    alert = both.alert(ticket).pk
    both.act(alert, Say, text="looking")
    both.go()
    both.act(alert, Acknowledge)
    both.go()
    assert both.halo.tickets[ticket]["priority_id"] == 1
    row = both.alert(ticket)
    shown = (row.source_priority, row.team, row.source_status, row.priority)
    assert shown == ("critical", "2nd Line Support", "In Progress", Priority.CRITICAL)
    assert not {"escalation_started", "told"} & set(both.story(alert))
    changed = AlertEvent.objects.filter(alert=alert, kind="updated").values_list("reason", flat=True)
    assert changed
    assert all(reason.startswith("HaloITSM has now what Tocsin wrote: ") for reason in changed), [*changed]
    # Of the status only what Alice did here.
    assert [run.cause for run in Run.objects.all()] == ["Alice Andersson acknowledged it."]
    # What somebody in Halo does after that is an act.
    both.seconds += 60
    both.halo.change(ticket, {"priority_id": 3, "team": "1st Line Support"}, DESK_AGENT)
    both.go()
    both.act(alert, Unacknowledge)
    both.go()
    both.halo.change(ticket, {"priority_id": 1}, DESK_AGENT)
    both.go()
    assert "escalation_started" in both.story(alert)
    # So is what somebody does there before Tocsin could write the same.
    other = both.log(priority_id=3)
    both.server.api.fault = lambda method, path: TIMEOUT
    both.act(both.alert(other).pk, Say, text="looking")
    both.go()
    both.halo.change(other, {"priority_id": 1}, DESK_AGENT)
    both.go()
    assert "escalation_started" in both.story(both.alert(other).pk)


def test_a_refused_note_a_renamed_status_and_a_deleted_ticket_are_each_one_clear_dead_letter(both: Pair) -> None:
    both.change(sync={"acknowledge": {"note": True}, "close": {"status": "Finished"}, "reply": {"note": True}})
    ticket, other = both.log("one"), both.log("two")
    both.halo.refused_actions = {"Private Note"}
    both.act(both.alert(ticket).pk, Acknowledge)
    both.act(both.alert(ticket).pk, Close)
    alert = both.alert(other).pk
    both.server.hooks.loses = lambda happened: True
    both.halo.delete(other, DESK_AGENT)
    both.act(alert, Say, text="hello")
    both.go()
    assert [(call.status, call.error.split(":")[0].split(" (")[0]) for call in both.calls()] == [
        (CallStatus.DEAD, "Halo does not let Tocsin's agent use the action of its notes. Halo said"),
        (CallStatus.DEAD, 'Halo has no status "Finished"'),
        (CallStatus.DEAD, f"Halo shows no ticket {other} to Tocsin"),
    ]
    # Deleted: noticed at the second look, because Halo shows other tickets all the while.
    both.look(200)
    assert both.alert(other).status == "open"
    both.look(400)
    assert both.alert(other).status == "cancelled"


def test_a_renamed_status_or_team_does_not_keep_the_note_from_being_written(both: Pair) -> None:
    both.change(sync={"acknowledge": {"note": True, "status": "Doing"}, "reply": {"note": True, "team": "Nowhere"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Acknowledge)
    both.act(both.alert(ticket).pk, Say, text="hello")
    both.go()
    assert len(both.notes(ticket)) == 2
    assert ["Doing" in call.error or "Nowhere" in call.error for call in both.calls(status="dead")] == [True, True]


def test_more_changes_than_one_look_reads_are_all_found_and_all_notes_are_read(
    both: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 2)
    monkeypatch.setattr(looking, "PAGE", 2)
    monkeypatch.setattr(client, "MOST_PAGES", 2)
    monkeypatch.setattr(looking, "MOST_PAGES", 2)
    monkeypatch.setattr(notes, "MOST_TICKETS", 2)
    both.server.hooks.loses = lambda happened: True
    both.seconds = 1000
    # The newest change has the lowest number, so that it is on the first page.
    tickets = [both.log(f"Ticket {number}") for number in range(7)]
    both.seconds = 1600
    both.halo.change(tickets[0], {"summary": "Ticket 0, changed"}, DESK_AGENT)
    for number in tickets[:4]:
        body = {"ticket_id": number, "outcome_id": 7, "note": f"seen {number}"}
        both.halo.act(body, DESK_AGENT, "Sam")
    for look in range(6):
        both.look(1700 + 200 * look)
    assert [len(both.alerts(ticket)) for ticket in tickets] == [1] * 7
    for ticket in tickets[:4]:
        replies = AlertEvent.objects.filter(alert=both.alert(ticket).pk, kind="replied")
        assert [event.data["text"] for event in replies] == [f"seen {ticket}"]


def test_a_date_of_the_future_and_notes_that_are_not_shown_hide_nothing_else(both: Pair) -> None:
    ticket = both.log()
    both.server.hooks.loses = lambda happened: True
    both.halo.tickets[ticket]["last_update"] = "2999-01-01T00:00:00"
    both.server.api.fault = lambda method, path: FORBIDDEN if (method, path) == ("GET", "/api/Actions") else None
    both.look(200)
    other = both.log("second")
    both.look(400)
    before = both.standing()
    assert both.alert(other).status == "open"
    assert "Halo does not let Tocsin read what was done on ticket" in before.look_problem
    both.halo.change(other, {"summary": "third"}, DESK_AGENT)
    both.halo.delete(ticket, DESK_AGENT)
    both.look(600)
    both.look(800)
    assert (both.alert(other).subject, both.alert(ticket).status) == ("third", "cancelled")
    assert both.standing().looked_to > before.looked_to


def test_a_ticket_that_halo_refuses_without_a_word_holds_up_no_other(both: Pair) -> None:
    hidden, other = both.log("one"), both.log("two")
    path_of = {("POST", "/api/Actions"): EXPIRED, ("GET", f"/api/Tickets/{hidden}"): EXPIRED}
    both.server.api.fault = lambda method, path: path_of.get((method, path))
    both.act(both.alert(hidden).pk, Acknowledge)
    both.go()
    del path_of["POST", "/api/Actions"]
    both.act(both.alert(other).pk, Acknowledge)
    both.go(20)
    assert len(both.notes(other)) == 1
    assert [call.error.split(" (")[0] for call in both.calls(status="dead")] == [
        f"Halo shows no ticket {hidden} to Tocsin"
    ]
    both.look(200)
    assert (both.alert(hidden).status, both.standing().problem) == ("open", "")
    # A token that is taken for nothing is another matter.
    both.server.api.fault = lambda method, path: None if path == "/auth/token" else EXPIRED
    both.act(both.alert(other).pk, Assign)
    both.go(400)
    assert both.standing().problem.startswith("Halo refuses Tocsin's token when asked to write a note (401).")


def test_a_look_that_halo_asks_for_patience_holds_everything_back_so_long(both: Pair) -> None:
    ticket = both.log()
    both.server.api.fault = lambda method, path: Reply(429, None, {"Retry-After": "90"})
    both.look(300)
    both.server.api.fault = lambda method, path: None
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go(389)
    assert both.notes(ticket) == []
    both.go(391)
    assert len(both.notes(ticket)) == 1


def test_a_webhook_that_was_there_stays_on_when_setting_it_up_again_fails(both: Pair) -> None:
    url = "http://tocsin/in/x"
    line = Line(both.directory.client, lambda: both.now)
    account = Account(1, "Halo", {"base_url": both.server.url, "client_id": "tocsin"},
                      {"client_secret": both.halo.client_secret})  # fmt: skip
    before = dict(both.halo.webhooks["hook"])

    def waits(attempt: int) -> bool:
        both.server.hooks.run()
        return attempt < 3

    def set_up() -> webhook.SetUp:
        return webhook.set_up(client.Client(account), line, both.now, webhook.Wanted(url), wait=waits)

    assert set_up().problem == ""
    # What arrived before says nothing of this test.
    both.server.hooks.deliver = lambda hook, content: (502, "Bad Gateway")
    done = set_up()
    assert "did not arrive" in done.problem
    assert list(both.halo.webhooks) == ["hook"]
    assert {name: both.halo.webhooks["hook"][name] for name in before} == before


def test_a_ticket_that_was_merged_into_another_takes_its_alert_along(both: Pair) -> None:
    parent, child, orphan = both.log("VPN down"), both.log("VPN down too"), both.log("Printer")
    both.server.hooks.loses = lambda happened: True
    both.halo.merge(child, parent, DESK_AGENT)
    elsewhere = both.log("Nobody here heard of this one")
    both.halo.change(elsewhere, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
    both.halo.merge(orphan, elsewhere, DESK_AGENT)
    both.look(200)
    merged, over = both.alert(child), both.alert(orphan)
    assert (merged.status, merged.merged_into_id) == ("merged", both.alert(parent).pk)
    # There is no alert to become part of: it needs nobody any more.
    assert over.status == "cancelled"
    last = AlertEvent.objects.filter(alert=over.pk).latest("pk")
    assert f"ticket {orphan} was merged into {elsewhere} in Halo" in last.reason
    both.look(400)
    both.go()
    assert (both.alert(child).status, both.alert(parent).status) == ("merged", "open")


def test_in_pull_mode_tickets_come_without_a_webhook_and_each_half_minute(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with pair(now) as both:
        both.connect(pull=True)
        # Before the first look tickets were Halo's own business.
        ticket = both.halo.log({"summary": "VPN down"}, DESK_AGENT)["id"]
        assert not looking.look(both.directory, lambda: both.now)
        both.go(31)
        assert looking.look(both.directory, lambda: both.now)
        alert = both.alert(ticket)
        assert (alert.subject, alert.status, alert.source_status) == ("VPN down", "open", "New")
        both.act(alert.pk, Assign)
        both.halo.act({"ticket_id": ticket, "outcome": "Private Note", "note": "On site"}, DESK_AGENT)
        both.go(62)
        assert looking.look(both.directory, lambda: both.now)
        assert "replied" in both.story(alert.pk)
        assert both.notes(ticket) == ["Alice Andersson took this at 09:15 UTC."]
        both.halo.change(ticket, {"agent_id": DESK_AGENT, "status_id": 9}, DESK_AGENT)
        both.go(93)
        assert looking.look(both.directory, lambda: both.now)
        assert both.alert(ticket).status == "closed"
        # No webhook is asked about, and none is missed.
        assert not [path for _method, path in both.server.api.requests if "Webhook" in path]
        assert both.standing().webhook_problem == ""


def test_a_look_that_breaks_is_said_where_people_see_it(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with pair(now) as both:
        both.connect(pull=True)

        def broken(look: object) -> None:
            raise KeyError("whatever it is")

        monkeypatch.setattr(looking.Look, "carry_out", broken)
        both.go(31)
        assert looking.look(both.directory, lambda: both.now)
        assert both.standing().look_problem == "Something in it could not be understood; the log says what."


def _set_up(both: Pair, door: Integration) -> webhook.SetUp:
    both.server.hooks.deliver = lambda hook, content: (200, "{}")
    stop = threading.Event()

    def answer() -> None:
        while not stop.wait(0.02):
            both.server.hooks.run()

    sender = threading.Thread(target=answer)
    sender.start()
    try:
        return halo.set_up_webhook(both.outbound, door, ACTOR, both.now)
    finally:
        stop.set()
        sender.join()


def test_each_inbound_integration_of_a_halo_has_a_webhook_that_is_watched_and_follows_its_address(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with pair(now) as both:
        both.connect()
        other = integrations.save_integration(
            {"name": "Field service", "kind": "haloitsm", "outbound": "Halo", "anyway": True,
             "settings": {"fail_open": False}}, actor=ACTOR, now=both.now,
        )  # fmt: skip
        for door in (both.inbound, other):
            done = _set_up(both, door)
            assert not done.problem, done
        first, second = both.halo.webhooks.values()
        assert (first["url"], second["url"]) == (secrets.url_of(both.inbound), secrets.url_of(other))
        both.look(200)
        assert both.standing().webhook_problem == ""
        # Halo switches the first off, although the second was set up last.
        first["active"] = False
        first["last_status"] = 502
        both.look(400)
        assert both.standing().webhook_problem == (
            "HaloITSM: Halo has switched the webhook off. Its last delivery was answered 502. "
            "Set it up again, or switch it on in Halo."
        )
        assert not _set_up(both, both.inbound).problem
        both.look(600)
        assert both.standing().webhook_problem == ""
        # The URL is made anew: the webhook that is there gets it, and stays one.
        before = first["id"]
        secrets.rotate_token(other, actor=ACTOR, now=both.now)
        assert halo.address_changed(other, both.now)
        assert looking.look(both.directory, lambda: both.now)
        assert [hook["url"] for hook in both.halo.webhooks.values()] == [
            secrets.url_of(both.inbound), secrets.url_of(other)
        ]  # fmt: skip
        secrets.rotate_token(other, actor=ACTOR, now=both.now)
        done = _set_up(both, other)
        assert "gave it the new address" in done.steps[0]
        assert [hook["id"] for hook in both.halo.webhooks.values()] == [before, second["id"]]
        # Without the right to change it, the webhook's old address is said.
        secrets.rotate_token(other, actor=ACTOR, now=both.now)
        both.server.api.fault = lambda method, path: FORBIDDEN if (method, path) == ("POST", "/api/Webhook") else None
        both.look(800)
        assert "Field service: The webhook in Halo still has the old address" in both.standing().webhook_problem
        both.server.api.fault = lambda method, path: None
        del both.halo.webhooks[second["id"]]
        both.look(1000)
        assert both.standing().webhook_problem == "Field service: The webhook is not in Halo any more: set it up again."


def test_a_webhook_that_has_gone_silent_is_said_until_it_brings_something(both: Pair) -> None:
    both.server.hooks.loses = lambda happened: True
    both.halo.log({"summary": "One"}, DESK_AGENT)
    both.look(200)
    both.look(400)
    assert both.standing().webhook_problem == ""
    # An hour later the next ticket: in between nothing came by webhook either.
    both.seconds = 4000
    both.halo.log({"summary": "Two"}, DESK_AGENT)
    both.look(4000)
    assert both.standing().webhook_problem.startswith("Changes are found by reconciliation that no webhook told of")
    both.look(4200)
    assert both.standing().webhook_problem
    both.server.hooks.loses = lambda happened: False
    both.log("Three")
    both.look(4400)
    assert both.standing().webhook_problem == ""


def test_a_secret_that_expired_stops_everything_with_one_sentence_until_it_is_replaced(both: Pair) -> None:
    ticket = both.log()
    both.halo.client_secret = "another"
    both.halo.tokens.clear()
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    assert "does not accept the client id and secret" in both.standing().problem
    asked = len(both.server.api.requests)
    both.go(600)
    assert len(both.server.api.requests) == asked
    both.change(client_secret="another")
    both.go(700)
    assert len(both.notes(ticket)) == 1


def test_a_lost_right_and_a_token_that_ended_early(both: Pair) -> None:
    ticket = both.log()
    answers = iter([EXPIRED])
    both.server.api.fault = lambda method, path: next(answers, None) if path == "/api/Actions" else None
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    assert len(both.notes(ticket)) == 1
    both.server.api.fault = lambda method, path: FORBIDDEN if path == "/api/Actions" and method == "POST" else None
    both.act(both.alert(ticket).pk, Assign)
    both.go()
    (dead,) = both.calls(status=CallStatus.DEAD)
    assert dead.error.startswith("Halo does not let Tocsin write a note (403). It does not say why.")


@pytest.mark.parametrize("body", [{"error": "Not now"}, {"Message": "Not now"}, "Not now"])
def test_an_error_that_comes_with_a_status_of_success_is_no_success(both: Pair, body: object) -> None:
    ticket = both.log()
    both.server.api.fault = lambda method, path: (
        Reply(200, body) if (method, path) == ("POST", "/api/Actions") else None
    )
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    (dead,) = both.calls(status=CallStatus.DEAD)
    assert dead.error == "Halo refused to write a note (200). It said: Not now"


def test_an_alert_from_elsewhere_gets_one_ticket_however_often_making_it_is_tried(
    both: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor, "_makers", reactor._Makers())
    both.change(create_ticket={"on": ["opened"], "priority": "High", "ticket_type": "Incident"})
    api = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Halo", "anyway": True}, actor=ACTOR, now=both.now
    )
    payload: dict[str, object] = {"id": "disk-1", "status": "firing", "subject": "Disk full", "text": "98 %"}
    # The first try makes the ticket, and its answer is lost.
    made = []

    def losing(method: str, path: str) -> Reply | None:
        if (method, path) == ("POST", "/api/Tickets") and not made:
            made.append(both.halo.log({"summary": f"Disk full (Tocsin #{number[0]})"}, API_AGENT)["id"])
            return TIMEOUT
        return None

    number = [0]
    both.server.api.fault = lambda method, path: None
    (stored,) = take_in([Incoming(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
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


def test_an_alert_that_was_only_watched_gets_its_ticket_as_it_begins_to_page(both: Pair) -> None:
    both.change(create_ticket={"on": ["opened"], "ticket_type": "Incident"})
    spec = {"name": "Monitoring", "kind": "api", "outbound": "Halo", "mode": "watch", "anyway": True}
    api = integrations.save_integration(spec, actor=ACTOR, now=both.now)

    def arrive() -> int | None:
        payload: dict[str, object] = {"id": "disk-1", "status": "firing", "subject": "Disk full"}
        (stored,) = take_in([Incoming(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
        both.go()
        return stored.alert_id

    number = arrive()
    assert not both.halo.tickets
    integrations.save_integration(spec | {"mode": "page"}, existing=api, actor=ACTOR, now=both.now)
    assert arrive() == number
    assert TicketLink.objects.get().alert_id == number
    assert len(both.halo.tickets) == 1


def test_a_ticket_that_could_not_be_made_is_made_once_when_what_was_in_the_way_has_passed(
    both: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor, "_makers", reactor._Makers())
    both.change(create_ticket={"on": ["opened"], "ticket_type": "Fault"})
    api = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Halo", "anyway": True}, actor=ACTOR, now=both.now
    )

    opened: list[int] = []

    def opens(name: str) -> int:
        payload: dict[str, object] = {"id": name, "status": "firing", "subject": name}
        (stored,) = take_in([Incoming(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
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
    assert both.calls()[0].error.startswith('Halo has no ticket type "Fault"')
    # Somebody chooses another: it is made with that, and what waited is written on it.
    both.change(create_ticket={"on": ["opened"], "ticket_type": "Incident"})
    both.go()
    assert len(both.notes(int(ticket_of(first)))) == 1
    # Halo is away for more than a day, and had made it all the same before it went.
    made: list[int] = []

    def losing(method: str, path: str) -> Reply | None:
        if (method, path) == ("POST", "/api/Tickets") and not made:
            made.append(both.halo.log({"summary": f"disk-2 (Tocsin #{opened[-1]})"}, API_AGENT)["id"])
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
    both.halo.lacking = {"edit:tickets"}
    third = opens("disk-3")
    both.halo.lacking = set()
    both.act(third, Acknowledge)
    both.go()
    assert len(both.notes(int(ticket_of(third)))) == 1
    assert len(both.halo.tickets) == 3


def test_a_ticket_that_a_person_dropped_is_made_only_when_a_person_asks_and_never_twice(
    both: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor, "_makers", reactor._Makers())
    both.change(create_ticket={"on": ["opened", "escalate"]})
    api = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Halo", "anyway": True}, actor=ACTOR, now=both.now
    )
    payload: dict[str, object] = {"id": "disk-1", "status": "firing", "subject": "Disk full"}
    (stored,) = take_in([Incoming(uuid7(), api.pk, both.now, b"{}", Element(payload, b"{}"))], both.now)
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
    for make in (lambda: halo.make_ticket(both.outbound, alert, ACTOR, both.now),
                 lambda: commands.send_again(both.calls()[0], actor=ACTOR, now=both.now)):  # fmt: skip
        with pytest.raises(Rejected):
            make()
    # Its call was dropped, and its row pruned: asked for again, Tocsin looks first.
    TicketLink.objects.update(ticket="")
    Call.objects.all().delete()
    halo.make_ticket(both.outbound, alert, ACTOR, both.now)
    both.go()
    assert len(both.halo.tickets) == 1
    assert TicketLink.objects.get().ticket == str(next(iter(both.halo.tickets)))


def test_a_status_that_was_renamed_is_set_as_it_is_called_now_when_the_write_is_sent_again(both: Pair) -> None:
    both.change(sync={"acknowledge": {"note": True, "status": "Doing"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    both.change(sync={"acknowledge": {"note": True, "status": "In Progress"}})
    assert commands.send_all_again(both.outbound, actor=ACTOR, now=both.now) == 1
    both.go()
    assert both.halo.tickets[ticket]["status_id"] == 2
    assert len(both.notes(ticket)) == 1


def test_a_note_of_a_write_that_failed_otherwise_does_not_stand_for_a_later_one_of_the_same_words(both: Pair) -> None:
    both.change(sync={"hold": {"note": False}, "reply": {"note": "Done"}, "close": {"note": "Done", "status": "Doing"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Close)
    both.go()
    both.act(both.alert(ticket).pk, Reopen)
    both.go(5)
    both.act(both.alert(ticket).pk, Say, text="x")
    # It does not arrive, and Halo does not say so.
    answers = iter([TIMEOUT])
    both.server.api.fault = lambda method, path: next(answers, None) if path == "/api/Actions" else None
    both.go(10)
    both.go(60)
    assert [call.status for call in both.calls() if call.content["event"] == "reply"] == ["sent"]
    assert both.notes(ticket).count("Done") == 2


def test_the_note_of_a_write_that_failed_otherwise_opens_no_alert_when_it_comes_back(both: Pair) -> None:
    both.change(sync={"close": {"note": "Done", "status": "Doing"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Close)
    both.go()
    assert [call.status for call in both.calls()] == ["dead"]
    assert both.notes(ticket) == ["Done"]
    assert [alert.status for alert in both.alerts(ticket)] == ["closed"]


def test_what_is_sent_again_sets_nothing_that_was_set_since(both: Pair) -> None:
    both.change(
        sync={
            "acknowledge": {"note": True, "status": "Doing"},
            "close": {"note": "Done", "status": "Closed"},
        }
    )
    ticket = both.log()
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    both.act(both.alert(ticket).pk, Close, who="bob")
    both.go(5)
    closed = both.halo.tickets[ticket]["status_id"]
    both.change(sync={"acknowledge": {"note": True, "status": "In Progress"}, "close": {"status": "Closed"}})
    assert commands.send_all_again(both.outbound, actor=ACTOR, now=both.now) == 1
    both.go(10)
    assert both.halo.tickets[ticket]["status_id"] == closed
    assert both.calls()[0].status == "sent"


def test_a_ticket_that_nobody_acknowledges_is_told_to_the_manager_and_noted_on_the_ticket(both: Pair) -> None:
    workflow_reactor.look_again()
    spec = {
        "name": "Not acknowledged in 5 minutes",
        "trigger": {"on": "unacknowledged", "for": "5m"},
        "start": {"field": "source", "operator": "contains", "value": "Halo"},
        "actions": [
            {"do": "notify", "users": ["bob"], "subject": "Nobody answers: <subject>"},
            {
                "do": "halo",
                "text": "Nobody has acknowledged ticket <source_id> for 5 minutes.",
                "status": "In Progress",
            },
        ],
    }
    workflow_commands.save_workflow(spec, actor=ACTOR, now=both.now)
    forgotten, seen = both.log("VPN down"), both.log("Printer on fire")
    both.act(both.alert(seen).pk, Acknowledge)
    both.go(299)
    workflows.turn(both.now)
    both.go()
    assert both.notes(forgotten) == []
    both.go(300)
    while workflows.turn(both.now):
        pass
    both.go()
    assert both.notes(forgotten) == [f"Nobody has acknowledged ticket {forgotten} for 5 minutes."]
    assert both.halo.tickets[forgotten]["status_id"] == 2
    assert both.notes(seen) == ["Alice Andersson acknowledged this at 09:15 UTC."]
    notice = Notification.objects.get(purpose="notice")
    assert (notice.user, notice.data["title"]) == (both.users["bob"], "Nobody answers: VPN down")
    (run,) = Run.objects.filter(alert=both.alert(forgotten).pk, status="done")
    assert [step["do"] for step in run.steps] == ["notify", "halo"]
    # What it wrote came back, and is nobody's act.
    assert both.alert(forgotten).status == "open"
    assert len(both.alerts(forgotten)) == 1


def test_halos_own_test_of_a_webhook_needs_nobody(both: Pair) -> None:
    sent = {"id": str(uuid7()), "webhook_id": "hook", "event": "test", "message": "This is a test."}
    both.deliver({}, json.dumps(sent).encode())
    (message,) = both.inbox()
    assert (message.status, message.alert_id) == ("Mapped Ignored", None)
    assert message.reason.startswith("it is about no ticket")
    # What names no ticket, and comes from somewhere else, is still for a person to see.
    both.deliver({}, b'{"event": "new ticket logged"}')
    assert both.inbox()[-1].status == "Mapping Failed"
