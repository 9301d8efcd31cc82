"""The ASGI entry point: webhooks, live updates and probes on raw ASGI; everything else goes to the web process.

Whole bodies are read here, so that a slow client occupies a socket but no thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from tocsin.core.config import environment
from tocsin.core.net.asgi import (
    AsgiApp,
    AsgiMessage,
    AsgiScope,
    BodyReader,
    BodyTimeout,
    BodyTooLarge,
    ClientDisconnected,
    OverCapacity,
    Receive,
    Send,
    client_address,
    is_from_trusted_proxy,
    limit_key,
    refuse,
)
from tocsin.core.net.asgi import headers as headers_of
from tocsin.core.net.client_limits import ClientLimit
from tocsin.inbound.app import PREFIXES as INBOUND

log = logging.getLogger(__name__)

#: The path at which browsers receive live updates.
LIVE = "/live"

#: Web requests in progress at once, per client and in total.
MAX_PAGES_PER_CLIENT = 200
MAX_PAGES = 2_000

#: Live streams per client and in total. Each user has a limit too.
MAX_STREAMS_PER_CLIENT = 250
MAX_STREAMS = 1_000

_RETRY = ((b"retry-after", b"5"),)
_CLOSE = ((b"connection", b"close"),)

#: Members that errors of the REST API also have.
_FIELDS: Mapping[str, object] = {"fields": {}}

#: Headers that only this router may set for Django.
_OWN_HEADERS = frozenset({b"x-tocsin-proto", b"x-tocsin-address"})
_FORWARDING = (b"forwarded", b"x-forwarded-")


class AsgiRouter:
    """The ASGI app of a node. Each room's app is passed in; None if the node's role does not include it."""

    def __init__(
        self,
        *,
        bodies: BodyReader,
        probes: AsgiApp,
        inbound: AsgiApp | None = None,
        live: AsgiApp | None = None,
        pages: AsgiApp | None = None,
        page_limit: ClientLimit | None = None,
        stream_limit: ClientLimit | None = None,
    ) -> None:
        self._bodies = bodies
        self._probes = probes
        self._inbound = inbound
        self._live = live
        self._pages = pages
        self._page_limit = page_limit or ClientLimit(MAX_PAGES_PER_CLIENT, MAX_PAGES)
        self._stream_limit = stream_limit or ClientLimit(MAX_STREAMS_PER_CLIENT, MAX_STREAMS)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Routes each request to its room's app."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith(INBOUND):
            await self._to(self._inbound, scope, receive, send)
        elif path in ("/healthz", "/readyz", "/metrics"):
            await self._probes(scope, receive, send)
        elif path == LIVE:
            await self._limited(self._stream_limit, partial(self._to, self._live), scope, receive, send)
        elif self._pages is None:
            await refuse(send, 404, "not_here", "This node does not serve pages.")
        else:
            await self._limited(self._page_limit, partial(self._to_pages, self._pages), scope, receive, send)

    async def _limited(self, limit: ClientLimit, app: AsgiApp, scope: AsgiScope, receive: Receive, send: Send) -> None:
        with limit.entered(limit_key(scope)) as is_entered:
            if is_entered:
                await app(scope, receive, send)
            else:
                detail = "Too many requests from this address are in progress. Try again."
                await refuse(send, 503, "busy", detail, headers=_RETRY, more=_FIELDS)

    async def _to(self, app: AsgiApp | None, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if app is None:
            await refuse(send, 404, "not_here", "This node does not take messages here.")
        else:
            await app(scope, receive, send)

    async def _to_pages(self, pages: AsgiApp, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            body = await self._bodies.read(scope, receive)
        except BodyTooLarge:
            await refuse(send, 413, "too_large", "A body has at most 5 MiB.", headers=_CLOSE, more=_FIELDS)
        except OverCapacity:
            await refuse(send, 503, "busy", "Too much is being received. Try again.", headers=_RETRY, more=_FIELDS)
        except BodyTimeout:
            detail = "The body did not come whole in time. Send it again."
            await refuse(send, 408, "too_slow", detail, headers=_CLOSE, more=_FIELDS)
        except ClientDisconnected:
            return
        else:
            try:
                await pages(for_django(scope), _replay(body, receive), send)
            finally:
                self._bodies.done(len(body))


def for_django(scope: AsgiScope) -> AsgiScope:
    """Returns the scope for Django: public host and scheme, the client's address, and no forwarding headers.

    Only a trusted proxy may report that a browser used https.
    """
    base = environment.current().base_url
    headers = [
        (key, value)
        for key, value in scope["headers"]
        # WSGI maps underscores to hyphens, so a header with an underscore could pass for another.
        if b"_" not in key
        and key not in _OWN_HEADERS
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
    given = False

    async def again() -> AsgiMessage:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
