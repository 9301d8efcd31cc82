"""Sends apprise's requests through Tocsin's egress checks: to permitted addresses, with a deadline, without redirects.

apprise calls the `requests` library itself. While `through_client` is active in a thread, the requests of that library
from this thread go through `egress` instead; other threads are unaffected.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import DEADLINE, EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import ReasonType

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
        """Returns the response to a prepared request in the form that `requests` expects. Raises Temporary, Permanent
        or OutcomeUnknown.
        """
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
