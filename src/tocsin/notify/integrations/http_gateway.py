"""The HTTP gateway provider kind: text messages through any HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NoReturn

from tocsin.core.errors import Permanent
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, sentence
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import read_path
from tocsin.notify.channels.phone import is_phone_number
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender
from tocsin.notify.interfaces import (
    ProviderAccount,
    ProviderKind,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
)

# ---------- template
# Placeholders such as `<to>` and `<text>` are escaped for their context: percent-encoded in a URL or form,
# JSON-escaped in JSON, XML-escaped in XML.


#: The available placeholders.
NAMES = ("to", "to_digits", "text", "from", "key", "secret")


class BodyFormat(StrEnum):
    """The format of a request's body."""

    JSON = "json"
    FORM = "form"
    XML = "xml"
    TEXT = "text"


#: The content type of each, and how a placeholder's value is escaped in it.
_FORMATS: Mapping[BodyFormat, tuple[str, Callable[[str], str] | None]] = {
    BodyFormat.JSON: ("application/json", inputs.in_json),
    BodyFormat.FORM: ("application/x-www-form-urlencoded", inputs.in_url),
    BodyFormat.XML: ("application/xml; charset=utf-8", inputs.in_xml),
    BodyFormat.TEXT: ("text/plain; charset=utf-8", None),
}


def unknown_placeholders(template: str, body_format: BodyFormat) -> list[str]:
    """Returns the unknown placeholders. In XML, other names are the document's own elements."""
    return [] if body_format is BodyFormat.XML else sorted(inputs.references(template).difference(NAMES))


def render_template(template: str, values: Mapping[str, str], body_format: BodyFormat) -> str:
    """Returns the template with `values` filled in. A query has the format of a form."""
    return inputs.render(template, values, _FORMATS[body_format][1])


def value_at_path(document: object, path: str) -> str | None:
    """Returns the text at a path such as `messages^0^id`. None if there is none, or no path."""
    value = read_path(document, path) if path else None
    if value is None or isinstance(value, dict | list):
        return None
    # Lower case, as JSON writes booleans and as administrators enter them.
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---------- provider
# The `http_gateway` provider kind: texts through any gateway with an HTTP API. It has no webhooks, so it works without
# a public address; recipients respond with the link in the message.


_PLACEHOLDERS = tuple(f"<{name}>" for name in NAMES)

_UNKNOWN_PLACEHOLDER = ReasonType(
    "provider.gateway_unknown_placeholder", "Unknown placeholder {placeholder} in the request. Use {placeholders}."
)
_CORRECT_IT = ReasonType("provider.gateway_correct_it", "Open the provider and fix its settings.")
_RESPONDS = ReasonType(
    "provider.gateway_responds", "{server} responds. Send a test to see whether it accepts messages."
)
_NOT_ACCEPTED = ReasonType("provider.gateway_not_accepted", "{server} did not accept the message: {answer}.")


