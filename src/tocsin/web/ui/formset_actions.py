"""Formset buttons that work without JavaScript: add, move and remove a row while keeping the typed values."""

from __future__ import annotations

import re

from django.http import QueryDict

#: Name of the submit button. Its value is the action: "add", "up-2", "down-0", "remove-1".
BUTTON = "rearrange"


def rearrange(data: QueryDict, prefix: str) -> QueryDict | None:
    """Return the posted data with rows added, moved or removed if such a button was pressed, else None."""
    action = re.fullmatch(r"(add|up|down|remove)(?:-(\d{1,3}))?", data.get(BUTTON, ""))
    count = data.get(f"{prefix}-TOTAL_FORMS", "")
    if action is None or not count.isdecimal() or int(count) > 1000:
        return None
    order: list[int | None] = list(range(int(count)))
    index = int(action[2]) if action[2] else -1
    if action[1] == "add":
        order.append(None)
    elif 0 <= index < len(order):
        row = order.pop(index)
        if action[1] != "remove":
            order.insert(max(0, index + (1 if action[1] == "down" else -1)), row)
    return _reordered(data, prefix, order)


def _reordered(data: QueryDict, prefix: str, order: list[int | None]) -> QueryDict:
    result = QueryDict(mutable=True)
    field_pattern = re.compile(rf"{re.escape(prefix)}-(\d+)-(.*)")
    for key in data:
        if key != BUTTON and field_pattern.fullmatch(key) is None:
            result.setlist(key, data.getlist(key))
    for new_index, old_index in enumerate(order):
        for key in data:
            match = field_pattern.fullmatch(key)
            if match and old_index is not None and int(match[1]) == old_index:
                result.setlist(f"{prefix}-{new_index}-{match[2]}", data.getlist(key))
    result[f"{prefix}-TOTAL_FORMS"] = str(len(order))
    result[f"{prefix}-INITIAL_FORMS"] = "0"
    return result
