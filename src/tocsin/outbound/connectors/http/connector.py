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
from urllib.parse import quote_plus, urlencode

from tocsin.core.config import secret_urls
from tocsin.core.delivery.failure import ENTER_CREDENTIALS, NeedsAttention, Throttled
from tocsin.core.delivery.rate_limit import RateLimit
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import NO_REASON, Reason, joined
from tocsin.core.validation import text_templates
from tocsin.core.validation.payload_paths import read_path
from tocsin.outbound import reasons
from tocsin.outbound.connectors.http.specs import DEFAULT_RATE, SECRET_NAMES, HttpAuth, HttpCallSpec
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, ConnectorKind, IntegrationAccount, RecordedClient
from tocsin.outbound.hidden_settings import PLAIN_HEADERS

_BURST = 10
_MAX_CAPTURED_CHARS = 1000
#: Shorter values are not treated as secrets, since masking them would hide unrelated text.
_MIN_SECRET_CHARS = 6

#: How values are escaped in a body, by part of its media type; JSON uses `in_json`.
_ESCAPED: Mapping[str, Callable[[str], str]] = {
    "form-urlencoded": text_templates.in_url, "xml": text_templates.in_xml, "html": text_templates.in_xml,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _HttpToken:
    text: str
    until: datetime


@dataclass(slots=True)
class HttpSender:
    """The sender of one templated call."""

    account: IntegrationAccount
    client: HttpClient
    rate: RateLimit
    _token: _HttpToken | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, job: CallJob, http_client: RecordedClient, now: datetime) -> CallDone:
        """Renders and sends the call."""
        settings = self.account.settings
        values = job.content.get("values", {})
        url = text_templates.render(settings["url"], values, text_templates.in_url)
        headers = {
            name: text_templates.render(text, values, text_templates.in_header)
            for name, text in settings.get("headers", {}).items()
        }
        self._mask_secrets(http_client, url, headers)
        logged_url = secret_urls.mask_url(url)
        method = settings.get("method", "POST")
        body = b"" if method == "GET" else self._render_body(values, headers)
        # The same for every attempt, so that the receiver can recognize a repeat.
        headers.setdefault("Idempotency-Key", f"tocsin-call-{job.id}")
        headers.setdefault("User-Agent", "Tocsin")
        headers |= self._signature(body)
        credentials = self._credentials(http_client, now)
        response = http_client.request(method, url, headers=headers | credentials, content=body, logged_url=logged_url)
        if response.status == 401 and self._auth is HttpAuth.OAUTH2:
            # The token ended early: retry once with a fresh one.
            self._forget_token(credentials)
            credentials = self._credentials(http_client, now)
            response = http_client.request(
                method, url, headers=headers | credentials, content=body, logged_url=logged_url
            )
        self._check_response(response, credentials)
        captured = self._capture_values(response)
        missing = tuple(path for name, path in self.account.settings.get("capture", {}).items() if name not in captured)
        answered = reasons.ANSWERED(status=response.status)
        not_captured = reasons.NOTHING_TO_CAPTURE(paths=missing) if missing else NO_REASON
        return CallDone(joined(answered, not_captured, separator=" "), captured)

    def _mask_secrets(self, http_client: RecordedClient, url: str, headers: Mapping[str, str]) -> None:
        """Masks secret parts of URL and headers in the log, except headers that consist only of alert values."""
        for name, template in self.account.settings.get("headers", {}).items():
            literal_text = text_templates.render(template, dict.fromkeys(text_templates.references(template), ""))
            if name.lower() not in PLAIN_HEADERS and len(literal_text.strip()) >= _MIN_SECRET_CHARS:
                http_client.mask_secret(headers[name])
        if secret_urls.mask_url(url) != url:
            for secret in secret_urls.secret_parts(url):
                if len(secret) >= _MIN_SECRET_CHARS:
                    http_client.mask_secret(secret)

    def verify(self, http_client: RecordedClient, now: datetime) -> Reason:
        """Fetches an OAuth token if needed. The call itself is not made, because it may have side effects."""
        egress.check_url(text_templates.render(self.account.settings["url"], {}))
        if self._auth is HttpAuth.OAUTH2:
            self._credentials(http_client, now)
            return reasons.TOKEN_ACCEPTED()
        return reasons.SETTINGS_COMPLETE()

    @property
    def _auth(self) -> HttpAuth:
        return HttpAuth(self.account.settings.get("auth", HttpAuth.NONE))

    def _render_body(self, values: Mapping[str, object], headers: dict[str, str]) -> bytes:
        template = self.account.settings.get("body", "")
        content_type = next((text for name, text in headers.items() if name.lower() == "content-type"), "")
        is_json_template = not content_type and template.lstrip()[:1] in ("{", "[")
        is_json = "json" in content_type.lower() or is_json_template
        if is_json_template:
            headers["Content-Type"] = "application/json"
        escapers = (escape for media_type, escape in _ESCAPED.items() if media_type in content_type.lower())
        text = text_templates.render(template, values, text_templates.in_json if is_json else next(escapers, None))
        if is_json:
            try:
                json.loads(text)
            except ValueError as error:
                raise Permanent(reasons.INVALID_BODY(problem=str(error)), reasons.CORRECT_TEMPLATE()) from None
        return text.encode()

    def _credentials(self, http_client: RecordedClient, now: datetime) -> dict[str, str]:
        settings, secrets = self.account.settings, self.account.secrets
        match self._auth:
            case HttpAuth.NONE:
                return {}
            case HttpAuth.BASIC:
                pair = f"{settings.get('username', '')}:{secrets.get('password', '')}".encode()
                encoded = base64.b64encode(pair).decode()
                http_client.mask_secret(encoded)
                return {"Authorization": f"Basic {encoded}"}
            case HttpAuth.BEARER:
                return {"Authorization": f"Bearer {secrets.get('token', '')}"}
            case HttpAuth.HEADER:
                return {settings.get("header_name", "X-Api-Key"): secrets.get("token", "")}
            case HttpAuth.OAUTH2:
                return {"Authorization": f"Bearer {self._oauth_token(http_client, now)}"}

    def _oauth_token(self, http_client: RecordedClient, now: datetime) -> str:
        with self._lock:
            if self._token is None or self._token.until <= now:
                self._token = self._fetch_token(http_client, now)
            http_client.mask_secret(self._token.text)
            return self._token.text

    def _fetch_token(self, http_client: RecordedClient, now: datetime) -> _HttpToken:
        settings, secrets = self.account.settings, self.account.secrets
        fields = {
            "grant_type": "client_credentials",
            "client_id": settings.get("client_id", ""),
            "client_secret": secrets.get("client_secret", ""),
            **({"scope": settings["scope"]} if settings.get("scope") else {}),
        }
        response = self._request_token(http_client, fields, {})
        if response.status in (400, 401) and _error_text(response).startswith("invalid_client"):
            # Some servers accept client credentials only in the header (RFC 6749, section 2.3.1).
            pair = f"{quote_plus(str(fields.pop('client_id')))}:{quote_plus(str(fields.pop('client_secret')))}"
            encoded = base64.b64encode(pair.encode()).decode()
            http_client.mask_secret(encoded)
            response = self._request_token(http_client, fields, {"Authorization": f"Basic {encoded}"})
        _raise_transient(response)
        try:
            payload = json.loads(response.body)
            token, lifetime = str(payload["access_token"]), int(payload.get("expires_in") or 3600)
        except (ValueError, KeyError, TypeError, AttributeError):
            error_text = _error_text(response)
            if 200 <= response.status < 300 and not error_text:
                # Not a rejection: usually HTML of a proxy, with a sign-in form or a maintenance notice.
                raise Temporary(reasons.NO_TOKEN(status=response.status)) from None
            answer = f"{response.status}, {error_text}" if error_text else str(response.status)
            raise NeedsAttention(reasons.TOKEN_REJECTED(answer=answer), reasons.ENTER_CLIENT_SECRET()) from None
        return _HttpToken(token, now + timedelta(seconds=max(30, lifetime - 60)))

    def _request_token(
        self, http_client: RecordedClient, fields: Mapping[str, object], headers: Mapping[str, str]
    ) -> EgressResponse:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        content = urlencode(fields).encode()
        url = self.account.settings["token_url"]
        return http_client.request(
            "POST", url, headers={**form, **headers}, content=content, logged_body="(the credentials)"
        )

    def _forget_token(self, credentials: Mapping[str, str]) -> None:
        """Drops the cached token, unless another thread has replaced the one in `credentials`."""
        with self._lock:
            if self._token is not None and credentials.get("Authorization") == f"Bearer {self._token.text}":
                self._token = None

    def _signature(self, body: bytes) -> dict[str, str]:
        secret = self.account.secrets.get("hmac_secret", "")
        if not secret:
            return {}
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        name = self.account.settings.get("hmac_header", "X-Tocsin-Signature")
        return {name: f"{self.account.settings.get('hmac_prefix', 'sha256=')}{digest}"}

    def _check_response(self, response: EgressResponse, credentials: Mapping[str, str]) -> None:
        expected = self.account.settings.get("expected_status") or []
        if response.status in expected or (not expected and 200 <= response.status < 300):
            return
        _raise_transient(response)
        if response.status == 401 and self._auth is not HttpAuth.NONE:
            self._forget_token(credentials)
            raise NeedsAttention(reasons.CREDENTIALS_REJECTED(integration=self.account.name), ENTER_CREDENTIALS())
        expected_text = ", ".join(map(str, expected)) or "200-299"
        text = " ".join(response.body.decode("utf-8", "replace").split())[:200]
        unexpected = reasons.UNEXPECTED_STATUS(status=response.status, expected=expected_text)
        raise Permanent(joined(unexpected, reasons.SERVER_SAID(message=text) if text else NO_REASON, separator=" "))

    def _capture_values(self, response: EgressResponse) -> dict[str, str]:
        paths = self.account.settings.get("capture", {})
        if not paths:
            return {}
        try:
            payload = json.loads(response.body)
        except ValueError:
            return {}
        values = {name: read_path(payload, path) for name, path in paths.items()}
        return {
            name: text_templates.describe_template(value)[:_MAX_CAPTURED_CHARS]
            for name, value in values.items()
            if value is not None
        }


def _error_text(response: EgressResponse) -> str:
    """A token server's error and its description; "" without both."""
    try:
        payload = json.loads(response.body)
    except ValueError:
        return ""
    if not isinstance(payload, Mapping):
        return ""
    parts = (payload.get("error"), payload.get("error_description"))
    return ": ".join(" ".join(part.split()) for part in parts if isinstance(part, str) and part)[:200]


def _raise_transient(response: EgressResponse) -> None:
    if response.status == 429:
        raise Throttled(reasons.SERVER_RATE_LIMITED(), response.retry_after)
    if response.status >= 500 or response.status == 408:
        raise Temporary(reasons.SERVER_ERROR(status=response.status), response.retry_after)


def _open(account: IntegrationAccount, client: HttpClient) -> HttpSender:
    return HttpSender(account, client, RateLimit.per_second(account.settings.get("rate", DEFAULT_RATE), _BURST))


HTTP = ConnectorKind(
    name="http",
    title="HTTP call",
    description="A call to any address, with the alert's values in it.",
    open_sender=_open,
    spec=HttpCallSpec,
    secret_names=SECRET_NAMES,
    secret_settings=("url", "headers"),
)
