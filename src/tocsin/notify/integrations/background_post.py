"""Calls that follow a vendor's callback, made after it was answered: vendors wait a few seconds at most.

Only what may be lost goes this way, such as redrawing a message that was answered: it is not tried again.
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
    """Posts it soon, and says in the log when that fails. `url` may hold a secret: it is not logged."""
    _pool().submit(_post, url, body, headers or {}, is_trusted)


def _post(url: str, body: bytes, headers: dict[str, str], is_trusted: bool) -> None:
    client = HttpClient(trusted=is_trusted)
    sent = {"Content-Type": "application/json; charset=utf-8", **headers}
    try:
        answer = client.request("POST", url, headers=sent, content=body, deadline=_DEADLINE)
        if answer.status >= 300:
            log.warning("A call that follows a chat's message failed: the service answered %d.", answer.status)
    except (Temporary, Permanent) as error:
        log.warning("A call that follows a chat's message failed: %s", error.detail)
    finally:
        client.close()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="afterwards")
