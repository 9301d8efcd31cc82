"""A sender's questions that are no messages, and proofs that need an address of the sender's: asked of the kind's code.

Runs in a thread: it may GET a public address, which goes through the same guard as all calls.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from urllib.parse import urlsplit

import psycopg

from tocsin.catalogue.hooks import KindHooks, Payload, SenderReply
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import HttpClient
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.http import pinned_senders
from tocsin.inbound.http.ingest_service import RETRY, HttpError

log = logging.getLogger(__name__)

#: Seconds for one address: the sender waits meanwhile.
_DEADLINE = 5.0


def greet(door: CompiledIntegration, payloads: Sequence[Payload], headers: Mapping[str, str]) -> SenderReply | None:
    """The reply to a question; None where they are messages. A question is always alone.

    Raises Refusal: 403 with the reason for a sender that is not who it says, or that the integration is not pinned to;
    503 where that cannot be told now.
    """
    code = door.reader.kind.code
    require_genuine(code, payloads, headers)
    try:
        is_unpinned = pinned_senders.require(door, payloads)
        reply = _reply_to(code, payloads, headers)
        if is_unpinned and (reply is None or reply.status < 300):
            pinned_senders.pin(door, payloads[0])
    except psycopg.Error:
        raise HttpError(503, "not_checked", "The sender cannot be checked now.", RETRY) from None
    return reply


def require_genuine(code: KindHooks, payloads: Sequence[Payload], headers: Mapping[str, str]) -> None:
    """Raises Refusal as `greet` does, unless each payload proves its sender."""
    if code.refusal is None:
        return
    with _refusing():
        for payload in payloads:
            if (reason := code.refusal(payload, headers, fetch)) is not None:
                raise HttpError(403, "not_the_sender", reason)


def _reply_to(code: KindHooks, payloads: Sequence[Payload], headers: Mapping[str, str]) -> SenderReply | None:
    if code.handshake is None or len(payloads) != 1:
        return None
    with _refusing():
        return code.handshake(payloads[0], headers, fetch)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns what a kind's code raises into a Refusal."""
    try:
        yield
    except Temporary as error:
        raise HttpError(503, "not_checked", error.detail, RETRY) from None
    except Permanent as error:
        raise HttpError(403, "not_the_sender", error.detail) from None
    except (ValueError, TypeError, KeyError, AttributeError, LookupError) as error:
        log.exception("The code of a kind cannot read a request.")
        raise HttpError(403, "not_the_sender", f"It cannot be checked: {type(error).__name__}.") from None


def fetch(url: str) -> bytes:
    """What is at a public https address. Raises Temporary or Permanent."""
    if urlsplit(url).scheme != "https":
        raise Permanent("The address is not https.")
    found = _client().request("GET", url, deadline=_DEADLINE)
    if found.status >= 500 or found.status == 429:
        raise Temporary(f"{urlsplit(url).hostname} answered {found.status}.")
    if found.status != 200:
        raise Permanent(f"{urlsplit(url).hostname} answered {found.status}.")
    return found.body


@cache
def _client() -> HttpClient:
    return HttpClient()
