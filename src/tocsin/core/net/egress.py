"""Outbound connections to configured addresses.

Blocks private targets, connects to the very address that was checked, and follows no redirect. Addresses from the
environment are `trusted` and are not checked.
"""

from __future__ import annotations

import io
import ipaddress
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from http.client import BadStatusLine, HTTPException, HTTPResponse, IncompleteRead, parse_headers
from typing import IO, Any
from urllib.parse import urlsplit

import httpx

from tocsin.core.config import environment
from tocsin.core.config.environment import Network
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import Reason, ReasonType, sentence

# ---------- deadline stream
# Reads the responses of a line protocol (SMTP, IMAP) with a deadline and a size limit for the whole exchange.
#
# Without them, a server that sends a line just before each timeout could block its caller forever.


_TOO_LONG = "its answer does not come to an end"


class DeadlineStream:
    """The limits of one exchange, from a command to the end of its response. Call `begin_exchange` before each."""

    def __init__(self) -> None:
        self._deadline, self._max_bytes, self._received = 0.0, 0, 0

    def begin_exchange(self, seconds: float, max_bytes: int) -> None:
        """Starts an exchange of at most `seconds` seconds and `max_bytes` bytes."""
        self._deadline, self._max_bytes, self._received = time.monotonic() + seconds, max_bytes, 0

    def reader(self, connection: socket.socket) -> io.BufferedReader:
        """Returns the received data as a file. Raises TimeoutError if the exchange exceeds a limit, or if the server is
        silent for longer than the connection's own timeout."""
        return io.BufferedReader(_ResponseReader(self, connection))

    def receive(self, connection: socket.socket, buffer: Any) -> int:
        """Receives bytes into `buffer` and returns their number. Raises TimeoutError as `reader` does."""
        default_timeout, remaining = connection.gettimeout(), self._deadline - time.monotonic()
        if remaining <= 0 or self._received > self._max_bytes:
            raise TimeoutError(_TOO_LONG)
        # Each change is a system call.
        is_shorter = default_timeout is None or remaining < default_timeout
        try:
            if is_shorter:
                connection.settimeout(remaining)
            count = connection.recv_into(buffer)
        except TimeoutError:
            if is_shorter:
                raise TimeoutError(_TOO_LONG) from None
            raise
        finally:
            if is_shorter:
                connection.settimeout(default_timeout)
        self._received += count
        return count


class _ResponseReader(io.RawIOBase):
    def __init__(self, stream: DeadlineStream, connection: socket.socket) -> None:
        self._stream, self._connection = stream, connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.receive(self._connection, buffer)


# ---------- http connection
# One kept-alive HTTP/1.1 connection (RFC 9112), on the standard library's parser of responses.
#
# A request leaves in one write, and its response is read until a deadline, however slowly it arrives. httpcore, with
# all that it can do besides, took four times the processor time for a page.


#: Scheme, host and port.
type Origin = tuple[str, str, int]

#: Beyond the bytes of the body: the head, and what frames chunks of one byte.
MAX_HEAD_BYTES = 256 * 1024
_MAX_FRAMING_FACTOR = 8

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?|")


class Unsendable(Exception):
    """The request cannot be written: its method or a header contains a character that is not allowed there."""


class HttpConnection:
    """A connected socket, and the origin that it leads to. Used by one thread at a time."""

    def __init__(self, connection: socket.socket, origin: Origin) -> None:
        """`connection` has its timeout for each read and write."""
        self.origin = origin
        #: Whether it can carry another request: the response of the last one was read to its end.
        self.is_kept = False
        self._socket = connection
        self._exchange = DeadlineStream()

    def send(self, request: bytes) -> None:
        """Raises OSError."""
        self.is_kept = False
        self._socket.sendall(request)

    def receive(self, method: str, end: float, max_bytes: int) -> tuple[int, Mapping[str, str], bytes]:
        """Returns the response: status, headers by lower-case name, and at most `max_bytes` of the body; what arrived
        until `end`, by the monotonic clock, if the head did. Raises OSError and HTTPException.
        """
        self._exchange.begin_exchange(end - time.monotonic(), MAX_HEAD_BYTES + _MAX_FRAMING_FACTOR * max_bytes)
        response = _Response(self, method)
        try:
            response.begin()
            body = _read_body(response, end, max_bytes)
            self.is_kept = not response.will_close and response.isclosed()
            return response.status, {name.lower(): value for name, value in response.headers.items()}, body
        finally:
            response.close()

    def makefile(self, _mode: str) -> IO[bytes]:
        """What `HTTPResponse` reads from."""
        return self._exchange.reader(self._socket)

    def is_usable(self) -> bool:
        """Returns False if an idle connection is readable: the server has closed it, or sent what nobody asked for."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self._socket.close()


def request_bytes(method: str, target: bytes, headers: list[tuple[bytes, bytes]], content: bytes) -> bytes:
    """Returns a request as sent on the wire. Raises Unsendable; the error does not repeat a header's value."""
    if not _NAME.fullmatch(method.encode()):
        raise Unsendable("the method is not a token")
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Unsendable(f"the header {name.decode('latin-1')[:100]} has a character that is not allowed")
    lines = [b"%b: %b" % header for header in headers]
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method.encode(), target), *lines, b"", content])


