"""Responses as servers send them, over one kept-alive connection."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.doubles.certificates import make_certificate
from tests.doubles.http import Response, http_double
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import CertificateRejected, HttpClient, OutcomeUnknown

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"


@contextmanager
def raw_server(answer: bytes) -> Iterator[str]:
    """The URL of a server that answers each request on a connection of its own with these bytes, and then hangs up."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (EARLY_HINTS + OK, 200, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 500, b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    ],
    ids=["early-hints", "continue", "http-1.0", "chunked", "no-content"],
)
def test_response_is_read_to_its_end(answer: bytes, status: int, body: bytes) -> None:
    client = HttpClient(trusted=True)
    with raw_server(answer) as url:
        response = client.request("POST", url, content=b"page")
        assert (response.status, response.body) == (status, body)
    client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ncut",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"SMTP ready\r\n",
        EARLY_HINTS * 20 + OK,
        b"HTTP/1.1 200 OK\r\n" + b"X-More: 1\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 400_000,
        b"",
    ],
    ids=["cut", "chunk-cut", "chunk-size", "other-protocol", "only-interim", "many-headers", "long-header", "nothing"],
)
def test_damaged_response_leaves_the_outcome_unknown(answer: bytes) -> None:
    with raw_server(answer) as url, pytest.raises(OutcomeUnknown):
        HttpClient(trusted=True).request("POST", url, content=b"page")


def test_each_origin_keeps_its_own_connection() -> None:
    client = HttpClient(trusted=True)
    with http_double() as one, http_double(lambda request: Response(body=b"other")) as other:
        for _ in range(3):
            assert client.request("GET", one.url).body == b"{}"
            assert client.request("GET", other.url).body == b"other"
        client.close()
        assert (one.connections, other.connections) == (1, 1)


def test_connection_with_half_a_request_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "READ_TIMEOUT", 0.2)
    client = HttpClient(trusted=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(OutcomeUnknown):
            client.request("POST", url, content=b"x" * 20_000_000)
        listening.settimeout(5)
        first, _ = listening.accept()
        with pytest.raises(OutcomeUnknown):
            client.request("POST", url, content=b"page")
        second, _ = listening.accept()
        with first, second:
            assert second.recv(4) == b"POST"
    client.close()


def test_connection_that_the_server_closed_is_not_used_again() -> None:
    client = HttpClient(trusted=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        served: list[bytes] = []

        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    served.append(connection.recv(65536))
                    connection.sendall(OK)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert client.request("GET", url).body == b"ok"
        # The end of the connection arrives after the response.
        (_, idle), *_ = client._idle
        assert select.select([idle._socket], [], [], 5)[0]
        assert client.request("GET", url).body == b"ok"
        thread.join(5)
    client.close()
    assert len(served) == 2


def test_headers_of_the_caller_are_sent_once() -> None:
    arrived: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            arrived.append(connection.recv(65536))
            connection.sendall(OK)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        headers = {"host": "status.example.org", "CONTENT-LENGTH": "4"}
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        assert HttpClient(trusted=True).request("POST", url, headers=headers, content=b"page").status == 200
        thread.join(5)
    head = arrived[0].lower()
    assert (head.count(b"host:"), head.count(b"content-length:")) == (1, 1)
    assert b"host: status.example.org" in head


@pytest.mark.parametrize("value", ["geheim\r\nX-Evil: 1", "geheim\0", " geheim", "geheim\n"])
def test_header_that_would_add_a_line_is_rejected(value: str) -> None:
    with http_double() as server, pytest.raises(Permanent) as refused:
        HttpClient(trusted=True).request("GET", server.url, headers={"X-Key": value})
    assert refused.value.reason.code == "network.request_impossible"
    assert "geheim" not in str(refused.value)
    assert server.requests == []


def test_trusted_certificate_is_used_and_its_connection_kept(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    client = HttpClient(trusted=True, context=certificate.client())
    with http_double(context=certificate.server) as server:
        assert [client.request("GET", server.url).status for _ in range(3)] == [200, 200, 200]
        client.close()
        assert server.connections == 1


def test_untrusted_certificate_gets_no_request(tmp_path: Path) -> None:
    with http_double(context=make_certificate(tmp_path).server) as server, pytest.raises(CertificateRejected):
        HttpClient(trusted=True).request("GET", server.url)
    assert server.requests == []


def test_server_without_tls_gets_no_request() -> None:
    with http_double() as server, pytest.raises(Temporary) as failed:
        HttpClient(trusted=True).request("GET", server.url.replace("http:", "https:"))
    assert not isinstance(failed.value, OutcomeUnknown)
    assert server.requests == []
