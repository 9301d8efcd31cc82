"""Conformance tests for the built-in channels: web push and chat services by URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from tests.doubles.http import Request, Response, http_double
from tests.doubles.push import PushDouble, push_double
from tests.support.outbox_harness import allow_loopback, configured
from tests.support.people import ACTOR, make_user
from tests.support.provider_servers.interface import ProviderServer
from tests.unit.notify.test_channels import (
    rendered,
    test_a_refusal_is_permanent_and_says_why,
    test_a_server_that_is_too_slow_leaves_the_outcome_unknown,
    test_an_answer_that_never_comes_leaves_the_outcome_unknown,
    test_concurrent_threads_share_a_sender,
    test_every_status_is_classified_as_temporary_or_permanent,
    test_temporary_trouble_is_temporary,
)
from tocsin.core import ids
from tocsin.core.net import egress
from tocsin.notify.channels.chat import ChatChannel
from tocsin.notify.integrations import web_push
from tocsin.notify.interfaces import ProviderAccount, ProviderKind, ProviderSender
from tocsin.notify.providers.pool import BUILT_IN
from tocsin.people.models import ContactMethod

__all__ = [
    "test_a_refusal_is_permanent_and_says_why",
    "test_a_server_that_is_too_slow_leaves_the_outcome_unknown",
    "test_an_answer_that_never_comes_leaves_the_outcome_unknown",
    "test_concurrent_threads_share_a_sender",
    "test_every_status_is_classified_as_temporary_or_permanent",
    "test_temporary_trouble_is_temporary",
]

pytestmark = pytest.mark.usefixtures("database")

TOKEN = "AbcdefghijKLMNO"


@pytest.fixture(params=[kind.name for kind in BUILT_IN])
def kind(request: pytest.FixtureRequest) -> ProviderKind:
    return next(kind for kind in BUILT_IN if kind.name == request.param)


@pytest.fixture
def bench(
    kind: ProviderKind, database: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProviderServer]:
    allow_loopback(monkeypatch)
    yield from (_browser(now) if kind.name == "web_push" else _gotify())


@pytest.fixture
def sender(kind: ProviderKind, bench: ProviderServer) -> Iterator[ProviderSender]:
    made = kind.open(bench.account)
    yield made
    made.close()


def _browser(now: datetime) -> Iterator[ProviderServer]:
    alice = make_user("alice", now)
    with push_double() as double:
        browser = double.browser()
        web_push.subscribe(alice, browser.subscription(), "Phone", actor=ACTOR, now=now)
        address = ContactMethod.objects.get(user=alice, channel="push").address

        def keys() -> list[str]:
            return [headers["topic"] for headers in double.headers]

        def accepted() -> int:
            return len(browser.received)

        yield ProviderServer(
            ProviderAccount("Web Push"), address, "push", _how(double.answers.append), keys, accepted, _living(double)
        )


def _living(double: PushDouble) -> Callable[[Response], None]:
    """A browser that is said to be gone is asked no more: such answers are another test's."""

    def give(response: Response) -> None:
        double.answers.append(Response(400) if response.status in (404, 410) else response)

    return give


def _gotify() -> Iterator[ProviderServer]:
    answers: list[Response] = []
    requests: list[Request] = []

    def answering(request: Request) -> Response:
        if answers:
            return answers.pop(0)
        requests.append(request)
        return Response(200, b'{"id": 1}')

    with http_double(answering) as http:
        address = ChatChannel().normalize_address(f"gotify://127.0.0.1:{http.port}/{TOKEN}")

        def keys() -> list[str]:
            return [request.headers["idempotency-key"] for request in requests]

        def accepted() -> int:
            return len(requests)

        yield ProviderServer(
            ProviderAccount("Services"), address, "chat", _how(answers.append), keys, accepted, answers.append
        )


def _how(give: Callable[[Response], None]) -> Callable[[str], None]:
    known = {"temporary": Response(503), "permanent": Response(400), "unknown": Response(hangs_up=True)}

    def answer(how: str) -> None:
        give(known[how])

    return answer


def test_gateway_message_is_delivered_once_and_never_to_private_addresses(
    kind: ProviderKind, sender: ProviderSender, bench: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = str(ids.uuid7())
    sender.send(rendered(bench), bench.channel, bench.address, key)
    assert [seen.replace("-", "") for seen in bench.keys_seen()] == [key.replace("-", "")]
    assert str(sender.verify()).endswith(".")
    assert bench.accepted() == 1
    configured(monkeypatch, allow_targets=())
    strict = kind.open(bench.account)
    with pytest.raises(egress.EgressBlocked):
        strict.send(rendered(bench), bench.channel, bench.address, key)
    strict.close()
