"""Looks up a value in a JSON response by a path such as `data^ticket^id`. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def value_at(payload: object, path: str) -> object:
    """The value at the path, or None. A number indexes a list; keys are matched case-insensitively."""
    value = payload
    for key in path.split("^"):
        if isinstance(value, Mapping):
            exact = value.get(key)
            value = exact if exact is not None else _folded(value, key)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _folded(mapping: Mapping[str, object], key: str) -> object:
    folded_key = key.casefold()
    return next((value for name, value in mapping.items() if str(name).casefold() == folded_key), None)
