"""The connector for templated HTTP calls."""

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
from typing import Annotated, Any
from urllib.parse import quote_plus, urlencode

from pydantic import AfterValidator, BeforeValidator, Field

from tocsin.core.config import crypto
from tocsin.core.delivery.circuit_breaker import ENTER_CREDENTIALS, NeedsAttention, RateLimit, Throttled
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, joined
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import REQUIRED, read_path
from tocsin.core.validation.spec import InForm, InvalidValue, OneOf, Parsed, Secret, SpecErrors
from tocsin.outbound import reasons
from tocsin.outbound.connectors.interfaces import (
    CallDone,
    CallJob,
    ConnectorKind,
    IntegrationAccount,
    OutboundSpec,
    RecordedClient,
)
from tocsin.outbound.redaction import MASK, PLAIN_HEADERS

# ---------- specs
# A templated HTTP call as YAML, the API and forms write it. Pure.


_METHODS = ("POST", "PUT", "PATCH", "GET", "DELETE")
DEFAULT_RATE = 5

_HIDDEN_URL = ReasonType("outbound.hidden_url", "is hidden here; enter the complete URL.")
_NOT_A_HEADER = ReasonType("outbound.not_a_header", '"{name}" is not a header.')
_HIDDEN_HEADER = ReasonType("outbound.hidden_header", 'the value of "{name}" is hidden here; enter it again.')
_NOT_NAMED_TEXTS = ReasonType("outbound.not_named_texts", "must be an object of text values.")
_NOT_STATUSES = ReasonType("outbound.not_statuses", "must be one or more HTTP status codes, such as [200, 204].")


class HttpAuth(StrEnum):
    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"
    #: OAuth 2.0 client credentials (RFC 6749, section 4.4).
    OAUTH2 = "oauth2"


_AUTH_LABELS = {
    HttpAuth.NONE: _("None"),
    HttpAuth.BASIC: _("Basic: username and password"),
    HttpAuth.BEARER: _("Bearer token"),
    HttpAuth.HEADER: _("Secret header"),
    HttpAuth.OAUTH2: _("OAuth 2 client credentials"),
}

#: The keys of each method, the required ones first, and the secrets that it requires; a Basic password may be empty.
_REQUIRED_KEYS: Mapping[HttpAuth, tuple[str, ...]] = {
    HttpAuth.BASIC: ("username",),
    HttpAuth.HEADER: ("header_name",),
    HttpAuth.OAUTH2: ("token_url", "client_id"),
}
_OPTIONAL_KEYS: Mapping[HttpAuth, tuple[str, ...]] = {HttpAuth.OAUTH2: ("scope",)}
_REQUIRED_SECRETS: Mapping[str, tuple[str, ...]] = {
    HttpAuth.BEARER: ("token",), HttpAuth.HEADER: ("token",), HttpAuth.OAUTH2: ("client_secret",),
}  # fmt: skip


def _url(text: str) -> str:
    if crypto.is_masked(text):
        raise InvalidValue(_HIDDEN_URL())
    _check_address(inputs.render(text, dict.fromkeys(inputs.references(text), "x")))
    return text


def _check_address(url: str) -> str:
    try:
        if url:
            egress.check_url(url)
    except Permanent as problem:
        raise InvalidValue(problem.reason) from None
    return url


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidValue(_NOT_NAMED_TEXTS())
    return {str(name)[:100]: str(text)[:2000] for name, text in value.items()}


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, text in headers.items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or "\n" in text:
            raise InvalidValue(_NOT_A_HEADER(name=name))
        if text == MASK:
            raise InvalidValue(_HIDDEN_HEADER(name=name))
    return headers


def _statuses(value: object) -> tuple[int, ...]:
    statuses = value if isinstance(value, list | tuple) else [value]
    if not all(type(status) is int and 100 <= status <= 599 for status in statuses):
        raise InvalidValue(_NOT_STATUSES())
    return tuple(statuses)


_STATUS = {"type": "integer", "minimum": 100, "maximum": 599}
_Texts = Annotated[
    dict[str, str], Parsed(_texts, {"type": "object", "additionalProperties": {"type": "string", "maxLength": 2000}})
]
_Statuses = Annotated[tuple[int, ...], Parsed(_statuses, {"anyOf": [_STATUS, {"type": "array", "items": _STATUS}]})]


