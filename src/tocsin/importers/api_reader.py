"""Reads JSON from another product's API sequentially, respecting its rate limit, with helpful error messages.

The API key is sent in a header and appears nowhere else: in no error and in no log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, HttpClient
from tocsin.core.reasons import NO_REASON, Reason, as_reason
from tocsin.importers import reasons

#: The maximum size of a response.
MAX_RESPONSE_BYTES = 32 * 1024 * 1024
#: The deadline of a response in seconds: some lists are long and not paginated.
RESPONSE_TIMEOUT = 120.0
#: A sanity limit of requests per import.
MAX_REQUESTS = 20_000
MAX_LIST_PAGES = 1_000
#: Attempts per request while the API is rate limiting or failing.
MAX_ATTEMPTS = 6
#: The longest delay before a retry.
MAX_RETRY_WAIT = timedelta(minutes=2)
_MAX_KEY_CHARS = 4096

#: Called with what is being read, and how many objects so far.
type ProgressCallback = Callable[[Reason], None]


@dataclass(slots=True)
class ApiReader:
    """One account of one product. `base` is its URL without a trailing slash. Not thread-safe."""

    product: str
    base: str
    headers: Mapping[str, str] = field(repr=False)
    #: The remedy shown when the key is rejected.
    key_help: Reason = NO_REASON
    progress: ProgressCallback = lambda text: None
    sleep: Callable[[float], None] = time.sleep
    _client: HttpClient = field(default_factory=HttpClient, repr=False)
    #: What the key may not read: `path` and `why`.
    unreadable: list[dict[str, Any]] = field(default_factory=list)
    _requests: int = 0

    def get(self, path: str, **query: object) -> Any:
        """Returns the JSON at a path below the base. An absolute URL is used as is if it has the same origin.

        Raises Permanent or Temporary with a message for users.
        """
        response = self._request(self._url(path, query))
        try:
            return json.loads(response.body)
        except ValueError:
            if response.body.lstrip()[:1] in (b"{", b"["):
                raise Permanent(
                    reasons.ENDED_TOO_SOON(product=self.product, path=_url_path(path)),
                    reasons.TRY_AGAIN(timeout=int(RESPONSE_TIMEOUT), size=MAX_RESPONSE_BYTES // 1024**2),
                ) from None
            raise Permanent(
                reasons.NOT_JSON(product=self.product, path=_url_path(path)),
                reasons.CHECK_API_BASE(base=self.base),
            ) from None

    def get_or_none(self, path: str, **query: object) -> Any:
        """Like `get`, but None if the object does not exist or the key may not read it."""
        try:
            return self.get(path, **query)
        except AccessDenied:
            return None

    def optional[T](self, path: str, objects: Iterable[T]) -> list[T]:
        """The objects that are read there; none if the key may not read them, which `unreadable` notes."""
        try:
            return list(objects)
        except AccessDenied as problem:
            self.unreadable.append({"path": path, "why": problem.reason})
            return []

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _url(self, path: str, query: Mapping[str, object]) -> str:
        url = path if "://" in path else f"{self.base}/{path.lstrip('/')}"
        if urlsplit(urljoin(self.base, url))[:2] != urlsplit(self.base)[:2]:
            # Never send the key to another host named in a response.
            raise Permanent(reasons.OTHER_HOST(product=self.product, base=self.base))
        parameters = {name: value for name, value in query.items() if value is not None}
        return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}" if parameters else url

    def _request(self, url: str) -> EgressResponse:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            self._requests += 1
            if self._requests > MAX_REQUESTS:
                raise Permanent(reasons.TOO_MANY_OBJECTS(product=self.product, limit=MAX_REQUESTS))
            try:
                response = self._client.request(
                    "GET", url, headers=self.headers, deadline=RESPONSE_TIMEOUT, max_bytes=MAX_RESPONSE_BYTES
                )
            except Temporary as error:
                if attempt == MAX_ATTEMPTS:
                    raise
                self._pause(attempt, None, error.reason)
                continue
            if response.status == 429 or response.status >= 500:
                if attempt == MAX_ATTEMPTS:
                    path, status = _url_path(url), response.status
                    failing = reasons.STILL_FAILING(product=self.product, status=status, path=path, attempts=attempt)
                    raise Temporary(failing)
                wait = response.retry_after or _reset_after(response)
                self._pause(attempt, wait, reasons.PRODUCT_BUSY(product=self.product))
                continue
            self._check(response, url)
            return response
        raise AssertionError("the last try returns or raises")

    def _pause(self, attempt: int, retry_after: timedelta | None, problem: Reason) -> None:
        delay = min(retry_after if retry_after is not None else timedelta(seconds=2**attempt), MAX_RETRY_WAIT)
        self.progress(reasons.RETRYING(problem=problem, seconds=max(1, round(delay.total_seconds()))))
        self.sleep(delay.total_seconds())

    def _check(self, response: EgressResponse, url: str) -> None:
        if 200 <= response.status < 300:
            return
        path = _url_path(url)
        match response.status:
            case 401:
                raise Permanent(reasons.KEY_UNKNOWN(product=self.product), self.key_help)
            case 402 | 403:
                raise AccessDenied(reasons.KEY_NOT_ALLOWED(product=self.product, path=path), self.key_help)
            case 404:
                raise AccessDenied(
                    reasons.NOTHING_AT_PATH(product=self.product, path=path), reasons.CHECK_API_BASE(base=self.base)
                )
            case status if 300 <= status < 400:
                raise Permanent(reasons.REDIRECTED(product=self.product, path=path), reasons.SET_API_ADDRESS())
            case status:
                message = _error_message(response)
                answered = reasons.ANSWERED_ERROR(product=self.product, status=status, path=path, message=message)
                raise Permanent(answered)


class InvalidKey(Permanent):
    """The text is not an API key."""


class AccessDenied(Permanent):
    """The key may not read the object, or it does not exist."""


def validate_base_url(text: str, default: str) -> str:
    """The API's base URL from user input, without a trailing slash. Raises Permanent if it is invalid."""
    base = (text.strip() or default).rstrip("/")
    if "://" not in base:
        base = f"https://{base}"
    egress.check_url(base)
    return base


def validate_key(text: str) -> str:
    """The API key from user input. Raises InvalidKey if it is invalid."""
    key = text.strip()
    if not key:
        raise InvalidKey(reasons.NO_API_KEY())
    if len(key) > _MAX_KEY_CHARS or any(not 32 < ord(character) < 127 for character in key):
        raise InvalidKey(reasons.INVALID_API_KEY())
    return key


def _reset_after(response: EgressResponse) -> timedelta | None:
    """The time until the rate limit resets, from non-standard headers that some APIs use instead of Retry-After."""
    for name in ("ratelimit-reset", "x-ratelimit-reset-in-seconds"):
        text = response.headers.get(name, "")
        if text.isdecimal() and len(text) < 6:
            return timedelta(seconds=int(text))
    return None


def _url_path(url: str) -> str:
    """The path of a URL, for messages."""
    return (urlsplit(url).path or url)[:200]


def _error_message(response: EgressResponse) -> Reason:
    """The API's own error message, truncated."""
    try:
        payload = json.loads(response.body[:10_000])
    except ValueError:
        return reasons.DOES_NOT_SAY_WHY()
    if isinstance(payload, dict):
        for name in ("message", "detail", "error", "errors"):
            message = payload.get(name)
            if isinstance(message, dict):
                message = message.get("message")
            if message:
                return as_reason(" ".join(str(message).split())[:300].rstrip("."))
    return reasons.DOES_NOT_SAY_WHY()
