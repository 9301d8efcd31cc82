"""The templates of a gateway's request, and the paths into its response. Pure.

Placeholders such as `<to>` and `<text>` are escaped for their context: percent-encoded in a URL or form, JSON-escaped
in JSON, XML-escaped in XML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from tocsin.core.validation import text_templates
from tocsin.core.validation.payload_paths import read_path

#: The available placeholders.
NAMES = ("to", "to_digits", "text", "from", "key", "secret")


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


_ESCAPES: Mapping[BodyFormat, Callable[[str], str] | None] = {
    BodyFormat.JSON: text_templates.in_json,
    BodyFormat.FORM: text_templates.in_url,
    BodyFormat.XML: text_templates.in_xml,
    BodyFormat.TEXT: None,
}


def unknown_placeholders(template: str, body_format: BodyFormat) -> list[str]:
    """Returns the unknown placeholders. In XML, other names are the document's own elements."""
    return [] if body_format is BodyFormat.XML else sorted(text_templates.references(template).difference(NAMES))


def render_template(template: str, values: Mapping[str, str], body_format: BodyFormat) -> str:
    """Returns the template with `values` filled in. A query has the format of a form."""
    return text_templates.render(template, values, _ESCAPES[body_format])


def value_at_path(document: object, path: str) -> str | None:
    """Returns the text at a path such as `messages^0^id`. None if there is none."""
    value = read_path(document, path)
    if value is None or isinstance(value, dict | list):
        return None
    # Lower case, as JSON writes booleans and as administrators enter them.
    return str(value).lower() if isinstance(value, bool) else str(value)
