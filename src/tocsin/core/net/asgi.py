"""Helpers for raw ASGI: reading whole bodies, sending responses, and finding the client's address."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from tocsin.core.config import environment

# ---------- client limits
# Limits per client address, so that no single client exhausts shared capacity. Knows no sockets.


#: A provider assigns at least a /64 to one subscriber, who can use every address in it (RFC 6177, 2).
_IPV6_SUBSCRIBER = 64


def client_key(address: str | None) -> str:
    """Returns the key by which a client is counted: its IPv4 address, or the /64 of its IPv6 address."""
    if address is None or ":" not in address:
        return address or ""
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, _IPV6_SUBSCRIBER), strict=False))


class ClientLimit:
    """Counts an activity per client and in total. Not thread-safe."""

    def __init__(self, per_client: int, total: int) -> None:
        self._per_client = per_client
        self._total = total
        self._count = 0
        self._by_client: Counter[str] = Counter()

    @contextmanager
    def acquire(self, key: str | None) -> Iterator[bool]:
        """Counts one activity for the duration of the block. `key` None is an unknown client, which has only the total
        limit. Yields False, and counts nothing, if a limit is reached."""
        if self._count >= self._total or (key is not None and self._by_client[key] >= self._per_client):
            yield False
            return
        if key is None:
            key = ""
        self._count += 1
        self._by_client[key] += 1
        try:
            yield True
        finally:
            self._count -= 1
            self._by_client[key] -= 1
            if not self._by_client[key]:
                del self._by_client[key]


type AsgiScope = MutableMapping[str, Any]
type AsgiMessage = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[AsgiMessage]]
type Send = Callable[[AsgiMessage], Awaitable[None]]
type AsgiApp = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

#: Sends one complete response on the event loop's thread: status, JSON body, and any additional headers.
type SendResponse = Callable[..., None]


class FastPathHandler(Protocol):
    """Handles complete requests without ASGI. Both methods run on the event loop and must never block."""

    def find_handle(self, target: bytes) -> object | None:
        """Returns a handle for the target of a POST that this handler takes; None leaves the request to ASGI."""
        ...

    def accept(
        self, handle: object, headers: Sequence[tuple[bytes, bytes]], body: bytes, respond: SendResponse
    ) -> bool:
        """Returns whether the request is taken. If so, `respond` is called later; if not, nothing was done with it."""
        ...


#: The largest accepted body, in bytes.
MAX_BODY_BYTES = 5 * 1024 * 1024

#: Seconds within which a whole body must arrive.
BODY_DEADLINE = 10.0

#: Maximum bytes of all bodies being read or waiting. Beyond it, requests are rejected and senders must retry.
MAX_IN_FLIGHT_BYTES = 128 * 1024 * 1024

#: Maximum number of bodies being read at once, per client and in total. A body that never completes occupies one.
MAX_CONCURRENT_READS_PER_CLIENT = 250
MAX_CONCURRENT_READS = 1_000


#: Headers that proxies add besides `X-Forwarded-…`: RFC 7239, RFC 9110 (7.6.3), and those usual with nginx.
_FORWARDING = frozenset({b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"cf-connecting-ip", b"true-client-ip"})


class BodyTooLarge(Exception):
    """The body is larger than MAX_BODY."""


class ClientDisconnected(Exception):
    """The client disconnected."""


class BodyTimeout(ClientDisconnected):
    """The client did not send the whole body in time."""


class OverCapacity(Exception):
    """There is no memory for another body, or too many are being read."""


class BodyReader:
    """Reads whole bodies, and limits the bytes held in memory."""

    def __init__(
        self,
        deadline: float = BODY_DEADLINE,
        max_in_flight: int = MAX_IN_FLIGHT_BYTES,
        read_limit: ClientLimit | None = None,
    ) -> None:
        """`deadline` is in seconds, `max_in_flight` in bytes; `read_limit` limits how many bodies are read at once."""
        self.in_flight = 0
        self._deadline = deadline
        self._max_in_flight = max_in_flight
        self._read_limit = read_limit or ClientLimit(MAX_CONCURRENT_READS_PER_CLIENT, MAX_CONCURRENT_READS)

    async def read(self, scope: AsgiScope, receive: Receive) -> bytes:
        """Returns the whole body of a request. Call `release` with its length once the body is released.

        Raises BodyTooLarge, BodyTimeout, ClientDisconnected or OverCapacity; nothing is then counted.
        """
        declared = content_length(scope)
        if declared is not None and declared > MAX_BODY_BYTES:
            raise BodyTooLarge
        if self.in_flight + (declared or 0) > self._max_in_flight:
            raise OverCapacity
        if declared == 0:
            return await self._read(receive)
        with self._read_limit.acquire(limit_key(scope)) as is_acquired:
            if not is_acquired:
                raise OverCapacity
            return await self._read(receive)

    async def _read(self, receive: Receive) -> bytes:
        message = await self._receive(receive)
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLarge
            self.in_flight += len(body)
            return body
        return await self._read_remaining(body, receive)

    async def _read_remaining(self, first: bytes, receive: Receive) -> bytes:
        parts, size = [first], len(first)
        self.in_flight += size
        try:
            async with asyncio.timeout(self._deadline):
                has_more = True
                while has_more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected
                    part: bytes = message.get("body", b"")
                    has_more = message.get("more_body", False)
                    size += len(part)
                    self.in_flight += len(part)
                    parts.append(part)
                    if size > MAX_BODY_BYTES:
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

    def reserve(self, size: int) -> bool:
        """Counts a body that has arrived. Returns False if there is no memory for it. Call `release` afterwards."""
        if self.in_flight + size > self._max_in_flight:
            return False
        self.in_flight += size
        return True

    def release(self, size: int) -> None:
        """Releases a body of `size` bytes."""
        self.in_flight -= size


def header(scope: AsgiScope, name: bytes) -> str | None:
    """Returns the first header with this lower-case name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def headers(scope: AsgiScope, name: bytes) -> list[str]:
    """Returns every header with this lower-case name, in order."""
    return [str(value, "latin-1") for key, value in scope["headers"] if key == name]