class _Response(HTTPResponse):
    """Skips every interim response, such as 103 (RFC 9110, 15.2). `HTTPResponse` skips 100 only."""

    def __init__(self, connection: HttpConnection, method: str) -> None:
        super().__init__(connection, method=method)  # type: ignore[arg-type]  # it needs `makefile` only

    def _read_status(self) -> tuple[str, int, str]:
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        for _ in range(10):
            if not 101 < found[1] < 200:
                return found
            parse_headers(self.fp)
            found = super()._read_status()  # type: ignore[misc]
        raise BadStatusLine("interim responses without end")


def _read_body(response: HTTPResponse, end: float, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        while len(body) < max_bytes and (part := response.read1(max_bytes - len(body))):
            body += part
            if time.monotonic() > end:
                return bytes(body)
    except TimeoutError:
        # The status is known, so what arrived in time is the response.
        if time.monotonic() < end:
            raise
        return bytes(body)
    if len(body) < max_bytes and response.length:
        raise IncompleteRead(b"", response.length)
    return bytes(body)


type IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
#: Seconds for a whole request, however slowly the response arrives.
DEADLINE = 20.0
#: A connection that was idle for longer is closed.
KEEP_ALIVE_SECONDS = 60.0
#: Maximum bytes of a response that are read. Providers' responses are shorter.
MAX_RESPONSE_BYTES = 64 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}

#: IPv6 networks that carry an IPv4 address in the last 32 bits, which is the address to check: NAT64 (RFC 6052) and
#: stateless translation (RFC 2765, "IPv4-translated").
_TRANSLATED = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "::ffff:0:0:0/96"))
#: The first half of an ISATAP interface identifier (RFC 5214, 6.1), without the universal and group bits. The host's
#: IPv4 address follows it.
_ISATAP = 0x0000_5EFE
#: Private IPv6 networks that Python considers global: local translation (RFC 8215), site-local addresses (RFC 3879),
#: IPv4-compatible addresses (RFC 4291, 2.5.5.1), and segment identifiers (RFC 9602).
_LOCAL = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b:1::/48", "fec0::/10", "::/96", "5f00::/16"))

_SPACE = re.compile(r"[\x00-\x20]")

UNRESOLVABLE = ReasonType("network.unresolvable", "The name {host} cannot be resolved: {error}.")
PRIVATE_ADDRESS = ReasonType(
    "network.private_address", "{host} is at a private address ({address}), which Tocsin does not connect to."
)
_ALLOW_TARGET = ReasonType("network.allow_target", "If this is intended, add its network to TOCSIN_ALLOW_TARGETS.")
PORT_NOT_ANSWERING = ReasonType("network.port_not_answering", "{host} port {port} does not answer: {error}.")
NOT_ANSWERING = ReasonType("network.not_answering", "{host} does not answer: {error}.")
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
SET_FINAL_URL = ReasonType("network.set_final_url", "Set the public URL to the final URL.")


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
    # The query may hold a token or a phone number, so it is not repeated in messages.
    redacted_url = url.partition("?")[0][:200]
    try:
        parts = urlsplit(url)
        hostname, _port = parts.hostname, parts.port
    except ValueError as error:
        raise Permanent(_UNPARSABLE_URL(url=redacted_url, error=str(error))) from None
    if parts.scheme not in ("http", "https") or not hostname:
        raise Permanent(_URL_SCHEME(url=redacted_url))
    if parts.username or parts.password:
        raise Permanent(_URL_PASSWORD())
    if _SPACE.search(url):
        raise Permanent(_URL_SPACES(url=redacted_url))


@cache
def tls_context() -> ssl.SSLContext:
    """Returns a context that verifies certificates by the system's store (or `SSL_CERT_FILE`), or else by certifi's."""
    return _new_tls_context()


