"""Outbound connections to configured addresses.

Blocks private targets, connects to the very address that was checked, and follows no redirect. Addresses from the
environment are `trusted` and are not checked.
"""

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
from tocsin.core.reasons import Reason, ReasonType

type IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
#: Seconds for a whole request, however slowly the response arrives.
DEADLINE = 20.0
#: A connection that was idle for longer is closed.
KEEP_ALIVE_SECONDS = 60.0
#: Maximum bytes of a response that are read. Providers' responses are shorter.
MAX_RESPONSE_BYTES = 64 * 1024

#: IPv6 networks that carry an IPv4 address in the last 32 bits, which is the address to check: NAT64 (RFC 6052) and
#: stateless translation (RFC 2765, "IPv4-translated").
_TRANSLATED = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "::ffff:0:0:0/96"))
#: The first half of an ISATAP interface identifier (RFC 5214, 6.1), without the universal and group bits. The host's
#: IPv4 address follows it.
_ISATAP = 0x0000_5EFE
#: Private IPv6 networks that Python considers global: local translation (RFC 8215), site-local addresses (RFC 3879),
#: IPv4-compatible addresses (RFC 4291, 2.5.5.1), and segment identifiers (RFC 9602).
_LOCAL = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b:1::/48", "fec0::/10", "::/96", "5f00::/16"))


UNRESOLVABLE = ReasonType("network.unresolvable", "The name {host} cannot be resolved: {error}.")
PRIVATE_ADDRESS = ReasonType(
    "network.private_address", "{host} is at a private address ({address}), which Tocsin does not connect to."
)
_ALLOW_TARGET = ReasonType("network.allow_target", "If this is intended, add its network to TOCSIN_ALLOW_TARGETS.")
PORT_NOT_ANSWERING = ReasonType("network.port_not_answering", "{host} port {port} does not answer: {error}.")
NOT_ANSWERING = ReasonType("network.not_answering", "{host} does not answer: {error}.")
NO_ADDRESS = ReasonType("network.no_address", "it has no address")
NO_RESPONSE = ReasonType("network.no_response", "{host} received the request and did not answer: {error}.")
_REQUEST_IMPOSSIBLE = ReasonType("network.request_impossible", "A request to {host} cannot be made: {error}.")
_INVALID_URL = ReasonType("network.invalid_url", '"{url}" is not a valid URL.')
_UNPARSABLE_URL = ReasonType("network.unparsable_url", '"{url}" is not a valid URL: {error}.')
_URL_SCHEME = ReasonType("network.url_scheme", '"{url}" is not a valid URL: it must begin with http:// or https://.')
_URL_SPACES = ReasonType("network.url_spaces", '"{url}" is not a valid URL: it contains spaces or line breaks.')
_URL_PASSWORD = ReasonType(
    "network.url_password", "A URL must not contain a user name or password. Enter them in their own fields."
)
_INVALID_HEADER = ReasonType(
    "network.invalid_header", 'The header "{name}" cannot be sent: it contains a character that headers cannot carry.'
)
# Of Tocsin's own address.
REDIRECTS = ReasonType("network.redirects", "{url} redirects to {target}: senders do not follow redirects.")
REDIRECTS_SOMEWHERE = ReasonType(
    "network.redirects_somewhere", "{url} redirects to another address: senders do not follow redirects."
)
SET_FINAL_URL = ReasonType("network.set_final_url", "Set TOCSIN_BASE_URL to the final URL.")


class EgressBlocked(Permanent):
    """The target's address is private and not allowed."""


class CertificateRejected(Temporary):
    """The server's certificate is not valid for its name, or not trusted."""


class OutcomeUnknown(Temporary):
    """The connection failed after a part of the request was sent. The request may or may not have been carried out."""


@dataclass(frozen=True, slots=True)
class EgressResponse:
    """A server's response: status, headers by lower-case name, and the body up to the requested size."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def retry_after(self) -> timedelta | None:
        """The delay that the server requests (RFC 9110, 10.2.3), if any."""
        return _retry_after(self.headers.get("retry-after", ""), time.time())


def is_allowed(address: IPAddress, allowed: Collection[Network]) -> bool:
    """Returns whether `address` is public, or inside one of the `allowed` networks."""
    plain = _unwrapped(address)
    if any(plain.version == network.version and plain in network for network in allowed):
        return True
    is_local = plain.version == 6 and any(plain in network for network in _LOCAL)
    if is_local or not plain.is_global or plain.is_multicast:
        return False
    inside = _isatap(plain)
    return inside is None or is_allowed(inside, allowed)


def resolve(host: str, port: int, *, trusted: bool = False) -> list[tuple[socket.AddressFamily, str]]:
    """Returns the addresses of `host` that may be connected to, in the resolver's order.

    Raises Temporary if the name cannot be resolved, and EgressBlocked if none of its addresses is allowed.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Temporary(UNRESOLVABLE(host=host, error=str(error))) from None
    addresses: list[tuple[socket.AddressFamily, str]] = list(
        dict.fromkeys((family, str(socket_address[0])) for family, _, _, _, socket_address in infos)
    )
    if trusted:
        return addresses
    networks = environment.current().allow_targets
    usable = [pair for pair in addresses if is_allowed(ipaddress.ip_address(pair[1].split("%")[0]), networks)]
    if not usable:
        raise EgressBlocked(PRIVATE_ADDRESS(host=host, address=addresses[0][1]), _ALLOW_TARGET())
    return usable


