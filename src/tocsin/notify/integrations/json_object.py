"""Reading the JSON that a vendor calls back with: whatever type stands in a place, reading it raises nothing. Pure."""

from __future__ import annotations

import json
from typing import Any

#: A body that nests deeper is refused: no vendor's does.
MAX_DEPTH = 60


def parsed(body: bytes | str) -> dict[str, Any]:
    """The object that a body is. Raises ValueError for anything else."""
    try:
        found = json.loads(body)
    except RecursionError:
        raise ValueError("It nests too deep.") from None
    if not isinstance(found, dict):
        raise ValueError("It is no object.")
    level: list[object] = [found]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in _children(one)]
        if not level:
            return found
    raise ValueError("It nests too deep.")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def child(value: object, *names: str) -> dict[str, Any]:
    """The object at the end of these names; an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """The list that a value is; an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """A string, or a whole number as one; empty for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