class HttpCallSpec(OutboundSpec):
    """An outbound integration of the kind `http`. URL, headers and body may contain values such as `<subject>`."""

    kind: Annotated[str, OneOf(("http",))] = Field(description="Kind of integration.")
    method: Annotated[
        str,
        OneOf(_METHODS),
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
        InForm(_("Method")),
    ] = Field(default="POST", description="Method of the call.")
    url: Annotated[
        str,
        Field(min_length=1, max_length=2000),
        AfterValidator(_url),
        InForm(
            _("URL"),
            _(
                "URL, headers and body can contain placeholders such as <subject>, <alert> or "
                "<custom.name>. After saving, only the host is shown; leave it unchanged to keep the URL."
            ),
            widget="url",
        ),
    ] = Field(description="URL of the call.")
    headers: Annotated[
        _Texts,
        AfterValidator(_headers),
        InForm(
            _("Headers"),
            _("One per line: Name: value. Saved values are hidden; leave ••• to keep them."),
            widget="headers",
        ),
    ] = Field(default={}, description="Headers by name.")
    body: Annotated[str, InForm(_("Body"), widget="long code")] = Field(
        default="", max_length=inputs.MAX_TEMPLATE_CHARS, description="Body of the call."
    )
    auth: Annotated[HttpAuth, OneOf(), InForm(_("Authentication"), choices=_AUTH_LABELS)] = Field(
        default=HttpAuth.NONE, description="Authentication."
    )
    username: Annotated[str, InForm(_("Username"))] = Field(
        default="", max_length=200, description="Username. Required for `basic`, only there."
    )
    password: Annotated[Secret, InForm(_("Password"))] = Field(default="", description="Password, for `basic`.")
    header_name: Annotated[str, InForm(_("Secret header name"))] = Field(
        default="", max_length=100, description="Name of the header with `token`. Required for `header`, only there."
    )
    token: Annotated[Secret, InForm(_("Token or secret header value"))] = Field(
        default="", description="Token. Required for `bearer` and `header`."
    )
    token_url: Annotated[
        str, Field(max_length=2000), AfterValidator(_check_address), InForm(_("OAuth 2: token URL"))
    ] = Field(default="", description="URL that issues tokens. Required for `oauth2`, only there.")
    client_id: Annotated[str, InForm(_("OAuth 2: client ID"))] = Field(
        default="", max_length=500, description="Client id. Required for `oauth2`, only there."
    )
    client_secret: Annotated[Secret, InForm(_("OAuth 2: client secret"))] = Field(
        default="", description="Client secret. Required for `oauth2`."
    )
    scope: Annotated[str, InForm(_("OAuth 2: scope"))] = Field(
        default="", max_length=500, description="Scope of the token, for `oauth2`."
    )
    hmac_header: Annotated[str, InForm(_("Signature header"))] = Field(
        default="", max_length=100, description="Header of the signature. Default: `X-Tocsin-Signature`."
    )
    hmac_secret: Annotated[Secret, InForm(_("Signature secret"), _("Hex-encoded HMAC-SHA256 of the body."))] = Field(
        default="", description="Secret that signs the body. Required for `hmac_header`."
    )
    hmac_prefix: str = Field(default="sha256=", max_length=40, description="Text before the signature.")
    expected_status: Annotated[
        _Statuses,
        InForm(_("Expected status codes"), _("For example 200, 204. Empty: any 2xx."), widget="numbers"),
    ] = Field(default=(), description="Statuses of success. Default: 200 to 299.")
    capture: Annotated[
        _Texts,
        InForm(
            _("Capture from response"),
            _("One per line: custom field = path, for example ticket = data^id."),
            widget="pairs",
        ),
    ] = Field(
        default={}, description="Custom fields of the alert by name, with the path of each value in the response."
    )
    rate: int = Field(default=DEFAULT_RATE, ge=1, le=1000, description="Requests a second, at most.")

    def check(self, errors: SpecErrors) -> None:
        if errors.has("auth"):
            return
        required = _REQUIRED_KEYS.get(self.auth, ())
        for key in required:
            if not getattr(self, key):
                errors.add(key, REQUIRED(), "missing")
        self.reject_other_keys(self._keys_except_of_other_auth(), errors)

    def settings(self) -> dict[str, Any]:
        settings = {
            key: getattr(self, key) for key in self._keys_except_of_other_auth() - self.common_keys - set(SECRET_NAMES)
        }
        settings |= {"auth": str(self.auth), "expected_status": list(self.expected_status)}
        return {key: value for key, value in settings.items() if value not in ("", {}, [], None)}

    def required_secrets(self) -> tuple[str, ...]:
        # A configured signature header implies signing.
        return (*_REQUIRED_SECRETS.get(self.auth, ()), *(("hmac_secret",) if self.hmac_header else ()))

    def _keys_except_of_other_auth(self) -> set[str]:
        keys = {field.alias or name for name, field in type(self).model_fields.items()}
        others = (*_REQUIRED_KEYS.items(), *_OPTIONAL_KEYS.items())
        return keys - {key for auth, auth_keys in others if auth is not self.auth for key in auth_keys}


SECRET_NAMES = ("password", "token", "client_secret", "hmac_secret")


