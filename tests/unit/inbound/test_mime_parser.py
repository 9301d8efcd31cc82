"""Mails as objects: their content, automatic mails that open nothing, and hostile input."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.inbound import email
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.parsing.decode import elements_of

EMAIL = load_kinds()["email"]


def written(subject: str = "VPN is down", body: str = "Nobody can work.", **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Zoë Desk <zoe@acme.example>"
    made["To"] = "alerts@tocsin.example.org, b@example.org"
    made["Subject"] = subject
    made["Message-ID"] = "<1@acme.example>"
    made["Date"] = "Tue, 24 Nov 2026 02:10:30 +0100"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content(body)
    return made


def test_a_mail_reads_as_an_object() -> None:
    made = written("Grüße aus Zürich")
    made.add_alternative("<p>Nobody can <b>work</b>.</p>", subtype="html")
    made.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename='..\\..\\"screen".png')
    raw = b"X-Tocsin-Attachments: https://t.example/inbound-log/1/attachments/\r\n" + made.as_bytes()
    results = mail.read(raw)
    assert (results["subject"], results["from"], results["from_name"]) == (
        "Grüße aus Zürich",
        "zoe@acme.example",
        "Zoë Desk",
    )
    assert results["to"] == ["alerts@tocsin.example.org", "b@example.org"]
    assert (results["body"], results["date"]) == ("Nobody can work.", "2026-11-24T02:10:30+01:00")
    (attached,) = results["attachments"]  # type: ignore[misc]
    assert attached == {
        "name": "_screen_.png",
        "type": "image/png",
        "size": 4,
        "url": "https://t.example/inbound-log/1/attachments/0",
    }
    assert mail.attachments(raw)[0].content == b"\x89PNG"
    assert "loop" not in results


def test_a_mail_program_may_send_more_style_than_text() -> None:
    style = f"<html><head><style>{'p {}' * 30_000}</style></head><body><p>VPN is down</p></body></html>"
    raw = f"From: a@b.example\nSubject: x\nContent-Type: text/html\n\n{style}".encode()
    assert mail.read(raw)["body"] == "VPN is down"


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_a_subject_in_plain_bytes_is_read_all_the_same(charset: str) -> None:
    raw = "From: Jörg <mon@example.org>\r\nSubject: Störung in Köln\r\n\r\nAlles aus.".encode(charset)
    read = mail.read(raw)
    assert (read["subject"], read["from_name"]) == ("Störung in Köln", "Jörg")


@pytest.mark.parametrize("message", ["", "; charset=us-ascii", "; charset=made-up", "; charset=punycode"])
@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_text_with_missing_or_wrong_charset_is_still_read(charset: str, message: str) -> None:
    head = f"From: mon@example.org\r\nSubject: x\r\nContent-Type: text/plain{message}\r\n\r\n"
    assert mail.read((head + "Störung in Köln").encode(charset))["body"] == "Störung in Köln"


def test_subject_part_with_unknown_charset_is_kept_raw() -> None:
    raw = b"From: a@b.example\r\nSubject: =?utf-8?B?w7xi?= =?made-up?Q?er_voll=FF?=\r\n\r\nx"
    assert mail.read(raw)["subject"] == "über voll\xff"


def test_unknown_text_charset_costs_no_time() -> None:
    raw = b"From: a@b.example\nSubject: x\nContent-Type: text/plain; charset=punycode\n\nabc-" + b"a" * 200_000
    started_at = time.monotonic()
    assert str(mail.read(raw)["body"]).startswith("abc-aaa")
    assert time.monotonic() - started_at < 1.5


def test_html_alone_reads_as_what_a_person_sees() -> None:
    made = written()
    made.set_content("<style>p{}</style><p>One</p><script>x()</script><p>Two</p>", subtype="html")
    assert mail.read(made.as_bytes())["body"] == "One\nTwo"


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto_Submitted": "auto-replied"},
        {"Auto_Submitted": "Auto-Replied; x=y"},
        {"X_Autoreply": "yes"},
        {"Precedence": "auto_reply"},
        {"Return_Path": "<>", "Auto_Submitted": "auto-generated"},
        {"X_Tocsin_Alert": "42"},
        {"subject": "Re: [P2 High] Acme: VPN down (Tocsin #42)"},
    ],
)
def test_what_goes_round_never_opens_an_alert(headers: dict[str, str]) -> None:
    raw = written(**headers).as_bytes()
    assert mail.read(raw)["loop"]
    (element,) = elements_of(EMAIL, raw, mail.MEDIA_TYPE).elements
    event = compile_normalizer(EMAIL, IntegrationDefinition()).normalize(element)
    assert not isinstance(event, Rejected)
    assert not event.check_filters().is_true


def test_a_mail_that_has_gone_round_in_circles_is_recognised() -> None:
    hops = b"".join(b"Received: from a by b; Tue, 24 Nov 2026 02:10:30 +0100\n" for _ in range(mail.MAX_HOPS + 1))
    assert mail.read(hops + written().as_bytes())["loop"] == mail.LoopCause.MAIL_LOOP


@pytest.mark.parametrize("sender", ["MAILER-DAEMON@mx.example.org", "Postmaster <postmaster@mx.example.org>", "<>"])
def test_what_a_mail_server_returns_never_opens_an_alert(sender: str) -> None:
    made = written(Return_Path="<>")
    made.replace_header("From", sender)
    assert mail.read(made.as_bytes())["loop"] == mail.LoopCause.BOUNCE


@pytest.mark.parametrize("headers", [{"Auto_Submitted": "auto-generated"}, {"Return_Path": "<>"}])
def test_monitor_mail_suppressing_replies_still_opens_alert(headers: dict[str, str]) -> None:
    assert "loop" not in mail.read(written(**headers).as_bytes())


def test_too_large_mail_is_kept_without_attachments() -> None:
    made = written()
    made.add_attachment(b"x" * 6_000_000, maintype="application", subtype="zip", filename="logs.zip")
    raw = made.as_bytes()
    small = mail.without_attachments(raw)
    assert len(small) < 5_000 < mail.MAX_STORED_BYTES < len(raw)
    results = mail.read(small)
    assert results["body"] == "Nobody can work."
    assert b"Left out by Tocsin" in mail.attachments(small)[0].content


HEAD = b"From: a@b.example\nSubject: x\nMIME-Version: 1.0\n"


def nested(depth: int) -> bytes:
    inner = b"Content-Type: text/plain\n\nx\n"
    for n in range(depth):
        inner = b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n%s\n--%d--\n' % (n, n, inner, n)
    return HEAD + inner


@pytest.mark.parametrize(
    "raw",
    [
        nested(2000),
        nested(19) + b"\n" * 3_000_000,
        HEAD + b"Content-Type: message/rfc822\n\n" * 50_000,
        HEAD + b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\n" * 150_000 + b"--b--\n",
        HEAD + b"Content-Type: text/plain; charset=made-up\n\n" + b"\xff" * 100,
        HEAD + b"Content-Transfer-Encoding: base64\n\n" + b"!" * 4_000_000,
        HEAD + b"Content-Type: text/html\n\n" + b"<p" * 1_000_000,
        HEAD + b"Content-Type: text/html\n\n" + b"<script>" * 300_000,
        HEAD + b"Subject: " + b"=?utf-8?q?" * 100_000 + b"\n\nx",
        b"From: " + b"<(," * 1_000_000 + b"\n\nx",
        b"A: b\n" * 199_000 + b"\nx",
        b"Received: x\n " * 150_000 + b"\nx",
        b"\x00" * 1_000_000,
        b"",
        b":" * 1_000_000,
    ],
    ids=range(15),
)
def test_hostile_mail_quickly_yields_object_or_error(raw: bytes) -> None:
    started_at = time.process_time()
    try:
        elements = elements_of(EMAIL, raw, mail.MEDIA_TYPE).elements
    except Rejected as refused:
        problem: Rejected | None = refused
    else:
        problem = None
        assert len(str(elements[0].payload)) < 1_500_000
        mail.attachments(raw)
    assert problem is None or (problem.code == "invalid_mail" and len(problem.detail) < 200)
    assert time.process_time() - started_at < 4


@pytest.mark.parametrize("name", ["Subject", "From", "To", "Cc", "Message-ID", "Reply-To"])
def test_malformed_base64_header_is_read_literally(name: str) -> None:
    """Five characters are no base64: Python's parser raises an error of its own for them, and did not take the mail."""
    nonsense = "=?utf-8?b?abcde?="
    raw = f"{name}: {nonsense} <a@b.example>\nX: y\n\nIt burns.\n".encode()
    results = mail.read(raw)
    assert results["body"] == "It burns."
    assert nonsense in str(results)


