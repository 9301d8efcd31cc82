"""Formset buttons that work without JavaScript: add, move and remove a row while keeping the typed values."""

from __future__ import annotations

import re

from django.http import QueryDict

#: Name of the submit button. Its value is the action: "add", "up-2", "down-0", "remove-1".
BUTTON = "rearrange"


def rearrange(data: QueryDict, prefix: str) -> QueryDict | None:
    """Return the posted data with rows added, moved or removed if such a button was pressed, else None."""
    asked = re.fullmatch(r"(add|up|down|remove)(?:-(\d{1,3}))?", data.get(BUTTON, ""))
    count = data.get(f"{prefix}-TOTAL_FORMS", "")
    if asked is None or not count.isdecimal() or int(count) > 1000:
        return None
    order: list[int | None] = list(range(int(count)))
    at = int(asked[2]) if asked[2] else -1
    if asked[1] == "add":
        order.append(None)
    elif 0 <= at < len(order):
        part = order.pop(at)
        if asked[1] != "remove":
            order.insert(max(0, at + (1 if asked[1] == "down" else -1)), part)
    return _written(data, prefix, order)


def _written(data: QueryDict, prefix: str, order: list[int | None]) -> QueryDict:
    made = QueryDict(mutable=True)
    part_of = re.compile(rf"{re.escape(prefix)}-(\d+)-(.*)")
    for key in data:
        if key != BUTTON and part_of.fullmatch(key) is None:
            made.setlist(key, data.getlist(key))
    for new, old in enumerate(order):
        for key in data:
            found = part_of.fullmatch(key)
            if found and old is not None and int(found[1]) == old:
                made.setlist(f"{prefix}-{new}-{found[2]}", data.getlist(key))
    made[f"{prefix}-TOTAL_FORMS"] = str(len(order))
    made[f"{prefix}-INITIAL_FORMS"] = "0"
    return made
