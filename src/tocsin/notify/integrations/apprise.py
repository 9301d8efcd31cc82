"""The built-in provider kind for chat and push services, through apprise."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from tocsin.alerts.states import Priority
from tocsin.core.delivery.circuit_breaker import AddressRejected
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import DEADLINE, EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import Reason, ReasonType, replace_texts
from tocsin.notify.channels import chat
from tocsin.notify.integrations import vendor_http
from tocsin.notify.integrations.vendor_http import HttpSender
from tocsin.notify.interfaces import (
    ProviderKind,
    ProviderSetting,
    Rendered,
)
from tocsin.notify.text import formatting
from tocsin.people import addresses

# ---------- requests patch
# Sends apprise's requests through Tocsin's egress checks: to permitted addresses, with a deadline, without redirects.
#
# apprise calls the `requests` library itself. While `through_client` is active in a thread, the requests of that
# library from this thread go through `egress` instead; other threads are unaffected.


#: In seconds, for all requests of one message. An address may name hundreds of receivers.
MESSAGE_DEADLINE = 60.0

_TIMED_OUT = ReasonType("provider.chat_timed_out", "The message was not sent within {deadline}.")

_thread_state = threading.local()
_installed = threading.Lock()
_is_installed = False


@dataclass(slots=True)
class RequestLog:
    """The requests of one message: the servers' responses, and the first error."""

    client: HttpClient
    key: str
    responses: list[EgressResponse] = field(default_factory=list)
    problem: Temporary | Permanent | None = None
    elapsed: Callable[[], float] = time.monotonic
    ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.ends_at = self.elapsed() + MESSAGE_DEADLINE

    def send(self, request: Any) -> Any:
        """Returns the response to a prepared request as `requests` expects it. Raises Temporary or Permanent."""
        headers = {str(name): _text(value) for name, value in request.headers.items()}
        for name in [name for name in headers if name.lower() in ("host", "content-length", "transfer-encoding")]:
            del headers[name]
        headers.setdefault("Idempotency-Key", self.key)
        # A compressed body would be passed on undecoded.
        headers["Accept-Encoding"] = "identity"
        try:
            response = self.client.request(
                request.method,
                request.url,
                headers=headers,
                content=_body(request.body),
                deadline=self._remaining_seconds(),
            )
        except (Temporary, Permanent) as error:
            # Recorded here, since a plugin may swallow the exception.
            self.problem = error
            raise
        self.responses.append(response)
        return _response(request, response)

    def _remaining_seconds(self) -> float:
        """Returns the seconds that the next request may take. Raises OutcomeUnknown if none are left."""
        remaining = self.ends_at - self.elapsed()
        if remaining <= 0:
            raise OutcomeUnknown(_TIMED_OUT(deadline=timedelta(seconds=MESSAGE_DEADLINE)))
        return min(remaining, DEADLINE)


@contextmanager
def through_client(client: HttpClient, key: str) -> Iterator[RequestLog]:
    """Sends this thread's `requests` calls through `client` while the context is active."""
    _install()
    request_log = RequestLog(client, key)
    _thread_state.request_log = request_log
    try:
        yield request_log
    finally:
        _thread_state.request_log = None


def end_session(plugin: Any) -> None:
    """Signs a plugin out of its service while `through_client` is active, and makes sure that it sends nothing later.

    Some plugins do this in their finalizer, which runs at any time, in any thread, and past the egress checks.
    """
    finalizer = getattr(type(plugin), "__del__", None)
    if finalizer is None:
        return
    try:
        with suppress(Exception):  # as in any finalizer; the message is already sent
            finalizer(plugin)
    finally:
        plugin.__class__ = type(type(plugin).__name__, (type(plugin),), {"__del__": lambda self: None})


def _install() -> None:
    global _is_installed
    with _installed:
        if _is_installed:
            return
        from requests.adapters import HTTPAdapter

        original = HTTPAdapter.send

        def send(adapter: Any, request: Any, *args: Any, **options: Any) -> Any:
            request_log: RequestLog | None = getattr(_thread_state, "request_log", None)
            return original(adapter, request, *args, **options) if request_log is None else request_log.send(request)

        HTTPAdapter.send = send  # type: ignore[method-assign, assignment]
        _is_installed = True


