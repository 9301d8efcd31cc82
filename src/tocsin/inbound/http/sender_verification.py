"""Runs a kind's hooks that verify the sender or answer its handshake.

Runs in a thread, because hooks may GET a public URL; the request passes the same egress guard as all others.
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
from tocsin.core.reasons import ReasonType
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.http import pinned_senders, reasons
from tocsin.inbound.http.ingest_service import RETRY, HttpError

log = logging.getLogger(__name__)

_NOT_HTTPS = ReasonType("sender.url_is_not_https", "The address is not https.")
_ANSWERED = ReasonType("sender.url_answered", "{host} answered {status}.")

#: Seconds for one request, because the sender waits meanwhile.
_DEADLINE = 5.0


def answer_handshake(
    integration: CompiledIntegration, payloads: Sequence[Payload], headers: Mapping[str, str]
) -> SenderReply | None:
    """Returns the reply to a handshake; None for messages. A handshake is always a single payload.

    Raises HttpError: 403 with the reason for an inauthentic sender, or one other than the pinned sender; 503 if the
    check is impossible now.
    """
    code = integration.normalizer.kind.kind_hooks
    require_genuine(code, payloads, headers)
    try:
        is_unpinned = pinned_senders.require(integration, payloads)
        reply = _reply_to(code, payloads, headers)
        if is_unpinned and (reply is None or reply.status < 300):
            pinned_senders.pin(integration, payloads[0])
    except psycopg.Error:
        raise HttpError(503, "not_checked", reasons.SENDER_NOT_CHECKED(), RETRY) from None
    return reply


def require_genuine(code: KindHooks, payloads: Sequence[Payload], headers: Mapping[str, str]) -> None:
    """Raises HttpError as `answer_handshake` does, unless every payload is authentic."""
    if code.refusal is None:
        return
    with _hook_errors_as_http():
        for payload in payloads:
            if (reason := code.refusal(payload, headers, fetch)) is not None:
                raise HttpError(403, "not_the_sender", reason)


def _reply_to(code: KindHooks, payloads: Sequence[Payload], headers: Mapping[str, str]) -> SenderReply | None:
    if code.handshake is None or len(payloads) != 1:
        return None
    with _hook_errors_as_http():
        return code.handshake(payloads[0], headers, fetch)


@contextmanager
def _hook_errors_as_http() -> Iterator[None]:
    """Converts errors of a kind's hooks to HttpError."""
    try:
        yield
    except Temporary as error:
        raise HttpError(503, "not_checked", error.reason, RETRY) from None
    except Permanent as error:
        raise HttpError(403, "not_the_sender", error.reason) from None
    except (ValueError, TypeError, KeyError, AttributeError, LookupError) as error:
        log.exception("The code of a kind cannot read a request.")
        raise HttpError(403, "not_the_sender", reasons.UNREADABLE(error=type(error).__name__)) from None


def fetch(url: str) -> bytes:
    """Returns the body at a public https URL. Raises Temporary or Permanent."""
    if urlsplit(url).scheme != "https":
        raise Permanent(_NOT_HTTPS())
    response = _client().request("GET", url, deadline=_DEADLINE)
    answered = _ANSWERED(host=urlsplit(url).hostname or "", status=str(response.status))
    if response.status >= 500 or response.status == 429:
        raise Temporary(answered)
    if response.status != 200:
        raise Permanent(answered)
    return response.body


@cache
def _client() -> HttpClient:
    return HttpClient()
