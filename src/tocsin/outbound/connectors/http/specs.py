"""A templated HTTP call as YAML, the API and forms write it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from tocsin.core.config import secret_urls
from tocsin.core.errors import Permanent
from tocsin.core.net import egress
from tocsin.core.reasons import ReasonType
from tocsin.core.validation import text_templates
from tocsin.core.validation.field_errors import REQUIRED
from tocsin.core.validation.spec import InvalidValue, SpecErrors
from tocsin.core.validation.spec_types import OneOf, Parsed, Secret
from tocsin.outbound.connectors.interfaces import OutboundSpec
from tocsin.outbound.redaction import MASK

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
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
    if secret_urls.is_masked(text):
        raise InvalidValue(_HIDDEN_URL())
    _check_address(text_templates.render(text, dict.fromkeys(text_templates.references(text), "x")))
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
    url: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_url)] = Field(
        description="URL of the call."
    )
    method: Annotated[
        str, OneOf(_METHODS), BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
    ] = Field(default="POST", description="Method of the call.")
    headers: Annotated[_Texts, AfterValidator(_headers)] = Field(default={}, description="Headers by name.")
    body: str = Field(default="", max_length=text_templates.MAX_TEMPLATE_CHARS, description="Body of the call.")
    auth: Annotated[HttpAuth, OneOf()] = Field(default=HttpAuth.NONE, description="Authentication.")
    username: str = Field(default="", max_length=200, description="Username. Required for `basic`, only there.")
    header_name: str = Field(
        default="", max_length=100, description="Name of the header with `token`. Required for `header`, only there."
    )
    token_url: Annotated[str, Field(max_length=2000), AfterValidator(_check_address)] = Field(
        default="", description="URL that issues tokens. Required for `oauth2`, only there."
    )
    client_id: str = Field(default="", max_length=500, description="Client id. Required for `oauth2`, only there.")
    scope: str = Field(default="", max_length=500, description="Scope of the token, for `oauth2`.")
    password: Secret = Field(default="", description="Password, for `basic`.")
    token: Secret = Field(default="", description="Token. Required for `bearer` and `header`.")
    client_secret: Secret = Field(default="", description="Client secret. Required for `oauth2`.")
    hmac_secret: Secret = Field(default="", description="Secret that signs the body. Required for `hmac_header`.")
    hmac_header: str = Field(
        default="", max_length=100, description="Header of the signature. Default: `X-Tocsin-Signature`."
    )
    hmac_prefix: str = Field(default="sha256=", max_length=40, description="Text before the signature.")
    expected_status: _Statuses = Field(default=(), description="Statuses of success. Default: 200 to 299.")
    capture: _Texts = Field(
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
