"""HaloITSM addresses, error responses, tickets and notes, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tocsin.core.delivery.circuit_breaker import NeedsAttention, Throttled
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import Reason
from tocsin.outbound.connectors import tickets
from tocsin.outbound.connectors.haloitsm import client
from tocsin.outbound.connectors.haloitsm import client as reasons
from tocsin.outbound.connectors.haloitsm.client import HaloClient, HaloSession, clean_address, extract_rows, id_text
from tocsin.outbound.connectors.interfaces import IntegrationAccount, RecordedClient
from tocsin.outbound.connectors.tickets import ReferenceEntry, ReferenceLists
from tocsin.outbound.delivery import dispatcher
from tocsin.outbound.halo_sync import ticket_messages
from tocsin.outbound.reasons import NO_AGENT_WITH_EMAIL, NO_EMAIL_OF_USER
from tocsin.outbound.states import OutboundEvent


@pytest.mark.parametrize(
    "text",
    [
        "acme.haloitsm.com", "https://acme.haloitsm.com/", "https://ACME.haloitsm.com/api/",
        " https://acme.haloitsm.com/auth ",
        "https://acme.haloitsm.com/auth/token?tenant=acme", "https://acme.haloitsm.com/tickets?id=5&showmenu=true",
        "<https://acme.haloitsm.com/config/integrations>", "acme.haloitsm.com/api/Tickets",
    ],
)  # fmt: skip
def test_an_address_is_understood_in_any_form(text: str) -> None:
    assert clean_address(text)[0] == "https://acme.haloitsm.com"


def test_address_keeps_path_and_port_and_names_its_tenant() -> None:
    assert clean_address("http://10.0.0.5:8080/halo/api") == ("http://10.0.0.5:8080/halo", "")
    assert clean_address("https://x.example/auth/token?tenant=acme")[1] == "acme"
    for wrong in ("", "ftp://acme.haloitsm.com", "no address", "https://"):
        with pytest.raises(Rejected):
            clean_address(wrong)


@pytest.mark.parametrize(
    ("status", "body", "is_write", "kind", "message"),
    [
        (400, b'{"ClassName": "System.Exception", "Message": "Boom"}', True, Permanent, "Halo's response: Boom"),
        (400, b'{"[0].outcome_id": ["Could not convert"]}', True, Permanent, "outcome_id: Could not convert"),
        (400, b'"Please assign this Ticket these before closing it."', True, client.AgentRequired, "without an agent"),
        (400, b'{"Message": "An Outcome must be entered for this Action"}', True, client.NoteRejected, "action"),
        (400, b'"You do not have access to this Action at the moment"', True, client.NoteRejected, "another"),
        (401, b"", False, NeedsAttention, "rejected Tocsin's token"),
        (401, b'{"Message": "Record not found"}', False, client.TicketNotFound, "Ticket 7 is not visible"),
        (401, b'{"Message": "Authorization has been denied for this request."}', True, NeedsAttention, "been denied"),
        (
            401, b'{"Message": "Your access to this ticket is restricted."}', True, client.TicketNotFound,
            "Ticket 7 is not visible",
        ),
        (401, b'{"Message": "You cannot view this."}', False, client.TicketNotFound, "Ticket 7 is not visible"),
        (403, b"", True, Permanent, "No reason given"),
        (403, b'{"Message": "Your role may not do this."}', True, Permanent, "does not permit Tocsin to write"),
        (403, b'"You do not have access to this Action at the moment"', True, client.NoteRejected, "another"),
        (403, b'{"Message": "The ticket does not exist."}', True, client.TicketNotFound, "Ticket 7 is not visible"),
        (404, b"", False, client.TicketNotFound, "Ticket 7 is not visible"),
        (429, b"", True, Throttled, "rate-limiting"),
        (503, b"", True, Temporary, "503"),
        (504, b"<html><h1>Gateway Time-out</h1></html>", True, OutcomeUnknown, "Halo timed out"),
        (504, b"<html><h1>Gateway Time-out</h1></html>", False, Temporary, "Gateway Time-out"),
        (400, b"\xff\xfe", True, Permanent, "Halo's response: "),
        (400, b"", True, Permanent, "No reason given"),
    ],
)  # fmt: skip
def test_every_halo_rejection_is_one_correctly_classified_sentence(
    status: int, body: bytes, is_write: bool, kind: type[Exception], message: str
) -> None:
    error = client.response_error(EgressResponse(status, {}, body), reasons.WRITE_NOTE(), is_write=is_write, ticket="7")
    assert type(error) is kind
    assert message in str(error)


def test_failed_token_request_names_bad_scope_or_secret() -> None:
    def of(status: int, body: bytes, scopes: list[str], bad: list[str]) -> str:
        return str(client.token_error(EgressResponse(status, {}, body), "https://x", scopes, bad))

    assert "client ID and secret" in of(400, b'{"error": "invalid_client"}', [], [])
    assert "scope read:teams;" in of(400, b'{"error": "invalid_scope"}', ["read:tickets", "read:teams"], ["read:teams"])
    assert "No Halo found at https://x" in of(404, b"<html>not found</html>", [], [])
    assert "503" in of(503, b"", [], [])


def test_lists_and_ids_are_read_in_whichever_shape() -> None:
    assert extract_rows([{"id": 1}, "x"]) == extract_rows({"record_count": 1, "statuses": [{"id": 1}]}) == [{"id": 1}]
    assert extract_rows(None) == extract_rows("x") == []
    assert [id_text(value) for value in (7, 7.0, "7", " 7 ", None, True)] == ["7", "7", "7", "7", "", ""]


def test_active_agent_wins_among_equal_names_or_addresses() -> None:
    reference_entry = ReferenceEntry("agent", "6", "Sam Service", {"email": "sam@desk.example", "inactive": True})
    here = ReferenceEntry("agent", "9", "Sam Service", {"email": "sam@desk.example"})
    lists = ReferenceLists([reference_entry, here])
    assert lists.find_by_name("agent", "sam service") == lists.find_agent_by_email("Sam@desk.example") == here
    assert (
        lists.find_by_number("agent", "6")
        == ReferenceLists([reference_entry]).find_agent_by_email("sam@desk.example")
        == reference_entry
    )


@pytest.mark.parametrize(
    ("email", "reason"),
    [
        ("alice@example.org", NO_AGENT_WITH_EMAIL(email="alice@example.org", user="Alice", desk="Halo")),
        ("", NO_EMAIL_OF_USER(user="Alice", desk="Halo")),
    ],
)
def test_unknown_halo_agent_is_reported_with_remedy(email: str, reason: Reason) -> None:
    people = {1: dispatcher.TicketUser("Alice", email, "")}
    assert dispatcher.agent_for({"user": 1}, "Halo", ReferenceLists([]), people)["remark"] == reason


def test_halo_dates_without_zone_are_compared_only_with_each_other() -> None:
    assert ticket_messages.parse_date("1900-01-01T00:00:00") is None
    assert ticket_messages.parse_date("2026-11-24T09:15:02.1234567Z") == datetime(2026, 11, 24, 9, 15, 2, 123456)
    tickets = [{"last_update": "2026-11-24T09:15:02.1"}, {"last_update": "2026-11-24T09:14:00"}, {"last_update": None}]
    now = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
    assert ticket_messages.newest_change(tickets, "", now) == "2026-11-24T09:15:02.1"
    assert ticket_messages.newest_change(tickets, "2027-01-01T00:00:00", now) == "2027-01-01T00:00:00"
    assert ticket_messages.newest_change([], "x", now) == "x"
    # Fourteen hours before UTC is somebody's clock; next year is a slip, behind which everything else would be hidden.
    ahead = [{"last_update": "2026-11-24T23:15:00"}, {"last_update": "2027-11-24T09:15:00"}]
    assert ticket_messages.newest_change([*tickets, *ahead], "", now) == "2026-11-24T23:15:00"
    assert ticket_messages.overlap_start("2026-11-24T09:15:02.1") == "2026-11-24T09:13:02"
    # In Zürich 02:00 to 03:00 comes twice on the last Sunday of October; in March it does not come at all.
    assert ticket_messages.overlap_start("2026-10-25T02:59:00", "Europe/Zurich") == "2026-10-25T01:57:00"
    assert ticket_messages.overlap_start("2026-10-25T03:01:00", "Europe/Zurich") == "2026-10-25T02:59:00"
    assert ticket_messages.overlap_start("2026-03-29T02:30:00", "Europe/Zurich") == "2026-03-29T02:28:00"


def test_notes_are_those_of_agents_but_not_tocsins_own() -> None:
    actions = [
        {"id": 3, "who": "Sam", "who_agentid": 5, "note": "second"},
        {"id": 1, "who": "Sam", "who_agentid": 5, "note": "first"},
        {"id": 4, "who": "Tocsin API", "who_agentid": 20, "note": "own"},
        {"id": 5, "who": "Sam", "who_agentid": 5, "actionby_application_id": "tocsin", "note": "own as well"},
        {"id": 6, "who": "José", "who_agentid": 0, "note": "the requester's"},
        {"id": 7, "who": "Sam", "who_agentid": 5, "note": ""},
    ]
    ticket_notes = ticket_messages.ticket_notes(actions, "20", "Tocsin")
    assert [note.text for note in ticket_notes] == ["first", "second"]
    assert ticket_messages.merged_into({"merged_into_id": 9.0}) == "9"
    assert ticket_messages.merged_into({"merged_into_id": 0}) == ""


def test_default_writeback_is_a_private_note_for_every_event() -> None:
    for event in OutboundEvent:
        write = tickets.get_writeback({}, event)
        assert write.note
        assert (write.is_public, write.status, write.should_assign, write.team, write.priority) == (
            False,
            "",
            False,
            "",
            "",
        )
    some = {"sync": {"close": {"note": "Bye <who>", "status": "Closed"}, "reply": {"note": False}}}
    assert tickets.get_writeback(some, OutboundEvent.CLOSE) == tickets.EventWriteback("Bye <who>", status="Closed")
    assert not tickets.get_writeback(some, OutboundEvent.REPLY).has_changes
    assert not tickets.get_writeback(some, OutboundEvent.HOLD).has_changes


def test_note_contains_time_and_page_count() -> None:
    at = datetime(2026, 11, 24, 2, 12, tzinfo=UTC)
    assert (tickets.clock_text(at, "Europe/Zurich"), tickets.clock_text(at, "UTC")) == (
        "03:12",
        "02:12 UTC",
    )
    assert tickets.after_text({}) == ""
    assert tickets.after_text({"voice": 1}) == " after 1 call"
    assert tickets.after_text({"email": 2, "voice": 2, "fax": 1}) == " after 2 calls, 2 emails and 1 page"
    values = {"who": "Alice", "time": "03:12", "after": " after 1 call", "note": ""}
    assert (
        tickets.note_text(tickets.TEXTS[OutboundEvent.ASSIGN], values)
        == "Alice assigned this to themselves at 03:12 after 1 call."
    )


_PAGE = b"<!DOCTYPE html><html><head><title>Sign in\n to Acme</title></head><body><form>\xff</form></body></html>"


class _Behind:
    """A Halo whose proxy answers some paths with a page of its own."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def request(self, method: str, url: str, **_: Any) -> EgressResponse:
        if any(path in url for path in self.paths):
            return EgressResponse(200, {"content-type": "text/html"}, _PAGE)
        return EgressResponse(200, {}, b'{"access_token": "x"}')


