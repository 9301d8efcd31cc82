"""Text templates: `<ticket^summary>` is replaced by the value at that path.

`<field:client>` is a mapped field, `<setting:halo_address>` a setting of the integration, `<<` a literal `<`.
A template has no value if none of its references has one, or if one of its settings is not set. A line that lacks a
value has no separator at its ends: "web1", not "web1:".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, Text, sentence
from tocsin.core.validation.inputs import AT_PATH, MISSING, Path, compile_path, index_of, sanitize
from tocsin.inbound.conditions import MAX_COMPARED_CHARS, compile_pattern
from tocsin.inbound.fields import Value, text_of

# ---------- extraction
# Extracts all paths of a mapping from a payload in one traversal.
#
# The paths form a tree. A sender's objects tend to have the same keys, so each node caches for each shape (an object's
# keys) which keys to follow, with their spelling: a path that is missing then costs nothing.


#: The number of shapes cached per node, and the largest cached shape in keys and characters.
_SHAPES: Final = 64
_SHAPE_KEYS: Final = 1500
_SHAPE_TEXT: Final = 40_000


class _ExtractionPlan:
    """What to follow in an object of one shape. `serial` identifies the shape among all nodes; 0: not cached."""

    __slots__ = ("rows", "serial")

    def __init__(self, rows: tuple[tuple[str, int, _PathNode | None], ...], serial: int) -> None:
        self.rows = rows  # key in the sender's spelling, slot, child node
        self.serial = serial


class _PathNode:
    """One object (or list), and the segments that paths follow from it."""

    __slots__ = ("children", "items", "serials", "shapes")

    def __init__(self, serials: Iterator[int]) -> None:
        self.children: dict[str, tuple[int, _PathNode]] = {}
        self.items: tuple[tuple[int, int, _PathNode], ...] = ()
        self.shapes: dict[tuple[str, ...], _ExtractionPlan] = {}
        self.serials = serials

    def freeze(self) -> None:
        self.items = tuple(
            (index, slot, node) for key, (slot, node) in self.children.items() if (index := index_of(key)) is not None
        )
        for _, node in self.children.values():
            node.freeze()

    def fill_slots(self, value: object, slots: list[object], trail: list[int]) -> None:
        """Fills the slots below, and appends to the trail what determines which slots can be filled."""
        if type(value) is dict:
            shape = tuple(value)
            plan = self.shapes.get(shape) or self.plan(value, shape)
            trail.append(plan.serial)
            for key, slot, node in plan.rows:
                child_value = value[key]
                if node is not None:
                    node.fill_slots(child_value, slots, trail)
                slots[slot] = child_value
        elif type(value) is list and self.items:
            trail.append(0)
            for index, slot, node in self.items:
                if index < len(value):
                    slots[slot] = value[index]
                    node.fill_slots(value[index], slots, trail)
        else:
            trail.append(-1)

    def plan(self, value: dict[str, object], shape: tuple[str, ...]) -> _ExtractionPlan:
        rows: list[tuple[str, int, _PathNode | None]] = []
        # All keys are casefolded once rather than for each path: an object may have half a million.
        folded: dict[str, str] = {}
        if any(segment not in value for segment in self.children):
            for key in value:
                folded.setdefault(key.casefold(), key)
        found = {segment: segment if segment in value else folded.get(segment.casefold()) for segment in self.children}
        for segment, (slot, node) in self.children.items():
            if (actual_key := found[segment]) is not None:
                rows.append((actual_key, slot, node if node.children else None))
        if len(shape) > _SHAPE_KEYS or sum(map(len, shape)) > _SHAPE_TEXT:
            return _ExtractionPlan(tuple(rows), 0)
        if len(self.shapes) >= _SHAPES:
            self.shapes.clear()
        plan = self.shapes[shape] = _ExtractionPlan(tuple(rows), next(self.serials))
        return plan


class Extraction:
    """Collects paths with `slot`, then `freeze`; `read(payload)` returns a list with the value of each slot.

    None in a slot means that the value is missing or null.
    """

    def __init__(self) -> None:
        self._serials = count(1)
        self._root = _PathNode(self._serials)
        self._count = 0
        self._slots: dict[str, int] = {}
        self._wildcard_paths: list[tuple[int, Path]] = []
        self._empty_slots: list[object] = []

    @property
    def paths(self) -> Iterable[str]:
        """The paths as written."""
        return self._slots.keys()

    def slot(self, text: str, field_path: str) -> int:
        """Returns the slot of a path. Raises Rejected("invalid_path") with `field_path`."""
        if text in self._slots:
            return self._slots[text]
        path = compile_path(text, field_path)
        if "*" in path.segments:
            slot = self._new_slot()
            self._wildcard_paths.append((slot, path))
        else:
            slot = self._add_path(path.segments)
        self._slots[text] = slot
        return slot

    def _add_path(self, segments: tuple[str, ...]) -> int:
        node, slot = self._root, -1
        for segment in segments:
            if segment not in node.children:
                node.children[segment] = (self._new_slot(), _PathNode(self._serials))
            slot, node = node.children[segment]
        return slot

    def _new_slot(self) -> int:
        self._count += 1
        return self._count - 1

    def freeze(self) -> None:
        self._root.freeze()
        self._empty_slots = [None] * self._count

    def fillable_slots(self, payload: object) -> frozenset[int]:
        """Returns the slots that payloads with the same trail can fill."""
        slots: list[object] = [MISSING] * self._count
        self._root.fill_slots(payload, slots, [])
        always = {slot for slot, _ in self._wildcard_paths}
        return frozenset(always | {slot for slot, value in enumerate(slots) if value is not MISSING})

    def read(self, payload: object) -> list[object]:
        return self.read_with_trail(payload)[0]

    def read_with_trail(self, payload: object) -> tuple[list[object], tuple[int, ...] | None]:
        """Returns the slots, and a cache key: payloads with the same key fill the same slots. None: not cacheable."""
        slots = self._empty_slots.copy()
        trail: list[int] = []
        self._root.fill_slots(payload, slots, trail)
        for slot, path in self._wildcard_paths:
            value = path.read(payload)
            slots[slot] = None if value is MISSING else value
        return slots, None if 0 in trail else tuple(trail)


_NOT_TEXT = Text("a template is text such as <ticket^summary>")
_TOO_LONG = Text("a template has at most {maximum} characters")

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
                raise _rejection(
                    field_path, sentence("<{reference}> names a field that is not mapped", reference=reference)
                )
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


# ---------- substring
# Extracts a part of a text: between two marks, or a group of an RE2 pattern. Pure.


_BETWEEN = Text("between “{start}” and “{end}”")
_MATCHING = Text("matching {pattern}")

_MAX_MARK_CHARS: Final = 200

type SubstringReader = Callable[[object], str | None]


def compile_part(definition: Mapping[str, object], field_path: str) -> SubstringReader | None:
    """Compiles `between: [start, end]`, or `pattern` with `group` (a name or number); None if neither is given.

    An omitted or empty `end` means the end of the line. Without `group`, the pattern's first group is used, else the
    whole match. Raises Rejected("invalid_mapping") with the field.
    """
    between, pattern = definition.get("between"), definition.get("pattern")
    if between is not None and pattern is not None:
        raise _rejection(field_path, sentence("between and pattern cannot be combined"))
    if pattern is None and "group" in definition:
        raise _rejection(f"{field_path}.group", sentence("group requires pattern"))
    if between is not None:
        return _between(between, f"{field_path}.between")
    return None if pattern is None else _pattern(pattern, definition.get("group"), field_path)


def describe_part(definition: Mapping[str, object]) -> Reason:
    """Returns the description for a trace; `NO_REASON` for the whole text."""
    between = definition.get("between")
    match [between] if isinstance(between, str) else between:
        case [start, end] if end:
            return _BETWEEN(start=str(start), end=str(end))
        case [start, *_]:
            return sentence("after “{start}”", start=str(start))
    return _MATCHING(pattern=str(definition["pattern"])) if definition.get("pattern") else NO_REASON


def _between(value: object, field_path: str) -> SubstringReader:
    marks = [value] if isinstance(value, str) else value
    if not isinstance(marks, list | tuple) or not 1 <= len(marks) <= 2 or not all(isinstance(m, str) for m in marks):
        raise _rejection(field_path, sentence("enter the text before and after the value"))
    start, end = str(marks[0]), str(marks[1]) if len(marks) == 2 else ""
    if not start or len(start) > _MAX_MARK_CHARS or len(end) > _MAX_MARK_CHARS:
        raise _rejection(
            field_path,
            sentence(
                "the text before must not be empty, and both can have at most {maximum} characters",
                maximum=_MAX_MARK_CHARS,
            ),
        )

    def find(value: object) -> str | None:
        text = text_of(value)
        if text is None:
            return None
        start_index = text.find(start)
        if start_index < 0:
            return None
        remainder = text[start_index + len(start) : start_index + len(start) + MAX_COMPARED_CHARS]
        end_index = remainder.find(end or "\n")
        if end_index < 0 and end:
            return None
        return (remainder if end_index < 0 else remainder[:end_index]).strip() or None

    return find


def _pattern(value: object, group: object, field_path: str) -> SubstringReader:
    if not isinstance(value, str) or not value:
        raise _rejection(f"{field_path}.pattern", sentence("a pattern is text"))
    try:
        compiled = compile_pattern(value, f"{field_path}.pattern", match_case=True)
    except Rejected as problem:
        raise Rejected("invalid_mapping", problem.reason, problem.field) from None
    group_index = _group(group, compiled.groupindex, compiled.groups, f"{field_path}.group")

    def find(value: object) -> str | None:
        text = text_of(value)
        if text is None:
            return None
        pattern_match = compiled.search(sanitize(text[:MAX_COMPARED_CHARS]))
        group_text = pattern_match.group(group_index) if pattern_match is not None else None
        return group_text.strip() or None if isinstance(group_text, str) else None

    return find


def _group(group: object, names: Mapping[str, int], count: int, field_path: str) -> int:
    if group is None:
        return min(count, 1)
    if isinstance(group, str) and group in names:
        return names[group]
    if isinstance(group, int) and not isinstance(group, bool) and 0 <= group <= count:
        return group
    known_groups = ", ".join([*names, *map(str, range(count + 1))][:20])
    raise _rejection(
        field_path,
        sentence('the pattern has no group "{group}"; it has {groups}', group=str(group)[:40], groups=known_groups),
    )
