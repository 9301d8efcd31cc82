"""Alertmanager-compatible API: `POST /api/v2/alerts` and, as old senders have it, `/api/v1/alerts`. So Prometheus,
Thanos Ruler and ElastAlert2 need no Alertmanager between them and Tocsin.

The token of an integration of the kind `alertmanager`, or of its alias, is the bearer token, the password of basic
authentication, or `?token=`. `/api/v1/alerts` is also Tocsin's own API, whose tokens are bearer tokens: there only the
other two select an integration. A group of alerts becomes the payload of Alertmanager's webhook, so an alert that comes
by both is one.

Unlike Alertmanager, Tocsin does not close an alert that is no longer repeated: only a resolved alert closes.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from tocsin.catalogue.kinds import family
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, send_response
from tocsin.core.reasons import Text
from tocsin.core.runtime import clock
from tocsin.inbound import ingest_service
from tocsin.inbound.config.compiled_integration import CompiledIntegration, stored_headers
from tocsin.inbound.ingest_service import JSON, HttpError, IngestService, headers_of
from tocsin.inbound.parsing.decode import LARGE, Element, decode

KIND: Final = "alertmanager"

ALERTS: Final = "/api/v2/alerts"
ALERTS_V1: Final = "/api/v1/alerts"

#: 64-bit FNV-1a, by which Prometheus and Alertmanager compute the fingerprint of an alert's labels.
_FNV_OFFSET: Final = 14695981039346656037
_FNV_PRIME: Final = 1099511628211
_FNV_MASK: Final = (1 << 64) - 1
_SEPARATOR: Final = b"\xff"

_UNAUTHENTICATED = Text(
    "Send the token of an integration of the type Alertmanager as bearer token, as password or as ?token=."
)


def accepts(scope: AsgiScope) -> bool:
    path: str = scope["path"].rstrip("/")
    if path != ALERTS_V1:
        return path == ALERTS
    return scope["method"] == "POST" and bool(_token(scope, headers_of(scope), accepts_bearer=False))


async def handle(service: IngestService, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Handles one group of alerts. Raises HttpError, which `error_response` renders in Alertmanager's format."""
    if scope["method"] != "POST":
        raise ingest_service.post_needed()
    headers = headers_of(scope)
    integration = await _authenticate(service, scope, headers)
    raw_body = body = await service.read_body(scope, receive)
    try:
        credential_results = service.check_credentials(integration, scope, headers, raw_body)
        elements: Sequence[Element] | Rejected
        try:
            body = await service.decompress_body(headers, raw_body)
            is_large = len(body) > LARGE
            body = await asyncio.to_thread(_to_webhook, body) if is_large else _to_webhook(body)
            elements = (await service.decode_body(integration, body, JSON, headers)).elements
        except Rejected as rejected:
            elements = rejected
        await service.ingest(integration, elements, body, stored_headers(headers, credential_results))
    finally:
        service.body_reader.release(len(raw_body))
    if isinstance(elements, Rejected):
        # It is stored nevertheless, and opens an alert about it: senders do not repeat what is answered 4xx.
        raise HttpError(400, "bad_data", elements.reason)
    await send_response(send, 200, b'{"status":"success"}' if _is_v1(scope) else b"")


async def error_response(scope: AsgiScope, send: Send, error: HttpError) -> None:
    """Sends an error in Alertmanager's format: version 1 an object, version 2 a text."""
    content: object = error.detail
    if _is_v1(scope):
        content = {
            "status": "error",
            "errorType": "bad_data" if error.status < 500 else "server_error",
            "error": content,
        }
    await send_response(send, error.status, msgspec.json.encode(content), headers=error.headers)


def _is_v1(scope: AsgiScope) -> bool:
    return bool(scope["path"].rstrip("/") == ALERTS_V1)


async def _authenticate(service: IngestService, scope: AsgiScope, headers: Mapping[str, str]) -> CompiledIntegration:
    try:
        integration = await service.find_integration(_token(scope, headers, accepts_bearer=not _is_v1(scope)))
    except HttpError as error:
        if error.status != 404:
            raise
        integration = None
    if integration is None or integration.normalizer.kind.name not in family(KIND):
        raise HttpError(401, "unauthenticated", _UNAUTHENTICATED())
    return integration


def _token(scope: AsgiScope, headers: Mapping[str, str], *, accepts_bearer: bool) -> str:
    """Returns the token that a request names; an empty text if it names none."""
    if values := parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token"):
        return str(values[0])
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and accepts_bearer:
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _to_webhook(body: bytes) -> bytes:
    """Returns posted alerts as the body of Alertmanager's webhook. Raises Rejected as `decode` does."""
    elements = decode(body, JSON, lenient=False).elements
    for element in elements:
        if element.problem is not None:
            raise element.problem
    now = clock.now()
    alerts = [to_webhook_alert(element.payload, now) for element in elements if element.payload is not None]
    return msgspec.json.encode({"version": "4", "receiver": "api", "alerts": alerts})


def to_webhook_alert(alert: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Returns a posted alert as it stands in Alertmanager's webhook: with its status, start and fingerprint."""
    ends_at = _moment(alert.get("endsAt"))
    is_resolved = ends_at is not None and ends_at.year > 1 and ends_at <= now
    labels = alert.get("labels")
    return {
        # Prometheus repeats a firing alert with the same start; without one, each is a message of its own.
        "startsAt": now.isoformat(),
        **alert,
        "status": "resolved" if is_resolved else "firing",
        **({"fingerprint": fingerprint(labels)} if isinstance(labels, dict) and labels else {}),
    }


def fingerprint(labels: Mapping[str, object]) -> str:
    """Returns the fingerprint of an alert's labels as Alertmanager computes it: 16 hexadecimal digits.

    https://github.com/prometheus/common/blob/main/model/signature.go
    """
    value = _FNV_OFFSET
    for name in sorted(labels):
        for byte in b"".join((_bytes(name), _SEPARATOR, _bytes(labels[name]), _SEPARATOR)):
            value = ((value ^ byte) * _FNV_PRIME) & _FNV_MASK
    return f"{value:016x}"


def _bytes(value: object) -> bytes:
    return str(value).encode(errors="replace")


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