def _response(request: Any, egress_response: EgressResponse) -> Any:
    import requests
    from requests.structures import CaseInsensitiveDict

    response = requests.Response()
    response.status_code = egress_response.status
    response.headers = CaseInsensitiveDict(egress_response.headers)
    response.url, response.request = request.url, request
    response.raw = io.BytesIO(egress_response.body)
    response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    _ = response.content
    return response


def _body(body: Any) -> bytes:
    match body:
        case None:
            return b""
        case bytes():
            return body
        case str():
            return body.encode()
        case _:
            return b"".join(bytes(part) for part in body)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


#: Matches `<db01>`, `<!channel>`, `<@4711>`, `@everyone` and Zulip's `@**all**`, but no e-mail address.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?@#&])|(?<![\w.+-])@(?=(?:everyone|here|channel|all)\b|[*_])")

#: A shorter part of a URL is an ordinary word, not a secret.
_MIN_SECRET_CHARS = 6

_ENTER_ADDRESS = ReasonType("provider.chat_enter_address", "Enter the address again.")
_ENTER_ADDRESS_AS_GIVEN = ReasonType("provider.chat_enter_address_as_given", "Enter it again, as the service shows it.")
_TESTED_PER_ADDRESS = ReasonType(
    "provider.chat_tested_per_address", "“Send test” tests each address of a person or group."
)
_NOT_CALLABLE = ReasonType("provider.chat_not_callable", "{service} does not work with this address.")
_NOT_ACCEPTED = ReasonType("provider.chat_not_accepted", "{service} accepted the request but rejected the message.")
_NOT_ACCEPTED_WITH_ANSWER = ReasonType(
    "provider.chat_not_accepted_with_answer", "{service} accepted the request but rejected the message: {answer}."
)
_UNEXPECTED_RESPONSE = ReasonType(
    "provider.chat_unexpected_response", "{service} sent an unexpected response ({error})."
)


class ChatServicesSender(HttpSender):
    """Creates an apprise object per message. It keeps no state, and threads share none."""

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        url = addresses.decrypt_address(address)
        try:
            plugin = chat.open_plugin(url)
        except Rejected as rejected:
            raise AddressRejected(rejected.reason, _ENTER_ADDRESS()) from None
        service = str(plugin.service_name)
        with through_client(self._client, idempotency_key) as request_log:
            try:
                is_sent = _notify(plugin, rendered, request_log, service)
                _raise_unless_accepted(request_log, is_sent, service, secrets_in(url))
            finally:
                end_session(plugin)
        return ""

    def verify(self) -> Reason:
        return _TESTED_PER_ADDRESS()


class ChatServicesKind(ProviderKind):
    name = "chat_services"
    label = "Chat and push services"
    description = (
        "Gotify, Pushover, Teams, Discord, Mattermost, Matrix, Google Chat and about 100 more, by service URL."
    )
    icon = "messages"
    is_built_in = True
    channels: tuple[str, ...] = ("chat", "push")
    max_concurrent_sends = 20
    has_many_servers = True
    open = ChatServicesSender
    settings: tuple[ProviderSetting, ...] = ()

    def accepts(self, channel: str, address: str) -> bool:
        return addresses.is_encrypted(address)


def _notify(plugin: Any, rendered: Rendered, request_log: RequestLog, service: str) -> bool:
    """Returns whether the plugin reports success. Raises OutcomeUnknown if it breaks."""
    from apprise import NotifyFormat

    title, body = fit_text(rendered, int(plugin.title_maxlen), int(plugin.body_maxlen))
    try:
        is_sent = plugin.notify(
            title=title, body=body, notify_type=_kind(rendered), body_format=NotifyFormat.TEXT, overflow="truncate"
        )
    except (Temporary, Permanent):
        # `RequestLog` has recorded the error, whether or not the plugin lets it through.
        return False
    except Exception as error:  # noqa: BLE001 - a plugin breaks on a response that it does not expect
        # Its text may repeat a secret.
        if request_log.problem is None:
            raise OutcomeUnknown(_UNEXPECTED_RESPONSE(service=service, error=type(error).__name__)) from None
        return False
    return bool(is_sent)


