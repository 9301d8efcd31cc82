"""The templated HTTP call: method, URL, headers and body with `<subject>`-style placeholders.

Signs the request, checks the response's status, and captures values from it. Knows nothing about specific vendors.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import quote_plus, urlencode

from tocsin.core.config import secret_urls
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.outbound import templates
from tocsin.outbound.connectors.interfaces import (
    CallDone,
    CallJob,
    ConnectorKind,
    IntegrationAccount,
    NeedsAttention,
    RecordedClient,
    Throttled,
)
from tocsin.outbound.hidden_settings import PLAIN_HEADERS
from tocsin.outbound.json_path import value_at
from tocsin.outbound.rate_limit import RequestRate
from tocsin.outbound.redaction import MASK

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PER_SECOND, _BURST = 5, 10
_MAX_CAPTURED_CHARS = 1000
#: Shorter values are not treated as secrets, since masking them would hide unrelated text.
_SHORTEST_SECRET = 6

#: How values are escaped in a body, by part of its media type; JSON uses `in_json`.
_ESCAPED: Mapping[str, Callable[[str], str]] = {
    "form-urlencoded": templates.in_url, "xml": templates.in_xml, "html": templates.in_xml,
}  # fmt: skip


class HttpAuth(StrEnum):
    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"
    #: OAuth 2.0 client credentials (RFC 6749, section 4.4).
    OAUTH2 = "oauth2"


@dataclass(frozen=True, slots=True)
class _HttpToken:
    text: str
    until: datetime


@dataclass(slots=True)
class HttpSender:
    """The sender of one templated call."""

    account: IntegrationAccount
    client: HttpClient
    rate: RequestRate
    _token: _HttpToken | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, job: CallJob, line: RecordedClient, now: datetime) -> CallDone:
        """Renders and sends the call."""
        settings = self.account.settings
        values = job.content.get("values", {})
        url = templates.render(settings["url"], values, templates.in_url)
        headers = {
            name: templates.render(text, values, templates.in_header)
            for name, text in settings.get("headers", {}).items()
        }
        self._hide(line, url, headers)
        shown_url = secret_urls.mask_url(url)
        method = settings.get("method", "POST")
        body = b"" if method == "GET" else self._body(values, headers)
        # The same for every attempt, so that the receiver can recognize a repeat.
        headers.setdefault("Idempotency-Key", f"tocsin-call-{job.id}")
        headers.setdefault("User-Agent", "Tocsin")
        headers |= self._signature(body)
        credentials = self._credentials(line, now)
        answer = line.request(method, url, headers=headers | credentials, content=body, shown_url=shown_url)
        if answer.status == 401 and self._auth is HttpAuth.OAUTH2:
            # The token ended early: retry once with a fresh one.
            self._forget_token(credentials)
            credentials = self._credentials(line, now)
            answer = line.request(method, url, headers=headers | credentials, content=body, shown_url=shown_url)
        self._check(answer, credentials)
        captured = self._captured(answer)
        missing = [path for name, path in self.account.settings.get("capture", {}).items() if name not in captured]
        said = f" It has no {', '.join(missing)} to capture." if missing else ""
        return CallDone(f"Answered {answer.status}.{said}", captured)

    def _hide(self, line: RecordedClient, url: str, headers: Mapping[str, str]) -> None:
        """Masks secret parts of URL and headers in the log, except headers that consist only of alert values."""
        for name, template in self.account.settings.get("headers", {}).items():
            own = templates.render(template, dict.fromkeys(templates.references(template), ""))
            if name.lower() not in PLAIN_HEADERS and len(own.strip()) >= _SHORTEST_SECRET:
                line.hide(headers[name])
        if secret_urls.mask_url(url) != url:
            for secret in secret_urls.secret_parts(url):
                if len(secret) >= _SHORTEST_SECRET:
                    line.hide(secret)

    def verify(self, line: RecordedClient, now: datetime) -> str:
        """Fetches an OAuth token if needed. The call itself is not made, because it may have side effects."""
        egress.check_url(templates.render(self.account.settings["url"], {}))
        if self._auth is HttpAuth.OAUTH2:
            self._credentials(line, now)
            return "The token server takes the credentials. The call itself was not made."
        return "The settings are complete. The call itself was not made; send a test to see it."

    @property
    def _auth(self) -> HttpAuth:
        return HttpAuth(self.account.settings.get("auth", HttpAuth.NONE))

    def _body(self, values: Mapping[str, object], headers: dict[str, str]) -> bytes:
        template = self.account.settings.get("body", "")
        named = next((text for name, text in headers.items() if name.lower() == "content-type"), "")
        looks_like_json = not named and template.lstrip()[:1] in ("{", "[")
        is_json = "json" in named.lower() or looks_like_json
        if looks_like_json:
            headers["Content-Type"] = "application/json"
        fitting = (by for part, by in _ESCAPED.items() if part in named.lower())
        text = templates.render(template, values, templates.in_json if is_json else next(fitting, None))
        if is_json:
            try:
                json.loads(text)
            except ValueError as error:
                raise Permanent(
                    f"The body is not JSON once its values are in it: {error}.", "Correct the template."
                ) from None
        return text.encode()

    def _credentials(self, line: RecordedClient, now: datetime) -> dict[str, str]:
        settings, secrets = self.account.settings, self.account.secrets
        match self._auth:
            case HttpAuth.NONE:
                return {}
            case HttpAuth.BASIC:
                pair = f"{settings.get('username', '')}:{secrets.get('password', '')}".encode()
                encoded = base64.b64encode(pair).decode()
                line.hide(encoded)
                return {"Authorization": f"Basic {encoded}"}
            case HttpAuth.BEARER:
                return {"Authorization": f"Bearer {secrets.get('token', '')}"}
            case HttpAuth.HEADER:
                return {settings.get("header_name", "X-Api-Key"): secrets.get("token", "")}
            case HttpAuth.OAUTH2:
                return {"Authorization": f"Bearer {self._oauth(line, now)}"}

    def _oauth(self, line: RecordedClient, now: datetime) -> str:
        with self._lock:
            if self._token is None or self._token.until <= now:
                self._token = self._fetch(line, now)
            line.hide(self._token.text)
            return self._token.text

    def _fetch(self, line: RecordedClient, now: datetime) -> _HttpToken:
        settings, secrets = self.account.settings, self.account.secrets
        fields = {
            "grant_type": "client_credentials",
            "client_id": settings.get("client_id", ""),
            "client_secret": secrets.get("client_secret", ""),
            **({"scope": settings["scope"]} if settings.get("scope") else {}),
        }
        answer = self._ask_for_token(line, fields, {})
        if answer.status in (400, 401) and _error_of(answer).startswith("invalid_client"):
            # Some servers accept client credentials only in the header (RFC 6749, section 2.3.1).
            pair = f"{quote_plus(str(fields.pop('client_id')))}:{quote_plus(str(fields.pop('client_secret')))}"
            encoded = base64.b64encode(pair.encode()).decode()
            line.hide(encoded)
            answer = self._ask_for_token(line, fields, {"Authorization": f"Basic {encoded}"})
        _raise_passing(answer)
        try:
            found = json.loads(answer.body)
            token, lasts = str(found["access_token"]), int(found.get("expires_in") or 3600)
        except (ValueError, KeyError, TypeError, AttributeError):
            said = _error_of(answer)
            if 200 <= answer.status < 300 and not said:
                # Not a rejection: usually HTML of a proxy, with a sign-in form or a maintenance notice.
                raise Temporary(f"The token server answered {answer.status} without a token.") from None
            raise NeedsAttention(
                f"The token server refused the credentials ({answer.status}{f', {said}' if said else ''}).",
                "Enter client id and secret again.",
            ) from None
        return _HttpToken(token, now + timedelta(seconds=max(30, lasts - 60)))

    def _ask_for_token(
        self, line: RecordedClient, fields: Mapping[str, object], headers: Mapping[str, str]
    ) -> EgressResponse:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        content = urlencode(fields).encode()
        url = self.account.settings["token_url"]
        return line.request("POST", url, headers={**form, **headers}, content=content, shown="(the credentials)")

    def _forget_token(self, used: Mapping[str, str]) -> None:
        """Drops the cached token, unless another thread has replaced the one in `used`."""
        with self._lock:
            if self._token is not None and used.get("Authorization") == f"Bearer {self._token.text}":
                self._token = None

    def _signature(self, body: bytes) -> dict[str, str]:
        secret = self.account.secrets.get("hmac_secret", "")
        if not secret:
            return {}
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        name = self.account.settings.get("hmac_header", "X-Tocsin-Signature")
        return {name: f"{self.account.settings.get('hmac_prefix', 'sha256=')}{digest}"}

    def _check(self, answer: EgressResponse, credentials: Mapping[str, str]) -> None:
        expected = self.account.settings.get("expected_status") or []
        if answer.status in expected or (not expected and 200 <= answer.status < 300):
            return
        _raise_passing(answer)
        if answer.status == 401 and self._auth is not HttpAuth.NONE:
            self._forget_token(credentials)
            raise NeedsAttention(f"{self.account.name} refused the credentials (401).", "Enter them again.")
        wanted = ", ".join(map(str, expected)) or "200 to 299"
        text = " ".join(answer.body.decode("utf-8", "replace").split())[:200]
        raise Permanent(f"It answered {answer.status}; expected is {wanted}." + (f" It said: {text}" if text else ""))

    def _captured(self, answer: EgressResponse) -> dict[str, str]:
        wanted = self.account.settings.get("capture", {})
        if not wanted:
            return {}
        try:
            payload = json.loads(answer.body)
        except ValueError:
            return {}
        found = {name: value_at(payload, path) for name, path in wanted.items()}
        return {
            name: templates.describe_template(value)[:_MAX_CAPTURED_CHARS]
            for name, value in found.items()
            if value is not None
        }


def _error_of(answer: EgressResponse) -> str:
    """A token server's error and its description; "" without both."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return ""
    if not isinstance(found, Mapping):
        return ""
    parts = (found.get("error"), found.get("error_description"))
    return ": ".join(" ".join(part.split()) for part in parts if isinstance(part, str) and part)[:200]


