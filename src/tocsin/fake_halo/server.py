"""The fake Halo as a threaded HTTP server on loopback: API, web page, and a thread that sends webhooks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tocsin.fake_halo import ui
from tocsin.fake_halo.api import FakeHaloApi, FakeResponse
from tocsin.fake_halo.hooks import DeliverWebhook, WebhookSender
from tocsin.fake_halo.state import FakeHalo

_MAX_BODY_BYTES = 5 * 1024 * 1024


class HaloServer:
    """The server. `halo` is its state, `api` its API with injectable faults, `hooks` its webhooks.

    After `start`, pending webhooks are sent automatically unless `sends_webhooks` is False; then `hooks.run()` sends
    them.
    """

    def __init__(
        self,
        halo: FakeHalo | None = None,
        *,
        port: int = 0,
        sends_webhooks: bool = True,
        deliver: DeliverWebhook | None = None,
    ):
        self.halo = halo or FakeHalo()
        self.hooks = WebhookSender(self.halo, deliver)
        self.api = FakeHaloApi(self.halo, self.hooks)
        #: Delay of each response, in seconds.
        self.response_delay = 0.0
        self._sends_webhooks = sends_webhooks
        self._stopped = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Start serving."""
        self._threads = [threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)]
        if self._sends_webhooks:
            self._threads.append(threading.Thread(target=self._send, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join(5)

    def _send(self) -> None:
        while not self._stopped.wait(0.05):
            self.hooks.run()


@contextmanager
def running(halo: FakeHalo | None = None, **options: Any) -> Iterator[HaloServer]:
    """Run a server within the `with` block."""
    server = HaloServer(halo, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _handler(server: HaloServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/favicon.ico":
                self._write(204, b"", "image/x-icon")
            elif path == "/":
                self._write(200, ui.page(server.halo).encode(), "text/html; charset=utf-8")
            else:
                self._answer()

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith("/desk/"):
                form = dict(parse_qsl(self._body().decode("utf-8", "replace")))
                problem = ui.act(server.halo, path.removeprefix("/desk/"), form)
                if problem:
                    self._write(409, ui.page(server.halo, problem).encode(), "text/html; charset=utf-8")
                else:
                    self._write(303, b"", "text/plain", {"Location": "/"})
            else:
                self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _body(self) -> bytes:
            return self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _MAX_BODY_BYTES))

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            raw = self._body()
            if server.response_delay:
                time.sleep(server.response_delay)
            try:
                is_form = "form" in self.headers.get("Content-Type", "")
                body: Any = dict(parse_qsl(raw.decode())) if is_form else json.loads(raw) if raw else None
            except ValueError:
                body = None
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            reply = server.api.handle(self.command, parts.path, dict(parse_qsl(parts.query)), body, token)
            self._reply(reply)

        def _reply(self, reply: FakeResponse) -> None:
            if reply.body is None:
                content, kind = b"", "application/json"
            elif isinstance(reply.body, bytes):
                content, kind = reply.body, "text/html"
            else:
                content, kind = json.dumps(reply.body).encode(), "application/json"
            self._write(reply.status, content, kind, reply.headers)

        def _write(self, status: int, content: bytes, kind: str, headers: Any = None) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    return Handler
