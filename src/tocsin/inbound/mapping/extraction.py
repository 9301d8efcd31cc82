"""Extracts all paths of a mapping from a payload in one traversal.

The paths form a tree. A sender's objects tend to have the same keys, so each node caches for each shape (an object's
keys) which keys to follow, with their spelling: a path that is missing then costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Final

from tocsin.core.validation.payload_paths import MISSING, Path, compile_path, index_of
from tocsin.inbound.mapping.message_objects import fold

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

    __slots__ = ("children", "is_folding", "items", "serials", "shapes")

    def __init__(self, serials: Iterator[int], *, is_folding: bool) -> None:
        self.is_folding = is_folding
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
        spelled: dict[str, str] = {}
        if self.is_folding and None in found.values() and len(shape) <= _SHAPE_KEYS:
            # "Status ID" and "StatusId" are `status_id`, unless another path has that name.
            used = set(found.values())
            for key in value:
                if key not in used:
                    spelled.setdefault(fold(key), key)
        for segment, (slot, node) in self.children.items():
            actual_key = found[segment] or spelled.get(fold(segment))
            if actual_key is not None:
                rows.append((actual_key, slot, node if node.children else None))
        if len(shape) > _SHAPE_KEYS or sum(map(len, shape)) > _SHAPE_TEXT:
            return _ExtractionPlan(tuple(rows), 0)
        if len(self.shapes) >= _SHAPES:
            self.shapes.clear()
        plan = self.shapes[shape] = _ExtractionPlan(tuple(rows), next(self.serials))
        return plan


class Extraction:
    """Collects paths with `slot`, then `freeze`; `read(payload)` returns a list with the value of each slot.

    None in a slot means that the value is missing or null. `is_folding`: a path finds names in another spelling too.
    """

    def __init__(self, *, is_folding: bool = False) -> None:
        self._serials = count(1)
        self._is_folding = is_folding
        self._root = _PathNode(self._serials, is_folding=is_folding)
        self._count = 0
        self._slots: dict[str, int] = {}
        self._wildcard_paths: list[tuple[int, Path]] = []
        self._empty_slots: list[object] = []

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
                node.children[segment] = (self._new_slot(), _PathNode(self._serials, is_folding=self._is_folding))
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
