"""Connections to addresses that people configured. Refuses private targets, connects to the very address it checked,
and follows no redirect. Addresses given by the environment are `trusted` and need no allowance."""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import urlsplit

import httpcore
import httpx

from tocsin.core.config import environment
from tocsin.core.config.environment import Network
from tocsin.core.errors import Permanent, Temporary

type IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
#: A whole request, however slowly its answer drips.
DEADLINE = 20.0
#: A connection that was idle for longer is closed.
KEEP_ALIVE_SECONDS = 60.0
#: Of an answer so much is read; providers say what they have to say in less.
MAX_RESPONSE_BYTES = 64 * 1024

#: IPv6 addresses that carry an IPv4 address in their last 32 bits, which is what must be judged: NAT64 (RFC 6052) and
#: stateless translation (RFC 2765, "IPv4-translated").
_TRANSLATED = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "::ffff:0:0:0/96"))
#: What the last 64 bits of an ISATAP address begin with (RFC 5214, 6.1), without the universal and group bits; the IPv4
#: address of the host follows.
_ISATAP = 0x0000_5EFE
#: IPv6 networks that belong to whoever runs them, and that Python takes for public: local translation (RFC 8215),
#: addresses of a site (RFC 3879), and IPv4 in IPv6 as it once was (RFC 4291, 2.5.5.1).
_LOCAL = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b:1::/48", "fec0::/10", "::/96"))


class EgressBlocked(Permanent):
    """The target's address may not be reached from here."""


class OutcomeUnknown(Temporary):
    """The connection ended after the request had begun to leave: it may have been carried out, or not."""


@dataclass(frozen=True, slots=True)
class EgressResponse:
    """What a server answered: status, headers by lower-case name, and as much of its body as was asked for."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def retry_after(self) -> timedelta | None:
        """How long the server asks to wait (RFC 9110, 10.2.3), if it does."""
        return _retry_after(self.headers.get("retry-after", ""), time.time())


def is_allowed(address: IPAddress, allowed: Collection[Network]) -> bool:
    """Whether `address` is public, or inside one of the networks `allowed`."""
    plain = _unwrapped(address)
    if any(plain.version == network.version and plain in network for network in allowed):
        return True
    is_local = plain.version == 6 and any(plain in network for network in _LOCAL)
    if is_local or not plain.is_global or plain.is_multicast:
        return False
    inside = _isatap(plain)
    return inside is None or is_allowed(inside, allowed)


def resolve(host: str, port: int, *, trusted: bool = False) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of `host` that may be connected to, in the resolver's order.

    Raises Temporary when the name cannot be resolved, and Refused when it leads to no address that is allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Temporary(f"The name {host} cannot be resolved: {error}.") from None
    addresses: list[tuple[socket.AddressFamily, str]] = list(
        dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found)
    )
    if trusted:
        return addresses
    networks = environment.current().allow_targets
    usable = [pair for pair in addresses if is_allowed(ipaddress.ip_address(pair[1].split("%")[0]), networks)]
    if not usable:
        raise EgressBlocked(
            f"{host} is at a private address ({addresses[0][1]}), which Tocsin does not connect to.",
            "Add its network to TOCSIN_ALLOW_TARGETS if that is meant.",
        )
    return usable


def connect(host: str, port: int, timeout: float = CONNECT_TIMEOUT, *, trusted: bool = False) -> socket.socket:
    """A TCP connection to one of the addresses that `resolve` allows.

    Raises what `resolve` raises, and Temporary when none of them answers.
    """
    problem: OSError | None = None
    for family, address in resolve(host, port, trusted=trusted):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect((address, port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            problem = error
        else:
            return connection
    raise Temporary(f"{host} port {port} does not answer: {_cause(problem)}.")


def check_url(url: str) -> None:
    """Raises Permanent, saying why, when `url` is not an http or https address that can be called."""
    _checked(url)


@cache
def tls_context() -> ssl.SSLContext:
    """Verifies certificates by the system's store (or `SSL_CERT_FILE`); by the bundled one where there is none."""
    places = ssl.get_default_verify_paths()
    if places.cafile or places.capath:
        return ssl.create_default_context()
    return httpx.create_ssl_context()


