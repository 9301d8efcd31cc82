"""An alert's timeline for people outside of the organisation: what happened when, without names, texts and reasons.
Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tocsin.alerts.states import EventKind
from tocsin.core.reasons import translatable

#: The events that outsiders see, and the words for them. Everything else is internal.
PUBLIC_EVENTS: dict[str, str] = {
    EventKind.OPENED: translatable("Opened"),
    EventKind.REOPENED: translatable("Reopened"),
    EventKind.ACKNOWLEDGED: translatable("Acknowledged"),
    EventKind.ASSIGNED: translatable("Assigned"),
    EventKind.PUT_ON_HOLD: translatable("Snoozed"),
    EventKind.RESUMED: translatable("Resumed"),
    EventKind.CLOSED: translatable("Closed"),
    EventKind.CANCELLED: translatable("Cancelled"),
    EventKind.MERGED: translatable("Merged"),
}


@dataclass(frozen=True, slots=True)
class PublicEvent:
    """One line: when, and which of PUBLIC_EVENTS."""

    at: datetime
    kind: str
    label: str


def public_timeline(events: Iterable[tuple[datetime, str]]) -> list[PublicEvent]:
    """Returns the public ones of the events (time, kind), in their order. The same kind again at once is left out."""
    shown: list[PublicEvent] = []
    for at, kind in events:
        if kind in PUBLIC_EVENTS and not (shown and shown[-1].kind == kind):
            shown.append(PublicEvent(at, kind, PUBLIC_EVENTS[kind]))
    return shown
