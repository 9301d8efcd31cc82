"""Checks the public URL: that others can use it, that it leads here, and that its certificate is trusted and not about
to expire.

The URL comes from the environment, so it may be a private address.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx

from tocsin.core.config import environment
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import REDIRECTS, REDIRECTS_SOMEWHERE, SET_FINAL_URL
from tocsin.core.reasons import Reason, ReasonType
from tocsin.operate.finding import HealthFinding, note

TIMEOUT = 5.0

#: A certificate that expires within this time, or within a third of its lifetime if shorter, was not renewed.
EXPIRES_SOON = timedelta(days=14)

#: Names that no public DNS server knows: RFC 6762, RFC 8375, ICANN's reservation of 2024, and what routers use.
_PRIVATE_SUFFIXES = (".local", ".home.arpa", ".internal", ".lan", ".intranet", ".corp", ".home")

_NOT_SET = ReasonType(
    "health.address_not_set",
    "TOCSIN_BASE_URL is not set: webhook URLs and links in messages only work on this server.",
)
_NOT_SET_REMEDY = ReasonType(
    "health.address_not_set_remedy",
    "Set it to Tocsin's public URL, such as https://tocsin.example.org.",
)
_LOCAL = ReasonType(
    "health.address_local", "{url} only works on this server: webhook URLs and links in messages begin with it."
)
_PRIVATE = ReasonType(
    "health.address_private",
    "{host} is a private name or address: senders and phones outside this network cannot reach it.",
)
_PUBLIC_REMEDY = ReasonType(
    "health.address_public_remedy",
    "Set TOCSIN_BASE_URL to an https URL that senders and phones can reach, such as https://tocsin.example.org.",
)
_NO_PROXY = ReasonType(
    "health.address_no_proxy",
    "TOCSIN_TRUSTED_PROXIES is not set: all requests appear to come from the proxy's address.",
)
_NO_PROXY_REMEDY = ReasonType("health.address_no_proxy_remedy", "Set it to the proxy's address, such as 127.0.0.1,::1.")
_NOT_ENCRYPTED = ReasonType(
    "health.address_not_encrypted",
    "{url} is not encrypted: passwords and webhook URLs can be intercepted.",
)
_NOT_ENCRYPTED_REMEDY = ReasonType(
    "health.address_not_encrypted_remedy",
    "Put an HTTPS reverse proxy in front, and set TOCSIN_BASE_URL to its https URL.",
)
_UNTRUSTED = ReasonType("health.certificate_untrusted", "The certificate of {host} is not trusted: {error}.")
_UNTRUSTED_REMEDY = ReasonType(
    "health.certificate_untrusted_remedy",
    "Install a publicly trusted certificate on the proxy. HaloITSM and phones reject any other.",
)
_EXPIRES = ReasonType(
    "health.certificate_expires",
    "The certificate of {host} expires in {count} day.",
    "The certificate of {host} expires in {count} days.",
)
_EXPIRES_REMEDY = ReasonType("health.certificate_expires_remedy", "Check why the proxy does not renew it.")
_NOT_HERE = ReasonType(
    "health.address_not_here",
    "{url}/healthz returns {status} instead of 200 with “ok”: the URL points to another server, or "
    "Tocsin is not running.",
)
_NOT_HERE_REMEDY = ReasonType(
    "health.address_not_here_remedy", "Check the proxy's configuration, and whether `tocsin serve` is running."
)
_NO_TLS = ReasonType("health.address_no_tls", "{host} does not speak TLS on port {port}: {error}.")
_NO_ANSWER = ReasonType("health.address_no_answer", "{url} does not respond: {error}.")
_UNREACHABLE_REMEDY = ReasonType(
    "health.address_unreachable_remedy",
    "Check DNS, the firewall and the proxy; then try the address from a phone on mobile data.",
)


def check_reach(base_url: str | None) -> Iterator[HealthFinding]:
    """Checks who can use the public URL, by its text alone: nothing is called. A note where a small or closed
    installation may intend it."""
    if base_url is None:
        yield note("address.none", _NOT_SET(), _NOT_SET_REMEDY())
        return
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if _is_this_machine(host):
        yield note("address.local", _LOCAL(url=base_url), _PUBLIC_REMEDY())
        return
    if parts.scheme != "https":
        yield HealthFinding("address.not_encrypted", _NOT_ENCRYPTED(url=base_url), _NOT_ENCRYPTED_REMEDY())
    if _is_private(host):
        yield note("address.private", _PRIVATE(host=host), _PUBLIC_REMEDY())


def check(now: datetime, context: ssl.SSLContext | None = None) -> Iterator[HealthFinding]:
    """Checks `TOCSIN_BASE_URL`, and calls it if it is set. `context` replaces the system's trusted certificates."""
    settings = environment.current()
    yield from check_reach(settings.base_url)
    if settings.base_url is None:
        return
    parts = urlsplit(settings.base_url)
    host = parts.hostname or ""
    context = context or egress.tls_context()
    if parts.scheme == "https":
        findings = list(_certificate(host, parts.port or 443, now, context))
        yield from findings
        if any(finding.is_problem and finding.id != "address.certificate_ends" for finding in findings):
            return
        if not settings.trusted_proxies:
            yield note("address.no_proxy", _NO_PROXY(), _NO_PROXY_REMEDY())
    yield from _check_response(settings.base_url, context)