def test_attachment_with_malformed_name_is_still_an_attachment() -> None:
    part = b'Content-Type: application/pdf\nContent-Disposition: attachment; filename="=?utf-8?b?abcde?="\n\nx\n'
    raw = HEAD + b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n' + part + b"--b--\n"
    assert mail.attachments(raw)[0].name == "=_utf-8_b_abcde_="


_PIECES = st.sampled_from(
    ["=?utf-8?b?", "=?x-none?q?", "?=", "abcde", "=", "=?", "é", "\udcff", ";", "*0*=", "''%E4", '"', "<", ">", "@",
     ",", "(", ":", " ", "\t", "name", "charset", "filename", "boundary=b", "text/plain", "multipart/mixed"]
)  # fmt: skip
_NAMES = st.sampled_from(
    ["Subject", "From", "To", "Cc", "Date", "Message-ID", "Content-Type", "Content-Disposition", "Received",
     "Content-Transfer-Encoding", "Auto-Submitted", "X-Tocsin-Attachments"]
)  # fmt: skip


@examples(200)
@given(st.lists(st.tuples(_NAMES, st.lists(_PIECES, max_size=12).map("".join)), max_size=8))
def test_any_headers_yield_object_or_error(headers: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\n" for name, value in headers)
    raw = f"{lines}\n--b\n{lines}\nx\n--b--\n".encode("utf-8", "surrogateescape")
    for take in (mail.read, mail.attachments, mail.without_attachments):
        with suppress(Rejected):
            str(take(raw)).encode()


@examples(150)
@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 600))
def test_any_bytes_yield_object_or_error(head: bytes, tail: bytes, at: int) -> None:
    whole = written().as_bytes()
    for raw in (head + b"\n\n" + tail, whole[:at] + head + whole[at:]):
        try:
            results = mail.read(raw)
        except Rejected:
            continue
        assert isinstance(results["subject"], str)
        str(results).encode()