def fit_text(rendered: Rendered, max_title_chars: int, max_body_chars: int) -> tuple[str, str]:
    """Returns title and text within a service's limits. The text is shortened; the title and links are kept."""
    links = "\n".join(f"{button.label}: {button.url}" for button in rendered.buttons)
    if not links and rendered.link:
        links = rendered.link
    title = formatting.cut(_neutralize_markup(rendered.subject), max_title_chars or 200)
    # A service without a title field puts the title before the text.
    available_chars = max_body_chars - len(links) - (0 if max_title_chars else len(title)) - 10
    return title, "\n".join(
        part for part in (formatting.cut(_neutralize_markup(rendered.text), max(0, available_chars)), links) if part
    )


def _neutralize_markup(text: str) -> str:
    """Inserts a zero-width space where a service would read markup, which it strips together with its text, or a
    mention of everyone: the author of a ticket must not be able to ring everyone's phone.
    """
    return _MARKUP.sub("\\g<0>\u200b", text)


def _kind(rendered: Rendered) -> Any:
    from apprise import NotifyType

    if not rendered.buttons:
        return NotifyType.INFO
    return NotifyType.FAILURE if rendered.priority in (Priority.CRITICAL, Priority.HIGH) else NotifyType.WARNING


def _raise_unless_accepted(request_log: RequestLog, is_sent: bool, service: str, secrets: list[str]) -> None:
    """Raises Temporary, Permanent or OutcomeUnknown if the message was not accepted."""
    if (problem := request_log.problem) is not None:
        reason = replace_texts(problem.reason, lambda text: _mask_secrets(text, secrets))
        if isinstance(problem, OutcomeUnknown):
            raise OutcomeUnknown(reason)
        if isinstance(problem, Temporary):
            raise Temporary(reason, problem.retry_after)
        raise type(problem)(reason, problem.remedy_reason)
    if is_sent:
        return
    # Each address is an account of its own: the failure of one does not count against the others.
    if not request_log.responses:
        raise AddressRejected(_NOT_CALLABLE(service=service), _ENTER_ADDRESS_AS_GIVEN())
    response = request_log.responses[-1]
    message = _mask_secrets(vendor_http.line(_error_message(vendor_http.body(response))), secrets)
    if 200 <= response.status < 300:
        raise AddressRejected(
            _NOT_ACCEPTED_WITH_ANSWER(service=service, answer=message) if message else _NOT_ACCEPTED(service=service)
        )
    try:
        vendor_http.raise_for_status(response, service, message)
    except Permanent as rejection:
        raise AddressRejected(rejection.reason, rejection.remedy_reason) from None


def _error_message(body: dict[str, Any]) -> str:
    """Returns the error message from the keys that services use for it."""
    for key in ("error_description", "errorDescription", "description", "message", "error", "detail", "errors"):
        value = body.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            value = value.get("message") or value.get("error")
        if isinstance(value, str) and value.strip():
            return value
    return ""


def secrets_in(url: str) -> list[str]:
    """Returns every part of a URL that could be a secret, longest first, both as written and decoded."""
    parts = urlsplit(url)
    pieces = re.split(r"[/&=@:?#]", url[len(parts.scheme) :])
    candidates = {
        piece for piece in [*pieces, *(unquote(piece) for piece in pieces)] if len(piece) >= _MIN_SECRET_CHARS
    }
    host = parts.hostname or ""
    # A hostname with a dot is not masked, so that users see which server fails.
    return sorted(
        (piece for piece in candidates if not ("." in piece and piece.lower() == host)), key=len, reverse=True
    )


def _mask_secrets(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = re.sub(re.escape(secret), addresses.MASK, text, flags=re.IGNORECASE)
    return text
