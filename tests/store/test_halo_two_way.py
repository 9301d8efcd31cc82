"""Two-way HaloITSM sync with a real double: commands appear on tickets, and agents' changes on alerts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.doubles.halo import API_AGENT, DESK_AGENT, EVENT_ONLY, SMALL, TIMEOUT, UNASSIGNED, FakeResponse
from tests.support.halo_pair import HaloPair, halo_pair
from tests.support.ingest import Ingest, halo
from tests.support.outbox_harness import allow_loopback
from tests.support.people import ACTOR
from tocsin.alerts.commands import Acknowledge, Assign, Close, Hold, Reopen, Resume, Unacknowledge, Unassign
from tocsin.alerts.commands import Reply as Say
from tocsin.alerts.models import AlertEvent
from tocsin.alerts.states import Priority
from tocsin.core.db import database as store
from tocsin.core.reasons import NO_REASON, as_reason
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.deciding import state
from tocsin.inbound.models import Integration
from tocsin.inbound.processing.drain import drain
from tocsin.notify.models import Notification
from tocsin.outbound import reasons
from tocsin.outbound.delivery import queue
from tocsin.outbound.models import AgentMatch
from tocsin.outbound.states import CallStatus
from tocsin.workflows import commands as workflow_commands
from tocsin.workflows.models import WorkflowRun
from tocsin.workflows.run import listener as workflow_reactor
from tocsin.workflows.run import tasks as workflows


def test_commands_appear_on_the_ticket_as_private_notes(both: HaloPair) -> None:
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
        "Alice Andersson assigned this to themselves at 09:15 UTC.",
        "Alice Andersson: Looking &lt;at&gt; it",
        "Alice Andersson snoozed this at 09:15 UTC, until 10:15 UTC.",
        "Alice Andersson closed the alert at 09:15 UTC. Router restarted.",
    ]
    assert {(one["hiddenfromuser"], one["sendemail"]) for one in both.halo.actions} == {(True, False)}
    # By default nothing else is touched: a status can mail the customer.
    assert (both.halo.tickets[ticket]["status_id"], both.halo.tickets[ticket]["agent_id"]) == (1, UNASSIGNED)
    # Its own notes came back as messages, with the status New: they open nothing again.
    assert len(both.alerts(ticket)) == 1


def test_note_added_to_a_command_appears_on_the_ticket(both: HaloPair) -> None:
    ticket = both.log()
    alert = both.alert(ticket).pk
    both.act(alert, Acknowledge, note="On it.")
    both.act(alert, Assign, note="From home.")
    both.act(alert, Hold, until=both.now + timedelta(hours=1), note="Waiting for the vendor.")
    both.act(alert, Resume, note="They called.")
    both.act(alert, Unassign, note="my shift is over")
    both.go()
    assert both.notes(ticket) == [
        "Alice Andersson acknowledged this at 09:15 UTC. On it.",
        "Alice Andersson assigned this to themselves at 09:15 UTC. From home.",
        "Alice Andersson snoozed this at 09:15 UTC, until 10:15 UTC. Waiting for the vendor.",
        "Alice Andersson ended the snooze at 09:15 UTC. They called.",
        "Alice Andersson unassigned this at 09:15 UTC. My shift is over.",
    ]


def test_halopsa_is_written_to_and_followed_as_haloitsm_is(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    with halo_pair(now) as both:
        both.connect("halopsa", create_ticket={"on": ["opened"]})
        both.hook()
        assert "Sam Service" in Integration.objects.get(pk=both.inbound.pk).settings["agents"].values()
        ticket = both.log()
        alert = both.alert(ticket)
        assert (alert.source, alert.source_url) == ("HaloPSA", f"https://acme.haloitsm.com/ticket?id={ticket}")
        both.act(alert.pk, Acknowledge)
        both.halo.change_ticket(ticket, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
        both.go()
        assert both.notes(ticket) == ["Alice Andersson acknowledged this at 09:15 UTC."]
        assert (both.alert(ticket).status, both.alert(ticket).owner_name) == ("assigned", "Sam Service")
        # A workflow writes on it too.
        with store.transaction() as connection:
            queue.write_on_ticket(connection, alert.pk, both.now, note="Checked.", status="In Progress")
        both.go()
        assert both.notes(ticket)[-1] == "Checked."
        # The alert came from a ticket of this Halo: no second one is made for it.
        assert [*both.halo.tickets] == [ticket]


def test_enabled_status_and_agent_sync_assigns_before_closing(both: HaloPair) -> None:
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
    assert "because Halo doesn't close tickets without an agent" in str(both.calls()[-1].result)
    assert (both.alert(first).status, both.alert(first).owner_id) == ("assigned", both.users["alice"].pk)


def test_agents_changes_are_applied_and_notes_become_replies(both: HaloPair) -> None:
    # Halo's "Unassigned" is an agent whom people may call something else, and who may have an address.
    both.halo.lists["Agent"][0] |= {"name": "Nicht zugewiesen", "email": "desk@example.org"}
    ticket = both.log()
    alert = both.alert(ticket).pk
    both.halo.change_ticket(ticket, {"agent_id": DESK_AGENT}, DESK_AGENT)
    both.halo.change_ticket(ticket, {"agent_id": UNASSIGNED}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).status == "open"
    assert both.story(alert)[-2:] == ["unassigned", "escalation_started"]
    both.halo.change_ticket(ticket, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
    both.go()
    assert (both.alert(ticket).status, both.alert(ticket).owner_name) == ("assigned", "Sam Service")
    both.halo.add_action({"ticket_id": ticket, "outcome": "Private Note", "note": "Calling the site"}, 7)
    both.halo.add_action(
        {"ticket_id": ticket, "outcome": "Private Note", "note": "Own", "hiddenfromuser": True}, API_AGENT
    )
    both.poll(200)
    replies = AlertEvent.objects.filter(alert=alert, kind="replied")
    assert [(event.actor_name, event.data["text"], event.via) for event in replies] == [
        ("Alice Andersson", "Calling the site", "halo")
    ]
    both.poll(400)
    both.go()
    assert replies.count() == 1
    assert both.notes(ticket) == ["None"]
    both.halo.change_ticket(ticket, {"status_id": 9}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).status == "closed"
    both.halo.change_ticket(ticket, {"status_id": 1}, DESK_AGENT)
    both.go()
    assert len(both.live(ticket)) == 1


def test_renamed_halo_agent_matches_user_even_when_unassigned(
    both: HaloPair,
) -> None:
    both.change(sync={"assign": {"agent": True}})
    alice, bob = (row for row in both.halo.lists["Agent"] if row["id"] in (7, 8))
    alice["name"] = "Andersson, Alice"
    bob |= {"name": "Brown, B.", "email": "bb@desk.example"}
    AgentMatch.objects.create(integration=both.outbound, user=both.users["bob"], number="8")
    both.poll(13 * 3600)
    for agent, user in ((7, "alice"), (8, "bob")):
        given, count = both.log("given there"), both.log("taken here")
        both.halo.change_ticket(given, {"agent_id": agent}, DESK_AGENT)
        both.act(both.alert(count).pk, Assign, user)
        both.go()
        assert both.halo.tickets[count]["agent_id"] == agent
        assert [both.alert(ticket).owner for ticket in (given, count)] == [both.users[user]] * 2
        for ticket in (given, count):
            both.halo.change_ticket(ticket, {"agent_id": UNASSIGNED}, DESK_AGENT)
        both.go()
        assert [both.alert(ticket).status for ticket in (given, count)] == ["open", "open"]
    # Without Halo's lists the address alone tells who it is.
    integrations.save_integration(
        {"name": "HaloITSM", "kind": "haloitsm", "settings": {"fail_open": False}, "anyway": True},
        existing=both.inbound, actor=ACTOR, now=both.now,
    )  # fmt: skip
    ticket = both.log("not connected")
    for agent, status in ((7, "assigned"), (UNASSIGNED, "open")):
        both.halo.change_ticket(ticket, {"agent_id": agent}, DESK_AGENT)
        both.go()
        assert both.alert(ticket).status == status


def test_hour_long_halo_outage_loses_nothing_and_keeps_order(both: HaloPair) -> None:
    ticket = both.log()
    alert = both.alert(ticket).pk
    both.server.api.fault = lambda method, path: TIMEOUT
    both.act(alert, Acknowledge)
    both.go()
    both.act(alert, Assign)
    for minute in range(1, 61):
        both.go(minute * 60)
    assert "504" in str(both.status().last_transient_error)
    assert [call.status for call in both.calls()] == [CallStatus.QUEUED, CallStatus.QUEUED]
    both.poll()
    with store.transaction() as connection:
        # Said once, although neither writing nor reading works.
        assert [one.kind for one in reasons.find_problems(connection)] == ["away"]
    # Meanwhile somebody closed the ticket, and no webhook told of it.
    both.server.hooks.should_lose = lambda happened: True
    both.halo.change_ticket(ticket, {"agent_id": 8}, 8)
    both.halo.change_ticket(ticket, {"status_id": 9}, 8)
    both.server.api.fault = lambda method, path: None
    both.go(3600 + 301)
    assert [note.split(" at ")[0] for note in both.notes(ticket)] == [
        "Alice Andersson acknowledged this", "Alice Andersson assigned this to themselves",
    ]  # fmt: skip
    # After an outage Tocsin looks at once.
    assert both.status().next_poll_at <= both.now
    both.poll()
    assert both.alert(ticket).status == "closed"


def test_message_without_status_or_owner_waits_for_halo_lookup(both: HaloPair) -> None:
    for payload in (SMALL, EVENT_ONLY):
        both.halo.webhooks["hook"]["payload_type"] = payload
        ticket = both.log("Printer on fire")
        alert = both.alert(ticket)
        assert (alert.subject, alert.source_status) == ("Printer on fire", "New")
        both.halo.change_ticket(ticket, {"agent_id": DESK_AGENT, "status_id": 9}, DESK_AGENT)
        both.go()
        assert both.alert(ticket).status == "closed"
    assert not both.inbox(status="Pending")
    # Halo does not answer: the message waits ten seconds, and is then decided as it is.
    both.server.api.fault = lambda method, path: TIMEOUT
    ticket = both.log("Nobody answers")
    assert both.alert(ticket).subject == f"Halo {ticket}"


def test_message_is_decided_without_halo_when_lookup_is_unavailable(both: HaloPair) -> None:
    both.halo.webhooks["hook"]["payload_type"] = EVENT_ONLY

    def reason_of_a_ticket() -> tuple[str, int]:
        request_count = len(both.server.api.requests)
        both.log("Something")
        return str(both.inbox()[-1].reason), len(both.server.api.requests) - request_count

    both.halo.client_secret = "another"
    both.halo.tokens.clear()
    text, request_count = reason_of_a_ticket()
    assert text.endswith("; decided without querying Halo, which rejects Tocsin until someone fixes it")
    assert request_count > 0
    # From then on the bar holds, and the message does not wait for it either.
    assert "rejected the client ID and secret" in str(both.status().problem)
    assert reason_of_a_ticket() == (text.replace(str(both.inbox()[-2].source_id), both.inbox()[-1].source_id), 0)
    both.change(client_secret="another")
    both.server.api.fault = lambda method, path: FakeResponse(429, None, {"Retry-After": "90"})
    assert reason_of_a_ticket()[0].endswith("; decided without querying Halo, which is rate-limiting Tocsin")
    assert reason_of_a_ticket()[1] == 0
    both.seconds += 120
    # A short patience is waited for.
    both.server.api.fault = lambda method, path: FakeResponse(429, None, {"Retry-After": "4"})
    ticket = both.halo.create_ticket({"summary": "Soon"}, DESK_AGENT)["id"]
    both.go()
    assert [message.source_id for message in both.inbox(status="Pending")] == [str(ticket)]
    both.server.api.fault = lambda method, path: None
    both.go(both.seconds + 5)
    assert (both.alert(ticket).subject, both.inbox(status="Pending")) == ("Soon", [])
    both.server.api.fault = lambda method, path: TIMEOUT
    for _ in range(5):
        assert reason_of_a_ticket()[0].endswith("; decided without querying Halo, which is not responding")
    assert reason_of_a_ticket()[1] == 0
    # Halo is back: the first that is asked about ends it.
    both.server.api.fault = lambda method, path: None
    both.seconds += 60
    assert "processed without" not in reason_of_a_ticket()[0]
    assert (both.status().failures, both.status().last_transient_error) == (0, NO_REASON)
    # Nobody asks at all: after ten seconds it is decided all the same, and says so.
    both.halo.create_ticket({"summary": "Nobody asks"}, DESK_AGENT)
    both.server.hooks.run()
    both.seconds += 10
    drain(both.registry, both.numbers, both.now)
    last = both.inbox()[-1].reason
    assert (last.code, last["skipped"]) == (
        "message.decided_without_fetch",
        state.NO_ANSWER(timeout=timedelta(seconds=10)),
    )
    assert not both.inbox(status="Pending")
    # Nor where the clock was set back meanwhile.
    both.halo.create_ticket({"summary": "Nobody asks"}, DESK_AGENT)
    both.server.hooks.run()
    both.seconds -= 7200
    drain(both.registry, both.numbers, both.now)
    assert not both.inbox(status="Pending")


def test_unknown_authors_message_does_not_reopen_what_tocsin_closed(both: HaloPair) -> None:
    both.change(sync={"close": {"status": "Closed"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Close)
    both.go()
    Ingest().send(both.inbound, halo(ticket, "New"), now=both.now, wait=False)
    # Halo is not asked about it in time.
    both.seconds += 10
    drain(both.registry, both.numbers, both.now)
    reason = both.inbox()[-1].reason
    assert (reason.code, reason.data["decision"]["code"]) == (
        "message.decided_without_fetch", "message.echo_opens_nothing",
    )  # fmt: skip
    assert both.alert(ticket).status == "closed"


def test_write_in_progress_is_not_a_command_when_echoed(both: HaloPair) -> None:
    both.change(sync={"assign": {"note": False, "agent": True}, "close": {"status": "Closed"}})
    ticket = both.log()
    alert = both.alert(ticket).pk
    # Alice takes it, her write leaves, and before its echo arrives Bob takes it over.
    both.act(alert, Assign)
    both.box.run_once()
    both.box.settle()
    both.seconds += 10
    both.act(alert, Assign, who="bob")
    both.server.hooks.run()
    assert both.alert(ticket).owner_id == both.users["bob"].pk
    both.go()
    assert both.alert(ticket).owner_id == both.users["bob"].pk
    assert both.halo.tickets[ticket]["agent_id"] == 8
    # A person in Halo gives it back to Alice: that is an act, although Tocsin wrote the same agent before.
    both.halo.change_ticket(ticket, {"agent_id": 7}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).owner_id == both.users["alice"].pk
    # Closed here and reopened by a person before the echo of the close arrives.
    both.act(alert, Close)
    both.box.run_once()
    both.box.settle()
    both.act(alert, Reopen)
    both.server.hooks.run()
    assert both.alert(ticket).status != "closed"


def test_written_agent_is_a_command_after_reassignment_in_between(both: HaloPair) -> None:
    both.change(sync={"assign": {"agent": True}})
    ticket = both.log()
    # Alice has the ticket there already when Tocsin writes her: Halo tells of no change.
    both.halo.change_ticket(ticket, {"agent_id": 7}, DESK_AGENT)
    both.server.hooks.pending.clear()
    both.act(both.alert(ticket).pk, Assign)
    both.go()
    both.go(30)
    both.halo.change_ticket(ticket, {"agent_id": UNASSIGNED}, DESK_AGENT)
    both.go()
    assert both.alert(ticket).status == "open"
    # Somebody gives it to her again, and only a look finds it.
    both.halo.change_ticket(ticket, {"agent_id": 7}, DESK_AGENT)
    both.server.hooks.pending.clear()
    both.poll(60)
    assert (both.alert(ticket).status, both.alert(ticket).owner_id) == ("assigned", both.users["alice"].pk)


def test_late_echo_of_partially_rejected_write_is_no_command(both: HaloPair) -> None:
    whole = {**integrations.integration_spec(both.inbound), "recipients": {"users": ["alice"]}}
    integrations.save_integration(whole, existing=both.inbound, actor=ACTOR, now=both.now)
    both.change(sync={"acknowledge": {"note": True, "agent": True, "priority": "Critical"}})
    ticket = both.log(priority_id=3)
    both.halo.refused_actions = {"Private Note"}
    both.act(both.alert(ticket).pk, Acknowledge)
    both.box.run_once()
    both.box.settle()
    assert [call.status for call in both.calls()] == [CallStatus.DEAD]
    assert both.halo.tickets[ticket]["agent_id"] == 7
    both.go(20)
    alert = both.alert(ticket)
    assert (alert.status, alert.owner_id, alert.priority) == ("open", None, Priority.CRITICAL)
    assert "told" not in both.story(alert.pk)


def test_echoed_priority_and_team_trigger_no_pages_or_workflows(both: HaloPair) -> None:
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
    workflow_reactor.re_evaluate()
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
    changed = AlertEvent.objects.filter(alert=alert, kind="updated").values_list("reason__code", flat=True)
    assert set(changed) == {"alert.source_confirmed"}
    # Of the status only what Alice did here.
    assert [str(run.cause) for run in WorkflowRun.objects.all()] == ["Alice Andersson acknowledged the alert"]
    # What somebody in Halo does after that is an act.
    both.seconds += 60
    both.halo.change_ticket(ticket, {"priority_id": 3, "team": "1st Line Support"}, DESK_AGENT)
    both.go()
    both.act(alert, Unacknowledge)
    both.go()
    both.halo.change_ticket(ticket, {"priority_id": 1}, DESK_AGENT)
    both.go()
    assert "escalation_started" in both.story(alert)
    # So is what somebody does there before Tocsin could write the same.
    other = both.log(priority_id=3)
    both.server.api.fault = lambda method, path: TIMEOUT
    both.act(both.alert(other).pk, Say, text="looking")
    both.go()
    both.halo.change_ticket(other, {"priority_id": 1}, DESK_AGENT)
    both.go()
    assert "escalation_started" in both.story(both.alert(other).pk)


def test_unacknowledged_ticket_notifies_manager_and_adds_note(both: HaloPair) -> None:
    workflow_reactor.re_evaluate()
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
    workflows.run_once(both.now)
    both.go()
    assert both.notes(forgotten) == []
    both.go(300)
    while workflows.run_once(both.now):
        pass
    both.go()
    assert both.notes(forgotten) == [f"Nobody has acknowledged ticket {forgotten} for 5 minutes."]
    assert both.halo.tickets[forgotten]["status_id"] == 2
    assert both.notes(seen) == ["Alice Andersson acknowledged this at 09:15 UTC."]
    notice = Notification.objects.get(purpose="notice")
    assert (notice.user, notice.title) == (both.users["bob"], as_reason("Nobody answers: VPN down"))
    (run,) = WorkflowRun.objects.filter(alert=both.alert(forgotten).pk, status="done")
    assert [step["do"] for step in run.steps] == ["notify", "halo"]
    # What it wrote came back, and is nobody's act.
    assert both.alert(forgotten).status == "open"
    assert len(both.alerts(forgotten)) == 1
