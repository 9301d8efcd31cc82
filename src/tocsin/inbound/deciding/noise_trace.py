"""Records the noise reduction's verdicts on an opening for the message's trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.core.validation.durations import describe
from tocsin.inbound.deciding.noise_reduction import NoiseDecision
from tocsin.inbound.deciding.state import DelayedAlertState, DelayReason

#: The key in a message's verdict that holds these verdicts.
GATE = "gate"

_PARTS = {DelayReason.MAINTENANCE: "maintenance", DelayReason.FLAPPING: "flapping"}

_NOTHING = "no maintenance, parent, group, delay or limit holds it back"


def trace_entries(answer: NoiseDecision, waited: DelayedAlertState | None, now: datetime) -> list[Mapping[str, object]]:
    """Returns the verdicts in evaluation order, each with `name`, `opens` (whether an alert opens now) and `reason`."""
    found: list[Mapping[str, object]] = []
    if waited is not None:
        span = describe(now - waited.since)
        found.append(_said(_part(waited), True, f"it waited for {span}, and opens {waited.reason}"))
    if answer.suppressed:
        found.append(_said("maintenance", False, answer.suppressed.removeprefix("maintenance: ")))
    elif answer.waits is not None:
        found.append(_said(_part(answer.waits), False, f"its alert opens {answer.waits.reason}"))
    elif answer.joins is not None:
        found.append(_said(answer.part, False, f"it joins alert {answer.joins.state.id}: {answer.why}"))
    elif answer.flood is not None:
        more = f"more than {answer.flood.burst} alerts at once"
        found.append(_said("flood", True, f"{more}: this alert stands for all of them"))
    elif answer.why:
        found.append(_said("flapping", True, answer.why))
    elif waited is None:
        found.append(_said(GATE, True, _NOTHING))
    return found


def _part(delayed: DelayedAlertState) -> str:
    return _PARTS.get(delayed.delay_reason, "delay")


def _said(name: str, opens: bool, reason: str) -> Mapping[str, object]:
    return {"name": name, "opens": opens, "reason": reason}
