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

from tocsin.core.validation.payload_paths import read_path

#: The available placeholders.
NAMES = ("to", "to_digits", "text", "from", "key", "secret")

_PLACEHOLDER = re.compile(r"<([a-z_]+)>")


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


def unknown_placeholders(template: str, body_format: BodyFormat) -> list[str]:
    """Returns the unknown placeholders. In XML, other names are the document's own elements."""
    return (
        [] if body_format is BodyFormat.XML else [name for name in _PLACEHOLDER.findall(template) if name not in NAMES]
    )


def render_template(template: str, values: Mapping[str, str], body_format: BodyFormat) -> str:
    """Returns the template with `values` filled in."""
    return _PLACEHOLDER.sub(
        lambda match: _encode(values[match[1]], body_format) if match[1] in values else match[0], template
    )


def render_query(template: str, values: Mapping[str, str]) -> str:
    """Like `filled`, for a URL: every reserved character is percent-encoded."""
    return _PLACEHOLDER.sub(
        lambda match: quote(values[match[1]], safe="") if match[1] in values else match[0], template
    )


def _encode(value: str, body_format: BodyFormat) -> str:
    match body_format:
        case BodyFormat.JSON:
            return json.dumps(value, ensure_ascii=False)[1:-1]
        case BodyFormat.FORM:
            return quote(value, safe="")
        case BodyFormat.XML:
            return escape(value, {'"': "&quot;"})
        case BodyFormat.TEXT:
            return value


def value_at_path(document: object, path: str) -> str | None:
    """Returns the text at a path such as `messages^0^id`. None if there is none."""
    value = read_path(document, path)
    if value is None or isinstance(value, dict | list):
        return None
    # Lower case, as JSON writes booleans and as administrators enter them.
    return str(value).lower() if isinstance(value, bool) else str(value)
