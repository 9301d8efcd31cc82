"""Chat and push service URLs: which are accepted, and what they receive."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from tests.doubles.http import HttpDouble, Response, http_double
from tests.support.notification_messages import EXTREME, every_purpose, page
from tocsin.core.config import crypto, environment
from tocsin.core.delivery.circuit_breaker import AddressRejected
from tocsin.core.errors import Rejected, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.notify.channels import chat
from tocsin.notify.channels.chat import ChatChannel, PushChannel
from tocsin.notify.integrations import apprise
from tocsin.notify.integrations.apprise import ChatServicesSender, fit_text, through_client
from tocsin.notify.interfaces import ProviderAccount
from tocsin.people import addresses

TOKEN = "AbcdefghijKLMNO"
KEY = "0192f0c1-0000-7000-8000-000000000042"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpDouble]:
    changed = replace(environment.current(), allow_targets=(ip_network("127.0.0.0/8"),))
    monkeypatch.setattr(environment, "current", lambda: changed)
    with http_double() as double:
        yield double


def gotify(server: HttpDouble) -> str:
    return ChatChannel().normalize_address(f"gotify://127.0.0.1:{server.port}/{TOKEN}")


def send(address: str, **changes: Any) -> None:
    sender = ChatServicesSender(ProviderAccount(""))
    try:
        sender.send(ChatChannel().render(replace(page(), **changes)), "chat", address, KEY)
    finally:
        sender.close()


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "Slack"),
        ("https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "Discord"),
        ("https://chat.googleapis.com/v1/spaces/AAAA/messages?key=kkkkkk&token=tttttt", "Google Chat"),
        ("gotify://push.example.org/AbcdefghijKLMNO", "Gotify"),
        ("pover://u12345678901234567890123456789@a1234567890123456789012345678901", "Pushover"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "Telegram"),
        ("mmosts://mattermost.example.org/3ccdd113474722377935511fc85d3dd4", "Mattermost"),
        ("matrixs://ann:password@matrix.example.org/%23general", "Matrix"),
    ],
)
def test_the_services_people_use_are_known_by_their_address(url: str, label: str) -> None:
    assert chat.service(url).label.startswith(label)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/not-a-service", "exec://ls", "file:///etc/passwd", "syslog://", "rsyslog://10.0.0.1",
        "mailto://user:pass@example.org", "dbus://", "windows://", "macosx://", "xmpp://user:pass@host", "irc://host/#a",
        "mqtt://host/topic", "aprs://user:pass@KO4ABC", "nostr://nsec@relay", "fcm://project@apikey/device",
        "fcm://project/device?keyfile=/etc/passwd", "vapid://ann@example.org/x?subfile=/etc/passwd",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?template=/etc/passwd",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?Template=file:///etc/passwd", "gotify://", "x\ny://z",
        "gotify://push.example.org/" + "A" * 400,
    ],
)  # fmt: skip
def test_service_needing_programs_files_or_other_protocols_is_rejected(url: str) -> None:
    for channel in (ChatChannel(), PushChannel()):
        if channel.name == "push" and url.startswith("https://"):
            continue
        with pytest.raises(Rejected) as caught:
            channel.normalize_address(url)
        assert "passwd" not in str(caught.value)
        assert "JHMHI8q" not in str(caught.value)


def test_address_is_sealed_deterministically_and_displayed_by_service() -> None:
    url = f"gotify://push.example.org/{TOKEN}"
    address = ChatChannel().normalize_address(url)
    assert (
        address
        == ChatChannel().normalize_address(url)
        == ChatChannel().normalize_address(address)
        == PushChannel().normalize_address(url)
    )
    assert TOKEN not in address
    assert addresses.decrypt_address(address) == url
    assert addresses.mask("chat", address) == addresses.display_form(address) == "gotify://•••"
    assert addresses.restore_masked("gotify://•••", address) == address
    assert addresses.restore_masked("telegram:12345", address) == "telegram:12345"
    with pytest.raises(Rejected):
        addresses.restore_masked("slack://•••", address)
    with pytest.raises(Rejected, match="secret keys"):
        ChatChannel().normalize_address(f"sealed:gotify:{crypto.encrypt_deterministically('x')[:-4]}AAAA")


def test_a_page_leaves_through_tocsins_own_connections_with_its_link(server: HttpDouble) -> None:
    send(gotify(server))
    (request,) = server.requests
    assert request.path.startswith("/message")
    assert request.headers["idempotency-key"] == KEY
    body = json.loads(request.body)
    assert body["title"] == "🔴 P1 Critical: Acme: VPN down"
    assert "https://tocsin.example.org/a/" in body["message"]


def test_every_message_is_accepted_regardless_of_content(server: HttpDouble) -> None:
    address, sender = gotify(server), ChatServicesSender(ProviderAccount(""))
    messages = [message for text in EXTREME.values() for message in every_purpose(text)]
    for message in messages:
        sender.send(ChatChannel().render(message), "chat", address, KEY)
    assert len(server.requests) == len(messages)


@pytest.mark.parametrize(
    "url",
    [
        "tgram://123456789:abcdefg_hijklmnop/12315544",
        "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
        "mmosts://mattermost.example.org/3ccdd113474722377935511fc85d3dd4",
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    ],
)
def test_ticket_text_is_escaped_and_mentions_no_user(url: str) -> None:
    """Telegram's messages lost what stood between < and >, and all that came after <script>."""
    shown_text = "<db01> <script>alert</script> @everyone @here @channel @all <!channel> <@4711>, ann@all.example"
    rendered = ChatChannel().render(
        replace(page(), alerts=(replace(page().alerts[0], subject=shown_text, short_text=""),))
    )
    sent: list[bytes] = []

    class Recording(HttpClient):
        def request(self, method: str, url: str, *, content: bytes = b"", **_more: Any) -> EgressResponse:
            sent.append(content)
            return EgressResponse(200, {}, b"ok")

    with through_client(Recording(), KEY) as request_log:
        apprise._notify(chat.open_plugin(url), rendered, request_log, "Service")
    text = html.unescape(str(json.loads(sent[-1])))
    for word in ("db01>", "script>", "alert", "everyone", "ann@all.example", "Open the ticket"):
        assert word in text, word
    for call in ("@everyone", "@here", "@channel", "@all ", "<!channel", "<@4711"):
        assert call not in text, call


