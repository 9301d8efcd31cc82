"""Writes that HaloITSM rejects, and their resending: each is one clear error and blocks no other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doubles.halo import DESK_AGENT, EVENT_ONLY, EXPIRED, FORBIDDEN, TIMEOUT, FakeResponse
from tests.support.halo_pair import HaloPair
from tests.support.people import ACTOR
from tocsin.alerts.commands import Acknowledge, Assign, Close, Reopen
from tocsin.alerts.commands import Reply as Say
from tocsin.alerts.models import Alert
from tocsin.alerts.service import find_alert
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, joined
from tocsin.inbound.admin import commands as integrations
from tocsin.outbound import commands
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.delivery import queue
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.states import CallStatus


def test_each_rejected_write_is_one_clear_dead_letter(both: HaloPair) -> None:
    both.change(sync={"acknowledge": {"note": True}, "close": {"status": "Finished"}, "reply": {"note": True}})
    ticket, other = both.log("one"), both.log("two")
    both.halo.refused_actions = {"Private Note"}
    both.act(both.alert(ticket).pk, Acknowledge)
    both.act(both.alert(ticket).pk, Close)
    alert = both.alert(other).pk
    both.poll(200)
    both.server.hooks.should_lose = lambda happened: True
    both.halo.delete(other, DESK_AGENT)
    both.act(alert, Say, text="hello")
    both.go()
    assert [(call.status, str(call.error).split(":")[0].split(" (")[0]) for call in both.calls()] == [
        (CallStatus.DEAD, "Halo does not permit Tocsin's agent to use the action for its notes. Halo's response"),
        (CallStatus.DEAD, 'Halo has no status "Finished"'),
        (CallStatus.DEAD, f"Ticket {other} is not visible to Tocsin"),
    ]
    # Deleted: noticed at the second look, because Halo shows other tickets all the while.
    both.poll(400)
    assert both.alert(other).status == "open"
    both.poll(600)
    assert both.alert(other).status == "cancelled"


def test_renamed_status_or_team_does_not_block_the_note(both: HaloPair) -> None:
    both.change(sync={"acknowledge": {"note": True, "status": "Doing"}, "reply": {"note": True, "team": "Nowhere"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Acknowledge)
    both.act(both.alert(ticket).pk, Say, text="hello")
    both.go()
    assert len(both.notes(ticket)) == 2
    assert ["Doing" in str(call.error) or "Nowhere" in str(call.error) for call in both.calls(status="dead")] == [
        True,
        True,
    ]


def test_unexplained_rejection_of_one_ticket_blocks_no_other(both: HaloPair) -> None:
    hidden, other = both.log("one"), both.log("two")
    path_of = {("POST", "/api/Actions"): EXPIRED, ("GET", f"/api/Tickets/{hidden}"): EXPIRED}
    both.server.api.fault = lambda method, path: path_of.get((method, path))
    both.act(both.alert(hidden).pk, Acknowledge)
    both.go()
    del path_of["POST", "/api/Actions"]
    both.act(both.alert(other).pk, Acknowledge)
    both.go(20)
    assert len(both.notes(other)) == 1
    assert [str(call.error).split(" (")[0] for call in both.calls(status="dead")] == [
        f"Ticket {hidden} is not visible to Tocsin"
    ]
    both.poll(200)
    assert (both.alert(hidden).status, both.status().problem) == ("open", NO_REASON)
    # A token that is taken for nothing is another matter.
    both.server.api.fault = lambda method, path: None if path == "/auth/token" else EXPIRED
    both.act(both.alert(other).pk, Assign)
    both.go(400)
    assert str(both.status().problem).startswith("Halo rejected Tocsin's token when asked to write a note (401).")


def test_expired_secret_stops_calls_with_one_error_until_replaced(both: HaloPair) -> None:
    ticket = both.log()
    both.halo.client_secret = "another"
    both.halo.tokens.clear()
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    assert both.status().problem == joined(client.CREDENTIALS_REJECTED(), client.COPY_CREDENTIALS(), separator=" ")
    request_count = len(both.server.api.requests)
    both.go(600)
    assert len(both.server.api.requests) == request_count
    both.change(client_secret="another")
    both.go(700)
    assert len(both.notes(ticket)) == 1


def test_a_lost_right_and_a_token_that_ended_early(both: HaloPair) -> None:
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
    assert str(dead.error).startswith("Halo does not permit Tocsin to write a note (403). No reason given.")


@pytest.mark.parametrize("body", [{"error": "Not now"}, {"Message": "Not now"}, "Not now"])
def test_error_body_with_success_status_is_a_failure(both: HaloPair, body: object) -> None:
    ticket = both.log()
    both.server.api.fault = lambda method, path: (
        FakeResponse(200, body) if (method, path) == ("POST", "/api/Actions") else None
    )
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    (dead,) = both.calls(status=CallStatus.DEAD)
    assert str(dead.error) == "Halo rejected the request to write a note (200). Halo's response: Not now."


def test_resent_write_uses_the_current_name_of_renamed_status(both: HaloPair) -> None:
    both.change(sync={"acknowledge": {"note": True, "status": "Doing"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Acknowledge)
    both.go()
    both.change(sync={"acknowledge": {"note": True, "status": "In Progress"}})
    assert commands.send_all_again(both.outbound, actor=ACTOR, now=both.now) == 1
    both.go()
    assert both.halo.tickets[ticket]["status_id"] == 2
    assert len(both.notes(ticket)) == 1


def test_note_of_failed_write_does_not_match_later_identical_note(both: HaloPair) -> None:
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


def test_note_of_failed_write_opens_no_alert_when_echoed(both: HaloPair) -> None:
    both.change(sync={"close": {"note": "Done", "status": "Doing"}})
    ticket = both.log()
    both.act(both.alert(ticket).pk, Close)
    both.go()
    assert [call.status for call in both.calls()] == ["dead"]
    assert both.notes(ticket) == ["Done"]
    assert [alert.status for alert in both.alerts(ticket)] == ["closed"]


def test_what_is_sent_again_sets_nothing_that_was_set_since(both: HaloPair) -> None:
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


def test_note_whose_answer_was_lost_is_not_repeated(both: HaloPair, monkeypatch: pytest.MonkeyPatch) -> None:
    both.change(sync={"reply": {"note": True, "public": True}})
    ticket = both.log()
    handle, lost = both.server.api.handle, iter([TIMEOUT])

    def lose_answer(method: str, path: str, *request: Any) -> FakeResponse:
        response = handle(method, path, *request)
        return next(lost, response) if (method, path) == ("POST", "/api/Actions") else response

    monkeypatch.setattr(both.server.api, "handle", lose_answer)
    both.act(both.alert(ticket).pk, Say, text="On my way")
    both.go()
    both.go(60)
    both.act(both.alert(ticket).pk, Say, text="Done")
    both.go(70)
    assert len(both.notes(ticket)) == 2
    assert [call.result.code for call in both.calls()] == ["ticket.note_existed", "ticket.public_note_written"]
    assert all(action["hiddenfromuser"] is False for action in both.halo.actions)


def test_ticket_stays_open_while_no_agent_can_be_assigned(both: HaloPair) -> None:
    both.change(sync={"close": {"status": "closed"}})
    both.users["alice"].email = "alice@elsewhere.example"
    both.users["alice"].save()
    ticket = both.log()
    both.server.api.fault = lambda method, path: FakeResponse(200, {}) if path == "/api/Agent/me" else None
    both.act(both.alert(ticket).pk, Close)
    both.go()
    (dead,) = both.calls(status=CallStatus.DEAD)
    assert dead.error == client.OWN_AGENT_UNKNOWN()
    assert str(dead.error)


def test_message_about_a_hidden_ticket_is_decided_as_it_is(both: HaloPair) -> None:
    both.halo.webhooks["hook"]["payload_type"] = EVENT_ONLY
    both.server.api.fault = lambda method, path: FORBIDDEN if path.startswith("/api/Tickets/") else None
    both.log()
    reason = str(both.inbox()[-1].reason)
    assert reason.endswith("; decided from the message alone, because the ticket is not visible in Halo")


def test_status_alone_is_written_by_its_own_call(both: HaloPair) -> None:
    ticket = both.log()
    with database.transaction() as connection:
        queue.write_on_ticket(connection, both.alert(ticket).pk, both.now, status="In Progress")
    both.go()
    (call,) = both.calls()
    assert (call.description.code, call.status) == ("outbound.set_status", CallStatus.SENT)
    assert both.halo.tickets[ticket]["status_id"] == 2


def test_alert_without_a_ticket_in_halo_gets_no_note(both: HaloPair) -> None:
    api = integrations.save_integration(
        {"name": "Monitoring", "kind": "api", "outbound": "Halo", "anyway": True}, actor=ACTOR, now=both.now
    )
    alert = Alert.objects.create(integration=api, subject="Disk full", opened_at=both.now, last_message_at=both.now)
    with database.transaction() as connection, pytest.raises(Rejected) as rejected:
        queue.write_on_ticket(connection, alert.pk, both.now, note="hello")
    assert rejected.value.reason.code == "outbound.no_ticket"


def test_commands_for_halo_reject_other_integrations_and_tickets(both: HaloPair) -> None:
    ticket = both.log()
    with pytest.raises(Rejected) as rejected:
        commands.make_ticket(both.outbound, find_alert(both.alert(ticket).pk), ACTOR, both.now)
    assert "came from a ticket of" in str(rejected.value)
    pager = commands.save_outbound(
        {"name": "Pager", "kind": "http", "url": "https://pager.example.org"}, actor=ACTOR, now=both.now
    )
    with pytest.raises(Rejected) as rejected:
        halo_commands.poll_now(pager, both.now)
    assert rejected.value.reason.code == "halo.not_halo"


def test_agents_that_cannot_become_users_are_named(both: HaloPair) -> None:
    both.halo.lists["Agent"] += [
        {"id": 71, "name": "No Address", "email": ""},
        {"id": 72, "name": "Bad Address", "email": "bad address"},
    ]
    assert halo_commands.refresh(both.outbound, ACTOR, both.now) == []
    imported = halo_commands.import_people(both.outbound, ["71", "72"], ACTOR, both.now)
    assert (imported.users, [problem.code for problem in imported.problems]) == (
        [], ["halo.import.not_imported", "halo.import.no_email"],
    )  # fmt: skip
