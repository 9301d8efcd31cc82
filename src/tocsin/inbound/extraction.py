"""Reads all paths of a mapping from a payload in one walk.

The paths form a tree. A sender's objects have the same keys again and again, so for each shape (an object's keys)
the tree remembers which keys to follow, case included: a path that is not there then costs nothing.
"""

from __future__ import annotations

from typing import Final

from tocsin.inbound.paths import MISSING, Path, compile_path, find_key, index_of

#: Shapes remembered for one object; and the largest one, in keys and characters, that is.
_SHAPES: Final = 64
_SHAPE_KEYS: Final = 1500
_SHAPE_TEXT: Final = 40_000

#: Each key of an object to follow: (key as the sender writes it, slot, node below it or None).
type _Plan = tuple[tuple[str, int, "_Node | None"], ...]


class _Node:
    """One object (or list) on the way, and the segments that paths follow from it."""

    __slots__ = ("below", "items", "shapes")

    def __init__(self) -> None:
        self.below: dict[str, tuple[int, _Node]] = {}
        self.items: tuple[tuple[int, int, _Node], ...] = ()
        self.shapes: dict[tuple[str, ...], _Plan] = {}

    def freeze(self) -> None:
        self.items = tuple(
            (index, slot, node) for key, (slot, node) in self.below.items() if (index := index_of(key)) is not None
        )
        for _, node in self.below.values():
            node.freeze()

    def walk(self, value: object, slots: list[object]) -> None:
        if type(value) is dict:
            shape = tuple(value)
            plan = self.shapes.get(shape)
            if plan is None:
                plan = self.plan(value, shape)
            for key, slot, node in plan:
                found = value[key]
                if found is not None:
                    slots[slot] = found
                    if node is not None:
                        node.walk(found, slots)
        elif type(value) is list:
            for index, slot, node in self.items:
                if index < len(value):
                    slots[slot] = value[index]
                    node.walk(value[index], slots)

    def plan(self, value: dict[str, object], shape: tuple[str, ...]) -> _Plan:
        rows: list[tuple[str, int, _Node | None]] = []
        for wanted, (slot, node) in self.below.items():
            key = wanted if wanted in value else find_key(value, wanted.casefold())
            if key is not None:
                rows.append((key, slot, node if node.below else None))
        plan = tuple(rows)
        if len(shape) <= _SHAPE_KEYS and sum(map(len, shape)) <= _SHAPE_TEXT:
            if len(self.shapes) >= _SHAPES:
                self.shapes.clear()
            self.shapes[shape] = plan
        return plan


class Extraction:
    """Collect paths with `slot`, then `freeze`; `read(payload)` gives a list with the value of each slot.

    None in a slot: nothing there, or null.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self._count = 0
        self._slots: dict[str, int] = {}
        self._collecting: list[tuple[int, Path]] = []

    def slot(self, text: str, place: str) -> int:
        """The slot of a path. Raises Rejected("invalid_path") that names `place`."""
        if text in self._slots:
            return self._slots[text]
        path = compile_path(text, place)
        if "*" in path.segments:
            slot = self._new()
            self._collecting.append((slot, path))
        else:
            slot = self._grow(path.segments)
        self._slots[text] = slot
        return slot

    def _grow(self, segments: tuple[str, ...]) -> int:
        node, slot = self._root, -1
        for segment in segments:
            if segment not in node.below:
                node.below[segment] = (self._new(), _Node())
            slot, node = node.below[segment]
        return slot

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    def freeze(self) -> None:
        self._root.freeze()

    def read(self, payload: object) -> list[object]:
        slots: list[object] = [None] * self._count
        self._root.walk(payload, slots)
        for slot, path in self._collecting:
            found = path.read(payload)
            slots[slot] = None if found is MISSING else found
        return slots
