"""Documents of identity providers, such as their keys: requested, and cached in the process.

A document that does not help, such as keys without the one that signed, can be requested again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Self

from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse, HttpClient, OutcomeUnknown
from tocsin.core.reasons import Reason
from tocsin.identity import reasons

#: For all requests of one sign-in together, in seconds.
DEADLINE = 15.0
#: How long documents are used.
MAX_AGE = timedelta(hours=1)
#: They are requested again at most this often, so that forged answers cause no flood of requests.
MIN_AGE = timedelta(seconds=10)

_MAX_DOCUMENT_BYTES = 1024 * 1024

_cache: dict[str, tuple[datetime, Any]] = {}
_cache_lock = threading.Lock()


class DocumentClient:
    """The requests of one sign-in to a provider, which end together after `DEADLINE`. Close it when done."""

    def __init__(self, provider_name: str, now: datetime, *, allow_private: bool) -> None:
        self._provider_name, self._now, self._allow_private = provider_name, now, allow_private
        self._http = HttpClient(trusted=allow_private)
        self._end = time.monotonic() + DEADLINE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def document[T](
        self, url: str, parse: Callable[[bytes], T | None], *, accept: str, field: str, max_age: timedelta = MAX_AGE
    ) -> T:
        """Returns what `parse` makes of a document, which is requested again if the cached one is older than `max_age`.

        Raises Rejected, with `field`, if there is none.
        """
        key = f"{self._allow_private} {url}"
        with _cache_lock:
            cached = _cache.get(key)
        if cached is not None and timedelta() <= self._now - cached[0] < max_age:
            found: T = cached[1]
            return found
        response = self.request("GET", url, headers={"Accept": accept}, field=field)
        document = parse(response.body) if response.status == 200 else None
        if document is None:
            raise self.unusable(url, response, field)
        with _cache_lock:
            _cache[key] = (self._now, document)
        return document

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], field: str, content: bytes = b""
    ) -> EgressResponse:
        """Sends one request. Raises Rejected("unreachable"), with `field`."""
        try:
            return self._http.request(
                method,
                url,
                headers=headers,
                content=content,
                deadline=max(0.1, self._end - time.monotonic()),
                max_bytes=_MAX_DOCUMENT_BYTES,
            )
        except (Temporary, Permanent, OutcomeUnknown) as error:
            raise self.unreachable(error.full_reason, field) from None

    def unreachable(self, error: Reason, field: str) -> Rejected:
        """Returns the error that the provider does not answer."""
        return Rejected("unreachable", reasons.UNREACHABLE(provider=self._provider_name, error=error), field)

    def unusable(self, url: str, response: EgressResponse, field: str) -> Rejected:
        """Returns the error that the provider answered something else."""
        reason = reasons.BAD_RESPONSE(
            provider=self._provider_name, url=url.partition("?")[0], status=str(response.status)
        )
        return Rejected("unreachable", reason, field)


def clear_cache() -> None:
    """For tests: forgets all documents."""
    with _cache_lock:
        _cache.clear()


def expire_cache(age: timedelta) -> None:
    """For tests: makes all documents older."""
    with _cache_lock:
        for key, (loaded_at, document) in _cache.items():
            _cache[key] = (loaded_at - age, document)