# ---------- connector
# The templated HTTP call: method, URL, headers and body with `<subject>`-style placeholders.
#
# Signs the request, checks the response's status, and captures values from it. Knows nothing about specific vendors.


_BURST = 10
_MAX_CAPTURED_CHARS = 1000
#: Shorter values are not treated as secrets, since masking them would hide unrelated text.
_MIN_SECRET_CHARS = 6

#: How values are escaped in a body, by part of its media type; JSON uses `in_json`.
_ESCAPED: Mapping[str, Callable[[str], str]] = {
    "form-urlencoded": inputs.in_url, "xml": inputs.in_xml, "html": inputs.in_xml,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _HttpToken:
    text: str
    until: datetime


@dataclass(slots=True)
class HttpCaller:
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
        url = inputs.render(settings["url"], values, inputs.in_url)
        headers = {
            name: inputs.render(text, values, inputs.in_header) for name, text in settings.get("headers", {}).items()
        }
        self._mask_secrets(http_client, url, headers)
        logged_url = crypto.mask_url(url)
        method = settings.get("method", "POST")
        body = b"" if method == "GET" else self._render_body(values, headers)
        # The same for every attempt, so that the receiver can recognize a repeat.
        headers.setdefault("Idempotency-Key", f"tocsin-call-{job.id}")
        headers.setdefault("User-Agent", "Tocsin")
        headers |= self._signature(body)
        credentials = self.credentials(http_client, now)
        response = http_client.request(method, url, headers=headers | credentials, content=body, logged_url=logged_url)
        if response.status == 401 and self._auth is HttpAuth.OAUTH2:
            # The token ended early: retry once with a fresh one.
            self.forget_token(credentials)
            credentials = self.credentials(http_client, now)
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
            literal_text = inputs.render(template, dict.fromkeys(inputs.references(template), ""))
            if name.lower() not in PLAIN_HEADERS and len(literal_text.strip()) >= _MIN_SECRET_CHARS:
                http_client.mask_secret(headers[name])
        if crypto.mask_url(url) != url:
            for secret in crypto.secret_parts(url):
                if len(secret) >= _MIN_SECRET_CHARS:
                    http_client.mask_secret(secret)

    def verify(self, http_client: RecordedClient, now: datetime) -> Reason:
        """Fetches an OAuth token if needed. The call itself is not made, because it may have side effects."""
        egress.check_url(inputs.render(self.account.settings["url"], {}))
        if self._auth is HttpAuth.OAUTH2:
            self.credentials(http_client, now)
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
        text = inputs.render(template, values, inputs.in_json if is_json else next(escapers, None))
        if is_json:
            try:
                json.loads(text)
            except ValueError as error:
                raise Permanent(reasons.INVALID_BODY(problem=str(error)), reasons.CORRECT_TEMPLATE()) from None
        return text.encode()

    def credentials(self, http_client: RecordedClient, now: datetime) -> dict[str, str]:
        """The headers that authenticate a request."""
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
            "grant_type": settings.get("grant", "client_credentials"),
            "client_id": settings.get("client_id", ""),
            "client_secret": secrets.get("client_secret", ""),
            **({"scope": settings["scope"]} if settings.get("scope") else {}),
            **({"username": settings["username"], "password": secrets["password"]} if "grant" in settings else {}),
        }
        response = self._request_token(http_client, fields, {})
        if response.status in (400, 401) and error_text(response).startswith("invalid_client"):
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
            said = error_text(response)
            if 200 <= response.status < 300 and not said:
                # Not a rejection: usually HTML of a proxy, with a sign-in form or a maintenance notice.
                raise Temporary(reasons.NO_TOKEN(status=response.status)) from None
            answer = f"{response.status}, {said}" if said else str(response.status)
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

    @property
    def has_token(self) -> bool:
        """Whether credentials are a token that may end early."""
        return self._auth is HttpAuth.OAUTH2

    def forget_token(self, credentials: Mapping[str, str] | None = None) -> None:
        """Drops the cached token, unless another thread has replaced the one in `credentials`."""
        with self._lock:
            if self._token is not None and (
                credentials is None or credentials.get("Authorization") == f"Bearer {self._token.text}"
            ):
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
            self.forget_token(credentials)
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
            name: inputs.describe_template(value)[:_MAX_CAPTURED_CHARS]
            for name, value in values.items()
            if value is not None
        }


def error_text(response: EgressResponse) -> str:
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


def _open(account: IntegrationAccount, client: HttpClient) -> HttpCaller:
    return HttpCaller(account, client, RateLimit.per_second(account.settings.get("rate", DEFAULT_RATE), _BURST))


HTTP = ConnectorKind(
    name="http",
    title="HTTP call",
    description="A call to any address, with the alert's values in it.",
    open_sender=_open,
    spec=HttpCallSpec,
    secret_names=SECRET_NAMES,
    secret_settings=("url", "headers"),
)
