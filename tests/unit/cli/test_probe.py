"""`tocsin probe`: its exit status is the health of the node at a port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tocsin.cli.main import run


class _Node(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_healthy = self.path == "/healthz"
        self.send_response(200 if is_healthy else 503)
        self.end_headers()
        self.wfile.write(b"ok" if is_healthy else b"The last message could not be stored.")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a node that is healthy, but not ready."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Node) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_healthy_node_gives_exit_status_zero(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--port", str(port)]) == 0
    assert capsys.readouterr().out == "ok\n"


def test_node_that_is_not_ready_says_why(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--ready", "--port", str(port)]) == 1
    assert "503: The last message could not be stored." in capsys.readouterr().err


def test_missing_node_is_one_sentence(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--port", "1"]) == 1
    assert capsys.readouterr().err.startswith("tocsin: Tocsin gives no answer at http://127.0.0.1:1/healthz: ")
