"""Records the noise reduction's verdicts on an opening for the message's trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.core.validation.durations import describe
from tocsin.inbound.deciding.noise_reduction import NoiseDecision
from tocsin.inbound.deciding.state import DelayedAlertState, DelayReason

#: The key in a message's verdict that holds these verdicts.
NOISE_TRACE_KEY = "gate"

_MECHANISMS = {DelayReason.MAINTENANCE: "maintenance", DelayReason.FLAPPING: "flapping"}

_NO_RESTRICTION = "no maintenance, parent, group, delay or limit holds it back"


def trace_entries(
    noise_decision: NoiseDecision, due_delay: DelayedAlertState | None, now: datetime
) -> list[Mapping[str, object]]:
    """Returns the verdicts in evaluation order, each with `name`, `opens` (whether an alert opens now) and `reason`."""
    entries: list[Mapping[str, object]] = []
    if due_delay is not None:
        span = describe(now - due_delay.since)
        entries.append(_trace_entry(_mechanism(due_delay), True, f"it waited for {span}, and opens {due_delay.reason}"))
    if noise_decision.suppression_reason:
        entries.append(
            _trace_entry("maintenance", False, noise_decision.suppression_reason.removeprefix("maintenance: "))
        )
    elif noise_decision.delayed_alert is not None:
        entries.append(
            _trace_entry(
                _mechanism(noise_decision.delayed_alert),
                False,
                f"its alert opens {noise_decision.delayed_alert.reason}",
            )
        )
    elif noise_decision.joined_alert is not None:
        entries.append(
            _trace_entry(
                noise_decision.mechanism,
                False,
                f"it joins alert {noise_decision.joined_alert.state.id}: {noise_decision.reason}",
            )
        )
    elif noise_decision.flood is not None:
        flood_text = f"more than {noise_decision.flood.burst} alerts at once"
        entries.append(_trace_entry("flood", True, f"{flood_text}: this alert stands for all of them"))
    elif noise_decision.reason:
        entries.append(_trace_entry("flapping", True, noise_decision.reason))
    elif due_delay is None:
        entries.append(_trace_entry(NOISE_TRACE_KEY, True, _NO_RESTRICTION))
    return entries


def _mechanism(delayed: DelayedAlertState) -> str:
    return _MECHANISMS.get(delayed.delay_reason, "delay")


def _trace_entry(name: str, is_opening: bool, reason: str) -> Mapping[str, object]:
    return {"name": name, "opens": is_opening, "reason": reason}
