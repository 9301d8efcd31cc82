from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.doubles.http import Response, http_double
from tests.support.outbox_harness import allow_loopback
from tocsin.core.config import environment
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def to(*networks: str) -> None:
        changed = replace(environment.current(), allow_targets=tuple(ipaddress.ip_network(n) for n in networks))
        monkeypatch.setattr(environment, "current", lambda: changed)

    return to


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        # IPv4-translated (RFC 2765), ISATAP (RFC 5214), 6to4 and Teredo around a private IPv4 address.
        "::ffff:0:10.0.0.1",
        "::ffff:0:a9fe:a9fe",
        "2a00::5efe:10.0.0.1",
        "2a00::200:5efe:127.0.0.1",
        "2a00::100:5efe:192.168.0.1",
        "fe80::5efe:8.8.8.8",
        "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "64:ff9b:1::a00:1",
        "5f00::1",
        "fec0::1",
        "::7f00:1",
    ],
)
def test_private_address_is_refused(address: str) -> None:
    assert not egress.is_allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "::ffff:0:8.8.8.8", "2a00::5efe:8.8.8.8"],
)
def test_a_public_address_is_allowed(address: str) -> None:
    assert egress.is_allowed(ipaddress.ip_address(address), ())


def test_allowed_networks_address_is_allowed_in_every_notation() -> None:
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
        assert egress.is_allowed(ipaddress.ip_address(address), LOOPBACK)
    assert not egress.is_allowed(ipaddress.ip_address("10.0.0.1"), LOOPBACK)


def test_request_to_private_address_is_rejected_before_sending() -> None:
    with http_double() as server:
        client = egress.HttpClient()
        with pytest.raises(egress.EgressBlocked, match="TOCSIN_ALLOW_TARGETS"):
            client.request("POST", f"{server.url}/", content=b"x")
        client.close()
        assert server.connections == 0


def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    with http_double() as server:
        client = egress.HttpClient()
        with pytest.raises(egress.EgressBlocked, match="localhost is at a private address"):
            client.request("GET", f"http://localhost:{server.port}/")
        client.close()
        assert server.connections == 0


def test_the_address_that_was_checked_is_the_one_connected_to(
    allow: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow("127.0.0.2/32")
    queries: list[str] = []

    def resolver(host: str, port: int, **_: object) -> list[object]:
        # A name that answers differently each time: allowed first, then what must not be reached.
        queries.append(host)
        address = "127.0.0.2" if len(queries) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with http_double() as server:
        client = egress.HttpClient()
        with pytest.raises(Temporary):  # Nothing listens on 127.0.0.2, and 127.0.0.1 was never tried.
            client.request("GET", f"http://rebinding.example:{server.port}/")
        client.close()
        assert queries == ["rebinding.example"]
        assert server.connections == 0


def test_of_several_addresses_only_the_allowed_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("10.0.0.1", "8.8.8.8")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: results)
    assert egress.resolve("both.example", 80) == [(socket.AF_INET, "8.8.8.8")]


def test_an_allowed_target_is_called_and_its_connection_kept(allow: Callable[..., None]) -> None:
    allow("127.0.0.0/8")
    with http_double(lambda request: Response(201, request.body.upper())) as server:
        client = egress.HttpClient()
        for _ in range(3):
            answer = client.request("POST", f"{server.url}/a?b=ü", headers={"X-Thing": "ü"}, content=b"hello")
            assert (answer.status, answer.body) == (201, b"HELLO")
        client.close()
        assert server.connections == 1
        assert server.requests[0].path == "/a?b=%C3%BC"
        assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_a_trusted_client_needs_no_allowance() -> None:
    with http_double() as server:
        client = egress.HttpClient(trusted=True)
        assert client.request("GET", server.url).status == 200
        client.close()


def test_a_redirect_is_an_answer_and_is_not_followed(allow: Callable[..., None]) -> None:
    allow("127.0.0.0/8")
    with http_double(lambda request: Response(302, headers={"Location": "http://169.254.169.254/"})) as server:
        client = egress.HttpClient()
        assert client.request("GET", server.url).status == 302
        client.close()
        assert len(server.requests) == 1


def test_an_answer_without_end_is_cut(allow: Callable[..., None]) -> None:
    allow("127.0.0.0/8")
    with http_double(lambda request: Response(200, b"x" * 1_000_000)) as server:
        client = egress.HttpClient()
        assert len(client.request("GET", server.url).body) == egress.MAX_RESPONSE_BYTES
        client.close()


def test_hangup_after_request_leaves_outcome_unknown(allow: Callable[..., None]) -> None:
    allow("127.0.0.0/8")
    with http_double(lambda request: Response(hangs_up=True)) as server:
        client = egress.HttpClient()
        with pytest.raises(egress.OutcomeUnknown):
            client.request("POST", server.url, content=b"x")
        client.close()


