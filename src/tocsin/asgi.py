"""The ASGI entry point: webhooks, live updates and probes on raw ASGI; everything else goes to the web process.

Whole bodies are read here, so that a slow client occupies a socket but no thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from django.conf import settings

from tocsin.core.config import environment
from tocsin.core.net.asgi import (
    AsgiApp,
    AsgiMessage,
    AsgiScope,
    BodyReader,
    BodyTimeout,
    BodyTooLarge,
    ClientDisconnected,
    ClientLimit,
    OverCapacity,
    Receive,
    Send,
    client_address,
    header,
    is_from_trusted_proxy,
    limit_key,
    send_error,
)
from tocsin.core.net.asgi import headers as headers_of
from tocsin.inbound import app as inbound_app

log = logging.getLogger(__name__)

#: The path at which browsers receive live updates.
LIVE = "/live"

#: Web requests in progress at once, per client and in total.
MAX_WEB_REQUESTS_PER_CLIENT = 200
MAX_WEB_REQUESTS = 2_000

#: Live streams per client and in total. Each user has a limit too.
MAX_STREAMS_PER_CLIENT = 250
MAX_STREAMS = 1_000

_API = ("/api/v1/", "/mcp", "/scim/v2/")
#: What a signed-in browser sends.
_SESSION = f"{settings.SESSION_COOKIE_NAME}="

_RETRY = ((b"retry-after", b"5"),)
_CLOSE = ((b"connection", b"close"),)

#: Headers that only this router may set for Django.
_INTERNAL_HEADERS = frozenset({b"x-tocsin-proto", b"x-tocsin-address"})
_FORWARDING = (b"forwarded", b"x-forwarded-")


class AsgiRouter:
    """The ASGI app of a node. Each room's app is passed in; None if the node's role does not include it."""

    def __init__(
        self,
        *,
        body_reader: BodyReader,
        probes: AsgiApp,
        inbound: AsgiApp | None = None,
        live: AsgiApp | None = None,
        web: AsgiApp | None = None,
        web_limit: ClientLimit | None = None,
        stream_limit: ClientLimit | None = None,
        on_unknown_post: Callable[[AsgiScope], None] | None = None,
    ) -> None:
        self._body_reader = body_reader
        self._probes = probes
        self._inbound = inbound
        self._live = live
        self._web = web
        self._web_limit = web_limit or ClientLimit(MAX_WEB_REQUESTS_PER_CLIENT, MAX_WEB_REQUESTS)
        self._on_unknown_post = on_unknown_post
        self._stream_limit = stream_limit or ClientLimit(MAX_STREAMS_PER_CLIENT, MAX_STREAMS)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Routes each request to its room's app."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if inbound_app.accepts(scope):
            await self._to(self._inbound, scope, receive, send)
        elif path in ("/healthz", "/readyz", "/metrics"):
            await self._probes(scope, receive, send)
        elif path == LIVE:
            await self._limited(self._stream_limit, partial(self._to, self._live), scope, receive, send)
        elif self._web is None:
            await send_error(send, 404, "not_here", "This node does not serve pages.")
        else:
            await self._limited(self._web_limit, partial(self._to_web, self._web), scope, receive, send)

    async def _limited(self, limit: ClientLimit, app: AsgiApp, scope: AsgiScope, receive: Receive, send: Send) -> None:
        with limit.acquire(limit_key(scope)) as is_acquired:
            if is_acquired:
                await app(scope, receive, send)
            else:
                detail = "Too many requests from this address are in progress. Try again."
                await send_error(send, 503, "busy", detail, headers=_RETRY)

    async def _to(self, app: AsgiApp | None, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if app is None:
            await send_error(send, 404, "not_here", "This node does not take messages here.")
        else:
            await app(scope, receive, send)

    async def _to_web(self, web: AsgiApp, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            body = await self._body_reader.read(scope, receive)
        except BodyTooLarge:
            await send_error(send, 413, "too_large", "A body has at most 5 MiB.", headers=_CLOSE)
        except OverCapacity:
            await send_error(send, 503, "busy", "Too much is being received. Try again.", headers=_RETRY)
        except BodyTimeout:
            detail = "The body did not come whole in time. Send it again."
            await send_error(send, 408, "too_slow", detail, headers=_CLOSE)
        except ClientDisconnected:
            return
        else:
            try:
                await web(for_django(scope), _replay(body, receive), self._noting_unknown_post(scope, send))
            finally:
                self._body_reader.release(len(body))

    def _noting_unknown_post(self, scope: AsgiScope, send: Send) -> Send:
        """Returns a `send` that reports a POST that was answered 404. Pages' and the API's own requests do not count:
        theirs is an object that is gone.
        """
        on_unknown_post = self._on_unknown_post
        if on_unknown_post is None or scope["method"] != "POST" or scope["path"].startswith(_API):
            return send
        if any(_SESSION in cookie for cookie in headers_of(scope, b"cookie")):
            return send

        async def noting(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start" and message["status"] == 404:
                on_unknown_post(scope)
            await send(message)

        return noting


def for_django(scope: AsgiScope) -> AsgiScope:
    """Returns the scope for Django: public host and scheme, the client's address, and no forwarding headers.

    Only a trusted proxy may report that a browser used https.
    """
    base = environment.current().base_url_of(header(scope, b"host") or "")
    headers = [
        (key, value)
        for key, value in scope["headers"]
        # WSGI maps underscores to hyphens, so a header with an underscore could pass for another.
        if b"_" not in key
        and key not in _INTERNAL_HEADERS
        and not key.startswith(_FORWARDING)
        and not (base and key == b"host")
    ]
    scheme = scope["scheme"]
    if base is not None:
        parts = urlsplit(base)
        headers.append((b"host", parts.netloc.encode()))
        if is_from_trusted_proxy(scope):
            scheme = (headers_of(scope, b"x-forwarded-proto") or [parts.scheme])[-1]
        elif parts.scheme == "https":
            scheme = "https"
    headers.append((b"x-tocsin-proto", b"https" if scheme == "https" else b"http"))
    address = client_address(scope)
    port = scope["client"][1] if scope.get("client") else 0
    return {**scope, "headers": headers, "scheme": scheme, "client": (address, port) if address else None}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that yields the body already read, then the following messages (the disconnect)."""
    is_replayed = False

    async def replay() -> AsgiMessage:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
