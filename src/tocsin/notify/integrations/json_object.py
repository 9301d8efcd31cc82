"""Tolerant access to the JSON in vendors' callbacks: a value of an unexpected type never raises. Pure."""

from __future__ import annotations

import json
from typing import Any

#: A body that is nested deeper is rejected. No vendor's body is.
MAX_DEPTH = 60


def parsed(body: bytes | str) -> dict[str, Any]:
    """Returns the JSON object in a body. Raises ValueError for anything else."""
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("It nests too deep.") from None
    if not isinstance(document, dict):
        raise ValueError("It is no object.")
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for parent in level for inner in _children(parent)]
        if not level:
            return document
    raise ValueError("It nests too deep.")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def child(value: object, *names: str) -> dict[str, Any]:
    """Returns the object at the end of these keys, or an empty one."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Returns `value` if it is a list, else an empty list."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Returns a string, or an integer as a string; empty for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
