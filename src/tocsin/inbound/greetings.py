"""A sender's questions that are no messages, and proofs that need an address of the sender's: asked of the kind's code.

Runs in a thread: it may GET a public address, which goes through the same guard as all calls.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from urllib.parse import urlsplit

from tocsin.catalogue.code import Code, Payload, Reply
from tocsin.core.egress import HttpClient
from tocsin.core.errors import Permanent, Temporary
from tocsin.inbound.reception import RETRY, Refusal

log = logging.getLogger(__name__)

#: Seconds for one address: the sender waits meanwhile.
_DEADLINE = 5.0


def reply_to(code: Code, payloads: Sequence[Payload], headers: Mapping[str, str]) -> Reply | None:
    """The reply to a question; None where they are messages. Each payload of the request must prove its sender; a
    question is always alone.

    Raises Refusal: 403 with the kind's reason for a sender that is not who it says, 503 where that cannot be told now.
    """
    try:
        if code.refusal is not None:
            for payload in payloads:
                if (reason := code.refusal(payload, headers, fetch)) is not None:
                    raise Refusal(403, "not_the_sender", reason)
        if code.handshake is not None and len(payloads) == 1:
            return code.handshake(payloads[0], headers, fetch)
        return None
    except Temporary as error:
        raise Refusal(503, "not_checked", error.detail, RETRY) from None
    except Permanent as error:
        raise Refusal(403, "not_the_sender", error.detail) from None
    except (ValueError, TypeError, KeyError, AttributeError, LookupError) as error:
        log.exception("The code of a kind cannot read a request.")
        raise Refusal(403, "not_the_sender", f"It cannot be checked: {type(error).__name__}.") from None


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