def _raise_passing(answer: EgressResponse) -> None:
    if answer.status == 429:
        raise Throttled("It asks for patience (429).", answer.retry_after)
    if answer.status >= 500 or answer.status == 408:
        raise Temporary(f"It answered {answer.status}.", answer.retry_after)


def _read(spec: ObjectReader) -> dict[str, Any]:
    """Parses the settings of a templated call from its spec."""
    found: dict[str, Any] = {"url": spec.text("url", required=True, longest=2000)}
    if secret_urls.is_shown(found["url"]):
        spec.refuse("url", "is hidden here; enter the whole of it.")
    elif found["url"]:
        _check_address(
            spec, "url", templates.render(found["url"], dict.fromkeys(templates.references(found["url"]), "x"))
        )
    method = spec.text("method", "POST").upper()
    if method not in _METHODS:
        spec.refuse("method", f"must be one of {', '.join(_METHODS)}.")
    found["method"] = method
    found["headers"] = _texts(spec, "headers")
    for name, text in found["headers"].items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or "\n" in text:
            spec.refuse("headers", f'"{name}" is not a header.')
        elif text == MASK:
            spec.refuse("headers", f'the value of "{name}" is hidden here; enter it again.')
    found["body"] = spec.text("body", longest=templates.MAX_TEMPLATE_CHARS)
    auth = spec.one_of("auth", HttpAuth, HttpAuth.NONE)
    found["auth"] = auth.value
    match auth:
        case HttpAuth.BASIC:
            found["username"] = spec.text("username", required=True)
        case HttpAuth.HEADER:
            found["header_name"] = spec.text("header_name", required=True, longest=100)
        case HttpAuth.OAUTH2:
            found["token_url"] = spec.text("token_url", required=True, longest=2000)
            _check_address(spec, "token_url", found["token_url"])
            found["client_id"] = spec.text("client_id", required=True, longest=500)
            found["scope"] = spec.text("scope", longest=500)
        case HttpAuth.NONE | HttpAuth.BEARER:
            pass
    found["hmac_header"] = spec.text("hmac_header", longest=100)
    found["hmac_prefix"] = spec.text("hmac_prefix", "sha256=" if not spec.has("hmac_prefix") else "", longest=40)
    found["expected_status"] = _statuses(spec)
    found["capture"] = _texts(spec, "capture")
    found["rate"] = spec.whole("rate", _PER_SECOND, least=1, most=1000)
    return {name: value for name, value in found.items() if value not in ("", {}, [], None)}