_NOTE, _END = reasons.WRITE_NOTE(), reasons.DELETE_WEBHOOK()


@pytest.mark.parametrize(
    ("path", "ask", "kind", "doing"),
    [
        ("Status", lambda halo: halo.get("Status", reasons.READ_TICKETS()), Temporary, "read"),
        ("Actions", lambda halo: halo.post("Actions", {}, _NOTE), OutcomeUnknown, "note"),
        ("Webhook", lambda halo: halo.delete("Webhook/1", _END), OutcomeUnknown, "delete"),
        ("/auth/token", lambda halo: halo.current_agent(), Temporary, "token"),
    ],
)  # fmt: skip
def test_proxy_page_is_retried_and_reported_by_its_title(
    path: str, ask: Callable[[HaloSession], object], kind: type[Exception], doing: str
) -> None:
    now = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
    client = HaloClient(
        IntegrationAccount(1, "Halo", {"base_url": "https://halo.example.org"}, {"client_secret": "secret"})
    )
    with pytest.raises(Temporary) as caught:
        ask(client.session(RecordedClient(cast(HttpClient, _Behind(path)), lambda: now), now))
    assert type(caught.value) is kind
    assert "answered with a web page" in str(caught.value)
    assert "(200): Sign in to Acme." in str(caught.value)
    assert doing in str(caught.value)


