"""The templates of a gateway's request, and the paths into its response. Pure.

Placeholders such as `<to>` and `<text>` are escaped for their context: percent-encoded in a URL or form, JSON-escaped
in JSON, XML-escaped in XML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import quote
from xml.sax.saxutils import escape

#: The available placeholders.
NAMES = ("to", "to_digits", "text", "from", "key", "secret")

_PLACE = re.compile(r"<([a-z_]+)>")


class BodyFormat(StrEnum):
    """The format of a request's body."""

    JSON = "json"
    FORM = "form"
    XML = "xml"
    TEXT = "text"

    @property
    def content_type(self) -> str:
        return {
            BodyFormat.JSON: "application/json",
            BodyFormat.FORM: "application/x-www-form-urlencoded",
            BodyFormat.XML: "application/xml; charset=utf-8",
            BodyFormat.TEXT: "text/plain; charset=utf-8",
        }[self]


def unknown(template: str, form: BodyFormat) -> list[str]:
    """Returns the unknown placeholders. In XML, other names are the document's own elements."""
    return [] if form is BodyFormat.XML else [name for name in _PLACE.findall(template) if name not in NAMES]


def render_template(template: str, values: Mapping[str, str], form: BodyFormat) -> str:
    """Returns the template with `values` filled in."""
    return _PLACE.sub(lambda place: _written(values[place[1]], form) if place[1] in values else place[0], template)


def in_address(template: str, values: Mapping[str, str]) -> str:
    """Like `filled`, for a URL: every reserved character is percent-encoded."""
    return _PLACE.sub(lambda place: quote(values[place[1]], safe="") if place[1] in values else place[0], template)


def _written(value: str, form: BodyFormat) -> str:
    match form:
        case BodyFormat.JSON:
            return json.dumps(value, ensure_ascii=False)[1:-1]
        case BodyFormat.FORM:
            return quote(value, safe="")
        case BodyFormat.XML:
            return escape(value, {'"': "&quot;"})
        case BodyFormat.TEXT:
            return value


def at(answer: object, path: str) -> str | None:
    """Returns the text at a path such as `messages^0^id`: a name selects a key of an object, a number an element of a
    list. None if there is none.
    """
    found = answer
    for part in path.split("^"):
        if isinstance(found, list) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict) and part in found:
            found = found[part]
        else:
            return None
    if found is None or isinstance(found, dict | list):
        return None
    # Lower case, as JSON writes booleans and as administrators enter them.
    return str(found).lower() if isinstance(found, bool) else str(found)
