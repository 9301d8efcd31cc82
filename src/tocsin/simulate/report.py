"""Formats a simulation as JSON for scripts, or as text for people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo
from typing import Any

from tocsin.core.reason_json import show_reason
from tocsin.core.validation import durations
from tocsin.simulate.chain import SimulatedOutcome, Simulation
from tocsin.simulate.escalation import SimulatedEvent, SimulatedPage, SimulatedRun

#: Returns how an address may be displayed, given the user's id (None: a group contact), channel and address.
type AddressFormatter = Callable[[int | None, str, str], str]

_SHORT = 70


def as_json(simulation: Simulation, format_address: AddressFormatter | None = None) -> dict[str, Any]:
    """The simulation as plain values; `format_address` masks addresses the reader may not see."""
    return {
        "integration": simulation.integration,
        "at": _iso(simulation.at),
        "messages": [_message(outcome, format_address or _unmasked) for outcome in simulation.outcomes],
        **show_reason(simulation.partial, "partial"),
    }


def run_as_json(run: SimulatedRun, format_address: AddressFormatter | None = None) -> dict[str, Any]:
    """A policy simulation as plain values; `format_address` masks addresses."""
    return {
        "pages": [_page(page, format_address or _unmasked) for page in run.pages],
        "timeline": [_line(line) for line in run.timeline],
        "notes": [show_reason(reason) for reason in run.notes],
    }


def as_text(simulation: Simulation, zone: tzinfo) -> str:
    """The simulation as text, with times in `zone`."""
    moment = simulation.at.astimezone(zone).strftime("%a %Y-%m-%d %H:%M %Z")
    lines = [f"{simulation.integration}, at {moment}. Nothing is sent or stored."]
    for number, outcome in enumerate(simulation.outcomes, start=1):
        heading = f"Message {number}: " if len(simulation.outcomes) > 1 else ""
        lines += ["", f"{heading}{outcome.status}: {outcome.reason}", *_describe_outcome(outcome, zone)]
    lines += ["", str(simulation.partial)] if simulation.partial else []
    return "\n".join(lines) + "\n"


def _unmasked(user_id: int | None, channel: str, address: str) -> str:
    return address


def _message(outcome: SimulatedOutcome, format_address: AddressFormatter) -> dict[str, Any]:
    return {
        "status": str(outcome.status),
        **show_reason(outcome.reason),
        "alert_id": outcome.alert_id,
        "alert": _alert(outcome),
        "mode": str(outcome.mode) if outcome.mode else None,
        **show_reason(outcome.route, "route"),
        **show_reason(outcome.why, "why"),
        "pages": [_page(page, format_address) for page in outcome.pages],
        "timeline": [_line(line) for line in outcome.timeline],
        "notes": [show_reason(reason) for reason in outcome.notes],
        "trace": outcome.trace.to_json() if outcome.trace else None,
    }


def _alert(outcome: SimulatedOutcome) -> dict[str, Any] | None:
    alert = outcome.alert
    if alert is None:
        return None
    return {
        "subject": alert.subject,
        "priority": str(alert.priority),
        "source": alert.source,
        "source_name": alert.source_name,
        "source_id": alert.source_id,
        **dict(alert.columns),
        "tags": dict(alert.tags),
        "custom": dict(alert.custom),
        "dry_run": alert.dry_run,
    }


def _line(line: SimulatedEvent) -> dict[str, Any]:
    return {"at": _iso(line.at), "minutes": _minutes(line.after), **show_reason(line.reason, "text")}


def _page(page: SimulatedPage, format_address: AddressFormatter) -> dict[str, Any]:
    return {
        "at": _iso(page.at),
        "minutes": _minutes(page.after),
        "to": page.name,
        "user_id": page.user_id,
        "label": page.label,
        "channel": page.channel,
        "address": format_address(page.user_id, page.channel, page.address),
        **show_reason(page.reason),
        **show_reason(page.problem, "problem"),
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _minutes(after: timedelta) -> float:
    minutes = after / timedelta(minutes=1)
    return int(minutes) if minutes.is_integer() else round(minutes, 2)


def _describe_outcome(outcome: SimulatedOutcome, zone: tzinfo) -> Iterable[str]:
    yield from (f"  note: {note}" for note in outcome.notes)
    if outcome.trace is not None:
        yield from (f"  note: {note}" for note in outcome.trace.notes)
        yield "  mapping:"
        groups = (*outcome.trace.fields, *outcome.trace.tags, *outcome.trace.custom)
        mapped_fields = [field for field in groups if field.value is not None]
        yield from (f"    {field.field} = {_truncate(field.value or '')}" for field in mapped_fields)
        for name, rule_traces in (
            ("rules", outcome.trace.rules),
            ("filters", outcome.trace.opening),
            ("routes", outcome.trace.routes),
        ):
            if rule_traces:
                yield f"  {name}:"
                yield from (
                    f"    {rule_trace.name}: {'yes' if rule_trace.is_true else 'no'}, {rule_trace.reason}"
                    for rule_trace in rule_traces
                )
    if outcome.alert is not None:
        yield from _escalation(outcome, zone)


def _escalation(outcome: SimulatedOutcome, zone: tzinfo) -> Iterable[str]:
    assert outcome.alert is not None
    client = f"{outcome.alert.columns['client']}: " if outcome.alert.columns.get("client") else ""
    yield f"  alert: [{outcome.alert.priority.capitalize()}] {client}{outcome.alert.subject}"
    yield f"  by: {outcome.why}"
    if outcome.pages:
        yield "  who is notified, if nobody acts:"
    for page in outcome.pages:
        clock = page.at.astimezone(zone).strftime("%H:%M:%S")
        to = f"{page.name} by {page.channel}, {page.address}"
        problem = f" CANNOT BE SENT: {page.problem}" if page.problem else ""
        yield f"    {_after(page.after):>8}  {clock}  {to}.{problem} {page.reason}"
    yield "  timeline:"
    yield from (f"    {_after(line.after):>8}  {line.reason}" for line in outcome.timeline)


def _after(after: timedelta) -> str:
    return f"+{durations.write(after)}" if after else "at once"


def _truncate(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"
