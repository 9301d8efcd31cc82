"""Conformance tests for every channel and provider kind."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.doubles.http import Response
from tests.support.notification_messages import EXTREME, bundle, every_purpose, page
from tests.support.provider_servers import PROVIDER_SERVERS
from tests.support.provider_servers.interface import SECRET, ProviderServer
from tocsin.core.config import environment, settings_store
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.notify.integrations.http_gateway import NAMES, HttpGatewayKind
from tocsin.notify.interfaces import Channel, ProviderAccount, ProviderKind, ProviderSender, Rendered, settings_of
from tocsin.notify.providers.pool import CHANNELS, KINDS

ICONS = Path(__file__).parents[3] / "scripts"

KEY = "0192f0c1-0000-7000-8000-000000000042"


@pytest.fixture(params=sorted(CHANNELS))
def channel(request: pytest.FixtureRequest) -> Channel:
    return CHANNELS[request.param]


@pytest.fixture(params=sorted(name for name, kind in KINDS.items() if kind.channels))
def kind(request: pytest.FixtureRequest) -> ProviderKind:
    return KINDS[request.param]


@pytest.fixture
def loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    changed = replace(environment.current(), allow_targets=(ip_network("127.0.0.0/8"),))
    monkeypatch.setattr(environment, "current", lambda: changed)


@pytest.fixture
def bench(kind: ProviderKind, loopback_allowed: None) -> Iterator[ProviderServer]:
    with PROVIDER_SERVERS[kind.name]() as made:
        yield made


@pytest.fixture
def sender(kind: ProviderKind, bench: ProviderServer) -> Iterator[ProviderSender]:
    made = kind.open(bench.account)
    yield made
    made.close()


def rendered(bench: ProviderServer) -> Rendered:
    return CHANNELS[bench.channel].render(page())


# Channels


@pytest.mark.parametrize("text", EXTREME.values(), ids=EXTREME)
def test_every_message_is_rendered_whatever_is_in_it(channel: Channel, text: str) -> None:
    for message in every_purpose(text):
        made = channel.render(message)
        assert made.text.strip(), message.purpose
        assert "\n" not in made.subject
        assert "\r" not in made.subject
        for name, value in made.headers.items():
            assert not re.search(r"[\r\n\x00]", f"{name}{value}"), name
        # What a database and a wire can take.
        json.dumps(made.content()).encode()
        assert "\x00" not in json.dumps(made.content(), ensure_ascii=False)
        made.text.encode(), made.html.encode(), made.subject.encode()
        assert "<script" not in made.html.lower()
        assert "<img" not in made.html.lower()


def test_a_page_names_subject_client_and_link(channel: Channel) -> None:
    made = channel.render(page())
    whole = f"{made.subject} {made.text}"
    assert "VPN down" in whole
    assert "Acme" in whole
    assert channel.name == "voice" or "https://tocsin.example.org/a/" in f"{whole} {made.link}"


def test_a_bundle_names_every_alert_up_to_its_limit(channel: Channel) -> None:
    made = channel.render(bundle(channel.bundle_limit, client="", subject="Disk full"))
    if made.script is not None:
        assert made.script.listing.count("Disk full") == channel.bundle_limit
        assert "Critical alert 42. Disk full." in made.script.listing
        return
    for number in range(42, 42 + channel.bundle_limit):
        assert re.search(rf"#{number}\b", made.text), number


def test_a_group_contact_gets_no_word_of_a_personal_link(channel: Channel) -> None:
    from dataclasses import replace

    made = channel.render(replace(page(), recipient=""))
    assert "for you alone" not in f"{made.text}{made.html}"


def test_address_has_one_normal_form_and_bad_ones_are_rejected(channel: Channel) -> None:
    normal = channel.normalize_address(channel.example)
    assert channel.normalize_address(normal) == normal
    for bad in ("", " ", "x\r\nBcc: y", "\x00", "a" * 2000):
        with pytest.raises(Rejected) as caught:
            channel.normalize_address(bad)
        assert caught.value.code == "invalid_address"
        assert len(str(caught.value)) < 300


def test_every_channel_says_what_lists_need(channel: Channel) -> None:
    assert channel.label
    assert channel.address_help
    assert len(channel.nouns) == 2
    assert channel.icon in (ICONS / "icons.txt").read_text().split()
    assert channel.layout in ("email", "sms", "voice", "push", "chat")
    assert settings_store.content_name(channel.name) in settings_store.settings_spec().model_fields


def test_channels_are_ordered_from_the_quietest_on() -> None:
    assert next(iter(CHANNELS)) == "email"
    assert list(CHANNELS)[-3:] == ["chat", "sms", "voice"]


# Kinds of provider


def test_every_kind_describes_its_settings(kind: ProviderKind) -> None:
    assert kind.name in PROVIDER_SERVERS, "a new kind gets a bench"
    assert set(kind.channels) <= set(CHANNELS)
    assert kind.description.endswith(".")
    assert (ICONS.parent / "docs" / "how-to" / "providers" / f"{kind.name}.md").exists(), "a new kind gets a guide"
    assert kind.icon in (ICONS / "icons.txt").read_text().split()
    assert set(kind.channels) >= kind.reply_channels | kind.receipt_channels
    names = [setting.name for setting in settings_of(kind)]
    assert len(names) == len(set(names))
    assert not {"name", "kind", "channels", "order", "enabled"} & set(names)
    assert all(setting.label and (setting.help or setting.is_required) for setting in settings_of(kind))


def test_a_message_is_handed_over_once_with_its_key(sender: ProviderSender, bench: ProviderServer) -> None:
    sent = sender.send(rendered(bench), bench.channel, bench.address, str(page().notification_id))
    assert bench.accepted() == 1
    assert sent
    assert all(str(page().notification_id) in key for key in bench.keys_seen())


@pytest.mark.parametrize("text", EXTREME.values(), ids=EXTREME)
def test_a_real_server_takes_every_message(sender: ProviderSender, bench: ProviderServer, text: str) -> None:
    messages = every_purpose(text)
    for message in messages:
        sender.send(CHANNELS[bench.channel].render(message), bench.channel, bench.address, KEY)
    assert bench.accepted() == len(messages)


def test_temporary_trouble_is_temporary(sender: ProviderSender, bench: ProviderServer) -> None:
    bench.answer("temporary")
    with pytest.raises(Temporary) as caught:
        sender.send(rendered(bench), bench.channel, bench.address, KEY)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert bench.accepted() == 0
    sender.send(rendered(bench), bench.channel, bench.address, KEY)
    assert bench.accepted() == 1


def test_a_refusal_is_permanent_and_says_why(sender: ProviderSender, bench: ProviderServer) -> None:
    bench.answer("permanent")
    with pytest.raises(Permanent) as caught:
        sender.send(rendered(bench), bench.channel, bench.address, KEY)
    assert str(caught.value).endswith(".")
    sender.send(rendered(bench), bench.channel, bench.address, KEY)


def test_every_status_is_classified_as_temporary_or_permanent(sender: ProviderSender, bench: ProviderServer) -> None:
    if bench.give is None:
        pytest.skip("it does not speak HTTP")
    for status in (*range(300, 304), 307, 308, *range(400, 432), 451, *range(500, 512), 520, 599):
        bench.give(Response(status, b"<html>a page of a proxy</html>", {"Retry-After": "7", "Location": "/else"}))
        with pytest.raises((Temporary, Permanent)) as caught:
            sender.send(rendered(bench), bench.channel, bench.address, KEY)
        assert not isinstance(caught.value, OutcomeUnknown), status
        passes = status in (408, 425, 429, 507) or status >= 500
        assert isinstance(caught.value, Temporary) == passes, (status, caught.value)
        assert not passes or caught.value.retry_after == timedelta(seconds=7), status  # type: ignore[union-attr]
        assert caught.value.detail.endswith("."), caught.value.detail
        assert "<html>" not in caught.value.detail
    assert bench.accepted() == 0
    sender.send(rendered(bench), bench.channel, bench.address, KEY)
    assert bench.accepted() == 1, "no redirect was followed, and the connection is usable"


@pytest.mark.parametrize("body", [b"<html>Welcome to the hotel's network</html>", b"", b"[]", b"{}"])
def test_an_answer_that_is_not_the_vendors_is_no_success(
    sender: ProviderSender, bench: ProviderServer, body: bytes
) -> None:
    if bench.give is None:
        pytest.skip("it does not speak HTTP")
    bench.give(Response(200, body))
    with pytest.raises(OutcomeUnknown):
        sender.send(rendered(bench), bench.channel, bench.address, KEY)


def test_a_server_that_is_too_slow_leaves_the_outcome_unknown(
    sender: ProviderSender, bench: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bench.give is None:
        pytest.skip("it does not speak HTTP")
    monkeypatch.setattr(egress, "READ_TIMEOUT", 0.05)
    bench.give(Response(200, takes=0.5))
    with pytest.raises(OutcomeUnknown):
        sender.send(rendered(bench), bench.channel, bench.address, KEY)


def test_an_answer_that_never_comes_leaves_the_outcome_unknown(sender: ProviderSender, bench: ProviderServer) -> None:
    bench.answer("unknown")
    with pytest.raises(OutcomeUnknown):
        sender.send(rendered(bench), bench.channel, bench.address, KEY)
    sender.send(rendered(bench), bench.channel, bench.address, KEY)


def test_a_server_that_does_not_answer_is_temporary(kind: ProviderKind, bench: ProviderServer) -> None:
    dead = _elsewhere(bench.account, 9)
    sender = kind.open(dead)
    with pytest.raises(Temporary) as caught:
        sender.send(rendered(bench), bench.channel, bench.address, KEY)
    assert not isinstance(caught.value, OutcomeUnknown)
    with pytest.raises(Temporary):
        sender.verify()
    sender.close()


def test_a_wrong_secret_is_permanent_and_never_shown(
    kind: ProviderKind, bench: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    if not bench.account.secrets:
        pytest.skip("its addresses are the secrets")
    caplog.set_level(logging.DEBUG)
    wrong = ProviderAccount("Wrong", bench.account.settings, dict.fromkeys(bench.account.secrets, "wr0ng-secret"))
    sender = kind.open(wrong)
    for attempt in (
        lambda: sender.send(rendered(bench), bench.channel, bench.address, KEY),
        sender.verify,
    ):
        with pytest.raises(Permanent) as caught:
            attempt()
        assert "wr0ng-secret" not in f"{caught.value} {caught.value!r}"
    assert "wr0ng-secret" not in caplog.text
    assert "wr0ng-secret" not in f"{wrong!r} {sender!r}"
    sender.close()


def test_no_secret_is_in_anything_that_is_shown(sender: ProviderSender, bench: ProviderServer) -> None:
    assert SECRET not in f"{bench.account!r} {sender!r}"
    assert SECRET not in str(sender.verify())


def test_verifying_sends_nothing(sender: ProviderSender, bench: ProviderServer) -> None:
    assert str(sender.verify()).endswith(".")
    assert bench.accepted() == 0


def test_a_private_address_is_refused_unless_the_operator_allows_it(
    kind: ProviderKind, bench: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    strict = replace(environment.current(), allow_targets=())
    monkeypatch.setattr(environment, "current", lambda: strict)
    sender = kind.open(bench.account)
    for attempt in (
        lambda: sender.send(rendered(bench), bench.channel, bench.address, KEY),
        sender.verify,
    ):
        with pytest.raises(egress.EgressBlocked):
            attempt()
    sender.close()
    trusted = kind.open(replace(bench.account, is_trusted=True))
    trusted.send(rendered(bench), bench.channel, bench.address, KEY)
    trusted.close()
    assert bench.accepted() == 1


def test_concurrent_threads_share_a_sender(sender: ProviderSender, bench: ProviderServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def send(number: int) -> Any:
        return sender.send(rendered(bench), bench.channel, bench.address, str(UUID(int=number + 1)))

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(send, range(40)))) == 40
    assert bench.accepted() == 40


def _elsewhere(account: ProviderAccount, port: int) -> ProviderAccount:
    settings = dict(account.settings)
    if "port" in settings:
        settings["port"] = port
    else:
        settings["api_base"] = f"http://127.0.0.1:{port}"
    return ProviderAccount(account.name, settings, account.secrets)


def test_the_gateways_form_names_everything_that_is_filled_in() -> None:
    body = next(setting for setting in HttpGatewayKind.settings if setting.name == "body")
    assert [f"<{name}>" for name in NAMES] == re.findall(r"<\w+>", body.help.partition(". ")[0])
