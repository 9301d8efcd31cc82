"""What the status of a vendor's HTTP answer means for a message: one table for all that speak HTTP. Pure."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import EgressResponse, OutcomeUnknown

#: Refused for now, and not for good.
AGAIN = frozenset({408, 425, 429, 507})


def fail(answer: EgressResponse, server: str, said: str = "") -> NoReturn:
    """Raises what an answer that is no success means. `said` is what the vendor wrote, without secrets.

    Raises Temporary for 408, 425, 429 and 5xx, Permanent for everything else.
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
    """The answer's JSON object; an empty one for anything else, such as a page of HTML."""
    found = content(answer)
    return found if isinstance(found, dict) else {}


def content(answer: EgressResponse) -> object:
    """The answer's JSON, whatever it is; None where it is none."""
    try:
        return json.loads(answer.body)
    except ValueError:
        return None


def no_answer(server: str) -> OutcomeUnknown:
    """For a 2xx whose body is not the vendor's: a proxy or a sign-in page of a network stood in between."""
    return OutcomeUnknown(f"{server} answered with something that is not its own; it may not have the message.")


def line(text: object, longest: int = 150) -> str:
    """What a vendor wrote, as one short line without a full stop."""
    return " ".join(str(text).split())[:longest].rstrip(".")
