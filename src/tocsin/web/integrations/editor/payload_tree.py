"""Renders a payload as lines of a tree, each value with its path. Pure.

Large payloads are cut. Values beyond the cut can still be mapped by writing their path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tocsin.core.validation.payload_paths import join_path
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.expressions.fields import text_of

#: Limits: lines, nesting depth, and characters of one value.
MAX_TREE_LINES, MAX_TREE_DEPTH, MAX_VALUE_CHARS = 400, 12, 80

#: Maximum number of list entries; the others usually have the same shape.
_ENTRIES = 20


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One line. `path` is None for closing brackets and for values that no path can address."""

    depth: int
    key: str
    text: str
    path: str | None = None
    is_value: bool = False
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class PayloadTree:
    """The lines, and whether the tree was cut."""

    lines: tuple[TreeLine, ...]
    is_cut: bool


def tree_of(payload: object) -> PayloadTree:
    """Return the tree of a payload."""
    lines = list(islice(_lines(payload, "", (), 0), MAX_TREE_LINES + 1))
    return PayloadTree(tuple(lines[:MAX_TREE_LINES]), len(lines) > MAX_TREE_LINES)


def _lines(value: object, key: str, path: tuple[str | int, ...], depth: int) -> Iterator[TreeLine]:
    indent = min(depth, MAX_TREE_DEPTH)
    if isinstance(value, dict | list) and value:
        opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
        if depth > MAX_TREE_DEPTH:
            yield TreeLine(indent, key, f"{opening}…{closing}", join_path(path))
            return
        yield TreeLine(indent, key, opening, join_path(path) if path else None)
        entries: Iterator[tuple[str | int, object]] = iter(
            value.items() if isinstance(value, dict) else enumerate(value)
        )
        for number, (name, inner) in enumerate(entries):
            if isinstance(value, list) and number >= _ENTRIES:
                yield TreeLine(min(indent + 1, MAX_TREE_DEPTH), "", f"… {len(value) - _ENTRIES} more")
                break
            label = sanitize(str(name))[:MAX_VALUE_CHARS]
            yield from _lines(inner, label, (*path, name), depth + 1)
        yield TreeLine(indent, "", closing)
        return
    yield TreeLine(indent, key, _format_value(value), join_path(path), True, isinstance(value, str))


def _format_value(value: object) -> str:
    if isinstance(value, str):
        text = sanitize(value[: MAX_VALUE_CHARS * 2]).replace("\n", "⏎")
        return f'"{text[:MAX_VALUE_CHARS]}{"…" if len(value) > MAX_VALUE_CHARS else ""}"'
    if value is None:
        return "null"
    return text_of(value) or ("{}" if isinstance(value, dict) else "[]")
