"""Reads JSON from another product's API: one request after another, in its own speed, with errors that say what to do.

The key goes into a header and nowhere else: not into an error, not into a log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import EgressResponse, HttpClient

#: Of one answer so much is read.
MAX_RESPONSE_BYTES = 32 * 1024 * 1024
#: And so long is waited for its end, in seconds: some lists are long, and come whole.
ANSWERED_WITHIN = 120.0
#: More requests than this are no import.
MAX_REQUESTS = 20_000
MAX_LIST_PAGES = 1_000
#: A request is tried so often where the other side is busy or broken.
TRIES = 6
#: At most so long is waited before a try.
MAX_RETRY_WAIT = timedelta(minutes=2)
_KEY_CHARACTERS = 4096

#: Is told what is being read, and how many objects there are so far.
type ProgressCallback = Callable[[str], None]


@dataclass(slots=True)
class ApiReader:
    """One account of one product. `base` is its address without a slash at the end; used by one thread."""

    product: str
    base: str
    headers: Mapping[str, str] = field(repr=False)
    #: What is to be done about a key that is refused.
    key_help: str = ""
    progress: ProgressCallback = lambda text: None
    wait: Callable[[float], None] = time.sleep
    _client: HttpClient = field(default_factory=HttpClient, repr=False)
    _requests: int = 0

    def get(self, path: str, **query: object) -> Any:
        """The JSON at a path below the base; a whole address is taken as it is, if it is of the same host.

        Raises Permanent and Temporary, in sentences.
        """
        answer = self._answered(self._url(path, query))
        try:
            return json.loads(answer.body)
        except ValueError:
            if answer.body.lstrip()[:1] in (b"{", b"["):
                raise Permanent(
                    f"{self.product}'s answer at {_shown(path)} ended too soon.",
                    f"Try again; it had {ANSWERED_WITHIN:.0f} seconds and {MAX_RESPONSE_BYTES // 1024**2} MiB.",
                ) from None
            raise Permanent(
                f"{self.product} answered something else than JSON at {_shown(path)}.",
                f"Is {self.base} the address of its API?",
            ) from None

    def get_or_none(self, path: str, **query: object) -> Any:
        """The same, or None where the object is not there or the key may not see it."""
        try:
            return self.get(path, **query)
        except AccessDenied:
            return None

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _url(self, path: str, query: Mapping[str, object]) -> str:
        url = path if "://" in path else f"{self.base}/{path.lstrip('/')}"
        if urlsplit(urljoin(self.base, url))[:2] != urlsplit(self.base)[:2]:
            # The key is not sent to whoever an answer names.
            raise Permanent(f"{self.product} named a page on another host than {self.base}, which is not read.")
        given = {name: value for name, value in query.items() if value is not None}
        return f"{url}{'&' if '?' in url else '?'}{urlencode(given)}" if given else url

    def _answered(self, url: str) -> EgressResponse:
        for number in range(1, TRIES + 1):
            self._requests += 1
            if self._requests > MAX_REQUESTS:
                raise Permanent(f"{self.product} has more than {MAX_REQUESTS} objects to read; that is no import.")
            try:
                answer = self._client.request(
                    "GET", url, headers=self.headers, deadline=ANSWERED_WITHIN, most_bytes=MAX_RESPONSE_BYTES
                )
            except Temporary as trouble:
                if number == TRIES:
                    raise
                self._pause(number, None, str(trouble))
                continue
            if answer.status == 429 or answer.status >= 500:
                if number == TRIES:
                    raise Temporary(
                        f"{self.product} answered {answer.status} at {_shown(url)}, {TRIES} times. Try later."
                    )
                self._pause(number, answer.retry_after or _reset_after(answer), f"{self.product} is busy")
                continue
            self._check(answer, url)
            return answer
        raise AssertionError("the last try returns or raises")

    def _pause(self, number: int, asked: timedelta | None, why: str) -> None:
        pause = min(asked if asked is not None else timedelta(seconds=2**number), MAX_RETRY_WAIT)
        self.progress(f"{why.rstrip('.')}; going on in {max(1, round(pause.total_seconds()))} s")
        self.wait(pause.total_seconds())

    def _check(self, answer: EgressResponse, url: str) -> None:
        if 200 <= answer.status < 300:
            return
        place = _shown(url)
        match answer.status:
            case 401:
                raise Permanent(f"{self.product} does not know this key.", self.key_help)
            case 402 | 403:
                raise AccessDenied(f"{self.product} does not let this key read {place}.", self.key_help)
            case 404:
                raise AccessDenied(f"{self.product} has nothing at {place}.", f"Is {self.base} the address of its API?")
            case status if 300 <= status < 400:
                raise Permanent(f"{self.product} sends elsewhere from {place}.", "Give the address of its API itself.")
            case status:
                raise Permanent(f"{self.product} answered {status} at {place}: {_said(answer)}.")


class AccessDenied(Permanent):
    """The key may not see it, or it is not there."""


def checked_base(text: str, default: str) -> str:
    """The address of an API as somebody gives it, without a slash at the end. Raises Permanent."""
    base = (text.strip() or default).rstrip("/")
    if "://" not in base:
        base = f"https://{base}"
    egress.check_url(base)
    return base


def checked_key(text: str) -> str:
    """A key as somebody gives it. Raises Permanent where it can be none."""
    key = text.strip()
    if not key:
        raise Permanent("There is no API key.")
    if len(key) > _KEY_CHARACTERS or any(not 32 < ord(character) < 127 for character in key):
        raise Permanent("This is no API key: it is too long, or has spaces or other strange characters in it.")
    return key


def _reset_after(answer: EgressResponse) -> timedelta | None:
    """How long until the limit is reset, as some say instead of Retry-After: in seconds."""
    for name in ("ratelimit-reset", "x-ratelimit-reset-in-seconds"):
        text = answer.headers.get(name, "")
        if text.isdecimal() and len(text) < 6:
            return timedelta(seconds=int(text))
    return None


def _shown(url: str) -> str:
    """The path of an address, for a sentence."""
    return (urlsplit(url).path or url)[:200]


def _said(answer: EgressResponse) -> str:
    """What the product itself says is wrong, cut short."""
    try:
        found = json.loads(answer.body[:10_000])
    except ValueError:
        return "it does not say why"
    if isinstance(found, dict):
        for name in ("message", "detail", "error", "errors"):
            held = found.get(name)
            if isinstance(held, dict):
                held = held.get("message")
            if held:
                return " ".join(str(held).split())[:300].rstrip(".")
    return "it does not say why"
