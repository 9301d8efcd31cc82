"""Looks up a value in a JSON response by a path such as `data^ticket^id`. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def value_at(payload: object, path: str) -> object:
    """The value at the path, or None. A number indexes a list; keys are matched case-insensitively."""
    found = payload
    for key in path.split("^"):
        if isinstance(found, Mapping):
            exact = found.get(key)
            found = exact if exact is not None else _folded(found, key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def _folded(found: Mapping[str, object], key: str) -> object:
    wanted = key.casefold()
    return next((value for name, value in found.items() if str(name).casefold() == wanted), None)
