"""Maps the HTTP status of a vendor's response to an error, for all provider kinds that use HTTP. Pure."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from tocsin.core.delivery.failure import ENTER_CREDENTIALS
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown
from tocsin.core.reasons import Reason
from tocsin.notify.integrations import reasons

#: Temporary client errors.
RETRYABLE_STATUSES = frozenset({408, 425, 429, 507})


def raise_for_status(response: EgressResponse, server: str | Reason, message: str = "") -> NoReturn:
    """Raises the error that an unsuccessful response means. `message` is the vendor's text, without secrets.

    Raises Temporary for 408, 425, 429, 507 and 5xx, Permanent for everything else.
    """
    answer = f"{response.status}: {message}" if message else str(response.status)
    match response.status:
        case 401 | 403:
            rejected = reasons.CREDENTIALS_REJECTED(server=server, answer=answer)
            raise Permanent(rejected, ENTER_CREDENTIALS())
        case status if status in RETRYABLE_STATUSES:
            raise Temporary(reasons.BUSY(server=server, answer=answer), response.retry_after)
        case status if status >= 500:
            raise Temporary(reasons.SERVER_ERROR(server=server, answer=answer), response.retry_after)
        case status if 300 <= status < 400:
            redirected = reasons.REDIRECTED(server=server, answer=str(status))
            raise Permanent(redirected, reasons.ENTER_FINAL_ADDRESS())
        case _:
            raise Permanent(reasons.MESSAGE_REJECTED(server=server, answer=answer))


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


def no_answer(server: str | Reason) -> OutcomeUnknown:
    """Returns the error for a 2xx response that is not the vendor's: a proxy or a captive portal may have answered."""
    return OutcomeUnknown(reasons.UNEXPECTED_RESPONSE(server=server))


def line(text: object, max_chars: int = 150) -> str:
    """Returns a vendor's text as one short line without a full stop."""
    return " ".join(str(text).split())[:max_chars].rstrip(".")
