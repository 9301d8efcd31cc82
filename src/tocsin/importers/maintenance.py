"""Converts other products' upcoming maintenance windows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tocsin.importers.config_builder import ConfigBuilder

_CLOCK = "%Y-%m-%d %H:%M"
_REMEDY = "Enter it under Maintenance."


def window(
    draft: ConfigBuilder, wanted: str, starts: datetime | None, ends: datetime | None, integrations: Iterable[str]
) -> None:
    """Adds a window that suppresses alerts of these integrations (by their new names).

    Past windows are skipped silently; windows that cannot be converted are reported.
    """
    if ends is not None and ends <= draft.now:
        return
    subject, of = f"maintenance {wanted}", list(dict.fromkeys(integrations))
    if starts is None or ends is None or starts >= ends:
        why = "It has no end there, or none that can be read; a window here has one."
        draft.leave_out(subject, "is not here", why, "Switch its integrations off, or enter it under Maintenance.")
        return
    if not of:
        # A window without integrations would apply to all of them.
        draft.leave_out(subject, "is not here", "Nothing that it is about was carried over.", _REMEDY)
        return
    name = draft.name("maintenance_windows", wanted)
    draft.add(
        "maintenance_windows",
        {
            "name": name,
            "starts": starts.strftime(_CLOCK),
            "ends": ends.strftime(_CLOCK),
            "time_zone": "UTC",
            "integrations": of,
            "action": "suppress",
        },
    )