@contextmanager
def dripping_server(head: bytes) -> Iterator[str]:
    """The URL of a server that sends `head`, and then one byte after the other for ten seconds."""
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(head)
            for _ in range(200):
                if over.wait(0.05):
                    break
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,), daemon=True)
        thread.start()
        started_at = time.monotonic()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
            assert time.monotonic() - started_at < 5
        finally:
            over.set()
            thread.join(5)


def test_slow_response_head_ends_at_the_deadline(allow: Callable[..., None]) -> None:
    allow("127.0.0.0/8")
    with (
        dripping_server(b"HTTP/1.1 200 OK\r\nX-Slow: ") as url,
        pytest.raises(egress.OutcomeUnknown, match="no answer in time"),
    ):
        egress.HttpClient().request("GET", url, deadline=0.5)


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n1;", b"Content-Length: 99999\r\n\r\n"]
)
def test_slow_response_body_is_cut_at_the_deadline(allow: Callable[..., None], framing: bytes) -> None:
    allow("127.0.0.0/8")
    with dripping_server(b"HTTP/1.1 200 OK\r\n" + framing) as url:
        response = egress.HttpClient().request("GET", url, deadline=0.5)
    assert (response.status, response.body[:1]) == (200, b"x")


def test_many_silent_addresses_end_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(socket.AF_INET, f"192.0.2.{number}") for number in range(200)]
    monkeypatch.setattr(egress, "resolve", lambda *_, **__: addresses)
    elapsed = [0.0]
    tried: list[tuple[str, int]] = []
    monkeypatch.setattr(time, "monotonic", lambda: elapsed[0])

    class Silent:
        """A socket whose peer never answers."""

        def __init__(self, *_: object) -> None:
            self.timeout = 0.0

        def settimeout(self, timeout: float) -> None:
            self.timeout = timeout

        def connect(self, address: tuple[str, int]) -> None:
            tried.append(address)
            elapsed[0] += self.timeout
            raise TimeoutError

        def close(self) -> None:
            pass

    monkeypatch.setattr(socket, "socket", Silent)
    with pytest.raises(Temporary, match="does not answer"):
        egress.connect("many.example", 443)
    assert len(tried) == egress.DEADLINE / egress.CONNECT_TIMEOUT


def test_closed_port_is_a_temporary_error_with_nothing_sent(allow: Callable[..., None]) -> None:
    allow("127.0.0.0/8")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        client = egress.HttpClient()
        with pytest.raises(Temporary) as caught:
            client.request("POST", f"http://127.0.0.1:{server.getsockname()[1]}/")
        client.close()
    assert not isinstance(caught.value, egress.OutcomeUnknown)


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/", "//example.org", "http://", "http://user:pw@example.org/", "http://ex ample.org/",
     "http://example.org/\r\nX-Evil: 1", "http://[::1", "file:///etc/passwd", "http://example.org:99999/"],
)  # fmt: skip
def test_what_is_no_http_address_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(Permanent) as caught:
        egress.check_url(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"X-Schlüssel": "geheim"}, {"X-Key": "geheim\ud800"}])
def test_invalid_header_is_rejected_without_its_value(allow: Callable[..., None], headers: dict[str, str]) -> None:
    allow("127.0.0.0/8")
    with http_double() as server, pytest.raises(Permanent, match="headers cannot carry") as refused:
        egress.HttpClient().request("GET", server.url, headers=headers)
    assert "geheim" not in refused.value.detail


@pytest.mark.parametrize("url", ["http://xn--a.example\u00ad/", f"https://hook.example/{'a' * 70_000}"])
def test_unencodable_address_is_rejected(url: str) -> None:
    with pytest.raises(Permanent, match="is not a valid URL"):
        egress.HttpClient().request("GET", url)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("7", 7),
        ("9" * 5000, 86_400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("\u00b2", None),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_capped_at_one_day_and_validated(message: str, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert egress.EgressResponse(429, {"retry-after": message}, b"").retry_after == expected


def test_request_that_cannot_be_written_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    with http_double() as server, pytest.raises(Permanent) as raised:
        egress.HttpClient().request("NOT A METHOD", server.url)
    assert (raised.value.reason.code, raised.value.reason["host"]) == ("network.request_impossible", "127.0.0.1")


def test_host_without_addresses_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress.socket, "getaddrinfo", lambda *arguments, **more: [])
    with pytest.raises((Permanent, Temporary)) as raised:
        egress.connect("nowhere.example.org", 443, 1.0, trusted=True)
    assert raised.value.reason.data["error"] == {"code": "it has no address", "data": {}}