#: The secrets each auth method requires; a Basic password may be empty.
_NEEDED = {HttpAuth.BEARER: ("token",), HttpAuth.HEADER: ("token",), HttpAuth.OAUTH2: ("client_secret",)}


def _needed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    # A configured signature header implies signing.
    signed = ("hmac_secret",) if settings.get("hmac_header") else ()
    return (*_NEEDED.get(HttpAuth(settings["auth"]), ()), *signed)


def _texts(spec: ObjectReader, key: str) -> dict[str, str]:
    value = spec.raw(key, {})
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        spec.refuse(key, "must be named texts.")
        return {}
    return {str(name)[:100]: str(text)[:2000] for name, text in value.items()}


def _statuses(spec: ObjectReader) -> list[int]:
    value = spec.raw("expected_status", [])
    listed = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) and 100 <= one <= 599 for one in listed):
        spec.refuse("expected_status", "must be one or several HTTP statuses, such as [200, 204].")
        return []
    return [int(one) for one in listed if isinstance(one, int)]


def _check_address(spec: ObjectReader, key: str, url: str) -> None:
    if not url:
        # The missing value is already reported.
        return
    try:
        egress.check_url(url)
    except Permanent as problem:
        spec.refuse(key, problem.detail)


def _open(account: IntegrationAccount, client: HttpClient) -> HttpSender:
    return HttpSender(account, client, RequestRate(account.settings.get("rate", _PER_SECOND), _BURST))


HTTP = ConnectorKind(
    name="http",
    title="HTTP call",
    description="A call to any address, with the alert's values in it.",
    open=_open,
    read=_read,
    secrets=("password", "token", "client_secret", "hmac_secret"),
    needed=_needed,
    hidden=("url", "headers"),
)
