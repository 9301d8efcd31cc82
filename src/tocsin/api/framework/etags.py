"""`ETag` and `If-Match`: a script says which state of an object it changes, and is refused where it is another by now.

The tag is of what is configured, not of the answer's bytes: the same for everybody who may see the object, however much
of it, and whatever else is shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags

from tocsin.access import history
from tocsin.core.errors import Rejected
from tocsin.core.net.etag import stamp

#: For the OpenAPI description: what an answer with a tag has, and what an operation that asks for one takes.
ETAG: Mapping[str, Any] = {
    "ETag": {"description": "Of this state of the object, for `If-Match`.", "schema": {"type": "string"}}
}
IF_MATCH: Mapping[str, Any] = {
    "in": "header",
    "name": "If-Match",
    "required": False,
    "schema": {"type": "string"},
    "description": "The `ETag` that the object was read with: 412 where somebody has changed it since.",
}

_ANY = "*"


def tag(response: HttpResponse, state: Mapping[str, Any]) -> None:
    """Puts the tag of an object's state on the answer."""
    response["ETag"] = f'"{stamp(state)}"'


def check(request: HttpRequest, state: Mapping[str, Any], noun: str, number: object) -> None:
    """Refuses where the request is about another state of the object, which the audit log knows as `noun` and `number`.
    To be asked inside `configuration.alone`, before anything is written; without `If-Match` it refuses nothing.

    Raises Rejected: `changed_meanwhile`, or `invalid` for what is no tag.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return
    wanted = parse_etags(header)
    if not wanted:
        raise Rejected("invalid", 'If-Match: is an ETag in quotation marks, as GET answers it: "…".', "If-Match")
    # A proxy that compresses answers marks their tags as weak: the state that they are of is the same.
    if wanted != [_ANY] and stamp(state) not in {one.removeprefix("W/").strip('"') for one in wanted}:
        raise Rejected("changed_meanwhile", f"{_who(noun, number)} Read it again, and change what it is now.")


def _who(noun: str, number: object) -> str:
    last = next(history.changes(noun, number), None)
    if last is None:
        return "It is not as this If-Match has it."
    return f"It is not as this If-Match has it: {last.actor_name} changed it last, at {last.at:%Y-%m-%d %H:%M:%S} UTC."
