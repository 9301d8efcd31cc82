"""Maps the HTTP status of a vendor's response to an error, for all provider kinds that use HTTP. Pure."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown

#: Temporary client errors.
AGAIN = frozenset({408, 425, 429, 507})


def raise_for_status(answer: EgressResponse, server: str, said: str = "") -> NoReturn:
    """Raises the error that an unsuccessful response means. `said` is the vendor's text, without secrets.

    Raises Temporary for 408, 425, 429, 507 and 5xx, Permanent for everything else.
    """
    why = f": {said}" if said else ""
    match answer.status:
        case 401 | 403:
            raise Permanent(f"{server} refuses the credentials ({answer.status}{why}).", "Enter them again.")
        case status if status in AGAIN:
            raise Temporary(f"{server} takes no more for now ({status}{why}).", answer.retry_after)
        case status if status >= 500:
            raise Temporary(f"{server} has trouble of its own ({status}{why}).", answer.retry_after)
        case status if 300 <= status < 400:
            raise Permanent(f"{server} points elsewhere ({status}).", "Enter the address where the server really is.")
        case status:
            raise Permanent(f"{server} refuses the message ({status}{why}).")


def body(answer: EgressResponse) -> dict[str, Any]:
    """Returns the response's JSON object; an empty one for anything else, such as an HTML page."""
    found = content(answer)
    return found if isinstance(found, dict) else {}


def content(answer: EgressResponse) -> object:
    """Returns the response's JSON value, or None if it is not JSON."""
    try:
        return json.loads(answer.body)
    except ValueError:
        return None


def no_answer(server: str) -> OutcomeUnknown:
    """Returns the error for a 2xx response that is not the vendor's: a proxy or a captive portal may have answered."""
    return OutcomeUnknown(f"{server} answered with something that is not its own; it may not have the message.")


def line(text: object, longest: int = 150) -> str:
    """Returns a vendor's text as one short line without a full stop."""
    return " ".join(str(text).split())[:longest].rstrip(".")
