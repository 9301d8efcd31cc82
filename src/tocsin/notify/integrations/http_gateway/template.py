"""The templates of a gateway's request, and the paths into its answer. Pure.

`<to>`, `<text>` and the like are filled in, written so that they fit where they stand: percent-encoded in an address or
a form, as JSON text inside JSON, escaped inside XML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import quote
from xml.sax.saxutils import escape

#: What can stand in a template.
NAMES = ("to", "to_digits", "text", "from", "key", "secret")

_PLACE = re.compile(r"<([a-z_]+)>")


class BodyFormat(StrEnum):
    """How a request's body is written."""

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
    """Placeholders that nothing fills. In XML other names are its own elements."""
    return [] if form is BodyFormat.XML else [name for name in _PLACE.findall(template) if name not in NAMES]


def filled(template: str, values: Mapping[str, str], form: BodyFormat) -> str:
    """The template with `values` in it."""
    return _PLACE.sub(lambda place: _written(values[place[1]], form) if place[1] in values else place[0], template)


def in_address(template: str, values: Mapping[str, str]) -> str:
    """The same for an address: everything that could end a part of it is percent-encoded."""
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
    """The text at a path such as `messages^0^id`: `^` walks objects, a number walks a list. None without one."""
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
    # As JSON writes it, and whoever enters what success reads.
    return str(found).lower() if isinstance(found, bool) else str(found)
