"""Parsing of mail replies: the sender, the referenced message and the new text."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.alerts.states import CommandKind
from tocsin.notify.inbound import mail_parser
from tocsin.notify.text import signed_links
from tocsin.notify.text.formatting import ParsedCommand, Word

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
ID = UUID("019ab000-0000-7000-8000-000000000042")
TOKEN = signed_links.sign(42, 7, NOW)
LINK = f"https://tocsin.example.org{signed_links.path(TOKEN)}"

QUOTED = """

On Wed, 25 Nov 2026 at 03:01, Tocsin <tocsin@example.org> wrote:

> [P1 Critical] Acme: VPN down (Halo 20817) (Tocsin #42)
> Acknowledge or assign to me: https://tocsin.example.org/a/x
> close
"""
OUTLOOK = """\r
\r
________________________________\r
From: Tocsin <tocsin@example.org>\r
Sent: Wednesday, November 25, 2026 3:01 AM\r
To: Alice\r
Subject: [P1 Critical] VPN down\r
\r
close 42\r
"""
GERMAN = """

Am 25.11.2026 um 03:01 schrieb Tocsin <tocsin@example.org>:
> Acme: VPN down
"""
PHONE = "\n\nSent from my iPhone" + QUOTED


def mail(text: str, **headers: str) -> bytes:
    reference = signed_links.message_id(ID, LINK, 1, "tocsin.example.org")
    known = {"From": "Alice <Alice@example.org>", "To": "alerts@example.org", "Subject": "Re: VPN",
             "Message-ID": "<a@b>", "In-Reply-To": reference, "References": f"<alert-42@x> {reference}"}  # fmt: skip
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {**known, **headers}.items() if value]
    return "\r\n".join([*lines, "", text]).encode()


@pytest.mark.parametrize("tail", ["", QUOTED, OUTLOOK, GERMAN, PHONE], ids=["plain", "gmail", "outlook", "de", "phone"])
def test_new_text_is_separated_from_quotes(tail: str) -> None:
    parsed_reply = mail_parser.parse_reply(mail(f"ack{tail}"))
    assert parsed_reply.text == "ack"
    assert parsed_reply.sender == "alice@example.org"
    assert parsed_reply.automatic is None
    assert signed_links.verify_reference(parsed_reply.references[0].token, NOW) == (42, 7)


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "auto-replied"},
        {"Auto-Submitted": "auto-generated (rejected)"},
        {"Precedence": "bulk"},
        {"Precedence": "auto_reply"},
        {"X-Autoreply": "yes"},
        {"X-Autorespond": "away"},
        {"List-Id": "<team.example.org>"},
        {"Return-Path": "<>"},
        {"From": "MAILER-DAEMON@example.org"},
        {"Subject": "Automatic reply: VPN down"},
        {"Subject": "Abwesend: VPN down"},
        {"Content-Type": 'multipart/report; report-type=delivery-status; boundary="x"'},
    ],
)
def test_automatic_answers_are_known(headers: dict[str, str]) -> None:
    assert mail_parser.parse_reply(mail("ack", **headers)).automatic


def test_explicit_non_automatic_header_is_trusted() -> None:
    assert mail_parser.parse_reply(mail("ack", **{"Auto-Submitted": "no"})).automatic is None


def test_reference_survives_rewritten_ids_and_address_case() -> None:
    address = signed_links.reply_to("Tocsin <alerts@example.org>", LINK)
    assert address.startswith("alerts+")
    assert len(address.partition("@")[0]) <= 64
    headers = {"In-Reply-To": "<other@server>", "References": "", "To": address.upper()}
    parsed_reply = mail_parser.parse_reply(mail("ack", **headers))
    assert [signed_links.verify_reference(reference.token, NOW) for reference in parsed_reply.references] == [(42, 7)]
    assert signed_links.reply_to("alerts@example.org", "https://tocsin.example.org/alerts/42") == "alerts@example.org"
    assert signed_links.message_id(ID, "https://tocsin.example.org/alerts/42", 1, "x") == f"<{ID}@x>"


@pytest.mark.parametrize(
    "hostile", ["\nAm " + "a schrieb " * 2_000, "\nOn " + "a " * 20_000, "\n " * 20_000], ids=["Am", "On", "lines"]
)
def test_slow_parsing_mail_blocks_no_other(hostile: str) -> None:
    """Two thousand letters were enough for half a minute, in which no other thread of the node did anything."""
    started_at = time.process_time()
    text = mail_parser.new_part(f"ack\n{hostile}x\n> close\nclose", seconds=0.3)
    assert text.startswith("ack\n")
    assert "close" not in text
    assert time.process_time() - started_at < 1


def test_subprocess_parses_mail_like_this_process() -> None:
    raw = mail("I look.\n" + QUOTED + "> \n" * 100, Subject="Re: Zürich")
    assert len(raw) > 500
    assert mail_parser.parse_in_subprocess(raw) == mail_parser.parse_reply(raw)
    assert mail_parser.parse_in_subprocess(raw).text == "I look."


@pytest.mark.parametrize(
    ("header", "automatic"),
    [
        (
            "Content-Type: text/plain; " + "a=b;" * 100_000,
            ("It can't be parsed: it takes too much time or memory.", {}),
        ),
        ("From: " + "<(," * 2_000, None),
        ("To: " + "(" * 5_000, None),
    ],
)
def test_unreadable_mail_is_no_reply_and_is_not_retried(header: str, automatic: object) -> None:
    raw = f"{header}\nMessage-ID: <x@y>\n\nack".encode()
    started_at = time.process_time()
    parsed_reply = mail_parser.parse_in_subprocess(raw, seconds=1)
    assert not parsed_reply.sender
    assert parsed_reply.automatic == automatic
    assert parsed_reply.hash
    assert time.process_time() - started_at < 1


def test_of_a_html_mail_the_text_is_read() -> None:
    raw = mail(
        "<div>take&nbsp;</div><br><blockquote>close</blockquote>", **{"Content-Type": "text/html; charset=utf-8"}
    )
    assert mail_parser.parse_reply(raw).text.split("\n")[0].strip() == "take"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ack", ParsedCommand(CommandKind.ACKNOWLEDGE)),
        ("Ack.", ParsedCommand(CommandKind.ACKNOWLEDGE)),
        ("TAKE 43", ParsedCommand(CommandKind.ASSIGN, 43)),
        ("ack 42 43", ParsedCommand(CommandKind.ACKNOWLEDGE, 42, (43,))),
        ("assign", ParsedCommand(CommandKind.ASSIGN)),
        ("close #42\nThe line is back.", ParsedCommand(CommandKind.CLOSE, 42)),
        ("escalate", ParsedCommand(CommandKind.ESCALATE)),
        ("ack all", ParsedCommand(CommandKind.ACKNOWLEDGE, is_all=True)),
        ("7", ParsedCommand(CommandKind.ACKNOWLEDGE)),
        ("help", ParsedCommand(Word.HELP)),
        ("reply 43 On it\nsee you", ParsedCommand(CommandKind.REPLY, 43, text="On it\nsee you")),
        ("Close the window in room 7", ParsedCommand(CommandKind.REPLY, text="Close the window in room 7")),
        ("Take care!", ParsedCommand(CommandKind.REPLY, text="Take care!")),
        ("I am on it.\nack", ParsedCommand(CommandKind.REPLY, text="I am on it.\nack")),
        ("stop", ParsedCommand(CommandKind.REPLY, text="stop")),
        ("", ParsedCommand(CommandKind.REPLY)),
    ],
)
def test_a_word_alone_acts_and_everything_else_is_a_reply(text: str, expected: ParsedCommand) -> None:
    assert mail_parser.parse_command(text) == expected


@pytest.mark.parametrize("filling", [" ", ".", "1 ", "a", " and", "#"])
def test_long_first_line_is_parsed_in_linear_time(filling: str) -> None:
    text = f"ack 1{filling * (mail_parser.MAX_TEXT_CHARS // len(filling))}x"
    started_at = time.process_time()
    assert mail_parser.parse_command(text).action is CommandKind.REPLY
    assert time.process_time() - started_at < 0.5


@examples(60)
@given(st.binary(max_size=300))
def test_no_bytes_stop_the_reader(raw: bytes) -> None:
    for whole in (raw, mail("x") + raw, b"Content-Type: " + raw + b"\r\n\r\nx", b"From: " + raw + b"\r\n\r\nack"):
        parsed_reply = mail_parser.parse_reply(whole)
        assert "\x00" not in f"{parsed_reply.text}{parsed_reply.subject}"
        parsed_reply.text.encode(), parsed_reply.subject.encode()
