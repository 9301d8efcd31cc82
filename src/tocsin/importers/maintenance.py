"""Converts other products' upcoming maintenance windows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tocsin.importers import reasons
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.inbound.maintenance.recurrence import MAX_USUAL_COVER

_CLOCK = "%Y-%m-%d %H:%M"
_REMEDY = reasons.ENTER_MAINTENANCE()


def window(
    builder: ConfigBuilder,
    requested_name: str,
    starts: datetime | None,
    ends: datetime | None,
    integrations: Iterable[str],
) -> None:
    """Adds a window that suppresses alerts of these integrations (by their new names).

    Past windows are skipped silently; windows that cannot be converted are reported.
    """
    if ends is not None and ends <= builder.now:
        return
    subject, integration_names = reasons.MAINTENANCE(window=requested_name), list(dict.fromkeys(integrations))
    if starts is None or ends is None or starts >= ends:
        reason = reasons.NO_END()
        builder.report_omitted(subject, reasons.NOT_IMPORTED(), reason, reasons.DISABLE_OR_ENTER())
        return
    if not integration_names:
        # A window without integrations would apply to all of them.
        builder.report_omitted(subject, reasons.NOT_IMPORTED(), reasons.NOTHING_AFFECTED(), _REMEDY)
        return
    name = builder.claim_name("maintenance_windows", requested_name)
    builder.add(
        "maintenance_windows",
        {
            "name": name,
            "starts": starts.strftime(_CLOCK),
            "ends": ends.strftime(_CLOCK),
            "time_zone": "UTC",
            "integrations": integration_names,
            "action": "suppress",
            # It was saved elsewhere, and doctor names it.
            **({"anyway": True} if ends - max(starts, builder.now) > MAX_USUAL_COVER else {}),
        },
    )