def content_length(scope: AsgiScope) -> int | None:
    """Returns the declared length of the body, or None if it is missing or not a number."""
    text = header(scope, b"content-length")
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else None


def client_address(scope: AsgiScope) -> str | None:
    """Returns the client's address: behind a trusted proxy, the last forwarded address that is no trusted proxy."""
    peer = scope["client"][0] if scope.get("client") else None
    trusted = environment.current().trusted_proxies
    if peer is None or not trusted or not _is_in(peer, trusted):
        return peer
    # Several headers form one list (RFC 9110, 5.3): a proxy may append its own header to one forged by the client.
    forwarded = ",".join(headers(scope, b"x-forwarded-for"))
    chain = [part.strip() for part in forwarded.split(",") if part.strip()]
    for address in reversed(chain):
        if not _is_in(address, trusted):
            return address if _parses(address) else peer
    return chain[0] if chain and _parses(chain[0]) else peer


def limit_key(scope: AsgiScope) -> str | None:
    """Returns the client's key for rate limits, or None if a trusted proxy does not name the client."""
    address = client_address(scope)
    if address is None or _is_in(address, environment.current().trusted_proxies):
        return None
    return client_key(address)


def is_from_trusted_proxy(scope: AsgiScope) -> bool:
    """Returns whether the peer itself is listed in `TOCSIN_TRUSTED_PROXIES`."""
    peer = scope["client"][0] if scope.get("client") else None
    return peer is not None and _is_in(peer, environment.current().trusted_proxies)


def has_forwarding_headers(scope: AsgiScope) -> bool:
    """Returns whether a header says that the request came through a proxy."""
    return any(key in _FORWARDING or key.startswith(b"x-forwarded-") for key, _ in scope["headers"])


def is_loopback(scope: AsgiScope) -> bool:
    """Returns whether the request certainly came from this machine, and through no proxy.

    A proxy on this machine also has a loopback address and need not add headers: nginx adds none by default, and sends
    the upstream's address as the host. So the answer is False once a public address or a trusted proxy is configured.
    """
    config = environment.current()
    if config.trusted_proxies or (config.base_url and not _names_loopback(urlsplit(config.base_url).netloc)):
        return False
    peer = scope["client"][0] if scope.get("client") else ""
    is_direct = not has_forwarding_headers(scope) and _names_loopback(header(scope, b"host") or "")
    return is_direct and _parses(peer) and _is_loopback(peer)


async def send_response(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Sends one complete response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Sends an error response in the common shape."""
    await send_response(send, status, msgspec.json.encode({"error": code, "detail": detail}), headers=headers)


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
    """Returns whether `netloc` names `localhost` or a loopback address, with or without a port."""
    try:
        host = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or (_parses(host) and _is_loopback(host))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