class HttpGatewaySender(HttpSender):
    """Sends with one gateway."""

    def __init__(self, account: ProviderAccount) -> None:
        super().__init__(account)
        self._settings = {name: str(value) for name, value in account.settings.items()}
        self._secret = account.secrets.get("secret", "")
        self._body_format = BodyFormat(self._settings.get("body_format") or BodyFormat.JSON)
        self._url = self._settings.get("api_base", "")
        self._body = self._settings.get("body", "")
        unknown_names = [
            *unknown_placeholders(self._settings.get("query", ""), BodyFormat.FORM),
            *unknown_placeholders(self._body, self._body_format),
        ]
        self._unknown_name = next(iter(unknown_names), "")

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        values = {
            "to": address,
            "to_digits": address.lstrip("+"),
            "text": rendered.text,
            "from": self._settings.get("from_number", ""),
            "key": idempotency_key,
            "secret": self._secret,
        }
        self._check()
        method = self._settings.get("method") or "POST"
        query = render_template(self._settings.get("query", ""), values, BodyFormat.FORM)
        content = b"" if method == "GET" else render_template(self._body, values, self._body_format).encode()
        url = f"{self._url}?{query}" if query else self._url
        response = self._client.request(method, url, headers=self._headers(idempotency_key), content=content)
        document = vendor_http.content(response)
        if not 200 <= response.status < 300:
            self._fail(response, document)
        if self._settings.get("ok_path") and not document:
            raise vendor_http.no_answer(self._name)
        path, expected = self._settings.get("ok_path", ""), self._settings.get("ok_value", "")
        actual = value_at_path(document, path)
        if path and (actual is None or actual != (expected or actual)):
            value = repr(vendor_http.line(actual, 60))
            self._fail(
                response,
                document,
                sentence("{path} is {value}", path=path, value=value) if actual else sentence("no {path}", path=path),
            )
        return (value_at_path(document, self._settings.get("id_path", "")) or "")[:100]

    def verify(self) -> Reason:
        # No request that every gateway supports sends nothing: this only checks that the server responds.
        self._check()
        response = self._client.request("HEAD", self._url, headers=self._headers(""))
        status = response.status
        if status in (401, 403, *vendor_http.RETRYABLE_STATUSES) or (status >= 500 and status != 501):
            vendor_http.raise_for_status(response, self._name)
        return _RESPONDS(server=self._name)

    @property
    def _name(self) -> str | Reason:
        return self._url.partition("://")[2].partition("/")[0] or vendor_http.GATEWAY()

    def _check(self) -> None:
        if name := self._unknown_name:
            raise Permanent(_UNKNOWN_PLACEHOLDER(placeholder=f"<{name}>", placeholders=_PLACEHOLDERS), _CORRECT_IT())

    def _headers(self, key: str) -> dict[str, str]:
        headers = {"Content-Type": _FORMATS[self._body_format][0], "Accept": "application/json, */*"}
        if key:
            headers["Idempotency-Key"] = key
        if name := self._settings.get("secret_header", ""):
            headers[name] = f"{self._settings.get('secret_prefix', '')} {self._secret}".strip()
        elif user := self._settings.get("username", ""):
            headers["Authorization"] = vendor_http.basic_authorization(user, self._secret)
        return headers

    def _fail(self, response: EgressResponse, document: object, default: Reason = NO_REASON) -> NoReturn:
        text = vendor_http.line(value_at_path(document, self._settings.get("error_path", "")) or "")
        if 200 <= response.status < 300:
            raise Permanent(_NOT_ACCEPTED(server=self._name, answer=text or default))
        vendor_http.raise_for_status(response, self._name, text)


class HttpGatewayKind(ProviderKind):
    name = "http_gateway"
    label = "HTTP gateway"
    description = "Text messages through any SMS gateway with an HTTP API."
    icon = "api"
    channels: tuple[str, ...] = ("sms",)
    max_concurrent_sends = 20
    open = HttpGatewaySender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "api_base", "URL", ProviderSettingType.URL, is_required=True, help="Request URL, without the query string."
        ),
        ProviderSetting(
            "method",
            "Method",
            ProviderSettingType.CHOICE,
            default="POST",
            choices=("POST", "PUT", "GET"),
            help="Usually POST.",
        ),
        ProviderSetting(
            "query",
            "Query",
            help="Query string such as to=<to>&msg=<text>. Supports the same placeholders as the body.",
        ),
        ProviderSetting(
            "body_format",
            "Body format",
            ProviderSettingType.CHOICE,
            default="json",
            choices=tuple(BodyFormat),
            help="Format of the body. Placeholder values are escaped accordingly.",
        ),
        ProviderSetting(
            "body",
            "Body",
            ProviderSettingType.LONG_TEXT,
            default='{"to": "<to>", "from": "<from>", "text": "<text>"}',
            # A literal, so that it can be translated; a test compares it with NAMES.
            help=(
                "Placeholders: <to>, <to_digits>, <text>, <from>, <key>, <secret>. <key> stays the "
                "same when a message is resent."
            ),
        ),
        ProviderSetting("from_number", "From", help="Value of <from>: a number or sender name."),
        ProviderSetting("username", "Username", help="Only if the gateway requires it (HTTP Basic)."),
        ProviderSetting(
            "secret", "Password or token", is_secret=True, help="Used with the username, in the header, or as <secret>."
        ),
        ProviderSetting(
            "secret_header", "Token header", help="For example Authorization, if the token is sent in a header."
        ),
        ProviderSetting("secret_prefix", "Token prefix", help="For example Bearer. Precedes the token in the header."),
        ProviderSetting(
            "ok_path",
            "Success path",
            help="Path in the JSON response, such as messages^0^status. Empty: any 2xx is a success.",
        ),
        ProviderSetting("ok_value", "Success value", help="Value when the message was accepted, such as 0 or queued."),
        ProviderSetting("id_path", "Message ID path", help="For example messages^0^id."),
        ProviderSetting("error_path", "Error path", help="For example error^message. Shown to administrators."),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return is_phone_number(address)
