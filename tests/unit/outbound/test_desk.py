"""Ticket systems that a file describes: the file's mistakes, and every request of each against its recorded answers."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from tests.doubles.desk import DeskDouble
from tocsin.catalogue import desks
from tocsin.catalogue.desks import check_file, line_of, load_desks
from tocsin.core.delivery.circuit_breaker import NeedsAttention, Throttled
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.outbound.connectors.desk import DESKS, DeskSender, _kind, fill
from tocsin.outbound.connectors.interfaces import CallJob, IntegrationAccount, RecordedClient
from tocsin.outbound.reasons import NO_AGENT_WITH_EMAIL

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
EVERY = [kind.name for kind in DESKS]
ALICE = {"number": "5", "name": "Alice Andersson"}


def opened(name: str, double: DeskDouble | None = None) -> tuple[DeskSender, DeskDouble]:
    kind = next(kind for kind in DESKS if kind.name == name)
    assert kind.desk is not None
    double = double or DeskDouble(kind.desk)
    own = {key: "7" for key, one in kind.desk.spec.settings.items() if not one.secret}
    secrets = {key: "a-long-secret" for key, one in kind.desk.spec.settings.items() if one.secret}
    settings = {"base_url": "https://93.184.216.34", **own}
    account = IntegrationAccount(1, "Desk", settings, secrets)
    sender = kind.open_sender(account, cast(HttpClient, double))
    assert isinstance(sender, DeskSender)
    return sender, double


def line(double: DeskDouble, **options: Any) -> RecordedClient:
    return RecordedClient(cast(HttpClient, double), lambda: NOW, ("a-long-secret",), **options)


def write(ticket: str = "41", **content: Any) -> CallJob:
    return job("write", {"note": "Alice took it.", "event": "acknowledge", **content}, ticket=ticket)


def job(action: str, content: dict[str, Any], *, ticket: str = "", uncertain: bool = False, **prepared: Any) -> CallJob:
    shown = content.pop("prepared", prepared)
    return CallJob(1, 1, 42, "alert:42", action, ticket, content, 0, uncertain, NOW, prepared=shown)


# ---------- files


@pytest.mark.parametrize("name", EVERY)
def test_each_file_is_without_mistakes(name: str) -> None:
    assert [str(problem.reason) for problem in check_file(load_desks()[name].file)] == []


@pytest.mark.parametrize(
    ("before", "after", "place", "says"),
    [
        ("request/<ticket>/comment", "request/<tikcet>/comment", "note.path", "uses <tikcet>, which has no value here"),
        ('capture = { transition = "id" }', 'capture = { transition = "ident" }', "status.before[0].capture.transition",
         'captures nothing: the recorded answer has no "ident"'),
        ("[verify]", "[verfiy]", "verify", "is required"),
        ('[auth]\nkind = "basic"', '[auth]\nkind = "digest"', "auth.kind", "not one of"),
        ('id = "<issueKey>"', 'id = "<issue>"', "create.id", "captures nothing"),
        ("secret = true", "secret = false", "settings", "must name one secret setting"),
        ("rate = 5", "rate = 5 5", "line 8", "at line"),
        ('path = "/rest/api/2/myself"', 'path = "rest/api/2/myself"', "verify.path", "must begin with /"),
        ("[note]", "[nota]", "note", "is required"),
    ],
)  # fmt: skip
def test_mistake_in_a_file_is_named_with_its_line(
    tmp_path: Path, before: str, after: str, place: str, says: str
) -> None:
    folder = tmp_path / "jira"
    shutil.copytree(load_desks()["jira"].file.parent, folder)
    file = folder / "outbound.toml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    problems = {problem.place: problem for problem in desks.check_files(tmp_path)}
    assert place in problems
    assert says in str(problems[place].reason)
    if place and before[0] != "[":
        assert (
            problems[place].line
            == next(
                number for number, one in enumerate(file.read_text().splitlines(), 1) if after.splitlines()[-1] in one
            )
            or place == "settings"
        )


def test_line_of_a_place_in_an_array_of_tables() -> None:
    text = "[a]\nx = 1\n\n[[a.before]]\npath = 1\n\n[[a.before]]\npath = 2\ncapture = {}\n"
    assert [line_of(text, place) for place in ("a.x", "a.before[0].path", "a.before[1].path", "a.y")] == [2, 5, 8, 1]


def test_desk_of_the_guide_works_with_its_recorded_answers(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "how-to" / "ticket-systems.md").read_text()
    (text,) = (one for one in re.findall(r"```toml\n(.*?)```", guide, re.S) if "[verify]" in one)
    # Beside an inbound type, as the guide says; the copy stands for one of their own.
    folder = tmp_path / "zammad"
    folder.mkdir()
    (folder / "outbound.toml").write_text(textwrap.dedent(text))
    answers = {
        "verify": {"answer": {"name": "Tocsin"}},
        "look_up_note": {"answer": [{"text": "x"}]},
        "note": {"status": 201, "answer": {}},
    }
    (folder / "outbound.samples.json").write_text(json.dumps(answers))
    assert check_file(folder / "outbound.toml") == []
    desk = desks.read_desk(folder / "outbound.toml")
    double = DeskDouble(desk)
    account = IntegrationAccount(1, "Acme", {"base_url": "https://93.184.216.34"}, {"token": "a-long-secret"})
    sender = _kind(desk).open_sender(account, cast(HttpClient, double))
    assert "as Tocsin" in str(sender.verify(line(double), NOW))
    sender.send(write(), line(double), NOW)
    assert double.writes == [("note", {"text": "Alice took it. (Tocsin #42)", "internal": True})]
    again = job("write", {"note": "Alice took it."}, ticket="41", uncertain=True)
    assert sender.send(again, line(double), NOW).result.code == "ticket.note_existed"


# ---------- templates


def test_template_keeps_types_and_leaves_out_what_has_no_value() -> None:
    values = {"n": 5, "yes": True, "name": "A", "nobody": None}
    template = {"a": "<n>", "b": "<yes>", "c": "x <name>", "d": {"e": "<missing>"}, "f": "<nobody>", "g": ["<missing>"]}
    assert fill(template, values) == {"a": 5, "b": True, "c": "x A", "f": None}


# ---------- every system


@pytest.mark.parametrize("name", EVERY)
def test_sign_in_and_lists_are_read(name: str) -> None:
    sender, double = opened(name)
    assert sender.verify(line(double), NOW).code == "desk.verified"
    lists, problems = sender.read_lists(line(double), NOW)
    assert (problems, double.unknown) == ([], [])
    assert all(entries for entries in lists.values())


@pytest.mark.parametrize("name", EVERY)
def test_note_agent_and_status_are_written_in_order(name: str) -> None:
    sender, double = opened(name)
    spec = sender.desk.spec
    lists, _ = sender.read_lists(line(double), NOW)
    chosen = lists["status"][-1] if "status" in lists else None
    status = {"number": chosen.number, "name": chosen.name} if chosen else {"number": "resolved", "name": "resolved"}
    done = sender.send(write(event="close", prepared={"agent": ALICE, "status": status}), line(double), NOW)
    assert double.unknown == []
    assert double.notes[0].startswith(("Alice took it. (Tocsin #42)", "<p>Alice took it. (Tocsin #42)"))
    assert str(done.result).startswith("Wrote a private note")
    if spec.assign:
        assert "Assigned the ticket to Alice Andersson" in str(done.result)
    if spec.status:
        assert f"Set the status to {status['name']}" in str(done.result)


@pytest.mark.parametrize("name", EVERY)
def test_note_whose_answer_was_lost_is_written_once(name: str) -> None:
    sender, double = opened(name)
    sender.send(write(), line(double), NOW)
    again = job("write", {"note": "Alice took it.", "event": "reply"}, ticket="41", uncertain=True)
    assert sender.send(again, line(double), NOW).result.code == "ticket.note_existed"
    assert len(double.notes) == 1


@pytest.mark.parametrize("name", [kind.name for kind in DESKS if kind.desk and kind.desk.spec.create])
def test_ticket_whose_answer_was_lost_is_created_once(name: str) -> None:
    sender, double = opened(name)
    content = {"summary": "VPN down " + "x" * 300, "details": "40 users"}
    first = sender.send(job("create", dict(content)), line(double), NOW)
    assert first.ticket
    assert double.tickets[0].endswith(" (Tocsin #42)")
    assert len(double.tickets[0]) <= sender.desk.spec.max_summary
    assert double.unknown == []
    again = sender.send(job("create", dict(content), uncertain=True), line(double), NOW)
    assert again.result.code == "ticket.existed"
    assert len(double.tickets) == 1


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("note", ["x" * 70_000, "<script>alert(1)</script> & <b>", "🔥 Straße\n日本語"])
def test_odd_note_is_written_as_text(name: str, note: str) -> None:
    sender, double = opened(name)
    sender.send(write(note=note), line(double), NOW)
    (written,) = double.notes
    assert len(written) <= sender.desk.spec.max_note + 100
    assert "<script>" not in written or not written.startswith("<p>")


@pytest.mark.parametrize("name", EVERY)
def test_dry_run_sends_nothing_and_names_the_requests(name: str) -> None:
    sender, double = opened(name)
    client = line(double, is_dry_run=True)
    sender.send(write(), client, NOW)
    assert client.planned
    assert double.writes == []
    assert any("Alice took it. (Tocsin #42)" in body for _method, _url, body in client.planned)
    assert not any("a-long-secret" in str(planned) for planned in client.planned)


# ---------- refusals


def refusing(name: str, status: int, body: bytes = b"", **headers: str) -> tuple[DeskSender, DeskDouble]:
    double = DeskDouble(load_desks()[name], lambda request, _body: (
        EgressResponse(status, headers, body) if not request.startswith(("verify", "lists")) else None
    ))  # fmt: skip
    return opened(name, double)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "says"),
    [
        (401, b'{"error": "no"}', {}, NeedsAttention, "rejected the credentials"),
        (403, b"", {}, Permanent, "does not permit Tocsin to write a note"),
        (404, b"", {}, Permanent, "has no ticket 41 (404): it was deleted or merged"),
        (410, b"", {}, Permanent, "has no ticket 41 (410)"),
        (422, b'{"error": "ticket is closed"}', {}, Permanent, "rejected the request to write a note (422)"),
        (429, b"", {"retry-after": "3600"}, Throttled, "too many requests"),
        (503, b"", {"retry-after": "60"}, Temporary, "temporarily unable"),
        (502, b"<html>", {}, OutcomeUnknown, "temporarily unable"),
        (200, b"<html><title>Sign in</title>", {"content-type": "text/html"}, OutcomeUnknown, "with a web page"),
        (302, b"", {"location": "https://sso.example.org/x"}, NeedsAttention, "redirects to sso.example.org"),
    ],
)
def test_refusal_says_what_happened_and_what_to_do(
    name: str, status: int, body: bytes, headers: dict[str, str], error: type[Exception], says: str
) -> None:
    sender, double = refusing(name, status, body, **headers)
    with pytest.raises(error) as raised:
        sender.send(write(), line(double), NOW)
    assert says in str(raised.value)
    assert double.notes == []
    if status == 429:
        assert cast(Temporary, raised.value).retry_after == timedelta(hours=1)


@pytest.mark.parametrize("name", EVERY)
def test_recorded_refusals_are_explained(name: str) -> None:
    for refusal in load_desks()[name].samples().get("refusals", ()):
        double = DeskDouble(load_desks()[name])
        double.instead = lambda request, _body, refusal=refusal: (  # type: ignore[misc]
            EgressResponse(refusal["status"], {}, json.dumps(refusal["answer"]).encode())
            if request == refusal["request"]
            else None
        )
        sender, _ = opened(name, double)
        priority = {"number": "99", "name": "None"}
        prepared = {"agent": ALICE, "status": {"number": "3", "name": "In Progress"}, "priority": priority}
        event = "acknowledge" if refusal["request"] == "status" else "close"
        with pytest.raises((Permanent, Temporary)) as raised:
            sender.send(write(event=event, prepared=prepared), line(double), NOW)
        assert "Response: " in str(raised.value)
        assert len(double.notes) == 1


def test_status_that_is_not_offered_names_those_that_are() -> None:
    sender, double = opened("jira")
    with pytest.raises(
        Permanent, match=r"does not offer Declined for ticket OPS-41 now. It offers: In Progress and Resolved"
    ):
        sender.send(write("OPS-41", prepared={"status": {"number": "9", "name": "Declined"}}), line(double), NOW)
    assert len(double.notes) == 1


def test_status_that_the_ticket_has_is_not_written() -> None:
    sender, double = opened("jira")
    sender.send(write("OPS-41", prepared={"status": {"number": "1", "name": "open"}}), line(double), NOW)
    assert [name for name, _body in double.writes] == ["note"]


def test_agent_in_no_list_is_looked_up_by_address() -> None:
    sender, double = opened("jira")
    remark = NO_AGENT_WITH_EMAIL(email="a@example.org", user="Alice", desk="Jira")
    prepared = {"remark": remark, "look_up": "a@example.org"}
    done = sender.send(write("OPS-41", prepared=prepared), line(double), NOW)
    assert double.writes[-1] == ("assign", {"accountId": "5b10ac8d82e05b22cc7d4ef5"})
    assert "Assigned the ticket to Alice Andersson" in str(done.result)
    double.instead = lambda name, _body: EgressResponse(200, {}, b"[]") if name == "look_up_user" else None
    done = sender.send(write("OPS-41", prepared=prepared), line(double), NOW)
    assert "No agent in Jira has the email address a@example.org" in str(done.result)


@pytest.mark.parametrize("name", [kind.name for kind in DESKS if kind.desk and kind.desk.spec.webhook])
def test_webhook_is_created_by_its_steps(name: str) -> None:
    sender, double = opened(name)
    sender.set_up_webhook(line(double), NOW, "https://tocsin.example.org/in/abc", "Tocsin")
    assert double.unknown == []
    assert "https://tocsin.example.org/in/abc" in str(double.writes)
    assert "<" not in str(double.writes)
