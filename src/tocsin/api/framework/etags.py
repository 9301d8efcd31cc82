"""`ETag` and `If-Match`: optimistic locking, so that a client cannot overwrite a change that it has not read.

The tag is derived from the object's configuration instead of the response bytes. It is therefore the same for every
caller, whatever parts of the object the caller may see and whatever is shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags

from tocsin.access import history
from tocsin.core.errors import Rejected
from tocsin.core.net.etag import make_etag
from tocsin.core.reasons import Reason, ReasonType, joined
from tocsin.core.validation.field_errors import AT_PATH

#: For the OpenAPI document: the response header of tagged objects, and the request header of changing operations.
ETAG: Mapping[str, Any] = {
    "ETag": {"description": "Of this state of the object, for `If-Match`.", "schema": {"type": "string"}}
}
IF_MATCH: Mapping[str, Any] = {
    "in": "header",
    "name": "If-Match",
    "required": False,
    "schema": {"type": "string"},
    "description": "The `ETag` that the object was read with: 412 where someone has changed it since.",
}

_ANY = "*"

_MALFORMED_ETAG = ReasonType("api.malformed_etag", 'must be an ETag in quotation marks, as GET returns it: "…".')
_CHANGED = ReasonType("api.changed_meanwhile", "The object has changed since this If-Match.")
_CHANGED_BY = ReasonType(
    "api.changed_meanwhile_by", "The object has changed since this If-Match: {user} changed it last, at {at}."
)
_READ_AGAIN = ReasonType("api.read_again", "Read it again, and change its current state.")


def tag(response: HttpResponse, state: Mapping[str, Any]) -> None:
    """Set the ETag of an object's state on the response."""
    response["ETag"] = f'"{make_etag(state)}"'


def check(request: HttpRequest, state: Mapping[str, Any], object_type: str, object_id: object) -> None:
    """Check If-Match against the object's current state. `object_type` and `object_id` identify the object in the audit
    log.

    Call it inside `core.config.config_version.alone`, before anything is written. Without If-Match every state matches.

    Raises Rejected: `changed_meanwhile`, or `invalid` for a malformed tag.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return
    tags = parse_etags(header)
    if not tags:
        raise Rejected("invalid", AT_PATH(path="If-Match", problem=_MALFORMED_ETAG()), "If-Match")
    # A compressing proxy makes the tag weak; it still denotes the same state.
    if tags != [_ANY] and make_etag(state) not in {candidate.removeprefix("W/").strip('"') for candidate in tags}:
        raise Rejected(
            "changed_meanwhile",
            joined(_describe_last_change(object_type, object_id), _READ_AGAIN(), separator=" "),
        )


def _describe_last_change(object_type: str, object_id: object) -> Reason:
    last_change = next(history.list_changes(object_type, object_id), None)
    if last_change is None:
        return _CHANGED()
    return _CHANGED_BY(user=last_change.actor_name, at=last_change.at)
