"""Records the noise reduction's verdicts on an opening for the message's trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tocsin.core.reasons import AlertRef, Reason, reason_as_json
from tocsin.inbound.deciding import reasons
from tocsin.inbound.deciding.noise_reduction import NoiseDecision
from tocsin.inbound.deciding.state import DelayedAlertState, DelayReason

#: The key in a message's verdict that holds these verdicts.
NOISE_TRACE_KEY = "gate"

_MECHANISMS = {DelayReason.MAINTENANCE: "maintenance", DelayReason.FLAPPING: "flapping"}


def trace_entries(
    noise_decision: NoiseDecision, due_delay: DelayedAlertState | None, now: datetime
) -> list[Mapping[str, object]]:
    """Returns the verdicts in evaluation order, each with `name`, `opens` (whether an alert opens now) and `reason`, as
    JSON."""
    entries: list[Mapping[str, object]] = []
    if due_delay is not None:
        waited = reasons.WAITED(duration=now - due_delay.since, when=due_delay.reason)
        entries.append(_trace_entry(_mechanism(due_delay), True, waited))
    if noise_decision.suppression_reason:
        window_active = reasons.WINDOW_ACTIVE(**dict(noise_decision.suppression_reason.params))
        entries.append(_trace_entry("maintenance", False, window_active))
    elif (delayed := noise_decision.delayed_alert) is not None:
        entries.append(_trace_entry(_mechanism(delayed), False, reasons.STILL_DELAYED(when=delayed.reason)))
    elif (joined_alert := noise_decision.joined_alert) is not None:
        joins = reasons.JOINS(alert=AlertRef(joined_alert.state.id), cause=noise_decision.reason)
        entries.append(_trace_entry(noise_decision.mechanism, False, joins))
    elif (flood := noise_decision.flood) is not None:
        entries.append(_trace_entry("flood", True, reasons.FLOOD(cause=reasons.OVER_BURST(count=flood.burst))))
    elif noise_decision.reason:
        entries.append(_trace_entry("flapping", True, noise_decision.reason))
    elif due_delay is None:
        entries.append(_trace_entry(NOISE_TRACE_KEY, True, reasons.NOT_RESTRICTED()))
    return entries


def _mechanism(delayed: DelayedAlertState) -> str:
    return _MECHANISMS.get(delayed.delay_reason, "delay")


def _trace_entry(name: str, is_opening: bool, reason: Reason) -> Mapping[str, object]:
    return {"name": name, "opens": is_opening, "reason": reason_as_json(reason)}