NAGIOS = """***** Nagios *****

Service: HTTP
Host: web1
Address: 192.0.2.10
State: CRITICAL"""


def mapped(**mapping: object) -> dict[str, object]:
    raw = written("[Acme] PROBLEM web1", NAGIOS).as_bytes()
    reader = compile_normalizer(EMAIL, IntegrationDefinition(mapping=mapping))
    (element,) = elements_of(EMAIL, raw, mail.MEDIA_TYPE).elements
    event = reader.normalize(element)
    assert not isinstance(event, Rejected)
    return {name: event.mapped.values.get(name) for name in mapping}


def test_a_value_stands_between_two_marks() -> None:
    assert mapped(source_id={"path": "body", "between": ["Host:", "Address:"]})["source_id"] == "web1"
    assert mapped(client={"path": "subject", "between": ["[", "]"]})["client"] == "Acme"
    assert mapped(site={"path": "body", "between": ["Address:"]})["site"] == "192.0.2.10"
    assert mapped(site={"path": "body", "between": "Address:"})["site"] == "192.0.2.10"
    assert mapped(client={"path": "subject", "between": ["<", ">"]})["client"] is None
    assert mapped(client={"path": "subject", "between": ["[", "never"]})["client"] is None


def test_a_value_is_a_named_group_of_a_pattern() -> None:
    pattern = r"\[(?P<client>[^\]]+)\]\s+(\w+)"
    assert mapped(client={"path": "subject", "pattern": pattern, "group": "client"})["client"] == "Acme"
    assert mapped(client={"path": "subject", "pattern": pattern})["client"] == "Acme"
    assert mapped(event={"path": "subject", "pattern": pattern, "group": 2})["event"] == "PROBLEM"
    assert mapped(event={"path": "subject", "pattern": r"P[A-Z]+"})["event"] == "PROBLEM"
    status = {"path": "body", "pattern": r"(?m)^State: (\w+)$", "map": {"CRITICAL": "down"}}
    assert mapped(source_status=status)["source_status"] == "down"


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "body", "between": []},
        {"path": "body", "between": ["", "x"]},
        {"path": "body", "between": ["a", "b", "c"]},
        {"path": "body", "between": 7},
        {"path": "body", "pattern": "(", "group": 1},
        {"path": "body", "pattern": "x", "group": "name"},
        {"path": "body", "pattern": "x", "group": 1},
        {"path": "body", "pattern": 7},
        {"path": "body", "group": 1},
        {"path": "body", "pattern": "x", "between": ["a"]},
    ],
)
def test_undecodable_part_is_rejected_at_its_position(entry: dict[str, object]) -> None:
    with pytest.raises(Rejected) as caught:
        mapped(client=entry)
    assert str(caught.value.field).startswith("mapping.client")


def test_no_pattern_takes_more_than_its_time() -> None:
    reader = compile_normalizer(
        EMAIL, IntegrationDefinition(mapping={"client": {"path": "body", "pattern": "(a*)*b|(x+x+)+y"}})
    )
    raw = written(body="a" * 180_000 + "x" * 19_000).as_bytes()
    (element,) = elements_of(EMAIL, raw, mail.MEDIA_TYPE).elements
    started_at = time.process_time()
    reader.normalize(element)
    assert time.process_time() - started_at < 2


def test_mail_beyond_each_limit_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = written(body="Nobody can work. " * 20).as_bytes()
    monkeypatch.setattr(mail, "MAX_STORED_BYTES", 100)
    with pytest.raises(Rejected) as rejected:
        email.add_received_headers(raw, UUID(int=1), "from a test", datetime(2026, 11, 24, tzinfo=UTC))
    assert rejected.value.reason.code == "The email is too large, even without its attachments."
    monkeypatch.setattr(mail, "MAX_BYTES", 100)
    with pytest.raises(Rejected) as rejected:
        mail.read(raw)
    assert codes_in(rejected.value.reason) >= {"mail.too_large"}


def test_mail_that_the_parser_cannot_take_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(raw: bytes) -> None:
        raise RecursionError

    monkeypatch.setattr(mail, "_parsed", broken)
    with pytest.raises(Rejected) as rejected:
        mail.read(b"Subject: yes")
    assert codes_in(rejected.value.reason) >= {"mail.unparsable"}


def codes_in(reason: Reason) -> set[str]:
    return {reason.code, *(value.code for _name, value in reason.params if isinstance(value, Reason))}