def _new_tls_context() -> ssl.SSLContext:
    verify_paths = ssl.get_default_verify_paths()
    if verify_paths.cafile or verify_paths.capath:
        return ssl.create_default_context()
    return httpx.create_ssl_context()


@cache
def _http_tls_context() -> ssl.SSLContext:
    """Returns a context of its own, because it names the protocol (RFC 7301). A mail server may refuse that name."""
    context = _new_tls_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpClient:
    """An HTTP client with kept-alive connections, safe for use by many threads. Close it when done."""

    def __init__(self, *, trusted: bool = False, context: ssl.SSLContext | None = None) -> None:
        self._trusted = trusted
        self._context = context or _http_tls_context()
        #: A stack of idle connections: the last used is reused first, so that surplus ones age at the bottom.
        self._idle: list[tuple[float, HttpConnection]] = []
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
        end = time.monotonic() + deadline
        target = _target(url)
        raw_headers = _encode_headers(headers or {})
        # A request with two of them is refused (RFC 9112, 3.2 and 6.3); that of the caller may be part of a signature.
        given = {name.lower() for name, _ in raw_headers}
        own = ((b"Host", target.netloc), (b"Content-Length", b"%d" % len(content)))
        raw_headers = [*(header for header in own if header[0].lower() not in given), *raw_headers]
        try:
            request = request_bytes(method, target.path, raw_headers, content)
        except Unsendable as error:
            raise Permanent(_REQUEST_IMPOSSIBLE(host=target.host, error=_cause(error))) from None
        connection = self._take_idle(target.origin) or self._connect(target.origin)
        try:
            connection.send(request)
            return EgressResponse(*connection.receive(method, end, max_bytes))
        except TimeoutError:
            raise OutcomeUnknown(NO_RESPONSE(host=target.host, error="no answer in time")) from None
        except (OSError, HTTPException) as error:
            raise OutcomeUnknown(NO_RESPONSE(host=target.host, error=_cause(error))) from None
        finally:
            self._put_back(connection)

    def close(self) -> None:
        """Closes idle connections now, and busy ones when their request has ended."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take_idle(self, origin: Origin) -> HttpConnection | None:
        while True:
            with self._lock:
                places = (place for place in reversed(range(len(self._idle))) if self._idle[place][1].origin == origin)
                place = next(places, None)
                if place is None:
                    return None
                connection = self._idle.pop(place)[1]
            if connection.is_usable():
                return connection
            connection.close()

    def _put_back(self, connection: HttpConnection) -> None:
        now = time.monotonic()
        with self._lock:
            if is_kept := connection.is_kept and not self._is_closed:
                self._idle.append((now, connection))
            expired = []
            while self._idle and self._idle[0][0] < now - KEEP_ALIVE_SECONDS:
                expired.append(self._idle.pop(0)[1])
        for each in expired if is_kept else [*expired, connection]:
            each.close()

    def _connect(self, origin: Origin) -> HttpConnection:
        scheme, host, port = origin
        connection = connect(host, port, trusted=self._trusted)
        try:
            if scheme == "https":
                connection = self._context.wrap_socket(connection, server_hostname=host)
            connection.settimeout(READ_TIMEOUT)
        except OSError as error:
            connection.close()
            failure = CertificateRejected if isinstance(error, ssl.SSLCertVerificationError) else Temporary
            cause = "no TLS in time" if isinstance(error, TimeoutError) else _cause(error)
            raise failure(NOT_ANSWERING(host=host, error=cause)) from None
        return HttpConnection(connection, origin)


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


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL as sent on the wire: the host in ASCII (IDNA), the rest percent-encoded."""

    origin: Origin
    netloc: bytes
    path: bytes

    @property
    def host(self) -> str:
        return self.origin[1]


@lru_cache(maxsize=256)
def _target(url: str) -> _Target:
    """Raises Permanent for an unusable URL. Most requests of a process go to the same few."""
    check_url(url)
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        redacted_url = url.partition("?")[0][:200]
        raise Permanent(_INVALID_URL(url=redacted_url)) from None
    origin = (parsed.scheme, host, parsed.port or _DEFAULT_PORTS[parsed.scheme])
    return _Target(origin, parsed.netloc, parsed.raw_path)


def _encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Returns the headers as sent on the wire. A value may be secret, so an error names only the header."""
    encoded = []
    for name, value in headers.items():
        try:
            encoded.append((name.encode("ascii"), value.encode("utf-8")))
        except UnicodeError:
            raise Permanent(_INVALID_HEADER(name=name[:100])) from None
    return encoded


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
        return sentence("it has no address")
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().rstrip(".")[:200]
