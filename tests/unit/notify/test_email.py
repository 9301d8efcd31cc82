"""Mails: parts, headers, threads and SMTP delivery."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.certificates import Certificate, make_certificate
from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.notification_messages import ALERT, bundle, page
from tocsin.core.config import environment
from tocsin.core.delivery.circuit_breaker import AddressRejected, NoSuchAddress
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress
from tocsin.notify.channels.email import EmailChannel
from tocsin.notify.integrations import smtp
from tocsin.notify.integrations.smtp import SmtpKind, SmtpSender, account_of_url
from tocsin.notify.interfaces import Message, ProviderAccount, Rendered
from tocsin.notify.states import Purpose

CHANNEL = EmailChannel()


@pytest.fixture
def server() -> Iterator[SmtpDouble]:
    with smtp_double() as double:
        yield double


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    made = make_certificate(tmp_path)
    monkeypatch.setattr(egress, "tls_context", made.client)
    return made


def send(server: SmtpDouble, *messages: Message, **settings: Any) -> SmtpSender:
    url = settings.pop("url", server.url)
    account = account_of_url("Mail", url, settings.pop("sender", "Tocsin <tocsin@example.org>"))
    sender = SmtpSender(replace(account, settings={**account.settings, **settings}))
    for message in messages:
        sender.send(CHANNEL.render(message), "email", "alice@example.org", str(message.notification_id))
    return sender


def test_long_word_fits_phone_width_and_text_keeps_its_direction() -> None:
    html = CHANNEL.render(page(subject="host." * 30)).html
    assert "overflow-wrap:anywhere" in html.partition("<h1")[0], "around everything"
    assert '<h1 dir="auto"' in html


@pytest.mark.parametrize("purpose", [Purpose.PAGE, Purpose.ALL_CLEAR])
def test_what_a_mail_does_not_name_is_one_tap_away(purpose: Purpose) -> None:
    home = "https://tocsin.example.org/alerts"
    alerts = (ALERT, replace(ALERT, id=43))
    mail = CHANNEL.render(replace(page(), purpose=purpose, alerts=alerts, omitted_count=4, home_url=home))
    assert re.search(f'<a href="{home}"[^>]*>And 4 more</a>', mail.html)
    assert f"And 4 more: {home}" in mail.text


def test_address_on_its_own_line_becomes_a_link() -> None:
    address = "https://tocsin.example.org/alerts/42"
    mail = CHANNEL.render(replace(page(), purpose=Purpose.NOTICE, alerts=(), text=f"Nobody answered.\n{address}"))
    assert f'<a href="{address}"' in mail.html
    assert "<a" not in CHANNEL.render(replace(page(), purpose=Purpose.NOTICE, alerts=(), text=f"See {address}")).html


@pytest.mark.parametrize("purpose", list(Purpose))
def test_only_answer_links_are_marked_as_personal(purpose: Purpose) -> None:
    mail = CHANNEL.render(replace(page(), purpose=purpose))
    assert ("links are personal" in mail.text) == (purpose in (Purpose.PAGE, Purpose.ACK_REMINDER))


def test_mail_has_equivalent_plain_and_html_parts(server: SmtpDouble) -> None:
    send(server, page()).close()
    (mail,) = server.mails
    for kind in ("plain", "html"):
        text = mail.part(kind)
        for expected in ("Acme: VPN down", "Halo 20817", "Rita Requester", "Nobody can work.", ALERT.link,
                         "24 November 2026, 10:15 CET", "Alice is primary of Service Desk."):  # fmt: skip
            assert expected in text, (kind, expected)
    assert 'href="https://acme.haloitsm.com/ticket?id=20817"' in mail.part("html")
    assert 'href="tel:%2B41440000000"' in mail.part("html")


def test_mail_is_marked_automatic_and_references_its_alert(server: SmtpDouble) -> None:
    send(server, page()).close()
    mail = server.mails[0].message
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Tocsin-Alert"] == "42"
    assert mail["X-Tocsin-Purpose"] == "page"
    assert parseaddr(str(mail["From"])) == ("Tocsin", "tocsin@example.org")
    assert mail["To"] == "alice@example.org"
    assert mail["Date"] is not None
    assert mail["Importance"] == "high"


def test_all_mails_about_an_alert_are_one_thread(server: SmtpDouble) -> None:
    from uuid import UUID

    later = replace(page(all_clear_text="Taken by Bob."), purpose=Purpose.ALL_CLEAR, notification_id=UUID(int=7))
    send(server, page(), later).close()
    first, second = (mail.message for mail in server.mails)
    assert first["References"] == second["References"] == "<alert-42@tocsin.example.org>"
    assert first["In-Reply-To"] == second["In-Reply-To"] == first["References"]
    assert first["Message-ID"] != second["Message-ID"]
    assert first["Subject"] == second["Subject"]


def test_the_same_notification_has_the_same_message_id_each_time(server: SmtpDouble) -> None:
    send(server, page(), page()).close()
    assert len({mail.message["Message-ID"] for mail in server.mails}) == 1


def test_markup_of_a_source_does_no_harm() -> None:
    bad = (
        '<p onclick="x()">Hello <b>world</b></p><script>steal()</script><style>*{}</style>'
        '<img src="https://spy.example/pixel"><a href="javascript:x()">here</a><iframe src="//x"></iframe>'
        '<form action="/x"><input name=q></form><a href="https://ok.example/">there</a>'
    )
    made = CHANNEL.render(page(long_text=bad, subject="<b>VPN</b> & co"))
    assert "<b>world</b>" in made.html
    assert "https://ok.example/" in made.html
    for harm in ("script", "onclick", "<style>*", "spy.example", "javascript:", "iframe", "<form", "<input", "steal"):
        assert harm not in made.html, harm
    assert "&lt;b&gt;VPN&lt;/b&gt; &amp; co" in made.html
    assert "Hello world" in made.text
    assert "steal" not in made.text


def test_a_javascript_address_of_a_ticket_is_not_a_link() -> None:
    made = CHANNEL.render(page(source_url="javascript:alert(1)"))
    assert "javascript:" not in f"{made.html}{made.text}"


def test_plain_details_keep_their_lines() -> None:
    made = CHANNEL.render(page(long_text="First line\nSecond < third"))
    assert "First line\nSecond < third" in made.text
    assert "First line<br>\nSecond &lt; third" in made.html


def test_a_bundle_shows_each_alert_with_its_own_link() -> None:
    message = bundle(3)
    alerts = tuple(replace(alert, link=f"https://tocsin.example.org/a/{alert.id}") for alert in message.alerts)
    made = CHANNEL.render(replace(message, alerts=alerts))
    for number in (42, 43, 44):
        assert f"#{number} " in made.text
        assert f"https://tocsin.example.org/a/{number}" in made.text
        assert f'href="https://tocsin.example.org/a/{number}"' in made.html
    assert made.headers["X-Tocsin-Alert"] == "42, 43, 44"


def test_a_notice_is_its_text_and_nothing_else() -> None:
    message = replace(page(), purpose=Purpose.NOTICE, alerts=(), title="Nobody answered", text="One.\nTwo.")
    made = CHANNEL.render(message)
    assert made.subject == "[Tocsin] Nobody answered"
    assert made.text.startswith("One.\nTwo.")
    assert "X-Tocsin-Alert" not in made.headers


def test_very_long_lines_and_dots_arrive_as_they_were(server: SmtpDouble) -> None:
    text = f"{'x' * 5000}\n.\n..\n.dotted\nend"
    message = replace(page(), purpose=Purpose.NOTICE, alerts=(), title="Dots", text=text)
    send(server, message).close()
    (mail,) = server.mails
    assert "x" * 5000 in mail.part("plain")
    assert "\n.\n..\n.dotted\nend" in mail.part("plain").replace("\r\n", "\n")
    assert max(len(line) for line in mail.raw.splitlines()) < 998


def test_a_subject_in_any_script_arrives_whole(server: SmtpDouble) -> None:
    send(server, page(subject="Сервер 服务器 🔥 ausgefallen äöü")).close()
    assert server.subjects == ["[P1 Critical] Acme: Сервер 服务器 🔥 ausgefallen äöü (Halo 20817) (Tocsin #42)"]


def test_a_text_that_tries_to_add_headers_adds_none(server: SmtpDouble) -> None:
    evil = "VPN\r\nBcc: evil@example.org\r\n\r\n.\r\nMAIL FROM:<x@example.org>"
    send(server, page(subject=evil, client=evil, source_id=evil, requester=evil)).close()
    (mail,) = server.mails
    assert mail.message["Bcc"] is None
    assert mail.to == "alice@example.org"


@pytest.mark.parametrize(
    "bad", ["", "alice", "@example.org", "alice@", "a b@example.org", "a@b@example.org", "a@exa_mple.org",
            "alice@example.org\r\nRCPT TO:<x@example.org>", "<alice@example.org>", "a" * 65 + "@example.org",
            "alice@" + "x" * 250 + ".org", "älice@example.org", "alice@-example.org", "alice@example..org"],
)  # fmt: skip
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(Rejected) as caught:
        CHANNEL.normalize_address(bad)
    assert caught.value.code == "invalid_address"


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (" alice@example.org ", "alice@example.org"),
        ("o'brien+pager@sub.example.org", "o'brien+pager@sub.example.org"),
        ("alice@bücher.example", "alice@xn--bcher-kva.example"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_mail_address_is_normalized(written: str, normal: str) -> None:
    assert CHANNEL.normalize_address(written) == normal


def test_mail_without_id_gets_one_from_its_key(server: SmtpDouble) -> None:
    sender = send(server)
    sender.send(Rendered("Invitation", "Come in."), "email", "alice@example.org", "a-key")
    sender.close()
    assert server.mails[0].message["Message-ID"] == "<a-key@example.org>"


# The way to the server


def test_one_connection_carries_several_mails(server: SmtpDouble) -> None:
    send(server, *[page()] * 5).close()
    assert len(server.mails) == 5
    assert server.connections == 1


def test_connection_closed_by_server_is_replaced_without_failure(server: SmtpDouble) -> None:
    sender = send(server, page())
    (idle,) = sender._idle
    assert idle.sock is not None
    idle.sock.shutdown(socket.SHUT_RDWR)
    sender.send(CHANNEL.render(page()), "email", "alice@example.org", "key")
    sender.close()
    assert len(server.mails) == 2
    assert server.connections == 2


def test_an_old_connection_is_not_used_again(server: SmtpDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "MAX_IDLE_SECONDS", -1.0)
    send(server, page(), page()).close()
    assert server.connections == 2


def test_a_refused_recipient_leaves_the_connection_usable(server: SmtpDouble) -> None:
    sender = send(server)
    server.answer_recipients.append("550 5.1.1 no such mailbox")
    with pytest.raises(AddressRejected, match=r"127.0.0.1 replied: 550 5.1.1 no such mailbox\."):
        sender.send(CHANNEL.render(page()), "email", "alice@example.org", "key")
    sender.send(CHANNEL.render(page()), "email", "alice@example.org", "key")
    sender.close()
    assert (len(server.mails), server.connections) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("550 no such user here", NoSuchAddress),
        ("550 <alice@example.org>: user unknown", NoSuchAddress),
        ("553 5.1.3 bad address", NoSuchAddress),
        ("550 5.2.1 mailbox disabled", AddressRejected),
        ("550 5.1.8 <t@example.org>: sender address rejected: domain not found", Permanent),
        ("550 sender rejected: user unknown", Permanent),
        ("550 not permitted", Permanent),
        ("550 relaying denied", Permanent),
        ("550 5.7.1 relaying denied", Permanent),
        ("530 5.7.0 sign in first", Permanent),
        ("452 4.2.2 mailbox full", Temporary),
    ],
)
def test_missing_mailbox_is_no_server_failure(server: SmtpDouble, answer: str, error: type[Exception]) -> None:
    server.answer_recipients.append(answer)
    with pytest.raises(error) as caught:
        send(server, page())
    assert type(caught.value) is error


def test_goodbye_on_kept_connection_is_replaced_without_failure(server: SmtpDouble) -> None:
    """RFC 5321, 3.8: a server that was idle for too long says 421 and closes."""
    sender = send(server, page())
    server.answer_recipients.append("421 4.4.2 idle for too long")
    sender.send(CHANNEL.render(page()), "email", "alice@example.org", "key")
    sender.close()
    assert (len(server.mails), server.connections) == (2, 2)


def test_server_rejecting_every_recipient_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"554 5.3.2 not today\r\n")
                connection.recv(100)

        thread = threading.Thread(target=refuse)
        thread.start()
        account = account_of_url("Mail", f"smtp://127.0.0.1:{listener.getsockname()[1]}", "t@example.org")
        with pytest.raises(Temporary, match=r"accepts no connections for now: 554 5\.3\.2 not today"):
            SmtpSender(account).verify()
        thread.join()


@pytest.mark.parametrize(("deadline", "line"), [(0.5, b""), (60.0, b"220-and so on\r\n" * 500)])
def test_endless_server_response_ends_at_deadline(
    monkeypatch: pytest.MonkeyPatch, deadline: float, line: bytes
) -> None:
    monkeypatch.setattr(smtp, "DEADLINE", deadline)
    is_over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                while not is_over.wait(0 if line else 0.1):
                    connection.sendall(line or b"220-hm\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        account = account_of_url("Mail", f"smtp://127.0.0.1:{listener.getsockname()[1]}", "t@example.org")
        with pytest.raises(Temporary, match="does not respond"):
            SmtpSender(account).verify()
        is_over.set()
        thread.join()


def test_encryption_is_used_where_the_server_offers_it(certificate: Certificate) -> None:
    with smtp_double(starttls=certificate.server, login=("tocsin", "p@ss:word")) as server:
        url = f"smtp://tocsin:p%40ss%3Aword@localhost:{server.port}"
        sender = send(server, page(), url=url)
        assert str(sender.verify()).endswith(" Signed in as tocsin.")
        sender.close()
        assert [(mail.is_encrypted, mail.user) for mail in server.mails] == [(True, "tocsin")]


def test_unencodable_password_is_reported(server: SmtpDouble) -> None:
    with smtp_double(login=("tocsin", "x")) as wants_login:
        sender = send(server, url=f"smtp://tocsin:p%C3%A4ss@127.0.0.1:{wants_login.port}")
        with pytest.raises(Permanent, match="ASCII"):
            sender.verify()
        sender.close()


def test_encryption_from_the_start(certificate: Certificate) -> None:
    with smtp_double(tls=certificate.server) as server:
        sender = send(server, page(), url=f"smtps://localhost:{server.port}")
        assert sender.verify()["tls"] == "TLSv1.3"
        sender.close()
        assert len(server.mails) == 1


def test_untrusted_certificate_is_rejected(tmp_path: Path) -> None:
    unknown = make_certificate(tmp_path)
    with smtp_double(starttls=unknown.server) as server:
        sender = send(server, url=f"smtp://localhost:{server.port}")
        with pytest.raises(Temporary, match="The certificate of localhost is not valid"):
            sender.send(CHANNEL.render(page()), "email", "alice@example.org", "key")
        sender.close()
        assert server.mails == []


def test_a_certificate_for_another_name_is_refused(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: original("127.0.0.1", *a, **k))
    with smtp_double(starttls=certificate.server) as server:
        sender = send(server, url=f"smtp://mail.example.org:{server.port}")
        with pytest.raises(Temporary, match=r"certificate of mail\.example\.org"):
            sender.verify()
        sender.close()


def test_where_encryption_is_demanded_a_server_without_it_is_refused(server: SmtpDouble) -> None:
    sender = send(server, security="starttls")
    with pytest.raises(Permanent, match="does not offer STARTTLS"):
        sender.send(CHANNEL.render(page()), "email", "alice@example.org", "key")
    sender.close()


def test_a_password_does_not_cross_the_internet_in_the_clear(
    server: SmtpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket.getpeername
    monkeypatch.setattr(socket.socket, "getpeername", lambda self: ("93.184.216.34", real(self)[1]))
    sender = send(server, url=f"smtp://tocsin:secret@127.0.0.1:{server.port}")
    with pytest.raises(Permanent, match="the password was not sent"):
        sender.verify()
    sender.close()


def test_a_sender_without_a_name_is_called_tocsin(server: SmtpDouble) -> None:
    send(server, page(), sender="pager@example.org").close()
    assert parseaddr(str(server.mails[0].message["From"])) == ("Tocsin", "pager@example.org")
    assert server.mails[0].sender == "pager@example.org"


def test_the_kind_needs_no_more_than_a_host() -> None:
    sender = SmtpKind().open(ProviderAccount("Mail", {"host": "mail.example.org"}))
    assert isinstance(sender, SmtpSender)
    assert re.search(r"port=587", repr(sender._server))
    assert environment.current() is not None


def test_lines_with_tabs_are_rows_of_a_table() -> None:
    text = "Mon to Tue:\tAlice\t(primary)\nTue to Wed:\tBob <b>\t(primary)\nTimes are in UTC."
    rendered = EmailChannel().render(replace(page(), purpose=Purpose.NOTICE, alerts=(), title="Week", text=text))
    assert rendered.html.count("<table") == 1
    assert rendered.html.count("<tr>") == 2
    assert "Bob &lt;b&gt;</td>" in rendered.html
    assert "Times are in UTC.</p>" in rendered.html
    assert "Mon to Tue:\tAlice\t(primary)" in rendered.text
