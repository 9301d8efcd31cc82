"""A payload as lines of a tree: each value with the path that leads to it. Pure.

Huge payloads are cut: what is not drawn can be mapped all the same, by writing its path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tocsin.core.validation.text_sanitizing import without_unstorable
from tocsin.inbound.expressions.fields import text_of
from tocsin.inbound.expressions.paths import join_path

#: So many lines are drawn, so deep, and so many characters of a value.
MOST, DEEPEST, LONGEST = 400, 12, 80

#: So many entries of one list: the others look the same.
_ENTRIES = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `path` is None for what no path leads to, and for the brackets that close."""

    depth: int
    key: str
    text: str
    path: str | None = None
    is_value: bool = False
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """The lines, and whether there is more than is drawn."""

    lines: tuple[Line, ...]
    is_cut: bool


def tree_of(payload: object) -> Tree:
    """The tree of a payload."""
    found = list(islice(_lines(payload, "", (), 0), MOST + 1))
    return Tree(tuple(found[:MOST]), len(found) > MOST)


def _lines(value: object, key: str, path: tuple[str | int, ...], depth: int) -> Iterator[Line]:
    shown = min(depth, DEEPEST)
    if isinstance(value, dict | list) and value:
        opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
        if depth > DEEPEST:
            yield Line(shown, key, f"{opening}…{closing}", join_path(path))
            return
        yield Line(shown, key, opening, join_path(path) if path else None)
        entries: Iterator[tuple[str | int, object]] = iter(
            value.items() if isinstance(value, dict) else enumerate(value)
        )
        for number, (name, inner) in enumerate(entries):
            if isinstance(value, list) and number >= _ENTRIES:
                yield Line(min(shown + 1, DEEPEST), "", f"… {len(value) - _ENTRIES} more")
                break
            label = without_unstorable(str(name))[:LONGEST]
            yield from _lines(inner, label, (*path, name), depth + 1)
        yield Line(shown, "", closing)
        return
    yield Line(shown, key, _shown(value), join_path(path), True, isinstance(value, str))


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = without_unstorable(value[: LONGEST * 2]).replace("\n", "⏎")
        return f'"{text[:LONGEST]}{"…" if len(value) > LONGEST else ""}"'
    if value is None:
        return "null"
    return text_of(value) or ("{}" if isinstance(value, dict) else "[]")
