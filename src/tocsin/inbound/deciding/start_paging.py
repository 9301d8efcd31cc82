"""Decides whether an active alert that has paged nobody starts paging when another opening message arrives. Pure.

An alert that was only recorded or a dry run holds its key. Were messages merely counted on it, nobody would hear of its
problem any more, whatever the rules have come to say since.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from tocsin.alerts.change_handlers import PagingConfig, PagingMode, PagingStart
from tocsin.alerts.states import AlertStatus
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.deciding import noise_reduction
from tocsin.inbound.deciding.alert_creation import why_it_pages
from tocsin.inbound.deciding.state import ActiveAlert, MessageContext


class PagingChange(Struct, frozen=True):
    """The remark on the message, and the paging configuration to start with; without `waking`, nobody is paged."""

    said: str
    paging: PagingConfig | None = None
    waking: PagingStart | None = None


def start_paging(
    door: CompiledIntegration, arrival: MessageContext, reading: NormalizedEvent, live: ActiveAlert, now: datetime
) -> PagingChange | None:
    """Applies the current rules as if this message opened the alert. A delay with an end counts from the alert's
    opening; one that waits for other alerts does not apply.

    Returns None if the alert pages already, or if this message would open nothing that pages.
    """
    if live.pages or not arrival.may_page or live.state.status is AlertStatus.MERGED:
        return None
    allowed = reading.filter_verdict()
    if not allowed.is_true:
        return PagingChange(f"counted, nobody is paged: filter: {allowed.reason}")
    paging, route = why_it_pages(door, arrival, reading, now)
    if paging.mode is not PagingMode.PAGE:
        return None
    held = noise_reduction.holds_back(door, arrival, reading, route, paging.recipient_groups, live.state.opened_at, now)
    if held.suppressed:
        return PagingChange(f"counted, nobody is paged: {held.suppressed}")
    why = f"{door.shown_source} opened it again, and so far nobody was paged about it; {paging.reason}"
    said = f"so far nobody was paged about it, and it pages {held.why or 'from now on'}"
    return PagingChange(said, paging, PagingStart(why, held.until, held.why))
