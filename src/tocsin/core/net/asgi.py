"""Small parts of raw ASGI that the front door and its rooms share: whole bodies, answers, the sender's address."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from tocsin.core.config import environment
from tocsin.core.net.client_limits import ClientLimit, client_key

type AsgiScope = MutableMapping[str, Any]
type AsgiMessage = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[AsgiMessage]]
type Send = Callable[[AsgiMessage], Awaitable[None]]
type AsgiApp = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

#: Answers a whole request, once, on the event loop's thread: status, JSON body, and any headers beside the usual ones.
type RespondDirectly = Callable[..., None]


class FastPathHandler(Protocol):
    """Takes requests that came whole without ASGI. Both methods are called on the event loop and never wait."""

    def wants(self, target: bytes) -> object | None:
        """Something that stands for the target of a POST whose requests are taken here; None: ASGI has it."""
        ...

    def take(
        self, wanted: object, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: RespondDirectly
    ) -> bool:
        """Whether the request is taken, and will be answered by `answer`. If not, nothing was done with it."""
        ...


#: The largest body that is taken, in bytes.
MAX_BODY = 5 * 1024 * 1024

#: A body that is not whole after so many seconds is given up.
BODY_DEADLINE = 10.0

#: All bodies being read or waiting together, in bytes: beyond it senders are told to come again.
MAX_IN_FLIGHT = 128 * 1024 * 1024

#: Bodies of one client that are awaited at once, and of all clients: senders that never finish one take a connection.
MAX_READING_PER_CLIENT = 250
MAX_READING = 1_000


#: Beside `X-Forwarded-…`, what proxies add: RFC 7239, RFC 9110 (7.6.3), and nginx's usual ones.
_FORWARDING = frozenset({b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"cf-connecting-ip", b"true-client-ip"})


class BodyTooLarge(Exception):
    """The body is over MAX_BODY."""


class ClientDisconnected(Exception):
    """The sender left."""


class BodyTimeout(ClientDisconnected):
    """The sender did not send the whole body in time."""


class OverCapacity(Exception):
    """There is no memory left for one more body, or too many are awaited already."""


class BodyReader:
    """Reads whole bodies, and counts their bytes in flight."""

    def __init__(
        self,
        deadline: float = BODY_DEADLINE,
        max_in_flight: int = MAX_IN_FLIGHT,
        reading: ClientLimit | None = None,
    ) -> None:
        """`deadline` in seconds, `max_in_flight` in bytes; `reading` limits how many bodies are awaited at once."""
        self.in_flight = 0
        self._deadline = deadline
        self._max_in_flight = max_in_flight
        self._reading = reading or ClientLimit(MAX_READING_PER_CLIENT, MAX_READING)

    async def read(self, scope: AsgiScope, receive: Receive) -> bytes:
        """The whole body of a request. Call `done` with its length when it is no longer held.

        Raises TooLarge, TooSlow, Gone or Busy; nothing is then held.
        """
        declared = content_length(scope)
        if declared is not None and declared > MAX_BODY:
            raise BodyTooLarge
        if self.in_flight + (declared or 0) > self._max_in_flight:
            raise OverCapacity
        if declared == 0:
            return await self._read(receive)
        with self._reading.entered(limit_key(scope)) as is_entered:
            if not is_entered:
                raise OverCapacity
            return await self._read(receive)

    async def _read(self, receive: Receive) -> bytes:
        message = await self._receive(receive)
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            if len(body) > MAX_BODY:
                raise BodyTooLarge
            self.in_flight += len(body)
            return body
        return await self._rest(body, receive)

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        parts, size = [first], len(first)
        self.in_flight += size
        try:
            async with asyncio.timeout(self._deadline):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected
                    part: bytes = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(part)
                    self.in_flight += len(part)
                    parts.append(part)
                    if size > MAX_BODY:
                        raise BodyTooLarge
                    if self.in_flight > self._max_in_flight:
                        raise OverCapacity
        except TimeoutError:
            self.in_flight -= size
            raise BodyTimeout from None
        except BaseException:
            self.in_flight -= size
            raise
        return b"".join(parts)

    async def _receive(self, receive: Receive) -> AsgiMessage:
        try:
            async with asyncio.timeout(self._deadline):
                return await receive()
        except TimeoutError:
            raise BodyTimeout from None

    def hold(self, size: int) -> bool:
        """Counts a body that is here already; False where there is no memory left for it. Call `done` afterwards."""
        if self.in_flight + size > self._max_in_flight:
            return False
        self.in_flight += size
        return True

    def done(self, size: int) -> None:
        """The body of `size` bytes is no longer held."""
        self.in_flight -= size


def header(scope: AsgiScope, name: bytes) -> str | None:
    """The first header of that lower-case name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def headers(scope: AsgiScope, name: bytes) -> list[str]:
    """Every header of that lower-case name, in order."""
    return [str(value, "latin-1") for key, value in scope["headers"] if key == name]