class _Renewing:
    """A Halo whose first token ended early, and in which every new token ends those before it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.while_refusing: Callable[[], object] = lambda: None

    def request(self, method: str, url: str, *, headers: Mapping[str, str], **_: Any) -> EgressResponse:
        if "/auth/token" in url:
            self.tokens += 1
            return EgressResponse(
                200, {}, json.dumps({"access_token": f"token {self.tokens}", "expires_in": 3600}).encode()
            )
        if headers["Authorization"] == "Bearer token 1":
            self.while_refusing()
            return EgressResponse(401, {}, b"")
        return EgressResponse(200 if headers["Authorization"] == f"Bearer token {self.tokens}" else 401, {}, b"[]")


def test_token_renewed_by_another_thread_is_kept() -> None:
    now = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
    server = _Renewing()
    client = HaloClient(
        IntegrationAccount(1, "Halo", {"base_url": "https://halo.example.org"}, {"client_secret": "secret"})
    )

    def read() -> object:
        line = RecordedClient(cast(HttpClient, server), lambda: now)
        return client.session(line, now).get("Status", reasons.READ_TICKETS())

    def meanwhile() -> None:
        server.while_refusing = lambda: None
        assert read() == []

    server.while_refusing = meanwhile
    assert read() == []
    assert server.tokens == 2