def connect(host: str, port: int, timeout: float = CONNECT_TIMEOUT, *, trusted: bool = False) -> socket.socket:
    """Opens a TCP connection to one of the addresses that `resolve` returns.

    `timeout` applies to each address, `DEADLINE` to all: a name may have hundreds. Raises the errors of `resolve`, and
    Temporary if no address accepts the connection.
    """
    problem: OSError | None = None
    end = time.monotonic() + DEADLINE
    for family, address in resolve(host, port, trusted=trusted):
        if time.monotonic() >= end:
            break
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
    raise Temporary(PORT_NOT_ANSWERING(host=host, port=str(port), error=_cause(problem)))


def check_url(url: str) -> None:
    """Raises Permanent, with the reason, if `url` is not a usable http or https URL."""
    _parse_url(url)


@cache
def tls_context() -> ssl.SSLContext:
    """Returns a context that verifies certificates by the system's store (or `SSL_CERT_FILE`), or else by certifi's."""
    verify_paths = ssl.get_default_verify_paths()
    if verify_paths.cafile or verify_paths.capath:
        return ssl.create_default_context()
    return httpx.create_ssl_context()


class HttpClient:
    """An HTTP client with kept-alive connections, safe for use by many threads. Close it when done."""

    def __init__(self, *, trusted: bool = False, context: ssl.SSLContext | None = None) -> None:
        self._trusted = trusted
        self._context = context or tls_context()
        #: A stack of idle connections: the last used is reused first, so that surplus ones age at the bottom.
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
        max_bytes: int = MAX_RESPONSE_BYTES,
    ) -> EgressResponse:
        """Sends one request and returns the response, whatever its status. Redirects are returned, not followed.

        At most `max_bytes` of the body are read; `deadline` is in seconds. Raises Permanent for an unusable URL,
        Temporary if nothing was sent, and OutcomeUnknown if the request may have been sent.
        """
        target = _parse_url(url)
        # httpcore adds Host and Content-Length itself.
        raw_headers, raw_url = _encode_headers(headers or {}), _encode_url(url)
        timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT, "pool": deadline}
        end = time.monotonic() + deadline
        try:
            with (
                self._connection(end) as connection,
                connection.pool.stream(
                    method, raw_url, headers=raw_headers, content=content, extensions={"timeout": timeouts}
                ) as response,
            ):
                body = _read_body(response.iter_stream(), end, max_bytes)
                return EgressResponse(response.status, _headers(response.headers), body)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            failure = CertificateRejected if isinstance(error, _InvalidCertificate) else Temporary
            raise failure(NOT_ANSWERING(host=target.hostname, error=_cause(error))) from None
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError) as error:
            raise Permanent(_REQUEST_IMPOSSIBLE(host=target.hostname, error=_cause(error))) from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise OutcomeUnknown(NO_RESPONSE(host=target.hostname, error=_cause(error))) from None

    def close(self) -> None:
        """Closes idle connections now, and busy ones when their request has ended."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.pool.close()

    @contextmanager
    def _connection(self, response_deadline: float) -> Iterator[_SingleConnectionPool]:
        """Yields a pool of one connection for one request, whose response is read until `response_deadline`.

        A single pool of many connections scans all of them for each request. With fifty, that was measured to cost more
        than the request itself.
        """
        with self._lock:
            connection = self._idle.pop()[1] if self._idle else self._new()
        connection.deadline.until = response_deadline
        try:
            yield connection
        finally:
            now = time.monotonic()
            with self._lock:
                expired = [self._idle.pop(0)[1]] if self._idle and self._idle[0][0] < now - KEEP_ALIVE_SECONDS else []
                if self._is_closed:
                    expired.append(connection)
                else:
                    self._idle.append((now, connection))
            for each in expired:
                each.pool.close()

    def _new(self) -> _SingleConnectionPool:
        deadline = _ResponseDeadline()
        pool = httpcore.ConnectionPool(
            ssl_context=self._context,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=_Backend(self._trusted, deadline),
        )
        return _SingleConnectionPool(pool, deadline)


@dataclass(slots=True)
class _ResponseDeadline:
    """The moment, by the monotonic clock, until which a connection reads the response. A server that sends the head,
    or the size of a chunk, byte by byte would otherwise hold a request forever, because each single read is in time."""

    until: float = 0.0

    def read_timeout(self, timeout: float | None) -> float:
        """Returns the timeout for one read, in seconds."""
        remaining = max(0.001, self.until - time.monotonic())
        return remaining if timeout is None else min(timeout, remaining)


@dataclass(frozen=True, slots=True)
class _SingleConnectionPool:
    """A pool of one connection, and the deadline for its response."""

    pool: httpcore.ConnectionPool
    deadline: _ResponseDeadline


class _InvalidCertificate(httpcore.ConnectError):
    """The server's certificate could not be verified."""