def _certificate(host: str, port: int, now: datetime, context: ssl.SSLContext) -> Iterator[HealthFinding]:
    try:
        raw_socket = egress.connect(host, port, TIMEOUT, trusted=True)
    except (Rejected, Temporary, Permanent) as error:
        yield _unreachable(error.full_reason)
        return
    try:
        with raw_socket, context.wrap_socket(raw_socket, server_hostname=host) as secure:
            certificate = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield HealthFinding(
            "address.certificate",
            _UNTRUSTED(host=host, error=error.verify_message),
            _UNTRUSTED_REMEDY(),
        )
        return
    except (OSError, ValueError) as error:
        yield _unreachable(_NO_TLS(host=host, port=str(port), error=str(error)))
        return
    not_before, not_after = (_parse_time(str(certificate[key])) for key in ("notBefore", "notAfter"))
    remaining = not_after - now
    if remaining < min(EXPIRES_SOON, (not_after - not_before) / 3):
        yield HealthFinding(
            "address.certificate_ends",
            _EXPIRES(host=host, count=max(0, remaining.days)),
            _EXPIRES_REMEDY(),
        )


def _check_response(base_url: str, context: ssl.SSLContext) -> Iterator[HealthFinding]:
    try:
        with httpx.Client(timeout=TIMEOUT, verify=context, trust_env=False) as client:
            response = client.get(f"{base_url}/healthz")
    except (httpx.HTTPError, ValueError) as error:
        yield _unreachable(_NO_ANSWER(url=base_url, error=str(error) or type(error).__name__))
        return
    if response.is_redirect:
        target = response.headers.get("location")
        detail = REDIRECTS(url=base_url, target=target) if target else REDIRECTS_SOMEWHERE(url=base_url)
        yield HealthFinding("address.elsewhere", detail, SET_FINAL_URL())
    elif (response.status_code, response.text.strip()) != (200, "ok"):
        yield HealthFinding(
            "address.not_here",
            _NOT_HERE(url=base_url, status=str(response.status_code)),
            _NOT_HERE_REMEDY(),
        )


def _unreachable(detail: Reason) -> HealthFinding:
    return HealthFinding("address.unreachable", detail, _UNREACHABLE_REMEDY())


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    """Whether a name or address belongs to a private network; names are not resolved."""
    try:
        return not egress.is_allowed(ipaddress.ip_address(host), ())
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").endswith(_PRIVATE_SUFFIXES)


def _parse_time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
