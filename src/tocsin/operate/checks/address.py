"""Checks the public URL, if configured: that it leads here, and that its certificate is trusted and not about to
expire.

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
from tocsin.core.errors import TocsinError
from tocsin.core.net import egress
from tocsin.operate.finding import HealthFinding, note

TIMEOUT = 5.0

#: A certificate that expires within this time, or within a third of its lifetime if shorter, was not renewed.
EXPIRES_SOON = timedelta(days=14)


def check(now: datetime, context: ssl.SSLContext | None = None) -> Iterator[HealthFinding]:
    """Checks `TOCSIN_BASE_URL`. `context` replaces the system's trusted certificates."""
    settings = environment.current()
    if settings.base_url is None:
        yield note(
            "address.none",
            "TOCSIN_BASE_URL is not set: links in messages work on this machine only.",
            "Set it to the address by which people and senders reach Tocsin, such as https://tocsin.example.org.",
        )
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
            yield note(
                "address.no_proxy",
                "TOCSIN_TRUSTED_PROXIES is not set: every request seems to come from the proxy's own address.",
                "Set it to the proxy's address, such as 127.0.0.1,::1.",
            )
    elif not _is_this_machine(host):
        yield HealthFinding(
            "address.not_encrypted",
            f"{settings.base_url} is not encrypted: passwords and the integrations' secret addresses can be read.",
            "Put a proxy with a certificate in front, and set TOCSIN_BASE_URL to its https address.",
        )
    yield from _check_response(settings.base_url, context)


def _certificate(host: str, port: int, now: datetime, context: ssl.SSLContext) -> Iterator[HealthFinding]:
    try:
        raw_socket = egress.connect(host, port, TIMEOUT, trusted=True)
    except TocsinError as error:
        yield _unreachable(str(error))
        return
    try:
        with raw_socket, context.wrap_socket(raw_socket, server_hostname=host) as secure:
            certificate = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield HealthFinding(
            "address.certificate",
            f"The certificate of {host} is not trusted: {error.verify_message}.",
            "Have the proxy get one that is publicly trusted; HaloITSM and phones refuse any other.",
        )
        return
    except (OSError, ValueError) as error:
        yield _unreachable(f"{host} speaks no TLS on port {port}: {error}.")
        return
    not_before, not_after = (_parse_time(str(certificate[key])) for key in ("notBefore", "notAfter"))
    remaining = not_after - now
    if remaining < min(EXPIRES_SOON, (not_after - not_before) / 3):
        yield HealthFinding(
            "address.certificate_ends",
            f"The certificate of {host} ends in {max(0, remaining.days)} days.",
            "Look why the proxy does not renew it.",
        )


def _check_response(base_url: str, context: ssl.SSLContext) -> Iterator[HealthFinding]:
    try:
        with httpx.Client(timeout=TIMEOUT, verify=context, trust_env=False) as client:
            response = client.get(f"{base_url}/healthz")
    except (httpx.HTTPError, ValueError) as error:
        yield _unreachable(f"{base_url} does not answer: {str(error) or type(error).__name__}.")
        return
    if response.is_redirect:
        yield HealthFinding(
            "address.elsewhere",
            f"{base_url} leads on to {response.headers.get('location', 'another address')}: senders do not follow.",
            "Set TOCSIN_BASE_URL to the address that answers itself.",
        )
    elif (response.status_code, response.text.strip()) != (200, "ok"):
        yield HealthFinding(
            "address.not_here",
            f"{base_url}/healthz answers {response.status_code}, not 200 with “ok”: the address leads "
            "somewhere else, or "
            "Tocsin does not run.",
            "Look at the proxy's configuration, and whether `tocsin serve` runs.",
        )


def _unreachable(detail: str) -> HealthFinding:
    return HealthFinding(
        "address.unreachable",
        detail,
        "Look at DNS, the firewall and the proxy; then try the address from a phone on mobile data.",
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