class _Backend(httpcore.NetworkBackend):
    """Connects through `connect` for httpcore: the address that was checked is the one used, so that a DNS change in
    between has no effect (DNS rebinding)."""

    def __init__(self, trusted: bool, deadline: _ResponseDeadline) -> None:
        self._trusted = trusted
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        connected = connect(host, port, timeout or CONNECT_TIMEOUT, trusted=self._trusted)
        return _Stream(connected, self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connected socket with httpcore's interface."""

    def __init__(self, connection: socket.socket, deadline: _ResponseDeadline) -> None:
        self._socket = connection
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(self._deadline.read_timeout(timeout))
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
            return _Stream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._deadline)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout("no TLS in time") from error
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise _InvalidCertificate(_cause(error)) from error
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
    """Returns whether an idle connection is readable. The server then closed it, so it must not be reused."""
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _unwrapped(address: IPAddress) -> IPAddress:
    """Returns the IPv4 address embedded in an IPv6 address, if there is one, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and any(address in network for network in _TRANSLATED):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


def _isatap(address: IPAddress) -> ipaddress.IPv4Address | None:
    """Returns the IPv4 address inside an ISATAP address, to which an ISATAP router would forward."""
    if address.version == 4 or (int(address) >> 32) & 0xFCFF_FFFF != _ISATAP:
        return None
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _parse_url(url: str) -> _Target:
    # The query may hold a token or a phone number, so it is not repeated in messages.
    redacted_url = url.partition("?")[0][:200]
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname, parts.port
    except ValueError as error:
        raise Permanent(_UNPARSABLE_URL(url=redacted_url, error=str(error))) from None
    if parts.scheme not in ("http", "https") or not hostname:
        raise Permanent(_URL_SCHEME(url=redacted_url))
    if parts.username or parts.password:
        raise Permanent(_URL_PASSWORD())
    if any(ord(character) < 33 for character in url):
        raise Permanent(_URL_SPACES(url=redacted_url))
    return _Target(parts.netloc, hostname, port)


@dataclass(frozen=True, slots=True)
class _Target:
    netloc: str
    hostname: str
    port: int | None


def _encode_url(url: str) -> bytes:
    """Returns `url` as sent on the wire: the host in ASCII (IDNA), the rest percent-encoded."""
    try:
        return str(httpx.URL(url)).encode("ascii")
    except (httpx.InvalidURL, ValueError):
        redacted_url = url.partition("?")[0][:200]
        raise Permanent(_INVALID_URL(url=redacted_url)) from None


def _encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Returns the headers as sent on the wire. A value may be secret, so an error names only the header."""
    encoded = []
    for name, value in headers.items():
        try:
            encoded.append((name.encode("ascii"), value.encode("utf-8")))
        except UnicodeError:
            raise Permanent(_INVALID_HEADER(name=name[:100])) from None
    return encoded


def _headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}


def _read_body(parts: Iterable[bytes], end: float, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        for part in parts:
            body += part
            if len(body) >= max_bytes or time.monotonic() > end:
                break
    except httpcore.ReadTimeout:
        # The status is known, so what arrived in time is the response.
        if time.monotonic() < end:
            raise
    return bytes(body[:max_bytes])


def _retry_after(text: str, now: float) -> timedelta | None:
    digits = text.strip()
    if digits.isascii() and digits.isdigit():
        # Longer numbers than Python parses are capped, too.
        return timedelta(seconds=min(int(digits[:9]), 86_400))
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return None
    return timedelta(seconds=min(max(0.0, moment - now), 86_400))


def _cause(error: BaseException | None) -> Reason | str:
    """Formats an error without its class and without anything that was sent."""
    if error is None:
        return NO_ADDRESS()
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().rstrip(".")[:200]
