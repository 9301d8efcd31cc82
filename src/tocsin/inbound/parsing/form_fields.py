"""Parses form fields (urlencoded and `multipart/form-data`) to one object. Repeated names become a list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_NO_BOUNDARY = ReasonType("form.no_boundary", "The content type has no multipart boundary.")
_TOO_MANY_FIELDS = ReasonType("form.too_many_fields", "The form has more than {maximum} fields.")
_NO_FIELDS = ReasonType("form.no_fields", "The form has no fields.")
_TOO_MANY_PARTS = ReasonType("form.too_many_parts", "The form has more than {maximum} parts.")
_NAMELESS_PART = ReasonType("form.nameless_part", "Part {number} of the form has no name.")
_TRUNCATED = ReasonType("form.truncated", "The form data is truncated.")

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
MEDIA_TYPES: Final = (URLENCODED, MULTIPART)

MAX_FIELDS: Final = 10_000
_MAX_PARTS: Final = 1000
_MAX_HEADERS: Final = 8192

_PARAMETER: Final = re.compile(r';\s*(name|filename)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.IGNORECASE)


def read(body: bytes, media: str, charset: str, boundary: str | None) -> dict[str, object]:
    """Returns the fields of a form. Raises Rejected("invalid_form")."""
    if media == MULTIPART:
        if not boundary or len(boundary) > 200:
            raise Rejected("invalid_form", _NO_BOUNDARY())
        return _merge_repeated(_parts(body, boundary.encode("utf-8", "replace"), charset))
    try:
        text = body.decode(charset, "replace")
        fields = parse_qsl(text.strip("\r\n"), keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except (ValueError, LookupError):
        raise Rejected("invalid_form", _TOO_MANY_FIELDS(maximum=MAX_FIELDS)) from None
    if not fields:
        raise Rejected("invalid_form", _NO_FIELDS())
    return _merge_repeated(fields)


def _merge_repeated(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    fields_by_name: dict[str, object] = {}
    repeated: dict[str, list[object]] = {}
    for name, value in fields:
        if name in repeated:
            repeated[name].append(value)
        elif name in fields_by_name:
            repeated[name] = [fields_by_name[name], value]
        else:
            fields_by_name[name] = value
    return {**fields_by_name, **repeated}


def _parts(body: bytes, boundary: bytes, charset: str) -> list[tuple[str, object]]:
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, _MAX_PARTS + 1)
    if len(pieces) > _MAX_PARTS + 1:
        raise Rejected("invalid_form", _TOO_MANY_PARTS(maximum=_MAX_PARTS))
    parts: list[tuple[str, object]] = []
    is_closed = False
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            is_closed = True
            break
        head, separator, content = piece.partition(b"\r\n\r\n")
        parameters = _parameters(head[:_MAX_HEADERS].decode("utf-8", "replace"))
        if not separator or "name" not in parameters:
            raise Rejected("invalid_form", _NAMELESS_PART(number=len(parts) + 1))
        parts.append((parameters["name"], _content(parameters.get("filename"), content, charset)))
    if not is_closed:
        raise Rejected("invalid_form", _TRUNCATED())
    if not parts:
        raise Rejected("invalid_form", _NO_FIELDS())
    return parts


def _parameters(head: str) -> dict[str, str]:
    for header in head.split("\r\n"):
        if header.lower().startswith("content-disposition:"):
            return {
                name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else unquoted
                for name, quoted, unquoted in _PARAMETER.findall(header)
            }
    return {}


def _content(filename: str | None, content: bytes, charset: str) -> object:
    if filename:
        return {"filename": filename, "size": len(content)}
    try:
        return content.decode(charset, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")