class HttpClient:
    """Sends HTTP requests over connections that are kept; used by many threads at once. Close it when done."""

    def __init__(self, *, trusted: bool = False, context: ssl.SSLContext | None = None) -> None:
        self._trusted = trusted
        self._context = context or tls_context()
        #: The one used last is on top, so that few are busy where few suffice, and the others grow old at the bottom.
        self._idle: list[tuple[float, _SingleConnectionPool]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        deadline: float = DEADLINE,
        most_bytes: int = MAX_RESPONSE_BYTES,
    ) -> EgressResponse:
        """Sends one request and returns the answer, whatever its status; a redirect is an answer too.

        Of the body at most `most_bytes` are read.

        Raises Permanent for an address that cannot be used, Temporary when nothing has left, and OutcomeUnknown when
        something may have.
        """
        target = _checked(url)
        # httpcore adds Host and Content-Length itself.
        sent, address = _sent(headers or {}), _bytes_of(url)
        timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT, "pool": deadline}
        end = time.monotonic() + deadline
        try:
            with (
                self._connection(end) as connection,
                connection.pool.stream(
                    method, address, headers=sent, content=content, extensions={"timeout": timeouts}
                ) as response,
            ):
                connection.patience.until = None
                body = _body(response.iter_stream(), end, most_bytes)
                return EgressResponse(response.status, _headers(response.headers), body)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            raise Temporary(f"{target.hostname} does not answer: {_cause(error)}.") from None
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError) as error:
            raise Permanent(f"A request to {target.hostname} cannot be made: {_cause(error)}.") from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise OutcomeUnknown(f"{target.hostname} took the request and did not answer: {_cause(error)}.") from None

    def close(self) -> None:
        """Closes idle connections now, and others when their request has ended."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.pool.close()

    @contextmanager
    def _connection(self, answer_by: float) -> Iterator[_SingleConnectionPool]:
        """A pool of one connection for one request, whose answer must have begun by then.

        One pool of many would look through all of them each time, which costs more than the request: measured with
        fifty.
        """
        with self._lock:
            connection = self._idle.pop()[1] if self._idle else self._new()
        connection.patience.until = answer_by
        try:
            yield connection
        finally:
            now = time.monotonic()
            with self._lock:
                old = [self._idle.pop(0)[1]] if self._idle and self._idle[0][0] < now - KEEP_ALIVE_SECONDS else []
                if self._is_closed:
                    old.append(connection)
                else:
                    self._idle.append((now, connection))
            for each in old:
                each.pool.close()

    def _new(self) -> _SingleConnectionPool:
        patience = _HeaderDeadline()
        pool = httpcore.ConnectionPool(
            ssl_context=self._context,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=_Backend(self._trusted, patience),
        )
        return _SingleConnectionPool(pool, patience)


@dataclass(slots=True)
class _HeaderDeadline:
    """Until when a connection waits for the head of an answer, by the monotonic clock: a server that sends it byte by
    byte would hold a request without end, since each read by itself is in time."""

    until: float | None = None

    def of(self, timeout: float | None) -> float | None:
        """How long one read may take."""
        if self.until is None:
            return timeout
        left = max(0.001, self.until - time.monotonic())
        return left if timeout is None else min(timeout, left)


@dataclass(frozen=True, slots=True)
class _SingleConnectionPool:
    """A pool of one connection, and how long that waits."""

    pool: httpcore.ConnectionPool
    patience: _HeaderDeadline


class _Backend(httpcore.NetworkBackend):
    """Connects for httpcore, by `connect`: what was checked is what is connected to, so a name cannot change in
    between."""

    def __init__(self, trusted: bool, patience: _HeaderDeadline) -> None:
        self._trusted = trusted
        self._patience = patience

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        connected = connect(host, port, timeout or CONNECT_TIMEOUT, trusted=self._trusted)
        return _Stream(connected, self._patience)


class _Stream(httpcore.NetworkStream):
    """A connected socket as httpcore wants it."""

    def __init__(self, connection: socket.socket, patience: _HeaderDeadline) -> None:
        self._socket = connection
        self._patience = patience

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(self._patience.of(timeout))
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("no answer in time") from error
        except OSError as error:
            raise httpcore.ReadError(_cause(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout("it takes no more") from error
        except OSError as error:
            raise httpcore.WriteError(_cause(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._socket.settimeout(timeout)
            return _Stream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._patience)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout("no TLS in time") from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(_cause(error)) from error

    def get_extra_info(self, info: str) -> object:
        match info:
            case "socket":
                return self._socket
            case "ssl_object":
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "is_readable":
                return _is_readable(self._socket)
            case _:
                return None


def _is_readable(connection: socket.socket) -> bool:
    """Whether an idle connection has something to read: the server closed it, so it must not be used again."""
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _unwrapped(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for, if it does; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and any(address in network for network in _TRANSLATED):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


def _isatap(address: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an ISATAP address, to which a router of that network sends what comes."""
    if address.version == 4 or (int(address) >> 32) & 0xFCFF_FFFF != _ISATAP:
        return None
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _checked(url: str) -> _Target:
    # What follows the path may hold a token or somebody's number.
    shown = url.partition("?")[0][:200]
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname, parts.port
    except ValueError as error:
        raise Permanent(f"{shown!r} is not an address that can be called: {error}.") from None
    if parts.scheme not in ("http", "https") or not hostname:
        raise Permanent(f"{shown!r} is not an address that can be called: it begins with http:// or https://.")
    if parts.username or parts.password:
        raise Permanent("An address carries no password in it: enter it in its own field.")
    if any(ord(character) < 33 for character in url):
        raise Permanent(f"{shown!r} is not an address that can be called: it has spaces or line breaks in it.")
    return _Target(parts.netloc, hostname, port)


@dataclass(frozen=True, slots=True)
class _Target:
    netloc: str
    hostname: str
    port: int | None


def _bytes_of(url: str) -> bytes:
    """`url` as it goes on the wire: the host in its ASCII form, everything else percent-encoded."""
    try:
        return str(httpx.URL(url)).encode("ascii")
    except (httpx.InvalidURL, ValueError):
        shown = url.partition("?")[0][:200]
        raise Permanent(f"{shown!r} is not an address that can be called.") from None


def _sent(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers as they go on the wire. A value may be a secret, so only its name is said."""
    found = []
    for name, value in headers.items():
        try:
            found.append((name.encode("ascii"), value.encode("utf-8")))
        except UnicodeError:
            said = f"The header {name[:100]!r} cannot be sent: it has a character that headers cannot carry."
            raise Permanent(said) from None
    return found


def _headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}


def _body(parts: Iterable[bytes], end: float, most: int) -> bytes:
    body = bytearray()
    for part in parts:
        body += part
        if len(body) >= most or time.monotonic() > end:
            break
    return bytes(body[:most])


def _retry_after(text: str, now: float) -> timedelta | None:
    digits = text.strip()
    if digits.isascii() and digits.isdigit():
        # More of them than Python reads as a number are a long time, too.
        return timedelta(seconds=min(int(digits[:9]), 86_400))
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return None
    return timedelta(seconds=min(max(0.0, moment - now), 86_400))


def _cause(error: BaseException | None) -> str:
    """An error in a few words, without the class and without anything that was sent."""
    if error is None:
        return "it has no address"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().rstrip(".")[:200]
