"""Text templates: `<subject>` is replaced by the alert's subject, `<custom.ticket>` by a custom field. Pure.

Unknown names are left as they are, so that HTML and comparisons survive. A tag or custom field that the alert does not
have becomes empty. `<<` is a literal `<`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

_REFERENCE = re.compile(r"<<|<([A-Za-z_][\w.^ -]{0,80})>")

#: Prefixes of values that only some alerts have.
_OPTIONAL_PREFIXES = ("tag.", "custom.")

MAX_TEMPLATE_CHARS = 20_000


def render(template: str, values: Mapping[str, object], escape: Callable[[str], str] | None = None) -> str:
    """Renders the template; `escape` adapts each value to the surrounding text."""

    def replace_reference(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "<"
        if name not in values and not name.startswith(_OPTIONAL_PREFIXES):
            return match.group(0)
        text = describe_template(values.get(name))
        return escape(text) if escape is not None else text

    return _REFERENCE.sub(replace_reference, template)


def references(template: str) -> frozenset[str]:
    """The names that a template uses."""
    return frozenset(name for name in _REFERENCE.findall(template) if name)


def in_json(text: str) -> str:
    """Escapes a value for use inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def in_xml(text: str) -> str:
    """Escapes a value for XML or HTML, dropping control characters (XML 1.0, section 2.2)."""
    return html.escape("".join(character for character in text if character >= " " or character in "\t\n\r"))


def in_url(text: str) -> str:
    """Escapes a value for a URL's path or query; bare dots would be resolved as path segments (RFC 3986, 5.2.4)."""
    return quote(text, safe="") if text not in (".", "..") else text.replace(".", "%2E")


def in_header(text: str) -> str:
    """Makes a value fit into a header: a single line."""
    return " ".join(text.split())[:1000]


def describe_template(value: object) -> str:
    """A value as text: empty for None, true or false for booleans, comma-separated for lists."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(describe_template(item) for item in value)
        case _:
            return str(value)
