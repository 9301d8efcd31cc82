"""Text templates: `<ticket^summary>` is replaced by the value at that path.

`<field:client>` is a mapped field, `<setting:halo_address>` a setting of the integration, `<<` a literal `<`.
A template has no value if none of its references has one, or if one of its settings is not set. A line that lacks a
value has no separator at its ends: "web1", not "web1:".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.inbound.expressions.fields import Value, text_of
from tocsin.inbound.mapping.extraction import Extraction

_NOT_TEXT = ReasonType("mapping.template_not_text", "a template is text such as <ticket^summary>")
_TOO_LONG = ReasonType("mapping.template_too_long", "a template has at most {maximum} characters")
_UNMAPPED_FIELD = ReasonType("mapping.template_field_not_mapped", "<{reference}> names a field that is not mapped")

MAX_TEMPLATE: Final = 5000
#: References have no space inside their brackets, so that "a < b > c" stays text.
_REFERENCE: Final = re.compile(r"<<|<([^<>\s](?:[^<>\n]*[^<>\s])?)>")
#: What is left at the ends of a line, such as "<host>: <check> is <state>", where a value is missing.
_DANGLING: Final = re.compile(r"^[\s:,-]+|[\s:,-]+(?:(?:is|on)\s*)?$")


@dataclass(frozen=True, slots=True)
class Template:
    text: str
    fields: frozenset[str]  # the mapped fields it refers to
    render: Callable[[list[object], dict[str, Value]], str | None]


def compile_template(
    text: object, extraction: Extraction, settings: Mapping[str, object], field_path: str, fields: frozenset[str]
) -> Template:
    """Compiles a template. Raises Rejected for a non-text, an overlong text, an invalid path or an unmapped field."""
    if not isinstance(text, str) or not text:
        raise _rejection(field_path, _NOT_TEXT())
    if len(text) > MAX_TEMPLATE:
        raise _rejection(field_path, _TOO_LONG(maximum=MAX_TEMPLATE))
    parts: list[str | int | tuple[str]] = []  # text, a slot, or a field's name
    used: set[str] = set()
    is_complete = True
    end = 0
    for match in _REFERENCE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        reference = match.group(1)
        if reference is None:
            parts.append("<")
        elif reference.startswith("field:"):
            name = reference.removeprefix("field:")
            if name not in fields:
                raise _rejection(field_path, _UNMAPPED_FIELD(reference=reference))
            used.add(name)
            parts.append((name,))
        elif reference.startswith("setting:"):
            value = text_of(settings.get(reference.removeprefix("setting:")))
            is_complete = is_complete and value is not None
            parts.append(value or "")
        else:
            parts.append(extraction.slot(reference, field_path))
    parts.append(text[end:])
    return Template(text, frozenset(used), _renderer(tuple(p for p in parts if p != ""), is_complete))


def _rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_mapping", AT_PATH(path=field_path, problem=problem), field_path)


def _renderer(
    parts: tuple[str | int | tuple[str], ...], is_complete: bool
) -> Callable[[list[object], dict[str, Value]], str | None]:
    has_references = any(not isinstance(part, str) for part in parts)
    is_line = not any(isinstance(part, str) and "\n" in part for part in parts)

    def render(slots: list[object], values: dict[str, Value]) -> str | None:
        if not is_complete:
            return None
        texts: list[str] = []
        has_value, lacks_value = not has_references, False
        for part in parts:
            if type(part) is str:
                texts.append(part)
                continue
            value = slots[part] if type(part) is int else values.get(part[0])  # type: ignore[index]
            text = None if value is None else text_of(value)
            if text is not None:
                has_value = True
                texts.append(text)
            else:
                lacks_value = True
        if not has_value:
            return None
        return _DANGLING.sub("", "".join(texts)) if lacks_value and is_line else "".join(texts)

    return render
