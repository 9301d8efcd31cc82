"""Sends follow-up requests of a webhook after its response, because vendors wait only a few seconds.

Only for requests that may be lost, such as updating a chat message after a button press: they are not retried.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import HttpClient

log = logging.getLogger(__name__)

_THREADS = 2
_DEADLINE = 10.0


def post_json(url: str, body: bytes, headers: dict[str, str] | None = None, *, is_trusted: bool = False) -> None:
    """Posts the body in the background and logs a failure. `url` may contain a secret and is not logged."""
    _pool().submit(_post, url, body, headers or {}, is_trusted)


def _post(url: str, body: bytes, headers: dict[str, str], is_trusted: bool) -> None:
    client = HttpClient(trusted=is_trusted)
    all_headers = {"Content-Type": "application/json; charset=utf-8", **headers}
    try:
        response = client.request("POST", url, headers=all_headers, content=body, deadline=_DEADLINE)
        if response.status >= 300:
            log.warning("A call that follows a chat's message failed: the service answered %d.", response.status)
    except (Temporary, Permanent) as error:
        log.warning("A call that follows a chat's message failed: %s", error.detail)
    finally:
        client.close()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="afterwards")