def test_a_short_limit_cuts_the_text_and_never_the_link() -> None:
    rendered = ChatChannel().render(replace(page(), alerts=(replace(page().alerts[0], short_text="x " * 2000),)))
    for title, body in ((250, 1000), (0, 2000)):
        text, shown_text = fit_text(rendered, title, body)
        assert len(shown_text) + (0 if title else len(text)) <= body
        assert rendered.buttons[0].url in shown_text
        assert "VPN down" in text
    # The address of a ticket may have two thousand characters, as many as a message of Discord's.
    far = ChatChannel().render(page(source_url=f"https://acme.haloitsm.com/ticket?id={'9' * 1900}"))
    assert "40 users" in fit_text(far, 0, 2000)[1]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(503), Temporary),
        (Response(429, headers={"Retry-After": "7"}), Temporary),
        # Each address has an account of its own: what is wrong with one says nothing against the others.
        (Response(401, b'{"errorDescription": "you need to provide a valid token AbcdefghijKLMNO"}'), AddressRejected),
        (Response(400, b"<html>AbcdefghijKLMNO</html>"), AddressRejected),
        (Response(302, headers={"Location": "http://127.0.0.1:1/"}), AddressRejected),
        (Response(hangs_up=True), OutcomeUnknown),
    ],
)
def test_what_a_service_answers_decides_and_no_secret_is_repeated(
    server: HttpDouble, answer: Response, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.answering = lambda _request: answer
    with pytest.raises(error) as caught:
        send(gotify(server))
    assert isinstance(caught.value, OutcomeUnknown) == (error is OutcomeUnknown)
    assert len(server.requests) == 1, "no redirect is followed"
    assert TOKEN not in f"{caught.value} {caught.value!r}"
    assert TOKEN not in caplog.text


def test_unexpected_response_is_retried_and_repeats_no_secret(server: HttpDouble) -> None:
    """Emby's plugin breaks on sessions that are a list of texts."""
    signed_in = b'{"AccessToken": "t", "User": {"Id": "u"}}'
    server.answering = lambda request: Response(200, b'["x"]' if request.method == "GET" else signed_in)
    with pytest.raises(OutcomeUnknown) as caught:
        send(ChatChannel().normalize_address(f"emby://ann:{TOKEN}@127.0.0.1:{server.port}"))
    assert caught.value.reason.code == "provider.chat_unexpected_response"
    assert TOKEN not in str(caught.value)


def test_private_address_is_rejected_without_affecting_other_threads(
    server: HttpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    address = gotify(server)
    strict = replace(environment.current(), allow_targets=())
    monkeypatch.setattr(environment, "current", lambda: strict)
    with pytest.raises(egress.EgressBlocked):
        send(address)
    assert server.requests == []
    assert requests.get(server.url, timeout=5).status_code == 200
