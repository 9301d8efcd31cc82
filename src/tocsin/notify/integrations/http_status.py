"""Maps the HTTP status of a vendor's response to an error, for all provider kinds that use HTTP. Pure."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown

#: Temporary client errors.
RETRYABLE_STATUSES = frozenset({408, 425, 429, 507})


def raise_for_status(response: EgressResponse, server: str, message: str = "") -> NoReturn:
    """Raises the error that an unsuccessful response means. `message` is the vendor's text, without secrets.

    Raises Temporary for 408, 425, 429, 507 and 5xx, Permanent for everything else.
    """
    suffix = f": {message}" if message else ""
    match response.status:
        case 401 | 403:
            raise Permanent(f"{server} refuses the credentials ({response.status}{suffix}).", "Enter them again.")
        case status if status in RETRYABLE_STATUSES:
            raise Temporary(f"{server} takes no more for now ({status}{suffix}).", response.retry_after)
        case status if status >= 500:
            raise Temporary(f"{server} has trouble of its own ({status}{suffix}).", response.retry_after)
        case status if 300 <= status < 400:
            raise Permanent(f"{server} points elsewhere ({status}).", "Enter the address where the server really is.")
        case status:
            raise Permanent(f"{server} refuses the message ({status}{suffix}).")


def body(response: EgressResponse) -> dict[str, Any]:
    """Returns the response's JSON object; an empty one for anything else, such as an HTML page."""
    value = content(response)
    return value if isinstance(value, dict) else {}


def content(response: EgressResponse) -> object:
    """Returns the response's JSON value, or None if it is not JSON."""
    try:
        return json.loads(response.body)
    except ValueError:
        return None


def no_answer(server: str) -> OutcomeUnknown:
    """Returns the error for a 2xx response that is not the vendor's: a proxy or a captive portal may have answered."""
    return OutcomeUnknown(f"{server} answered with something that is not its own; it may not have the message.")


def line(text: object, max_chars: int = 150) -> str:
    """Returns a vendor's text as one short line without a full stop."""
    return " ".join(str(text).split())[:max_chars].rstrip(".")