def content_length(scope: AsgiScope) -> int | None:
    """The declared length of the body, or None when it is not said, or not in digits."""
    text = header(scope, b"content-length")
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else None


def client_address(scope: AsgiScope) -> str | None:
    """The address of whoever sent the request: behind a trusted proxy the last address that no such proxy has."""
    peer = scope["client"][0] if scope.get("client") else None
    trusted = environment.current().trusted_proxies
    if peer is None or not trusted or not _is_in(peer, trusted):
        return peer
    # Several headers are one list (RFC 9110, 5.3): a proxy may add its own behind one that the sender made up.
    said = ",".join(headers(scope, b"x-forwarded-for"))
    chain = [part.strip() for part in said.split(",") if part.strip()]
    for address in reversed(chain):
        if not _is_in(address, trusted):
            return address if _parses(address) else peer
    return chain[0] if chain and _parses(chain[0]) else peer


def limit_key(scope: AsgiScope) -> str | None:
    """The key of the client for its limits; None where a trusted proxy does not say for whom it asks."""
    address = client_address(scope)
    if address is None or _is_in(address, environment.current().trusted_proxies):
        return None
    return client_key(address)


def is_from_trusted_proxy(scope: AsgiScope) -> bool:
    """Whether the peer itself is one of `TOCSIN_TRUSTED_PROXIES`."""
    peer = scope["client"][0] if scope.get("client") else None
    return peer is not None and _is_in(peer, environment.current().trusted_proxies)


def has_forwarding_headers(scope: AsgiScope) -> bool:
    """Whether somebody says that the request came through a proxy."""
    return any(key in _FORWARDING or key.startswith(b"x-forwarded-") for key, _ in scope["headers"])


def is_loopback(scope: AsgiScope) -> bool:
    """Whether the request surely came from this machine itself, and through no proxy.

    A proxy on this machine has a loopback address too, and need not add headers: nginx adds none by itself, and names
    the address that it calls as the host. So nothing is sure once a public address or a trusted proxy is configured.
    """
    known = environment.current()
    if known.trusted_proxies or (known.base_url and not _names_loopback(urlsplit(known.base_url).netloc)):
        return False
    peer = scope["client"][0] if scope.get("client") else ""
    is_direct = not has_forwarding_headers(scope) and _names_loopback(header(scope, b"host") or "")
    return is_direct and _parses(peer) and _is_loopback(peer)


async def answer(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Sends one whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    more: Mapping[str, object] | None = None,
) -> None:
    """Sends an error in the shape that every door uses; `more` is what a room's errors have beside it."""
    await answer(send, status, msgspec.json.encode({"error": code, "detail": detail, **(more or {})}), headers=headers)


def _is_in(address: str, networks: Iterable[environment.Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed.version == network.version and parsed in network for network in networks)


def _parses(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _names_loopback(netloc: str) -> bool:
    """Whether `localhost`, or a loopback address, stands there, with or without a port."""
    try:
        host = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or (_parses(host) and _is_loopback(host))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
