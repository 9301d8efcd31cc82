"""Push messages to an ntfy server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.doubles.http import Response
from tests.doubles.ntfy import NtfyDouble, ntfy_double
from tests.support.notification_messages import ALERT, page
from tocsin.alerts.states import Priority
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.notify.integrations.ntfy import NtfyChannel, NtfySender, split
from tocsin.notify.interfaces import Message, ProviderAccount
from tocsin.notify.states import Purpose

CHANNEL = NtfyChannel()


@pytest.fixture
def server() -> Iterator[NtfyDouble]:
    with ntfy_double() as double:
        yield double


def sender(server: NtfyDouble, token: str = "") -> NtfySender:
    return NtfySender(
        ProviderAccount("ntfy", {"api_base": server.url}, {"token": token} if token else {}, is_trusted=True)
    )


def push(server: NtfyDouble, message: Message, address: str = "alice-topic", token: str = "") -> None:
    made = sender(server, token)
    made.send(CHANNEL.render(message), "ntfy", address, str(message.notification_id))
    made.close()


def test_page_is_high_priority_and_buttons_only_open_pages(server: NtfyDouble) -> None:
    push(server, page())
    (message,) = server.messages
    assert message["topic"] == "alice-topic"
    assert message["title"] == "🔴 P1 Critical: Acme: VPN down"
    assert message["message"].startswith("VPN down, 40 users\nHalo 20817, Rita Requester\nNobody can work.\n#42")
    assert message["priority"] == 5
    assert message["click"] == ALERT.link
    assert message["actions"] == [
        {"action": "view", "label": "Acknowledge or assign to me", "url": ALERT.link},
        {"action": "view", "label": "Open the ticket", "url": ALERT.source_url},
    ]


@pytest.mark.parametrize(
    ("priority", "loudness"),
    [(Priority.CRITICAL, 5), (Priority.HIGH, 4), (Priority.MEDIUM, 3), (Priority.LOW, 2)],
)
def test_a_push_is_as_loud_as_its_alert(server: NtfyDouble, priority: Priority, loudness: int) -> None:
    push(server, page(priority=priority))
    assert server.messages[0]["priority"] == loudness


def test_an_all_clear_is_quiet_and_has_no_buttons(server: NtfyDouble) -> None:
    push(
        server, replace(page(all_clear_text="Taken by Bob: VPN down (#42). Nothing to do."), purpose=Purpose.ALL_CLEAR)
    )
    (message,) = server.messages
    assert (message["priority"], message["actions"]) == (2, [])
    assert message["message"] == "Taken by Bob: VPN down (#42). Nothing to do."


def test_a_javascript_address_is_no_button(server: NtfyDouble) -> None:
    push(server, page(source_url="javascript:alert(1)"))
    assert [action["label"] for action in server.messages[0]["actions"]] == ["Acknowledge or assign to me"]


def test_a_message_sent_twice_replaces_itself(server: NtfyDouble) -> None:
    push(server, page())
    push(server, page())
    assert len({message["sequence_id"] for message in server.messages}) == 1


def test_the_token_is_shown_to_its_own_server_only(server: NtfyDouble) -> None:
    with ntfy_double() as other:
        push(server, page(), token="tk_secret")
        push(server, page(), f"{other.url}/elsewhere", token="tk_secret")
        assert server.http.requests[0].headers["authorization"] == "Bearer tk_secret"
        assert "authorization" not in other.http.requests[0].headers
        assert other.messages[0]["topic"] == "elsewhere"


def test_a_whole_address_names_server_and_topic() -> None:
    assert split("https://ntfy.example.org/my-topic") == ("https://ntfy.example.org", "my-topic")
    assert split("https://example.org/ntfy/my_topic") == ("https://example.org/ntfy", "my_topic")
    assert split("my-topic") == ("", "my-topic")


@pytest.mark.parametrize(
    "bad", ["", "my topic", "a/b", "https://ntfy.sh", "https://ntfy.sh/", "ftp://ntfy.sh/x", "x" * 65, "тема",
            "https://user:pw@ntfy.sh/x", "https://ntfy.sh/x?a=b", "https://ntfy.sh/a b", "../x"],
)  # fmt: skip
def test_what_is_no_topic_is_refused(bad: str) -> None:
    with pytest.raises(Rejected) as caught:
        CHANNEL.normalize_address(bad)
    assert caught.value.code == "invalid_address"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 507])
def test_these_answers_are_temporary(server: NtfyDouble, status: int) -> None:
    server.answers.append(Response(status, headers={"Retry-After": "7"}))
    with pytest.raises(Temporary) as caught:
        push(server, page())
    assert caught.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 404, 413])
def test_these_answers_need_a_person(server: NtfyDouble, status: int) -> None:
    server.answers.append(Response(status, b'{"error": "the server\'s own words"}', {"Location": "http://x.example/"}))
    with pytest.raises(Permanent) as caught:
        push(server, page())
    assert str(status) in str(caught.value)
    assert len(server.http.requests) == 1


def test_a_page_of_html_is_not_repeated_as_an_error(server: NtfyDouble) -> None:
    server.answers.append(Response(502, b"<html><h1>Bad Gateway</h1></html>"))
    with pytest.raises(Temporary) as caught:
        push(server, page())
    assert "<html>" not in str(caught.value)


def test_a_test_of_the_provider_checks_health_and_token(server: NtfyDouble) -> None:
    server.token = "tk_right"
    right = sender(server, "tk_right")
    assert str(right.verify()) == f"{server.url} is healthy and accepts the access token."
    right.close()
    wrong = sender(server, "tk_wrong")
    with pytest.raises(Permanent, match="Check the access token"):
        wrong.verify()
    wrong.close()
