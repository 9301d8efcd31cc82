"""The inbound endpoints of one node, called without a socket or served on one, and the rows that they store."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import uvicorn

from tests.support.threads import run_async
from tocsin.core.config import environment
from tocsin.core.net.asgi import AsgiMessage, BodyReader
from tocsin.inbound.admin import secrets
from tocsin.inbound.app import InboundApp
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.processing.committer import Committer

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class InboundResponse:
    """What a sender is answered."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass
class InboundServer:
    """One node's inbound side. Its committer runs from the first `start` on."""

    registry: IntegrationRegistry = field(default_factory=IntegrationRegistry)
    bodies: BodyReader = field(default_factory=BodyReader)
    max_wait: float = 5.0

    def __post_init__(self) -> None:
        self.committer = Committer(self.registry, self.max_wait)
        self.app = InboundApp(self.registry, self.committer, self.bodies)

    def post(self, where: Integration | str, *bodies: object, method: str = "POST", **headers: str) -> InboundResponse:
        """Sends one request; several bodies are its parts. What is not bytes is sent as JSON."""
        parts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in bodies or (b"",)]
        path = where if isinstance(where, str) else path_of(where)
        return run_async(self._ask(path, parts, method, {**JSON, **_named(headers)}))

    def post_at_once(self, *requests: tuple[Integration | str, object]) -> list[InboundResponse]:
        """Sends all requests at the same time, and gives the replies in their order."""

        async def all_of_them() -> list[InboundResponse]:
            return list(
                await asyncio.gather(
                    *(
                        self._ask(
                            where if isinstance(where, str) else path_of(where),
                            [body if isinstance(body, bytes) else json.dumps(body).encode()],
                            "POST",
                            JSON,
                        )
                        for where, body in requests
                    )
                )
            )

        return run_async(all_of_them())

    async def _ask(self, path: str, parts: Sequence[bytes], method: str, headers: Mapping[str, str]) -> InboundResponse:
        coming = [
            {"type": "http.request", "body": part, "more_body": number + 1 < len(parts)}
            for number, part in enumerate(parts)
        ]
        return await self.ask(path, coming, method=method, headers=headers)

    async def ask(
        self, path: str, coming: list[dict[str, Any]], *, method: str = "POST", headers: Mapping[str, str] = JSON
    ) -> InboundResponse:
        """Sends what is `coming`, as ASGI messages; after the last, nothing more comes."""
        sent: list[AsgiMessage] = []
        path, _, query = path.partition("?")

        async def receive() -> AsgiMessage:
            if coming:
                return coming.pop(0)
            await asyncio.Event().wait()
            raise AssertionError("nothing sets it")

        async def send(message: AsgiMessage) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
        }
        await self.app(scope, receive, send)
        if not sent:
            return InboundResponse(0, None, {})
        results = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return InboundResponse(sent[0]["status"], json.loads(sent[1]["body"]), results)


@contextmanager
def inbound_server(**settings: Any) -> Iterator[InboundServer]:
    """Doors whose committer runs; ended afterwards."""
    made = InboundServer(**settings)
    made.committer.start()
    try:
        yield made
    finally:
        made.committer.stop(10)


@contextmanager
def served(
    app: Any, monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str] | None = None, host: str = "127.0.0.1"
) -> Iterator[str]:
    """An ASGI app behind a real HTTP server on loopback, at the installation's public address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"{'https' if certificate else 'http'}://{host}:{listening.getsockname()[1]}"
        publish(url, monkeypatch)
        options: dict[str, Any] = (
            {} if certificate is None else {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]}
        )
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(10)


def publish(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `url` the installation's public address."""
    public = replace(environment.current(), base_url=url)
    monkeypatch.setattr(environment, "current", lambda: public)


def path_of(integration: Integration) -> str:
    return f"/in/{secrets.token_of(integration)}"


def rows(**wanted: Any) -> list[InboundMessage]:
    """The messages of the log, in their order."""
    return list(InboundMessage.objects.filter(**wanted).order_by("pk"))


def tls_context_trusting(file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-").lower(): value for name, value in headers.items()}
